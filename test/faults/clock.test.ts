/**
 * Time that misbehaves: an event loop that stalls for a second in each phase of a drain, with requests on the wire, and
 * a system clock that is set forwards and backwards by an hour.
 */
import { expect } from 'chai';
import type { ServerOptions } from '../../src/index.js';
import { formatConnection } from '../../src/ops/text.js';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { stall, turns } from '../wire/waiting.js';
import { drained, Ground, nameOf, until, WAYS } from './harness.js';

/** Each of these runs out in a stall. */
const SHORT = { settle: 200, idleWait: 300, linger: 300, timeout: 10_000 };

for (const way of WAYS) {
  describe(`a stalled event loop, ${nameOf(way)}`, function () {
    this.timeout(30_000);
    // Once a second, for the time that it takes: cleartext differs in nothing that has to do with time.
    const stallMs = way.tls ? 1_000 : 450;
    let ground: Ground;

    afterEach(() => ground.close({ bystander: false }));

    const start = async (options: ServerOptions = {}) => {
      ground = await Ground.open(way, options);
      const client = await ground.connect();
      const connection = await ground.connectionOf(client.transport.localPort);
      expect((await client.fetch({ path: '/ok' })).text).to.equal('ok /ok');
      await until(() => connection.active === 0, 'the first answer is counted');
      return { client, connection };
    };

    it('as an idle connection is drained loses no request that is on its way', async () => {
      const { client, connection } = await start();
      const draining = drained(connection, SHORT);
      await turns(1);
      client.request({ path: '/ok' });
      stall(stallMs);
      const report = await draining;
      expect(report, JSON.stringify(report)).to.include({ outcome: 'drained', served: 1, unserved: 0, aborted: 0 });
      await until(() => answers(client) === 2, 'the answer');
      client.destroy();
    });

    it('before a drain is announced loses none', async () => {
      const { client, connection } = await start();
      client.request({ path: '/ok' });
      stall(stallMs);
      const report = await drained(connection, SHORT);
      expect(report).to.include({ outcome: 'drained', served: 1, unserved: 0, aborted: 0 });
      await until(() => answers(client) === 2, 'the answer');
      client.destroy();
    });

    it('while answers are open loses none', async () => {
      const { client, connection } = await start();
      client.request({ path: '/hold' });
      await until(() => ground.held.size === 1, 'the request');
      const draining = drained(connection, SHORT);
      await turns(2);
      if (client instanceof H2Client) client.request({ path: '/ok' });
      stall(stallMs);
      await turns(2);
      ground.release();
      const report = await draining;
      const served = client instanceof H2Client ? 2 : 1;
      expect(report, JSON.stringify(report)).to.include({ outcome: 'drained', served, aborted: 0, unserved: 0 });
      await until(() => answers(client) === 1 + served, 'the answers');
      client.destroy();
    });

    it('as the last answer goes out delivers it whole, and resets nobody', async () => {
      const { client, connection } = await start();
      client.request({ path: '/hold' });
      await until(() => ground.held.size === 1, 'the request');
      const draining = drained(connection, SHORT);
      ground.release('x'.repeat(600_000));
      stall(stallMs);
      await turns(3);
      stall(stallMs);
      expect(await draining).to.include({ outcome: 'drained', served: 1 });
      await until(() => answers(client) === 2, 'the answer');
      expect(client.transport.wasReset).to.equal(false);
      client.destroy();
    });

    it('while it lingers is no silence of the peer', async () => {
      const { client, connection } = await start();
      const draining = drained(connection, { ...SHORT, idleWait: 0, settle: 0 });
      expect(await client.ended()).to.equal('fin');
      // On its way as our FIN came: it must not be answered with RST while the linger lasts.
      client.transport.write('GET /late HTTP/1.1\r\nHost: localhost\r\n\r\n');
      stall(stallMs);
      await turns(3);
      expect(client.transport.wasReset).to.equal(false);
      const report = await draining;
      expect(report.unserved).to.equal(way.protocol === 'h1' ? 1 : 0);
      client.destroy();
    });

    it('as the hold of an idle connection runs out loses no request that is on its way', async () => {
      const { client, connection } = await start({ keepAlive: { advertise: 50, hold: stallMs * 0.8 } });
      client.request({ path: '/ok' });
      stall(stallMs);
      await until(() => answers(client) === 2, 'the answer');
      expect(connection.counts).to.include({ served: 2, unserved: 0, refused: 0 });
      client.destroy();
    });
  });

  describe(`a system clock that is set, ${nameOf(way)}`, function () {
    this.timeout(30_000);
    const real = Date.now;
    let ground: Ground;

    afterEach(async () => {
      Date.now = real;
      await ground.close();
    });

    for (const [direction, jump] of [
      ['forwards', 3_600_000],
      ['backwards', -3_600_000],
    ] as const) {
      it(`${direction} by an hour ends no connection, and makes none older`, async () => {
        ground = await Ground.open(way, {
          keepAlive: { advertise: 1_000, hold: 60_000 },
          recycle: { maxAge: 120_000, maxIdle: 50_000 },
          // So that connections are looked at often.
          h2: { ping: { interval: 60, timeout: 5_000 }, bodyTimeout: 400 },
          h1: { bodyTimeout: 400 },
        });
        const clients = await Promise.all(Array.from({ length: 4 }, () => ground.connect()));
        for (const client of clients) await client.fetch({ path: '/ok' });
        const held = await ground.connect();
        held.request({ path: '/hold' });
        await until(() => ground.held.size === 1, 'the request');
        Date.now = () => real() + jump;
        await new Promise((resolve) => setTimeout(resolve, 300));
        for (const client of clients) {
          expect(client.ending).to.equal('open');
          if (client instanceof H2Client) expect(client.goaways).to.have.length(0);
          expect((await client.fetch({ path: '/ok' })).text).to.equal('ok /ok');
        }
        const { connections } = ground.server;
        expect([...connections].every(({ state }) => state === 'open')).to.equal(true);
        expect(connections.select({ age: { over: 60_000 } })).to.have.length(0);
        expect(connections.select({ idle: { over: 60_000 } })).to.have.length(0);
        expect(connections.select({ age: { under: 60_000 } })).to.have.length(connections.size);
        for (const connection of connections) expect(formatConnection(connection)).not.to.match(/-\d/);
        // A drain that is under way is not cut, and none is late.
        const connection = await ground.connectionOf(held.transport.localPort);
        const draining = drained(connection, { timeout: 5_000 });
        Date.now = () => real() - jump;
        await turns(5);
        ground.release();
        const report = await draining;
        expect(report).to.include({ outcome: 'drained', served: 1 });
        expect(report.duration).to.be.within(0, 5_000);
        for (const client of [...clients, held]) client.destroy();
      });
    }
  });
}

function answers(client: H1Client | H2Client): number {
  if (client instanceof H1Client) return client.responses.length;
  let ended = 0;
  for (let id = 1; id < 20; id += 2) if (client.stream(id).ended) ended++;
  return ended;
}
