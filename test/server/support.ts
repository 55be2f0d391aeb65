/**
 * Servers for the tests of this folder: started on a free port of the loopback, and gone when the test is over.
 */
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import type { RequestListener } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { createServer, type Server, type ServerOptions } from '../../src/index.js';
import { certificate } from '../wire/certificate.js';

export interface Started {
  readonly server: Server;
  readonly port: number;
}

/** The two ports that a server can have. */
export const PORTS = ['TLS', 'cleartext'] as const;
export type PortKind = (typeof PORTS)[number];

export class Servers {
  readonly #open: Server[] = [];

  /** Registers the hook that ends what a test has started. */
  constructor() {
    afterEach(() => this.#end());
  }

  async start(kind: PortKind, options: ServerOptions = {}, listener?: RequestListener): Promise<Started> {
    const base = kind === 'TLS' ? await certificate() : { cleartext: true };
    const server = createServer({ ...base, ...options }, listener);
    return { server, port: await this.listen(server) };
  }

  async listen(server: Server): Promise<number> {
    this.#open.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  }

  async #end(): Promise<void> {
    for (const server of this.#open.splice(0)) {
      const closed = server.listening ? once(server, 'close') : undefined;
      if (server.listening) server.close();
      server.closeAllConnections();
      await closed;
    }
  }
}

/** A TCP connection that says nothing by itself and survives whatever is done to it. */
export async function silentClient(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true }).on('error', () => {});
  await once(socket, 'connect');
  socket.resume();
  return socket;
}

/** Descriptors that this process has open. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

/** Waits for what no event tells. */
export async function eventually(holds: () => boolean, what: string, timeoutMs = 8_000): Promise<void> {
  const until = performance.now() + timeoutMs;
  while (!holds()) {
    if (performance.now() > until) throw new Error(`waited in vain for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** What a call or a promise throws; `undefined` when it doesn't. */
export async function thrown(what: () => unknown): Promise<Error & { code?: string }> {
  try {
    await what();
  } catch (error) {
    return error as Error;
  }
  throw new Error('it was expected to throw');
}

/** What the process is told of while `run` runs, instead of dying of it. */
export async function uncaughtDuring(told: (message: string) => void, run: () => Promise<void>): Promise<void> {
  const others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException').on('uncaughtException', ({ message }) => told(message));
  try {
    await run();
  } finally {
    process.removeAllListeners('uncaughtException');
    for (const listener of others) process.on('uncaughtException', listener);
  }
}
