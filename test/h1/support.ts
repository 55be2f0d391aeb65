/**
 * A lastcall server behind the delaying relay, over TLS or cleartext, for the tests of HTTP/1.1 on the wire. Everything
 * opened here is closed after the test that opened it.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import type { Connection, DrainReport } from '../../src/index.js';
import { createServer, type Server, type ServerOptions } from '../../src/index.js';
import { certificate } from '../wire/certificate.js';
import { H1Client } from '../wire/h1-client.js';
import { Relay } from '../wire/relay.js';
import { turns } from '../wire/waiting.js';

export const TRANSPORTS = [
  { name: 'TLS', tls: true },
  { name: 'cleartext', tls: false },
] as const;

export interface Setup {
  readonly tls: boolean;
  readonly options?: Partial<ServerOptions>;
  /** one way, ms (default 5) */
  readonly delayMs?: number;
  /** what the relay holds for a client that doesn't read (default 16 MiB) */
  readonly bufferBytes?: number;
}

const opened: (() => Promise<void> | void)[] = [];

/** For `afterEach`. */
export async function closeEverything(): Promise<void> {
  for (const close of opened.splice(0).reverse()) await close();
}

export class Site {
  readonly server: Server;
  readonly relay: Relay;
  readonly tls: boolean;
  /** paths of the requests that a handler of any kind was called for */
  readonly handled: string[] = [];
  readonly #parked = new Map<string, (res: ServerResponse) => void>();
  readonly #waiting = new Map<string, ServerResponse>();

  private constructor(server: Server, relay: Relay, tls: boolean) {
    this.server = server;
    this.relay = relay;
    this.tls = tls;
  }

  /** Without a listener: `/park…` waits for `answer()`, everything else is answered at once with its path. */
  static async open({ tls, options = {}, delayMs = 5, ...relayed }: Setup, listener?: RequestListener): Promise<Site> {
    const server = createServer({ ...(tls ? await certificate() : { cleartext: true }), ...options });
    server.on('request', (req, res) => {
      site.handled.push(req.url ?? '');
      if (listener !== undefined) listener(req, res);
      else site.#handle(req, res);
    });
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    const relay = await Relay.open({ port: (server.address() as AddressInfo).port, delayMs, ...relayed });
    const site = new Site(server, relay, tls);
    opened.push(async () => {
      server.closeAllConnections();
      await server.shutdown({ timeout: 100, linger: 0 });
      await relay.close();
    });
    return site;
  }

  async connect(): Promise<H1Client> {
    const client = await H1Client.connect({ port: this.relay.port, tls: this.tls });
    opened.push(() => client.destroy());
    return client;
  }

  /** Without the relay: what is written is in the server's kernel buffer at once. */
  async connectDirectly(): Promise<H1Client> {
    const client = await H1Client.connect({ port: (this.server.address() as AddressInfo).port, tls: this.tls });
    opened.push(() => client.destroy());
    return client;
  }

  /** The only live connection, once there is one. */
  async connection(): Promise<Connection> {
    for (;;) {
      const [connection] = this.server.connections;
      if (connection !== undefined) return connection;
      await new Promise((resolve) => this.server.connections.once('open', resolve));
    }
  }

  /** Resolves once the server has read what clients had written when this was called, however slow the machine is. */
  async arrived(): Promise<void> {
    do await turns(5);
    while (!this.relay.passedOn);
    await turns(5);
  }

  /** The response of a parked request, once its handler was called. */
  parked(path: string): Promise<ServerResponse> {
    const res = this.#waiting.get(path);
    if (res !== undefined) return Promise.resolve(res);
    return new Promise((resolve) => this.#parked.set(path, resolve));
  }

  #handle(req: IncomingMessage, res: ServerResponse): void {
    const path = req.url ?? '';
    if (!path.startsWith('/park')) {
      res.end(path);
      return;
    }
    this.#waiting.set(path, res);
    this.#parked.get(path)?.(res);
  }
}

/** The counters of a report that are not 0. */
export function counters(report: DrainReport): Record<string, number> {
  const { served, cancelled, malformed, refused, aborted, unserved } = report;
  const all = { served, cancelled, malformed, refused, aborted, unserved };
  return Object.fromEntries(Object.entries(all).filter(([, count]) => count > 0));
}

/** Waits for what no event tells. */
export async function until(holds: () => boolean): Promise<void> {
  for (let i = 0; i < 1_000 && !holds(); i++) await delay(5);
  expect(holds()).to.equal(true);
}

/** Waits until the kernel takes no more of what the server writes to a client that reads nothing. */
export async function standstill(connection: Connection): Promise<void> {
  await until(() => connection.socket.writableLength > 0);
  for (let written = -1, still = 0; still < 10; await delay(2)) {
    const { bytesWritten } = connection.socket;
    still = bytesWritten === written ? still + 1 : 0;
    written = bytesWritten;
  }
}

export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
