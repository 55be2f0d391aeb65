/**
 * Behind the proxies that most servers stand behind: their connections are drained all the time, and their clients, who
 * retry nothing, lose no request. The proxies are told to retry nothing either, where they can be: Varnish repeats what
 * has no body when a connection fails, which is never asked of it, and Go what a GOAWAY has refused.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { Agent, type RequestOptions, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { createServer, type DrainReport, gracefulShutdown, type Protocol, type Server } from '../../src/index.js';
import { needs } from '../cli/programs.js';
import { certificate } from '../wire/certificate.js';
import { freePort, listens } from '../wire/ports.js';
import { Random } from '../wire/random.js';
import { PROXIES } from './proxies.js';

/** How long each is put to the test at least, in ms, until there were so many requests and drains, */
const DURATION = 1_000;
const REQUESTS = 500;
const DRAINS = 50;
/** or so many wrong answers, */
const TOO_MANY = 100;
/** by so many clients, who think for up to so many ms, */
const CLIENTS = 24;
const THINKING = 15;
/** while a connection is drained every so many ms. */
const BETWEEN_DRAINS = 4;

describe('behind a proxy', () => {
  for (const proxy of PROXIES) {
    describe(proxy.name, function () {
      this.timeout(30_000);
      let folder: string;
      let own: string | number;
      let server: Server;
      let process: ChildProcess;
      let said: string;
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
        own = proxy.needsPort ? await freePort() : join(folder, 'proxy');
        const { port } = server.address() as AddressInfo;
        const place = { folder, port, own };
        await writeFile(config, proxy.config(place));
        process = spawn(proxy.program, proxy.args(config, place), { stdio: ['ignore', 'ignore', 'pipe'] });
        said = '';
        process.stderr?.on('data', (text: Buffer) => {
          said += text.toString();
        });
        // HAProxy's socket is there some time before it listens.
        if (!(await listens(own, once(process, 'exit')))) throw new Error(`${proxy.name} does not listen: ${said}`);
      });

      afterEach(async function () {
        if (this.currentTest?.state === 'failed') console.error(said);
        process.kill('SIGKILL');
        await server.shutdown({ timeout: 1_000, idleWait: 0 });
        // Varnish's child goes when it sees that its manager has gone.
        await rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
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
            if (wrong.length >= TOO_MANY) return;
            const number = ++asked;
            const length = proxy.onlyWithoutBody ? 0 : random.chance(0.2) ? random.below(30_000) : 1;
            const answer = await ask(agent, own, number, 'x'.repeat(length));
            if (answer !== `200 ${number} ${length}`) wrong.push(answer);
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

/** Where a proxy listens. */
function placeOf(own: string | number): Pick<RequestOptions, 'socketPath' | 'host' | 'port'> {
  return typeof own === 'number' ? { host: '127.0.0.1', port: own } : { socketPath: own };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What became of a request, which the client doesn't repeat: status and text, or the error. */
function ask(agent: Agent, own: string | number, number: number, body: string): Promise<string> {
  return new Promise((resolve) => {
    const headers = { 'x-number': number, ...(body !== '' && { 'content-length': body.length }) };
    const method = body === '' ? 'GET' : 'POST';
    const req = request({ ...placeOf(own), agent, method, headers }, (res) => {
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
