/**
 * The ground that faults are injected on: a server whose handlers' events are all noted, a client beside the broken
 * ones that must not notice, and what must hold whenever a connection has broken, wherever that was.
 */
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import * as v8 from 'node:v8';
import { expect } from 'chai';
import { LiveConnection } from '../../src/core/connection.js';
import type { RequestCounts } from '../../src/core/report.js';
import {
  type Connection,
  connectionOf,
  createServer,
  type DrainOptions,
  type DrainReport,
  gracefulShutdown,
  type Server,
  type ServerOptions,
} from '../../src/index.js';
import { certificate } from '../wire/certificate.js';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { turns } from '../wire/waiting.js';

export type Protocol = 'h1' | 'h2';

/** One of the four ways to reach a server. */
export interface Way {
  readonly protocol: Protocol;
  readonly tls: boolean;
}

export const WAYS: readonly Way[] = [
  { protocol: 'h1', tls: false },
  { protocol: 'h1', tls: true },
  { protocol: 'h2', tls: false },
  { protocol: 'h2', tls: true },
];

export function nameOf({ protocol, tls }: Way): string {
  return `${protocol === 'h1' ? 'HTTP/1.1' : 'HTTP/2'} over ${tls ? 'TLS' : 'cleartext'}`;
}

/** How a client's side of a connection ends: RST, or FIN and reading on. */
export const ENDINGS = ['reset', 'FIN'] as const;
export type FaultEnding = (typeof ENDINGS)[number];

/** What the application saw of one request. */
export interface Seen {
  readonly url: string;
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  /** how often each of these events came, of the request or of the response */
  readonly events: Record<string, number>;
}

const REQUEST_EVENTS = ['aborted', 'close', 'end', 'error'] as const;
const RESPONSE_EVENTS = ['close', 'finish', 'error'] as const;

export const LARGE = 400_000;

export class Ground {
  readonly server: Server;
  readonly way: Way;
  port = 0;
  /** requests of broken clients, by connection */
  readonly seen = new Map<Connection, Seen[]>();
  /** what a test answers by itself, by path */
  readonly handlers = new Map<string, (req: IncomingMessage, res: ServerResponse) => unknown>();
  /** responses of /hold that nobody has released */
  readonly held = new Set<ServerResponse>();
  /** what /hold is answered with at once */
  released: string | undefined;
  readonly handlerErrors: unknown[] = [];
  readonly #escaped: unknown[] = [];
  #bystander: H1Client | H2Client | undefined;
  #asked = 0;

  private constructor(server: Server, way: Way) {
    this.server = server;
    this.way = way;
  }

