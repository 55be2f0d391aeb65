/**
 * The contract of the end of a Connection: drained, joined, cut, destroyed, left by its peer, whatever protocol it
 * speaks. Run against every implementation; what one can't promise is a test of its own that shows the weakness.
 */
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { expect } from 'chai';
import { type Connection, connectionOf, type DrainReport, gracefulShutdown } from '../../src/index.js';
import { Relay } from '../wire/relay.js';
import { eventually, rejection, useHarness } from './harness.js';
import type { Implementation } from './implementation.js';
import type { Peer } from './peer.js';

/** Reports of idle HTTP/1.1 connections need not wait for a request that will not come. */
const IDLE_AT_ONCE = { idleWait: 0 };

export function describeDrain(implementation: Implementation): void {
  const { name, protocol, promises } = implementation;

  describe(`gracefulShutdown: ${name}`, () => {
    const harness = useHarness(implementation);
    const { connect, established, busy, nextHeld, expectCut } = harness;

    describe('drained', () => {
      it('answers the request in flight, then closes', async () => {
        const { peer, connection, res, answered } = await busy();
        const drained = gracefulShutdown(connection);
        res.setHeader('content-type', 'text/plain');
        res.end('the last answer');
        expect(await answered).to.deep.equal({ status: 200, text: 'the last answer' });
        expect(await peer.ended()).to.equal('fin');
        expect(peer.told).to.equal(true);
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
        expect(report.duration).to.be.below(1_000);
      });

      it('gives the same report to whoever asks again afterwards', async () => {
        const { connection } = await established();
        const report = await gracefulShutdown(connection, IDLE_AT_ONCE);
        expect(await gracefulShutdown(connection)).to.equal(report);
      });

      const drainedInTheHandshake = async (): Promise<{ peer: Peer; drained: Promise<DrainReport> }> => {
        const drained = new Promise<DrainReport>((resolve) => {
          harness.running.connections.once('open', (connection) =>
            resolve(gracefulShutdown(connection, { timeout: 5_000 })),
          );
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
        const opened = once(harness.running.connections, 'open');
        const client = connectTcp(harness.running.port, '127.0.0.1')
          .on('error', () => {})
          .resume();
        const [connection] = (await opened) as [Connection];
        const report = await gracefulShutdown(connection, { timeout: 50 });
        expect(report).to.include({ outcome: 'drained', aborted: 0 });
        client.destroy();
      });

      it('keeps nothing alive afterwards', async () => {
        const before = await settledResources();
        const { peer, connection, res, answered } = await busy();
        const drained = gracefulShutdown(connection);
        res.end();
        await answered;
        await drained;
        await peer.transport.closed;
        await eventually(
          () => moreThan(before).length === 0,
          () => `an end of ${moreThan(before)}`,
        );
      });

      it('lets a client that reads slowly have all of the last answer, however long ago the timeout was kept', async () => {
        const body = 'x'.repeat(2_000_000);
        const served = new Promise<Connection>((resolve) => {
          harness.handler = (req, res) => {
            resolve(connectionOf(req) as Connection);
            res.end(body);
          };
        });
        const peer = await connect();
        const answered = peer.ask('/');
        peer.transport.socket.pause();
        const drained = gracefulShutdown(await served, { timeout: 800, settle: 50, linger: 4_000 });
        setTimeout(() => peer.transport.socket.resume(), 1_200);
        expect((await answered).text.length).to.equal(body.length);
        expect(await drained).to.include({ outcome: 'drained' });
      });
    });

    describe('drained inside a handler', () => {
      it('answers that request, then closes', async () => {
        let drained: Promise<DrainReport> | undefined;
        harness.handler = (req, res) => {
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
        harness.handler = async (req, res) => {
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
        expect((await second).duration).to.be.below(8_000);
      });

      it('does not get a later deadline', async () => {
        const { connection } = await busy();
        const first = gracefulShutdown(connection, { timeout: 50 });
        void gracefulShutdown(connection, { timeout: 20_000 });
        expect((await first).duration).to.be.below(8_000);
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
        expect(report.duration).to.be.below(8_000);
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
        const opened = once(harness.running.connections, 'open');
        const client = connectTcp(harness.running.port, '127.0.0.1').on('error', () => {});
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
        const relay = await Relay.open({ port: harness.running.port });
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

      it('has reports that add up with what the clients saw', async function () {
        if (!promises.survivesLoad) this.skip();
        harness.handler = (_req, res) => void setTimeout(() => res.end(), 2);
        const clients = Array.from({ length: 8 }, () => implementation.run(harness.running.port, '/', 3));
        await eventually(
          () => [...harness.running.connections].filter((connection) => connection.served > 3).length === 8,
          'eight busy connections',
        );
        const live = [...harness.running.connections];
        const reports: DrainReport[] = [];
        const before: number[] = [];
        for (const connection of live) {
          before.push(connection.served);
          reports.push(await gracefulShutdown(connection));
        }
        const tallies = await Promise.all(clients);
        const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0);
        expect(sum(live.map(({ served }) => served))).to.equal(sum(tallies.map(({ answered }) => answered)));
        expect(reports.map(({ outcome }) => outcome)).to.deep.equal(Array(8).fill('drained'));
        expect(reports.map(({ served }) => served)).to.deep.equal(
          live.map(({ served }, i) => served - (before[i] ?? 0)),
        );
        const others = reports.map(({ cancelled, malformed, refused, aborted, unserved }) => [
          cancelled + malformed + aborted + unserved,
          promises.drainsUnderLoad ? refused : 0,
        ]);
        expect(others).to.deep.equal(Array(8).fill([0, 0]));
        if (promises.drainsUnderLoad) expect(sum(tallies.map(({ lost }) => lost))).to.equal(0);
      });
    });
  });
}

/** What keeps the event loop alive. */
function resources(): string[] {
  return process.getActiveResourcesInfo();
}

/** What keeps it alive once nothing that tests before have left is about to go. */
async function settledResources(): Promise<string[]> {
  let last = resources();
  let since = performance.now();
  await eventually(() => {
    const now = resources();
    if (now.join() !== last.join()) since = performance.now();
    last = now;
    return performance.now() - since > 100;
  }, 'an end of what was there before');
  return last;
}

/** What keeps it alive that did not before; what had been about to go then may have gone. */
function moreThan(before: readonly string[]): string[] {
  const left = [...before];
  return resources().filter((name) => {
    const at = left.indexOf(name);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
}
