/**
 * Behind the proxies that most servers stand behind: their connections are drained all the time, and their clients, who
 * retry nothing, lose no request. The proxies are told to retry nothing either.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { createServer, type DrainReport, gracefulShutdown, type Protocol, type Server } from '../../src/index.js';
import { needs } from '../cli/programs.js';
import { certificate } from '../wire/certificate.js';
import { Random } from '../wire/random.js';

/** How long each is put to the test at least, in ms, until there were so many requests and drains, */
const DURATION = 2_000;
const REQUESTS = 500;
const DRAINS = 50;
/** by so many clients, who think for up to so many ms, */
const CLIENTS = 24;
const THINKING = 15;
/** while a connection is drained every so many ms. */
const BETWEEN_DRAINS = 4;

interface Proxy {
  readonly name: string;
  readonly program: string;
  /** asks it for its version */
  readonly version: string;
  readonly tls: boolean;
  /** what it speaks with the server */
  readonly protocol: Protocol;
  readonly args: (config: string) => string[];
  readonly config: (folder: string, port: number) => string;
}

/** Debian's place for what isn't everybody's to run. */
function sbin(program: string): string {
  const path = `/usr/sbin/${program}`;
  return existsSync(path) ? path : program;
}

function haproxy(name: string, tls: boolean, protocol: Protocol, options: string): Proxy {
  return {
    name: `HAProxy, ${name}`,
    program: sbin('haproxy'),
    version: '-v',
    tls,
    protocol,
    args: (config) => ['-db', '-f', config],
    config: (folder, port) => `
global
  maxconn 1000
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  retries 0
  http-reuse always
listen proxy
  bind unix@${folder}/proxy
  server backend 127.0.0.1:${port} ${options}
`,
  };
}

function nginx(name: string, tls: boolean): Proxy {
  return {
    name: `nginx, ${name}`,
    program: sbin('nginx'),
    version: '-v',
    tls,
    protocol: 'http/1.1',
    args: (config) => ['-c', config, '-e', 'stderr'],
    config: (folder, port) => `
daemon off;
master_process off;
error_log stderr crit;
pid ${folder}/pid;
events {}
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxied;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  upstream backend { server 127.0.0.1:${port}; keepalive 64; }
  server {
    listen unix:${folder}/proxy;
    location / {
      proxy_pass ${tls ? 'https' : 'http'}://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_next_upstream off;
    }
  }
}
`,
  };
}

const PROXIES: readonly Proxy[] = [
  nginx('HTTP/1.1 in cleartext', false),
  nginx('HTTP/1.1 over TLS', true),
  haproxy('HTTP/1.1 in cleartext', false, 'http/1.1', ''),
  haproxy('HTTP/1.1 over TLS', true, 'http/1.1', 'ssl verify none alpn http/1.1'),
  haproxy('HTTP/2 in cleartext', false, 'h2', 'proto h2'),
  haproxy('HTTP/2 over TLS', true, 'h2', 'ssl verify none alpn h2'),
];

describe('behind a proxy', () => {
  for (const proxy of PROXIES) {
    describe(proxy.name, function () {
      this.timeout(30_000);
      let folder: string;
      let server: Server;
      let process: ChildProcess;
      const protocols = new Set<Protocol | undefined>();

      before(function () {
        needs(this, proxy.program, [proxy.version]);
      });

      beforeEach(async () => {
        folder = await mkdtemp(join(tmpdir(), 'lastcall-proxy-'));
        const random = new Random(1);
        const options = proxy.tls ? await certificate() : { cleartext: true };
        server = createServer(options, (req, res) => {
          let octets = 0;
          req.on('data', (chunk: Buffer) => {
            octets += chunk.length;
          });
          req.on('end', () => {
            const answer = (): void => void res.end(`${req.headers['x-number']} ${octets}`);
            if (random.chance(0.5)) answer();
            else setTimeout(answer, random.between(1, 20));
          });
        });
        await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
        const config = join(folder, 'config');
        await writeFile(config, proxy.config(folder, (server.address() as AddressInfo).port));
        process = spawn(proxy.program, proxy.args(config), { stdio: ['ignore', 'ignore', 'inherit'] });
        const until = performance.now() + 20_000;
        // HAProxy's socket is there some time before it listens.
        while (!(await listens(join(folder, 'proxy')))) {
          if (performance.now() > until || process.exitCode !== null) throw new Error(`${proxy.name} does not listen`);
          await pause(10);
        }
      });

      afterEach(async () => {
        process.kill('SIGKILL');
        await server.shutdown({ timeout: 1_000, idleWait: 0 });
        await rm(folder, { recursive: true, force: true });
      });

      it('loses no request while its connections are drained one after the other', async () => {
        const random = new Random(2);
        const agent = new Agent({ keepAlive: true });
        const reports: Promise<DrainReport>[] = [];
        const wrong: string[] = [];
        let asked = 0;
        const until = performance.now() + DURATION;

        const client = async (): Promise<void> => {
          while (performance.now() < until || asked < REQUESTS || reports.length < DRAINS) {
            const number = ++asked;
            const body = 'x'.repeat(random.chance(0.2) ? random.below(30_000) : 1);
            const answer = await post(agent, join(folder, 'proxy'), number, body);
            if (answer !== `200 ${number} ${body.length}`) wrong.push(answer);
            await pause(random.between(0, THINKING));
          }
        };
        const drainer = setInterval(() => {
          const connections = [...server.connections].filter(({ state }) => state === 'open');
          const connection = connections[random.below(Math.max(1, connections.length))];
          if (connection === undefined) return;
          protocols.add(connection.protocol);
          reports.push(gracefulShutdown(connection));
        }, BETWEEN_DRAINS);

        await Promise.all(Array.from({ length: CLIENTS }, client));
        clearInterval(drainer);
        agent.destroy();
        process.kill('SIGTERM');
        const lossy = (await Promise.all(reports)).filter(({ outcome }) => outcome !== 'drained');

        expect(wrong, `of ${asked} requests, ${reports.length} drains`).to.deep.equal([]);
        expect(lossy, 'reports').to.deep.equal([]);
        expect([...protocols]).to.deep.equal([proxy.protocol]);
      });
    });
  }
});

function listens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What became of a request that nobody may repeat: status and text, or the error. */
function post(agent: Agent, socketPath: string, number: number, body: string): Promise<string> {
  return new Promise((resolve) => {
    const headers = { 'x-number': number, 'content-length': body.length };
    const req = request({ socketPath, agent, method: 'POST', headers }, (res) => {
      let text = '';
      res.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      res.on('end', () => resolve(`${res.statusCode} ${text}`));
      res.on('error', (error) => resolve(error.message));
    });
    req.on('error', (error) => resolve(error.message));
    req.end(body);
  });
}