  static async open(way: Way, options: ServerOptions = {}): Promise<Ground> {
    const base = way.tls ? await certificate() : { cleartext: true };
    const ground = new Ground(createServer({ ...base, ...options }), way);
    ground.server.on('request', (req: IncomingMessage, res: ServerResponse): unknown => ground.#answer(req, res));
    ground.server.on('handlerError', (error: unknown) => ground.handlerErrors.push(error));
    ground.server.listen(0, '127.0.0.1');
    await once(ground.server, 'listening');
    ground.port = (ground.server.address() as AddressInfo).port;
    process.on('uncaughtExceptionMonitor', ground.#onEscape);
    process.on('unhandledRejection', ground.#onEscape);
    await ground.#ask();
    return ground;
  }

  readonly #onEscape = (error: unknown): void => void this.#escaped.push(error);

  get #target(): { port: number; tls: boolean } {
    return { port: this.port, tls: this.way.tls };
  }

  /** The client beside the broken ones: one request, on the one connection that it has. */
  async #ask(): Promise<void> {
    this.#bystander ??= await this.connect();
    const n = this.#asked++;
    const { text } = await this.#bystander.fetch({ path: `/echo/${n}` });
    expect(text).to.equal(`echo ${n}`);
  }

  connect(): Promise<H1Client | H2Client> {
    return this.way.protocol === 'h1' ? this.connectH1() : this.connectH2();
  }

  /** In a turn of its own: a client that resets its TCP socket in its TLS handshake's callback crashes Node. */
  async connectH1(): Promise<H1Client> {
    const client = await H1Client.connect(this.#target);
    await turns(1);
    return client;
  }

  async connectH2(options: object = {}): Promise<H2Client> {
    const client = await H2Client.connect({ ...this.#target, ...options });
    await turns(1);
    return client;
  }

  /** The server's side of a client's connection. */
  async connectionOf(localPort: number): Promise<LiveConnection> {
    for (;;) {
      for (const connection of this.server.connections) {
        if (connection.remotePort === localPort) return connection as LiveConnection;
      }
      await turns(1);
    }
  }

  requestsOf(connection: Connection): readonly Seen[] {
    return this.seen.get(connection) ?? [];
  }

  /** Answers /hold: those that wait, and from now on at once. */
  release(text = 'released'): void {
    this.released = text;
    for (const res of this.held) res.end(text);
    this.held.clear();
  }

  #answer(req: IncomingMessage, res: ServerResponse): unknown {
    const url = req.url ?? '';
    if (url.startsWith('/echo/')) {
      return res.end(`echo ${url.slice(6)}`);
    }
    const events: Record<string, number> = {};
    const note = (event: string) => (): void => {
      events[event] = (events[event] ?? 0) + 1;
    };
    for (const event of REQUEST_EVENTS) req.on(event, note(`req ${event}`));
    for (const event of RESPONSE_EVENTS) res.on(event, note(`res ${event}`));
    const connection = connectionOf(req);
    if (connection === undefined) throw new Error('a request without a connection');
    const seen = this.seen.get(connection) ?? [];
    this.seen.set(connection, seen);
    seen.push({ url, req, res, events });
    const handler = this.handlers.get(url);
    return handler === undefined ? answer(this, url, req, res) : handler(req, res);
  }

  /** What must hold when everybody but the bystander is gone. */
  async settled(): Promise<void> {
    await this.#ask();
    await until(() => this.server.connections.size === 1, 'only the bystander is left');
    expect(this.#escaped, 'exceptions that nobody caught').to.deep.equal([]);
    // What the end of a connection makes of its requests may take a few ticks.
    await turns(3);
    for (const [connection, requests] of this.seen) checkRequests(connection as LiveConnection, requests);
  }

  /** @param bystander whether the client beside must be there still */
  async close({ bystander = true } = {}): Promise<void> {
    if (bystander) {
      await this.#ask();
      expect(this.#bystander?.ending, 'the bystander').to.equal('open');
    }
    this.#bystander?.end();
    this.#bystander?.destroy();
    process.off('uncaughtExceptionMonitor', this.#onEscape);
    process.off('unhandledRejection', this.#onEscape);
    const closed = once(this.server, 'close');
    this.server.close();
    this.server.closeAllConnections();
    await closed;
    expect(this.#escaped).to.deep.equal([]);
    this.seen.clear();
  }
}

function answer(ground: Ground, url: string, req: IncomingMessage, res: ServerResponse): void {
  if (url === '/hold' && ground.released !== undefined) res.end(ground.released);
  else if (url === '/hold') {
    ground.held.add(res);
    res.once('close', () => ground.held.delete(res));
  } else if (url === '/large') res.end(Buffer.alloc(LARGE, 'x'));
  else if (url === '/parts') void inParts(res);
  else if (url === '/body') {
    let size = 0;
    req.on('data', (chunk: Buffer) => {
      size += chunk.length;
    });
    req.on('end', () => res.end(`read ${size}`));
  } else res.end(`ok ${url}`);
}

/** Head, parts and end, each in a turn of its own. */
async function inParts(res: ServerResponse): Promise<void> {
  res.writeHead(200, { 'content-type': 'text/plain' });
  for (let i = 0; i < 4; i++) {
    await turns(1);
    res.write(`part ${i};`);
  }
  await turns(1);
  res.end();
}

/** Whatever happened: every event came once, and every request is in one counter. */
function checkRequests(connection: LiveConnection, requests: readonly Seen[]): void {
  expect(connection.state).to.equal('closed');
  expect(connection.active, 'requests in flight on a closed connection').to.equal(0);
  for (const { url, events, res } of requests) {
    const where = `${url} on connection ${connection.id}: ${JSON.stringify(events)}`;
    expect(events['res close'], `${where}, response 'close'`).to.equal(1);
    expect(events['req close'], `${where}, request 'close'`).to.equal(1);
    expect(events['req aborted'] ?? 0, `${where}, 'aborted'`).to.be.at.most(1);
    expect(events['req error'] ?? 0, `${where}, request 'error'`).to.be.at.most(1);
    expect(events['res finish'] ?? 0, `${where}, 'finish'`).to.be.at.most(1);
    expect(events['req end'] ?? 0, `${where}, 'end'`).to.be.at.most(1);
    expect(res.socket === null || res.destroyed || res.writableFinished, where).to.equal(true);
  }
  const { counts } = connection;
  // Those that the application got are among those that were counted.
  expect(sumOf(counts), `counters of connection ${connection.id}`).to.be.at.least(requests.length);
}

export function sumOf(counts: RequestCounts): number {
  return counts.served + counts.cancelled + counts.malformed + counts.refused + counts.aborted + counts.unserved;
}

/** The outcome that the counters of a drain which nobody forced allow. */
export function checkReport(report: DrainReport): void {
  const { aborted, unserved, outcome } = report;
  expect(outcome, JSON.stringify(report)).to.equal(aborted > 0 ? 'peer' : unserved > 0 ? 'lossy' : 'drained');
  expect(report.cut).to.have.length(aborted);
}

/** A drain that must end by itself soon. */
export async function drained(connection: Connection, options: DrainOptions = {}): Promise<DrainReport> {
  return within(gracefulShutdown(connection, { timeout: 20_000, linger: 200, ...options }), 'end of the drain');
}

export async function within<T>(what: Promise<T>, name: string, ms = 8_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${name} after ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([what, late]);
  } finally {
    clearTimeout(timer);
  }
}

export async function until(holds: () => boolean, what: string, ms = 8_000): Promise<void> {
  const end = performance.now() + ms;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** What of the process tests must leave as they found it. */
export interface Left {
  /** sockets and servers, by class */
  readonly descriptors: Readonly<Record<string, number>>;
  /** connections on the heap that are still reachable; 0 where Node can't tell */
  readonly connections: number;
}

export function whatIsThere(): Left {
  const descriptors: Record<string, number> = {};
  for (const name of process.getActiveResourcesInfo()) {
    if (/TCP|TLS|Pipe/.test(name)) descriptors[name] = (descriptors[name] ?? 0) + 1;
  }
  const { queryObjects } = v8 as typeof v8 & { queryObjects?: (type: object, options: object) => number };
  return { descriptors, connections: queryObjects?.(LiveConnection, { format: 'count' }) ?? 0 };
}

/** Nothing more than before: sockets take a moment to let go of what they held. */
export async function nothingLeft(before: Left, ms = 20_000): Promise<void> {
  const end = performance.now() + ms;
  let now = whatIsThere();
  const isMore = (): boolean =>
    now.connections > before.connections || !isDeepStrictEqual(now.descriptors, before.descriptors);
  while (isMore() && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    now = whatIsThere();
  }
  expect(now.descriptors, 'descriptors').to.deep.equal(before.descriptors);
  expect(now.connections, 'connections on the heap').to.be.at.most(before.connections);
}

/** A ground for each test of the suite, closed once it has settled; after the last one nothing is left. */
export function groundForEach(way: Way, options: ServerOptions, opened: (ground: Ground) => void): void {
  let left: Left;
  let ground: Ground;
  before(() => {
    left = whatIsThere();
  });
  beforeEach(async () => {
    ground = await Ground.open(way, options);
    opened(ground);
  });
  afterEach(async () => {
    await ground.settled();
    await ground.close();
  });
  after(() => nothingLeft(left));
}

/** Runs all of them, a few at a time. */
export async function inBatches<T>(
  items: readonly T[],
  atATime: number,
  run: (item: T) => Promise<void>,
): Promise<void> {
  for (let i = 0; i < items.length; i += atATime) await Promise.all(items.slice(i, i + atATime).map(run));
}
