/**
 * Connections that break in each phase of a drain, before their protocol is known included: the drain ends at once, its
 * report says what became of every request, and nobody else notices.
 */
import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { expect } from 'chai';
import type { LiveConnection } from '../../src/core/connection.js';
import type { DrainOptions, DrainReport } from '../../src/index.js';
import type { H1Client } from '../wire/h1-client.js';
import type { H2Client } from '../wire/h2-client.js';
import { FrameType, PREFACE } from '../wire/h2-frames.js';
import { turns } from '../wire/waiting.js';
import {
  checkReport,
  drained,
  ENDINGS,
  type Ground,
  groundForEach,
  inBatches,
  nameOf,
  WAYS,
  within,
} from './harness.js';

/** How many requests are held open by their handlers as the drain goes on. */
const OPEN = [0, 1, 3] as const;

/** In ms: what breaks is over within that, long before any linger. */
const SOON = 4_000;

interface Scene<C> {
  readonly ground: Ground;
  readonly client: C;
  readonly connection: LiveConnection;
  drain(options?: DrainOptions): Promise<DrainReport>;
}

/** Where a connection breaks: it is brought there, and whoever called breaks it. */
type Bring<C> = (scene: Scene<C>) => Promise<unknown> | undefined;

const H2_PHASES: Readonly<Record<string, Bring<H2Client>>> = {
  'announced, in the same turn': () => undefined,
  'announced, the GOAWAY read': ({ client }) => client.expect('GOAWAY'),
  'settling, the PING not answered': async ({ client }) => {
    await client.expect('PING');
    await turns(3);
  },
  'settling, the PING just answered': async ({ client }) => {
    const { payload } = await client.expect('PING');
    client.ackPing(payload);
  },
  'committed, the last GOAWAY read': async ({ client }) => {
    const { payload } = await client.expect('PING');
    client.ackPing(payload);
    await client.frameWhere(
      ({ type, payload: last }) => type === FrameType.GOAWAY && last.readUInt32BE(0) < 2 ** 31 - 1,
    );
  },
};

const H1_PHASES: Readonly<Record<string, Bring<H1Client>>> = {
  'announced, in the same turn': () => undefined,
  'announced, some turns later': () => turns(4),
  'announced, half of a head sent': async ({ client }) => {
    client.write('GET /ok HTTP/1.1\r\nHo');
    await turns(3);
  },
};

