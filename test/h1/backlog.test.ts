/**
 * Clients that pipeline more than one turn of the event loop is to serve: node:http's parser is stopped in the middle of
 * what was read and goes on with the rest, and nothing of it is lost, doubled, or out of order.
 */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { expect } from 'chai';
import { inLaterTurn } from '../../src/core/turns.js';
import { type Connection, connectionOf, type DrainReport, gracefulShutdown } from '../../src/index.js';
import { encodeRequest, type H1Client } from '../wire/h1-client.js';
import { Random } from '../wire/random.js';
import { stall, turns } from '../wire/waiting.js';
import { closeEverything, counters, delay, Site, standstill, TRANSPORTS, until } from './support.js';

const MANY = 1_200;
/** When a handler answers; it reads the body where it waits for its end. */
const HOWS = ['at once', 'late', 'at the end', 'behind the end'];
/** Sizes of what is written at once, at most. */
const PIECES = [100, 5_000, 200_000];
/** Of what clients may do; `SEEDS=1000` tries more. */
const SEEDS = Number(process.env.SEEDS ?? 10);
/** One turn brings 64, another 64 may have waited. */
const MOST_PER_TURN = 2 * 64 + 2;

/** More than the kernel holds for a client that doesn't read. */
const LARGE = Buffer.alloc(16_777_216, 'z');

/** Sends it all at once; more than one read, and several TLS records each. */
function pipeline(client: H1Client, requests: readonly { readonly method?: string; readonly bytes: Buffer }[]): void {
  client.write(
    Buffer.concat(requests.map(({ bytes }) => bytes)),
    requests.map(({ method = 'GET' }) => method),
  );
}

function gets(count: number): { bytes: Buffer }[] {
  return Array.from({ length: count }, (_, i) => ({ bytes: encodeRequest({ path: `/${i}` }) }));
}

function paths(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `/${i}`);
}

function texts(client: H1Client): string[] {
  return client.responses.map(({ text }) => text);
}

/** Others make the turns of the event loop so long, in ms, that each has room for all requests that wait. */
const LONG_TURN = 20;
let turnsAreLong = false;

function makeTurnsLong(): void {
  turnsAreLong = true;
  const turn = (): void => {
    if (!turnsAreLong) return;
    // Somebody waits for each.
    inLaterTurn(() => {});
    stall(LONG_TURN);
    setImmediate(turn);
  };
  turn();
}

