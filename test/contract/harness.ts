/**
 * What every test of the contract begins with: a running server of one implementation, clients for it, and requests
 * that wait in their handler until the test lets them go on.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { expect } from 'chai';
import { type Connection, connectionOf } from '../../src/index.js';
import type { Implementation, Running } from './implementation.js';
import type { Peer, PeerOptions } from './peer.js';

/** A request for `/held`, which waits in its handler. */
export interface Held {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly connection: Connection;
}

/** A client with a request in flight. */
export interface Busy extends Held {
  readonly peer: Peer;
  readonly answered: ReturnType<Peer['ask']>;
}

export interface Harness {
  /** The server of the test that runs. */
  readonly running: Running;
  /** What its requests go to; at first one for which `/held` waits and everything else is answered. */
  handler: RequestListener;
  connect(options?: Partial<PeerOptions>): Promise<Peer>;
  /** A client and the server's side of its connection, after one request. */
  established(options?: Partial<PeerOptions>): Promise<{ peer: Peer; connection: Connection }>;
  busy(options?: Partial<PeerOptions>): Promise<Busy>;
  /** The next request for `/held` that has reached its handler. */
  nextHeld(): Promise<Held>;
  /** The client can't take its answer for complete. */
  expectCut(peer: Peer, answered: Promise<unknown>): Promise<void>;
}

/** Registers the hooks that start and stop a server around each test. */
export function useHarness(implementation: Implementation): Harness {
  let running: Running | undefined;
  let peers: Peer[] = [];
  /** Requests that wait for a test, and tests that wait for a request. */
  let held: Held[] = [];
  let awaitingHeld: ((request: Held) => void)[] = [];

  const answer: RequestListener = (req, res) => {
    if (req.url !== '/held') {
      res.end(`answer to ${req.url}`);
      return;
    }
    const connection = connectionOf(req);
    if (connection === undefined) throw new Error('a request without a connection');
    const request = { req, res, connection };
    const waiting = awaitingHeld.shift();
    if (waiting === undefined) held.push(request);
    else waiting(request);
  };

  const harness: Harness = {
    get running() {
      if (running === undefined) throw new Error('no server is running');
      return running;
    },
    handler: answer,

    async connect(options = {}) {
      const peer = await implementation.connect({ port: harness.running.port, tls: implementation.tls, ...options });
      peers.push(peer);
      return peer;
    },

    async established(options) {
      const peer = await harness.connect(options);
      expect((await peer.ask('/')).status).to.equal(200);
      const connection = [...harness.running.connections].at(-1);
      if (connection === undefined) throw new Error('no connection is registered');
      await eventually(() => connection.active === 0, 'no request in flight');
      return { peer, connection };
    },

    async busy(options) {
      const peer = await harness.connect(options);
      const answered = peer.ask('/held');
      answered.catch(() => {});
      return { peer, answered, ...(await harness.nextHeld()) };
    },

    async nextHeld() {
      return held.shift() ?? (await new Promise((resolve) => awaitingHeld.push(resolve)));
    },

    async expectCut(peer, answered) {
      expect(await rejection(answered)).to.be.instanceOf(Error);
      const ending = await peer.ended();
      // Behind frames that say that it was cut, libuv reads a RST that comes in the same poll as an ordinary end.
      if (implementation.protocol === 'http/1.1') expect(ending).to.match(/reset/);
    },
  };

  beforeEach(async () => {
    peers = [];
    held = [];
    awaitingHeld = [];
    harness.handler = answer;
    running = await implementation.start((req, res) => harness.handler(req, res));
  });

  afterEach(async () => {
    for (const peer of peers) peer.transport.destroy();
    await running?.stop();
  });

  return harness;
}

/** What a promise rejects with; `undefined` when it doesn't. */
export async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** Waits for what no event tells, a turn of the event loop at a time. */
export async function eventually(holds: () => boolean, what: string | (() => string)): Promise<void> {
  const until = performance.now() + 5_000;
  while (!holds()) {
    if (performance.now() > until) throw new Error(`waited in vain for: ${typeof what === 'string' ? what : what()}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