for (const way of WAYS) {
  describe(`a connection that breaks in a drain, ${nameOf(way)}`, function () {
    this.timeout(30_000);
    let ground: Ground;
    groundForEach(way, { drain: { linger: 2 * SOON } }, (opened) => {
      ground = opened;
    });

    async function scene<C extends H1Client | H2Client>(connectTo: () => Promise<C>): Promise<Scene<C>> {
      const client = await connectTo();
      const connection = await ground.connectionOf(client.transport.localPort);
      return { ground, client, connection, drain: (options) => drained(connection, { linger: 2 * SOON, ...options }) };
    }

    const newScene = (): Promise<Scene<H1Client> | Scene<H2Client>> =>
      way.protocol === 'h1' ? scene(() => ground.connectH1()) : scene(() => ground.connectH2({ pingAck: 'manual' }));

    /** Requests that are held by their handlers. Over HTTP/1.1 pipelined: one handler runs at a time. */
    async function hold({ client, connection }: Scene<H1Client | H2Client>, count: number): Promise<void> {
      for (let i = 0; i < count; i++) client.request({ path: '/hold' });
      while (connection.active < count) await turns(1);
    }

    const phases = (way.protocol === 'h1' ? H1_PHASES : H2_PHASES) as Readonly<
      Record<string, Bring<H1Client | H2Client>>
    >;

    for (const [phase, bring] of Object.entries(phases)) {
      it(`when it is ${phase}`, async () => {
        const cases = ENDINGS.flatMap((ending) => OPEN.map((open) => ({ ending, open })));
        await inBatches(cases, 1, async ({ ending, open }) => {
          ground.released = undefined;
          const at = await newScene();
          await hold(at, open);
          const draining = at.drain();
          await bring(at as Scene<H1Client | H2Client>);
          const from = performance.now();
          if (ending === 'reset') at.client.reset();
          else {
            at.client.end();
            // Over HTTP/1.1 a client that half-closes still gets its answers.
            if (way.protocol === 'h1') {
              await turns(5);
              ground.release();
            }
          }
          const report = await draining;
          checkReport(report);
          const answered = way.protocol === 'h1' && ending === 'FIN';
          const where = `${ending}, ${open} open: ${JSON.stringify(report)}`;
          expect(report.aborted, where).to.equal(answered ? 0 : open);
          expect(report.served, where).to.equal(answered ? open : 0);
          expect(performance.now() - from, where).to.be.below(SOON);
          at.client.destroy();
        });
      });
    }

    it('as answers that were held are being written', async () => {
      const cases = ENDINGS.flatMap((ending) => [1, 3].map((open) => ({ ending, open })));
      await inBatches(cases, 1, async ({ ending, open }) => {
        ground.released = undefined;
        const at = await newScene();
        await hold(at, open);
        const draining = at.drain();
        if (way.protocol === 'h2') {
          const h2 = at.client as H2Client;
          h2.ackPing((await h2.expect('PING')).payload);
        }
        ground.release('x'.repeat(300_000));
        await once(at.client.transport.socket, 'data');
        if (ending === 'reset') at.client.reset();
        else at.client.end();
        await within(at.connection.closed, 'end of the connection');
        const report = await draining;
        checkReport(report);
        expect(report.served + report.aborted, JSON.stringify(report)).to.equal(open);
        at.client.destroy();
      });
    });

    it('as the deadline cuts it', async () => {
      for (const ending of ENDINGS) {
        const at = await newScene();
        await hold(at, 1);
        const draining = at.drain({ timeout: 30 });
        if (way.protocol === 'h2') await (at.client as H2Client).expect('RST_STREAM');
        else await at.client.ended();
        if (ending === 'reset') at.client.reset();
        else at.client.end();
        const report = await draining;
        expect(report).to.include({ outcome: 'forced', aborted: 1, served: 0 });
        at.client.destroy();
      }
    });

    it('while it lingers', async () => {
      const at = await newScene();
      const draining = at.drain({ idleWait: 0 });
      if (way.protocol === 'h2') {
        const h2 = at.client as H2Client;
        h2.ackPing((await h2.expect('PING')).payload);
      }
      expect(await at.client.ended()).to.equal('fin');
      expect(at.connection.state).to.equal('lingering');
      const from = performance.now();
      at.client.reset();
      expect(await draining).to.include({ outcome: 'drained', aborted: 0, unserved: 0 });
      expect(performance.now() - from).to.be.below(SOON);
    });

    it('with a second drain beside it, which joins', async () => {
      const at = await newScene();
      await hold(at, 1);
      const both = [at.drain(), at.drain({ timeout: 5_000 })];
      await turns(2);
      at.client.reset();
      const [first, second] = await Promise.all(both);
      expect(first).to.equal(second);
      expect(first).to.include({ outcome: 'peer', aborted: 1 });
    });

    it('before its protocol is known', async () => {
      const starts = way.tls
        ? [Buffer.alloc(0), Buffer.from([0x16]), Buffer.from([0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3])]
        : [Buffer.alloc(0), PREFACE.subarray(0, 1), PREFACE.subarray(0, 23)];
      const cases = starts.flatMap((bytes) =>
        ENDINGS.flatMap((ending) => [true, false].map((drainFirst) => ({ bytes, ending, drainFirst }))),
      );
      await inBatches(cases, cases.length, async ({ bytes, ending, drainFirst }) => {
        const socket: Socket = connectTcp({ port: ground.port, host: '127.0.0.1', allowHalfOpen: true });
        socket.on('error', () => {});
        await once(socket, 'connect');
        socket.resume();
        const connection = await ground.connectionOf(socket.localPort ?? 0);
        let draining = drainFirst ? drained(connection) : undefined;
        socket.write(bytes);
        await turns(3);
        draining ??= drained(connection);
        if (ending === 'reset') socket.resetAndDestroy();
        else socket.end();
        const report = await draining;
        checkReport(report);
        expect(report.aborted + report.served, JSON.stringify(report)).to.equal(0);
        socket.destroy();
      });
    });

    if (way.tls) {
      it('at any byte of the TLS handshake', async () => {
        const hello = await clientHello();
        const cases = [1, 4, 5, 6, 50, 200, hello.length - 1, hello.length].flatMap((at) =>
          ENDINGS.flatMap((ending) => [true, false].map((inDrain) => ({ at, ending, inDrain }))),
        );
        await inBatches(cases, cases.length, async ({ at, ending, inDrain }) => {
          const socket = connectTcp({ port: ground.port, host: '127.0.0.1', allowHalfOpen: true }).on(
            'error',
            () => {},
          );
          await once(socket, 'connect');
          socket.resume();
          const connection = await ground.connectionOf(socket.localPort ?? 0);
          socket.write(hello.subarray(0, at));
          const draining = inDrain ? drained(connection) : undefined;
          await turns(2);
          if (ending === 'reset') socket.resetAndDestroy();
          else socket.end();
          await within(connection.closed, `end of a handshake broken after ${at} bytes`);
          if (draining !== undefined) expect(await draining).to.include({ outcome: 'drained', served: 0 });
          socket.destroy();
        });
      });

      if (way.protocol === 'h1') {
        it('by a RST right behind its first request: it is found out, whenever the handler answers', async () => {
          for (const path of ['/hold', '/parts', '/large', '/ok']) {
            const at = await scene(() => ground.connectH1());
            ground.released = undefined;
            at.client.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
            at.client.reset();
            await turns(10);
            ground.release();
            await within(at.connection.closed, `end of the connection that asked for ${path}`, SOON);
            expect(at.connection.counts.served + at.connection.counts.aborted).to.equal(1);
          }
        });

        it('by a RST right behind half a head: it is found out before any linger is over', async () => {
          const at = await scene(() => ground.connectH1());
          at.client.write('GET / HT');
          at.client.reset();
          await within(at.connection.closed, 'end of the connection', SOON);
        });
      }
    }
  });
}

/** The first flight of a real handshake. */
async function clientHello(): Promise<Buffer> {
  const { createServer } = await import('node:net');
  const { connect } = await import('node:tls');
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const client = connect({ port, host: '127.0.0.1', ALPNProtocols: ['h2'] }).on('error', () => {});
  const [socket] = await accepted;
  const [bytes] = (await once(socket, 'data')) as [Buffer];
  client.destroy();
  socket.destroy();
  server.close();
  return bytes;
}
