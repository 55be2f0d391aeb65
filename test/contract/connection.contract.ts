/**
 * The contract of a Connection: what its owner may rely on, whatever protocol it speaks. Run against every
 * implementation; what one can't promise is a test of its own that shows the weakness.
 */
import { once } from 'node:events';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { connect as connectTcp } from 'node:net';
import { expect } from 'chai';
import {
  type Connection,
  type ConnectionState,
  connectionOf,
  type DrainReport,
  drainSignal,
  gracefulShutdown,
} from '../../src/index.js';
import { Relay } from '../wire/relay.js';
import type { Implementation, Running } from './implementation.js';
import type { Peer, PeerOptions } from './peer.js';

/** A request that waits in its handler until the test lets it go on. */
interface Held {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly connection: Connection;
}

/** Reports of idle HTTP/1.1 connections need not wait for a request that will not come. */
const IDLE_AT_ONCE = { idleWait: 0 };

export function describeConnection(implementation: Implementation): void {
  const { name, protocol, tls, promises } = implementation;

  describe(`Connection: ${name}`, () => {
    let running: Running;
    let handler: RequestListener;
    let peers: Peer[];
    /** Handlers of `/held` waiting for their turn, and tests waiting for such a handler. */
    let held: Held[];
    let awaitingHeld: ((request: Held) => void)[];

    beforeEach(async () => {
      peers = [];
      held = [];
      awaitingHeld = [];
      handler = answer;
      running = await implementation.start((req, res) => handler(req, res));
    });

    afterEach(async () => {
      for (const peer of peers) peer.transport.destroy();
      await running.stop();
    });

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

    /** The next request for /held that has reached its handler. */
    const nextHeld = async (): Promise<Held> =>
      held.shift() ?? (await new Promise((resolve) => awaitingHeld.push(resolve)));

    const connect = async (options: Partial<PeerOptions> = {}): Promise<Peer> => {
      const peer = await implementation.connect({ port: running.port, tls, ...options });
      peers.push(peer);
      return peer;
    };

    /** A client and the server's side of its connection, after one request. */
    const established = async (options: Partial<PeerOptions> = {}): Promise<{ peer: Peer; connection: Connection }> => {
      const peer = await connect(options);
      expect((await peer.ask('/')).status).to.equal(200);
      const connection = [...running.connections].at(-1);
      if (connection === undefined) throw new Error('no connection is registered');
      await eventually(() => connection.active === 0, 'no request in flight');
      return { peer, connection };
    };

    /**
     * The client can't take its answer for complete. (Behind frames that say so, libuv reads a RST that comes in the
     * same poll as the end of the connection.)
     */
    const expectCut = async (peer: Peer, answered: Promise<unknown>): Promise<void> => {
      expect(await rejection(answered)).to.be.instanceOf(Error);
      const ending = await peer.ended();
      if (protocol === 'http/1.1') expect(ending).to.match(/reset/);
    };

    /** A client with a request in flight. */
    const busy = async (
      options: Partial<PeerOptions> = {},
    ): Promise<Held & { peer: Peer; answered: ReturnType<Peer['ask']> }> => {
      const peer = await connect(options);
      const answered = peer.ask('/held');
      answered.catch(() => {});
      return { peer, answered, ...(await nextHeld()) };
    };

    describe('what it tells', () => {
      it('is registered when it is accepted, before its protocol is known', async () => {
        const opened = once(running.connections, 'open');
        const client = connectTcp(running.port, '127.0.0.1');
        const [connection] = (await opened) as [Connection];
        expect(connection.state).to.equal('handshaking');
        expect(connection.protocol).to.equal(undefined);
        expect(running.connections.get(connection.id)).to.equal(connection);
        client.destroy();
        await connection.closed;
        expect(running.connections.size).to.equal(0);
      });

      it('goes from handshaking to open, draining, lingering and closed', async () => {
        const states: ConnectionState[] = [];
        running.connections.on('open', (connection) => states.push(connection.state));
        const { peer, connection, res, answered } = await busy({ closesToo: false });
        states.push(connection.state);
        const drained = gracefulShutdown(connection);
        states.push(connection.state);
        res.end('last');
        await answered;
        await peer.ended();
        states.push(connection.state);
        peer.transport.end();
        await drained;
        states.push(connection.state);
        expect(states).to.deep.equal(['handshaking', 'open', 'draining', 'lingering', 'closed']);
      });

      it('knows its protocol, addresses and server name', async () => {
        const { peer, connection } = await established({ servername: 'localhost' });
        expect(connection.protocol).to.equal(protocol);
        expect(connection.secure).to.equal(tls);
        expect(connection.servername).to.equal(tls ? 'localhost' : undefined);
        expect(connection.remoteAddress).to.equal('127.0.0.1');
        expect(connection.remotePort).to.equal(peer.transport.localPort);
        expect(connection.localPort).to.equal(running.port);
        expect(connection.localAddress).to.equal('127.0.0.1');
        expect('encrypted' in connection.socket).to.equal(tls);
        expect(connection.openedAt).to.be.closeTo(Date.now(), 5_000);
      });

      it('keeps its addresses after it has closed', async () => {
        const { peer, connection } = await established();
        connection.destroy();
        await connection.closed;
        expect(connection.remotePort).to.equal(peer.transport.localPort);
        expect(connection.localPort).to.equal(running.port);
        expect(connection.protocol).to.equal(protocol);
      });

      it('counts requests in flight and requests served', async () => {
        const { connection, res, answered, peer } = await busy();
        expect({ active: connection.active, served: connection.served }).to.deep.equal({ active: 1, served: 0 });
        res.end();
        await answered;
        await peer.ask('/');
        await eventually(() => connection.active === 0, 'no request in flight');
        expect(connection.served).to.equal(2);
      });

      it('was last active when a request last began or ended', async () => {
        const { peer, connection } = await established();
        await eventually(() => connection.active === 0, 'no request in flight');
        const before = connection.lastActiveAt;
        await eventually(() => Date.now() > before, 'the clock to move');
        await peer.ask('/');
        expect(connection.lastActiveAt).to.be.greaterThan(before);
        expect(connection.lastActiveAt).to.be.at.most(Date.now());
      });

      it('carries the tags of the application, which select it', async () => {
        const { connection } = await established();
        const other = await established();
        connection.tags.set('tenant', 'acme');
        other.connection.tags.set('tenant', 'other');
        expect(running.connections.select({ tags: { tenant: 'acme' } })).to.deep.equal([connection]);
        expect(running.connections.select({ protocol })).to.have.length(2);
      });

      it('has an id that no other connection has', async () => {
        const { connection } = await established();
        const other = await established();
        expect(other.connection.id).to.be.greaterThan(connection.id);
      });

      it('is found from its request, response and socket, also when they are over', async () => {
        const { connection, req, res, answered } = await busy();
        expect(connectionOf(req)).to.equal(connection);
        expect(connectionOf(res)).to.equal(connection);
        expect(connectionOf(req.socket)).to.equal(connection);
        expect(connectionOf(connection.socket)).to.equal(connection);
        res.end();
        await answered;
        connection.destroy();
        await connection.closed;
        expect(connectionOf(req)).to.equal(connection);
        expect(connectionOf(res)).to.equal(connection);
      });
    });

    describe('its drain signal', () => {
      it('aborts when the drain begins, for whoever asked before', async () => {
        const { connection, req, res } = await busy();
        const signal = drainSignal(req);
        expect(signal).to.equal(connection.drainSignal);
        expect(signal.aborted).to.equal(false);
        const aborted = once(signal, 'abort');
        const drained = gracefulShutdown(connection);
        expect(signal.aborted).to.equal(true);
        await aborted;
        res.end();
        await drained;
      });

      it('is aborted for whoever asks later', async () => {
        const { connection, req, res } = await busy();
        const drained = gracefulShutdown(connection);
        expect(drainSignal(req).aborted).to.equal(true);
        res.end();
        await drained;
        expect(connection.drainSignal.aborted).to.equal(true);
      });

      it('finds the drain under way when its listener calls gracefulShutdown', async () => {
        const { connection, res } = await busy();
        let joined: Promise<DrainReport> | undefined;
        connection.drainSignal.addEventListener('abort', () => {
          joined = gracefulShutdown(connection);
        });
        const drained = gracefulShutdown(connection);
        res.end();
        expect(await joined).to.equal(await drained);
      });
    });

    describe('drained', () => {
      it('answers the request in flight, then closes', async () => {
        const { peer, connection, res, answered } = await busy();
        const drained = gracefulShutdown(connection);
        res.setHeader('content-type', 'text/plain');
        res.end('the last answer');
        expect(await answered).to.deep.equal({ status: 200, text: 'the last answer' });
        expect(peer.told).to.equal(true);
        expect(await peer.ended()).to.equal('fin');
        const report = await drained;
        expect(report).to.include({
          id: connection.id,
          protocol,
          outcome: 'drained',
          served: 1,
          aborted: 0,
          unserved: 0,
        });
        expect(report.cut).to.deep.equal([]);
        expect(connection.state).to.equal('closed');
      });

      it('answers a request whose head was sent before the drain began', async () => {
        const { peer, connection, res, answered } = await busy();
        res.write('first ');
        await peer.headArrived();
        const drained = gracefulShutdown(connection, IDLE_AT_ONCE);
        res.end('and last');
        expect((await answered).text).to.equal('first and last');
        expect(await drained).to.include({ outcome: 'drained', served: 1 });
      });

      it('closes when it is idle', async () => {
        const { peer, connection } = await established();
        const drained = gracefulShutdown(connection, IDLE_AT_ONCE);
        expect(await peer.ended()).to.equal('fin');
        expect(await drained).to.include({ outcome: 'drained', served: 0, unserved: 0 });
      });

      it('leaves every other connection alone', async () => {
        const other = await busy();
        const idle = await established();
        other.res.write('before ');
        await other.peer.headArrived();
        for (let i = 0; i < 3; i++) {
          const { connection, res, answered } = await busy();
          const drained = gracefulShutdown(connection);
          res.end();
          await answered;
          expect(await drained).to.include({ outcome: 'drained' });
        }
        for (const { peer, connection } of [other, idle]) {
          expect(connection.state).to.equal('open');
          expect(connection.drainSignal.aborted).to.equal(false);
          expect(peer.told).to.equal(false);
          expect(peer.transport.ending).to.equal('open');
        }
        other.res.end('after');
        expect((await other.answered).text).to.equal('before after');
        expect((await other.peer.ask('/again')).text).to.equal('answer to /again');
        expect((await idle.peer.ask('/again')).text).to.equal('answer to /again');
      });

      it('has a report that says how long each phase took', async () => {
        const { connection, res, answered } = await busy();
        const drained = gracefulShutdown(connection);
        res.end();
        await answered;
        const { phases, duration } = await drained;
        expect(phases).to.have.all.keys('announce', 'settle', 'finish', 'linger');
        const sum = phases.announce + phases.settle + phases.finish + phases.linger;
        expect(sum).to.be.at.most(duration + 1);
      });

      it('counts requests of the drain only', async () => {
        const { peer, connection } = await established();
        await peer.ask('/');
        const answered = peer.ask('/held');
        const { res } = await nextHeld();
        const drained = gracefulShutdown(connection);
        res.end();
        await answered;
        expect(await drained).to.include({ served: 1 });
        expect(connection.served).to.equal(3);
      });

      it('resolves at once when it is closed already', async () => {
        const { connection } = await established();
        connection.destroy();
        await connection.closed;
        const report = await gracefulShutdown(connection);
        expect(report).to.include({ outcome: 'drained', served: 0, aborted: 0 });
        expect(report.duration).to.be.below(50);
      });

      it('gives the same report to whoever asks again afterwards', async () => {
        const { connection } = await established();
        const report = await gracefulShutdown(connection, IDLE_AT_ONCE);
        expect(await gracefulShutdown(connection)).to.equal(report);
      });

      const drainedInTheHandshake = async (): Promise<{ peer: Peer; drained: Promise<DrainReport> }> => {
        const drained = new Promise<DrainReport>((resolve) => {
          running.connections.once('open', (connection) => resolve(gracefulShutdown(connection, { timeout: 5_000 })));
        });
        return { peer: await connect(), drained };
      };

      if (promises.servesWhatIsOnTheWire) {
        it('serves a client that was in the handshake', async () => {
          const { peer, drained } = await drainedInTheHandshake();
          expect((await peer.ask('/')).text).to.equal('answer to /');
          expect(await peer.ended()).to.equal('fin');
          expect(peer.told).to.equal(true);
          expect(await drained).to.include({ outcome: 'drained', served: 1, protocol });
        });
      } else {
        it('weaker: refuses a client that was in the handshake', async () => {
          const { peer, drained } = await drainedInTheHandshake();
          expect(await rejection(peer.ask('/'))).to.be.instanceOf(Error);
          expect(peer.told).to.equal(true);
          expect(await drained).to.include({ outcome: 'drained', served: 0, protocol });
        });
      }

      it('is cut in the handshake when the deadline comes first', async () => {
        const opened = once(running.connections, 'open');
        const client = connectTcp(running.port, '127.0.0.1').on('error', () => {});
        const [connection] = (await opened) as [Connection];
        const report = await gracefulShutdown(connection, { timeout: 50 });
        expect(report).to.include({ outcome: 'drained', aborted: 0 });
        client.destroy();
      });

      it('keeps nothing alive afterwards', async () => {
        // mocha's own timer comes after the first turn.
        await new Promise((resolve) => setImmediate(resolve));
        const before = resources();
        const { peer, connection, res, answered } = await busy();
        const drained = gracefulShutdown(connection);
        res.end();
        await answered;
        await drained;
        await peer.transport.closed;
        await eventually(
          () => resources() === before,
          () => `${before} left, not ${resources()}`,
        );
      });

      it('lets a client that reads slowly have all of the last answer, however long ago the timeout was kept', async () => {
        const body = 'x'.repeat(2_000_000);
        const served = new Promise<Connection>((resolve) => {
          handler = (req, res) => {
            resolve(connectionOf(req) as Connection);
            res.end(body);
          };
        });
        const peer = await connect();
        const answered = peer.ask('/');
        peer.transport.socket.pause();
        const drained = gracefulShutdown(await served, { timeout: 300, settle: 50, linger: 1_500 });
        setTimeout(() => peer.transport.socket.resume(), 700);
        expect((await answered).text.length).to.equal(body.length);
        expect(await drained).to.include({ outcome: 'drained' });
      });
    });

    describe('drained inside a handler', () => {
      it('answers that request, then closes', async () => {
        let drained: Promise<DrainReport> | undefined;
        handler = (req, res) => {
          drained = gracefulShutdown(connectionOf(req) as Connection);
          res.end('the last one');
        };
        const peer = await connect();
        expect((await peer.ask('/')).text).to.equal('the last one');
        expect(await peer.ended()).to.equal('fin');
        expect(peer.told).to.equal(true);
        expect(await drained).to.include({ outcome: 'drained', served: 1 });
      });

      it('warns when the handler waits for its own connection', async () => {
        const warned = new Promise<void>((resolve) => {
          process.on('warning', function listener(warning: Error & { code?: string }) {
            if (warning.code !== 'LASTCALL_SELF_WAIT') return;
            process.off('warning', listener);
            resolve();
          });
        });
        handler = async (req, res) => {
          await Promise.race([gracefulShutdown(connectionOf(req) as Connection), warned]);
          res.end();
        };
        const peer = await connect();
        const answered = peer.ask('/');
        await warned;
        await answered;
      });
    });

    describe('drained again', () => {
      it('joins the drain under way: one report for all', async () => {
        const { connection, res, answered } = await busy();
        const first = gracefulShutdown(connection);
        const second = gracefulShutdown(connection, { reason: 'again' });
        res.end();
        await answered;
        expect(await second).to.equal(await first);
      });

      it('has the earlier of the deadlines', async () => {
        const { connection } = await busy();
        const first = gracefulShutdown(connection, { timeout: 20_000 });
        const second = gracefulShutdown(connection, { timeout: 50 });
        expect(await first).to.include({ outcome: 'forced', aborted: 1 });
        expect((await second).duration).to.be.below(2_000);
      });

      it('does not get a later deadline', async () => {
        const { connection } = await busy();
        const first = gracefulShutdown(connection, { timeout: 50 });
        void gracefulShutdown(connection, { timeout: 20_000 });
        expect((await first).duration).to.be.below(2_000);
      });
    });

    describe('cut', () => {
      it('resets what is unanswered at the deadline, and names it', async () => {
        const { peer, connection, answered } = await busy();
        const report = await gracefulShutdown(connection, { timeout: 60 });
        expect(report).to.include({ outcome: 'forced', aborted: 1, served: 0 });
        expect(report.cut).to.have.length(1);
        expect(report.cut[0]).to.include({ method: 'GET', path: '/held' });
        expect(report.cut[0]?.ageMs).to.be.within(50, 5_000);
        await expectCut(peer, answered);
      });

      it('never makes a cut answer look complete', async () => {
        const { peer, connection, res, answered } = await busy();
        res.write('a part');
        await peer.headArrived();
        const report = await gracefulShutdown(connection, { timeout: 60 });
        expect(report).to.include({ outcome: 'forced', aborted: 1 });
        await expectCut(peer, answered);
      });

      it('is cut when the signal aborts', async () => {
        const { connection } = await busy();
        const controller = new AbortController();
        const drained = gracefulShutdown(connection, { signal: controller.signal });
        controller.abort();
        const report = await drained;
        expect(report).to.include({ outcome: 'forced', aborted: 1 });
        expect(report.duration).to.be.below(2_000);
      });

      it('is cut by a signal that was aborted before', async () => {
        const { connection } = await busy();
        expect(await gracefulShutdown(connection, { signal: AbortSignal.abort() })).to.include({ outcome: 'forced' });
      });

      it('is drained, not forced, when nothing was in flight at the deadline', async () => {
        const { connection } = await established();
        expect(await gracefulShutdown(connection, { timeout: 30, linger: 10 })).to.include({ outcome: 'drained' });
      });
    });

    describe('destroyed', () => {
      it('closes at once, and the peer sees that its answer was cut', async () => {
        const { peer, connection, answered } = await busy();
        connection.destroy();
        await connection.closed;
        expect(connection.state).to.equal('closed');
        expect(connection.active).to.equal(0);
        await expectCut(peer, answered);
      });

      it('takes an error without crashing the process, also twice', async () => {
        const { connection } = await busy();
        connection.destroy(new Error('evicted'));
        connection.destroy(new Error('again'));
        await connection.closed;
        connection.destroy(new Error('and again'));
      });

      it('takes an error in the handshake', async () => {
        const opened = once(running.connections, 'open');
        const client = connectTcp(running.port, '127.0.0.1').on('error', () => {});
        const [connection] = (await opened) as [Connection];
        connection.destroy(new Error('evicted'));
        await connection.closed;
        client.destroy();
      });

      it('ends a drain under way as forced', async () => {
        const { connection } = await busy();
        const drained = gracefulShutdown(connection);
        connection.destroy();
        expect(await drained).to.include({ outcome: 'forced', aborted: 1 });
      });
    });

    describe('left by its peer', () => {
      it('reports the request that was unanswered when the peer reset the connection', async () => {
        const { peer, connection } = await established();
        peer.ask('/held').catch(() => {});
        await nextHeld();
        const drained = gracefulShutdown(connection);
        peer.transport.reset();
        expect(await drained).to.include({ outcome: 'peer', aborted: 1 });
      });

      it('is drained when the peer leaves with nothing open', async () => {
        const { peer, connection } = await established();
        const drained = gracefulShutdown(connection);
        peer.transport.end();
        expect(await drained).to.include({ outcome: 'drained', aborted: 0, unserved: 0 });
      });
    });

    describe('loses nothing', () => {
      const overSlowNetwork = async (check: (peer: Peer, connection: Connection) => Promise<void>): Promise<void> => {
        const relay = await Relay.open({ port: running.port });
        try {
          const { peer, connection } = await established({ port: relay.port });
          relay.delayMs = 30;
          await check(peer, connection);
        } finally {
          await relay.close();
        }
      };

      if (promises.servesWhatIsOnTheWire) {
        it('serves a request that was on the wire when the drain began', () =>
          overSlowNetwork(async (peer, connection) => {
            const answered = peer.ask('/crossing');
            const drained = gracefulShutdown(connection);
            expect((await answered).text).to.equal('answer to /crossing');
            expect(await drained).to.include({ outcome: 'drained', served: 1 });
            expect(await peer.ended()).to.equal('fin');
          }));
      } else {
        it('weaker: a request that was on the wire when the drain began is lost, and nobody can count it', () =>
          overSlowNetwork(async (peer, connection) => {
            const answered = peer.ask('/crossing');
            const drained = gracefulShutdown(connection);
            expect(await rejection(answered)).to.be.instanceOf(Error);
            expect(await drained).to.include({ outcome: 'drained', served: 0 });
          }));
      }

      if (promises.tellsIdleClients) {
        it('tells an idle client at once', async () => {
          const { peer, connection } = await established();
          const drained = gracefulShutdown(connection);
          await peer.ended();
          expect(peer.told).to.equal(true);
          await drained;
        });
      } else {
        it('weaker: an idle client is told with the answer to its next request', async () => {
          const { peer, connection } = await established();
          const drained = gracefulShutdown(connection);
          expect((await peer.ask('/next')).text).to.equal('answer to /next');
          expect(peer.told).to.equal(true);
          expect(await drained).to.include({ outcome: 'drained', served: 1 });
        });
      }

      it('has reports that add up with what the clients saw', async () => {
        handler = (_req, res) => void setTimeout(() => res.end(), 2);
        const clients = Array.from({ length: 8 }, () => implementation.run(running.port, '/', 3));
        await eventually(
          () => [...running.connections].filter((connection) => connection.served > 3).length === 8,
          'eight busy connections',
        );
        const live = [...running.connections];
        const reports: DrainReport[] = [];
        for (const connection of live) reports.push(await gracefulShutdown(connection));
        const tallies = await Promise.all(clients);
        const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0);
        expect(sum(live.map(({ served }) => served))).to.equal(sum(tallies.map(({ answered }) => answered)));
        expect(reports.map(({ outcome }) => outcome)).to.deep.equal(Array(8).fill('drained'));
        if (promises.drainsUnderLoad) expect(sum(tallies.map(({ lost }) => lost))).to.equal(0);
      });
    });
  });
}

/** What keeps the event loop alive, as one comparable value. */
function resources(): string {
  return process.getActiveResourcesInfo().sort().join();
}

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** Waits for what no event tells, a turn of the event loop at a time. */
async function eventually(holds: () => boolean, what: string | (() => string)): Promise<void> {
  const until = performance.now() + 5_000;
  while (!holds()) {
    if (performance.now() > until) throw new Error(`waited in vain for: ${typeof what === 'string' ? what : what()}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
