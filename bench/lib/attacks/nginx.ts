/**
 * nginx as one of the attacked: one process, TLS, both protocols, and answers such as those of lib/servers/app.ts, with
 * our times in the place of its own.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ServerLimits } from '../../../test/attacks/attack.js';
import { nginxConfig, sbin } from '../../../test/interop/proxies.js';
import { certificate } from '../../../test/wire/certificate.js';
import { freePort, listens } from '../../../test/wire/ports.js';

/** Octets of the answers that attacks ask for: nginx sends files. */
const LARGE = [1_000, 1_000_000, 8_000_000];
/** ms, where an attack asks for no other. */
const TIME = 60_000;

export class Nginx {
  readonly port: number;
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;
  #death: string | undefined;

  private constructor(port: number, process: ChildProcess) {
    this.port = port;
    this.#process = process;
    this.#ended = new Promise((resolve) => {
      const ended = (death: string): void => {
        this.#death ??= death;
        resolve(undefined);
      };
      process.once('exit', (code, signal) => ended(signal ?? `exit code ${code}`));
      process.once('error', (error) => ended(error.message));
    });
  }

  /** @throws {Error} with nginx's words, when it doesn't listen */
  static async start(limits: ServerLimits = {}): Promise<Nginx> {
    const folder = mkdtempSync(join(tmpdir(), 'lastcall-nginx-'));
    const port = await freePort();
    const { key, cert } = await certificate();
    writeFileSync(join(folder, 'key'), key, { mode: 0o600 });
    writeFileSync(join(folder, 'cert'), cert);
    writeFileSync(join(folder, 'config'), config(folder, port, limits));
    for (const octets of LARGE) writeFileSync(join(folder, `${octets}`), 'x'.repeat(octets));
    const program = spawn(sbin('nginx'), ['-c', join(folder, 'config'), '-e', 'stderr'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    program.stderr.on('data', (text: Buffer) => {
      said += text.toString();
    });
    const nginx = new Nginx(port, program);
    void nginx.#ended.then(() => rmSync(folder, { recursive: true, force: true }));
    if (await listens(port, nginx.#ended)) return nginx;
    const why = nginx.death ?? 'too late';
    await nginx.stop();
    throw new Error(`nginx does not listen: ${why} ${said}`);
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  get death(): string | undefined {
    return this.#death;
  }

  async stop(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#ended;
  }
}

function config(folder: string, port: number, { h1, h2, handshakeTimeout }: ServerLimits): string {
  const times = { ...h2, ...h1 };
  const http = `
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  client_header_timeout ${handshakeTimeout ?? times.headersTimeout ?? TIME}ms;
  client_body_timeout ${times.bodyTimeout ?? TIME}ms;
  send_timeout ${times.sendTimeout ?? TIME}ms;
  default_type text/plain;
  server {
    listen 127.0.0.1:${port} ssl http2;
    ssl_certificate ${folder}/cert;
    ssl_certificate_key ${folder}/key;
    ssl_session_cache off;
    root ${folder};
    location / { return 200 ok; }
    location ~ "^/small/(\\d+)/" { return 200 "ok $1"; }
    location ~ "^/large/\\d+/(\\d+)$" { try_files /$1 =404; }
  }`;
  return nginxConfig(folder, http);
}