for (const { name, tls } of TRANSPORTS) {
  describe(`more pipelined requests than a turn is to serve (${name})`, () => {
    afterEach(() => {
      turnsAreLong = false;
      return closeEverything();
    });

    it('are answered in order, and the event loop turns in between', async () => {
      let inTurn = 0;
      let most = 0;
      const site = await Site.open({ tls }, (req, res) => {
        if (inTurn++ === 0) {
          setImmediate(() => {
            most = Math.max(most, inTurn);
            inTurn = 0;
          });
        }
        res.end(req.url);
      });
      const client = await site.connectDirectly();
      pipeline(client, gets(MANY));
      await client.until(() => client.responses.length === MANY);
      expect(texts(client)).to.deep.equal(paths(MANY));
      expect(most).to.be.at.most(MOST_PER_TURN);
      // The connection is as good as before.
      client.request({ path: '/more' });
      await client.until(() => client.responses.length === MANY + 1);
      expect(client.responses.at(-1)?.text).to.equal('/more');
    });

    it('have their bodies, wherever the parser stopped', async () => {
      const site = await Site.open({ tls }, (req, res) => {
        const chunks: Buffer[] = [];
        req.on('data', (chunk: Buffer) => chunks.push(chunk));
        req.on('end', () => res.end(Buffer.concat(chunks)));
      });
      const client = await site.connectDirectly();
      const bodies = Array.from({ length: 400 }, (_, i) => `${i}:`.padEnd((i * 37) % 411, 'x'));
      pipeline(
        client,
        bodies.map((body, i) => {
          if (i % 3 !== 0) return { method: 'POST', bytes: encodeRequest({ method: 'POST', body }) };
          const head = encodeRequest({ method: 'POST', headers: { 'transfer-encoding': 'chunked' } });
          const chunked = `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
          return { method: 'POST', bytes: Buffer.concat([head, Buffer.from(body === '' ? '0\r\n\r\n' : chunked)]) };
        }),
      );
      await client.until(() => client.responses.length === bodies.length);
      expect(texts(client)).to.deep.equal(bodies);
    });

    // The parser stops behind the 64th of a turn, and where more than 100 wait: with nothing, one, or more to come.
    for (const count of [63, 64, 65, 66, 100, 101, 102]) {
      for (const fin of [false, true]) {
        it(`are complete, each of ${count}${fin ? ' with a FIN behind them' : ''}, and drained from when asked`, async () => {
          const site = await Site.open({ tls }, (req, res) => {
            req.resume();
            req.on('end', () => setTimeout(() => res.end(req.url), count > 66 ? 2 : 0));
          });
          const client = await site.connectDirectly();
          const connection = await site.connection();
          pipeline(client, gets(count));
          if (fin) client.end();
          await client.until(() => client.responses.length === count);
          expect(texts(client)).to.deep.equal(paths(count));
          const began = performance.now();
          const drained = gracefulShutdown(connection, { idleWait: 100 });
          await client.ended();
          client.end();
          expect((await drained).outcome).to.equal('drained');
          expect(performance.now() - began).to.be.below(2_000);
        });
      }
    }

    it('are drained from after idleWait, also when the drain begins in the turn that reading rests in', async () => {
      let drained: Promise<DrainReport> | undefined;
      let first: ServerResponse | undefined;
      const site = await Site.open({ tls }, (req, res) => {
        if (req.url === '/first') {
          first = res;
          return;
        }
        if (req.url === '/99') {
          res.once('finish', () => {
            const connection = connectionOf(req) as Connection;
            process.nextTick(() => {
              drained = gracefulShutdown(connection, { idleWait: 100 });
            });
          });
        }
        res.end(req.url);
      });
      const client = await site.connectDirectly();
      // With the first, more than may wait; reading goes on in the turn after the one in which half of them are answered.
      pipeline(client, [{ bytes: encodeRequest({ path: '/first' }) }, ...gets(100)]);
      const connection = await site.connection();
      await until(() => connection.active === 101);
      // Over TLS, each turn has one answer all the same.
      if (!tls) makeTurnsLong();
      await turns(6);
      first?.end();
      await client.until(() => client.responses.length === 101);
      turnsAreLong = false;
      const began = performance.now();
      await client.ended();
      client.end();
      expect((await drained)?.outcome).to.equal('drained');
      expect(performance.now() - began).to.be.below(2_000);
    });

    it('wait behind one that is slow, and are all answered', async () => {
      const site = await Site.open({ tls });
      const client = await site.connectDirectly();
      pipeline(client, [{ bytes: encodeRequest({ path: '/park' }) }, ...gets(MANY)]);
      const res = await site.parked('/park');
      const connection = await site.connection();
      await until(() => connection.active > 64);
      await delay(50);
      expect(connection.active).to.be.below(110);
      expect(site.server.limits.pipelining).to.equal(1);
      res.end('/park');
      await client.until(() => client.responses.length === MANY + 1);
      expect(texts(client)).to.deep.equal(['/park', ...paths(MANY)]);
    });

    const drains = ['before they come', 'while some are answered', ...(tls ? [] : ['before they come, in long turns'])];
    for (const when of drains) {
      it(`are all answered when a drain begins ${when}, close on the very last`, async () => {
        let drained: Promise<DrainReport> | undefined;
        let read = 0;
        const site = await Site.open({ tls }, (req, res) => {
          read ||= req.socket.bytesRead;
          if (req.url === '/200') drained ??= gracefulShutdown(connectionOf(req) as Connection);
          res.end(req.url);
        });
        const client = await site.connectDirectly();
        if (when !== 'while some are answered') drained = gracefulShutdown(await site.connection());
        if (when === 'before they come, in long turns') makeTurnsLong();
        await turns(5);
        const closes = (): boolean[] => client.responses.map((answer) => answer.connectionHas('close'));
        pipeline(client, gets(MANY));
        expect(await client.ended()).to.equal('fin');
        turnsAreLong = false;
        client.end();
        const report = await (drained as Promise<DrainReport>);
        // What a later read brings may be behind the last answer of this one; it is counted then.
        const answered = client.responses.length;
        expect(texts(client)).to.deep.equal(paths(answered));
        expect(closes().indexOf(true)).to.equal(answered - 1);
        expect(counters(report).unserved ?? 0).to.equal(MANY - answered);
        expect(answered).to.be.above(200);
        const all = gets(MANY).reduce((sum, { bytes }) => sum + bytes.length, 0);
        if (!tls && read === all) expect(answered).to.equal(MANY);
      });
    }

    it('are answered when the client has half-closed right behind them', async () => {
      const site = await Site.open({ tls });
      const client = await site.connectDirectly();
      pipeline(client, gets(MANY));
      client.end();
      await client.ended();
      expect(texts(client)).to.deep.equal(paths(MANY));
    });

    it('are answered before what is malformed among them is refused', async () => {
      const site = await Site.open({ tls });
      const client = await site.connectDirectly();
      pipeline(client, [...gets(300), { bytes: Buffer.from('NONSENSE\r\n\r\n') }, ...gets(3)]);
      expect(await client.ended()).to.equal('fin');
      expect(texts(client).slice(0, 300)).to.deep.equal(paths(300));
      expect(client.responses.length).to.equal(301);
      expect(client.responses.at(-1)?.status).to.equal(400);
    });

    it('are answered before an upgrade among them gets the socket, with what came behind it', async () => {
      const site = await Site.open({ tls });
      let handedOver = '';
      site.server.on('upgrade', (_req, socket, head) => {
        handedOver = head.toString();
        socket.on('data', (bytes: Buffer) => {
          handedOver += bytes.toString();
        });
        socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n');
      });
      const client = await site.connectDirectly();
      const upgrade = encodeRequest({ path: '/up', headers: { connection: 'upgrade', upgrade: 'echo' } });
      const behind = 'y'.repeat(40_000);
      pipeline(client, [...gets(300), { bytes: Buffer.concat([upgrade, Buffer.from(behind)]) }]);
      await client.until(() => client.responses.length >= 300 && handedOver.length === behind.length);
      expect(texts(client).slice(0, 300)).to.deep.equal(paths(300));
      expect(handedOver).to.equal(behind);
    });

    it('are answered once the client reads the large answer before them', async () => {
      const site = await Site.open({ tls }, (req, res) => {
        res.end(req.url === '/large' ? LARGE : req.url);
      });
      const client = await site.connectDirectly();
      client.transport.socket.pause();
      client.request({ path: '/large' });
      await standstill(await site.connection());
      pipeline(client, gets(MANY));
      await delay(100);
      expect(site.handled.length).to.equal(1);
      client.transport.socket.resume();
      await client.until(() => client.responses.length === MANY + 1);
      expect(texts(client).slice(1)).to.deep.equal(paths(MANY));
    });

    it('leave the socket to an upgrade that came behind an answer which nobody read', async () => {
      const site = await Site.open({ tls }, (req, res) => {
        res.end(req.url === '/large' ? LARGE : req.url);
      });
      const handedOver: string[] = [];
      const all = (): string => handedOver.join('');
      site.server.on('upgrade', (_req, socket, head) => {
        handedOver.push(head.toString());
        socket.on('data', (bytes: Buffer) => handedOver.push(bytes.toString()));
      });
      const client = await site.connectDirectly();
      client.transport.socket.pause();
      client.request({ path: '/large' });
      await standstill(await site.connection());
      const upgrade = encodeRequest({ path: '/up', headers: { connection: 'upgrade', upgrade: 'echo' } });
      pipeline(client, [...gets(1), { bytes: Buffer.concat([upgrade, Buffer.from('head')]) }]);
      await delay(100);
      client.transport.socket.resume();
      await client.until(() => client.responses.length === 2);
      await until(() => all() === 'head');
      for (const more of ['more', 'and more']) {
        client.write(more);
        await delay(30);
      }
      await until(() => all() === 'headmoreand more');
    });

    it('are answered in order with all of their bodies, whatever they are and however they come', async () => {
      for (let seed = 1; seed <= SEEDS; seed++) {
        const random = new Random(seed);
        const site = await Site.open({ tls }, (req, res) => {
          const how = req.headers['x-how'];
          let size = 0;
          if (how !== 'at once' && how !== 'late') req.on('data', (chunk: Buffer) => (size += chunk.length));
          const answer = (): unknown => res.end(`${req.url} ${size}`);
          if (how === 'at once') answer();
          else if (how === 'late') setTimeout(answer, 1);
          else req.on('end', () => (how === 'at the end' ? answer() : setImmediate(answer)));
        });
        const client = await site.connectDirectly();
        const expected: string[] = [];
        const requests = Array.from({ length: 1 + random.below(300) }, (_, i) => {
          const how = HOWS[random.below(HOWS.length)] ?? '';
          const headers = { 'x-how': how, expect: random.below(20) === 0 ? '100-continue' : '' };
          if (headers.expect === '') Reflect.deleteProperty(headers, 'expect');
          const size = random.below(3) === 0 ? random.below(random.below(10) === 0 ? 40_000 : 200) : undefined;
          const read = how.endsWith('end') ? (size ?? 0) : 0;
          expected.push(`/${i} ${read}`);
          if (size === undefined) return { bytes: encodeRequest({ path: `/${i}`, headers }) };
          const request = { method: 'POST', path: `/${i}` };
          if (random.below(2) === 0) {
            return { method: 'POST', bytes: encodeRequest({ ...request, headers, body: 'x'.repeat(size) }) };
          }
          const head = encodeRequest({ ...request, headers: { ...headers, 'transfer-encoding': 'chunked' } });
          const chunk = size === 0 ? '' : `${size.toString(16)}\r\n${'x'.repeat(size)}\r\n`;
          return { method: 'POST', bytes: Buffer.concat([head, Buffer.from(`${chunk}0\r\n\r\n`)]) };
        });
        const all = Buffer.concat(requests.map(({ bytes }) => bytes));
        client.write(
          Buffer.alloc(0),
          requests.map(({ method = 'GET' }) => method),
        );
        for (let at = 0; at < all.length; ) {
          const upTo = at + 1 + random.below(PIECES[random.below(PIECES.length)] ?? 1);
          client.write(all.subarray(at, upTo));
          at = upTo;
          if (random.below(2) === 0) await turns(random.below(3));
        }
        if (random.below(3) === 0) client.end();
        await client.until(() => client.responses.length === requests.length, `the answers of seed ${seed}`);
        expect(texts(client), `seed ${seed}`).to.deep.equal(expected);
        await closeEverything();
      }
    }).timeout(30_000);

    it('of much more than a read are not taken in while they wait, and all answered then', async () => {
      const site = await Site.open({ tls, delayMs: 0, bufferBytes: 65_536 }, (req, res) => {
        if (req.url === '/park') answer = () => res.end('/park');
        else req.resume().on('end', () => res.end(req.url));
      });
      let answer = (): void => {};
      const client = await site.connect();
      const padding = 'x'.repeat(50_000);
      const body = Buffer.alloc(15_000);
      client.write(encodeRequest({ path: '/park' }), ['GET']);
      for (let i = 0; i < 90; i++) {
        client.write(encodeRequest({ method: 'POST', path: `/${i}`, headers: { padding }, body }), ['POST']);
      }
      const { socket } = await site.connection();
      await until(() => site.server.limits.pipelining === 1);
      await delay(100);
      // A read, and what the stream's buffer takes beyond it; all of them would be 5.9 MB.
      expect(socket.bytesRead).to.be.within(262_144, 600_000);
      answer();
      await client.until(() => client.responses.length === 91);
      expect(texts(client)).to.deep.equal(['/park', ...paths(90)]);
    });

    it('still lead to an error event when the transport fails', async () => {
      const site = await Site.open({ tls });
      const errors: string[] = [];
      site.server.on('clientError', (error: Error & { code?: string }, socket) => {
        errors.push(error.code ?? error.message);
        socket.destroy();
      });
      const client = await site.connectDirectly();
      pipeline(client, gets(300));
      await client.until(() => client.responses.length === 300);
      const { closed } = await site.connection();
      client.reset();
      await closed;
      expect(errors).to.deep.equal(['ECONNRESET']);
    });
  });
}

describe('pipelined requests in TLS records of their own', () => {
  afterEach(closeEverything);

  it('are answered, when several are read at once behind an answer that the client does not read', async () => {
    const site = await Site.open({ tls: true }, (req, res) => {
      res.end(req.url === '/large' ? LARGE : req.url);
    });
    const raw = connect((site.server.address() as AddressInfo).port, '127.0.0.1');
    // What TLS makes of each write is kept until all of it goes out in one piece.
    let kept: Buffer[] | undefined;
    const below = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        if (kept === undefined) raw.write(chunk);
        else kept.push(chunk);
        done();
      },
    });
    raw.on('data', (bytes) => below.push(bytes));
    const socket = connectTls({ socket: below as Socket, rejectUnauthorized: false });
    await once(socket, 'secureConnect');
    raw.pause();
    socket.write(encodeRequest({ path: '/large' }));
    await standstill(await site.connection());
    kept = [];
    for (const path of paths(20)) {
      socket.write(encodeRequest({ path }));
      await turns(2);
    }
    const records = kept;
    kept = undefined;
    expect(records.length).to.equal(20);
    raw.write(Buffer.concat(records));
    await delay(50);
    expect(site.handled.length).to.equal(1);
    raw.resume();
    let tail = '';
    socket.on('data', (bytes: Buffer) => {
      tail = (tail + bytes.toString('latin1')).slice(-20_000);
    });
    await until(() => site.handled.length === 21);
    await until(() => tail.endsWith('/19'));
    expect(tail.match(/HTTP\/1.1 200 OK/g)?.length).to.equal(20);
    raw.destroy();
  });
});
