import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { connect as connectTcp } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { gracefulShutdown } from '../../src/core/shutdown.js';
import { H2Client } from '../wire/h2-client.js';
import { encodeFrame, encodeLiterals, Flag, FrameReader, FrameType, PREFACE } from '../wire/h2-frames.js';
import type { TestHost } from './host.js';
import { closeEverything, connect, pair, sendConnect, serve, until } from './serve.js';

function sha(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Differs from the others, and its frames from each other, at every place. */
function body(of: number, length: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, i) => (i * 7 + (i >> 14) * 13 + of * 31) & 0xff));
}

/** A handler that is busy. */
function burn(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

/** Longer in Huffman's code, and so sent as it is, which a client decodes quickly. */
const LARGE = '~';

it('reading: has no more in a turn when each request comes in a TLS record of its own', async () => {
  let inTurn = 0;
  let most = 0;
  let all = 0;
  const host = await serve(
    (_req, res) => {
      all++;
      if (inTurn++ === 0) {
        setImmediate(() => {
          most = Math.max(most, inTurn);
          inTurn = 0;
        });
      }
      burn(0.1);
      res.end('x');
    },
    { tls: true },
  );
  const raw = connectTcp(host.port, '127.0.0.1');
  // What TLS writes waits here, so that all of it comes in one read.
  let held: Buffer[] | undefined;
  const below = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      if (held === undefined) raw.write(chunk, done);
      else {
        held.push(chunk);
        done();
      }
    },
  });
  raw.on('data', (chunk) => below.push(chunk));
  const socket = connectTls({ socket: below, rejectUnauthorized: false, ALPNProtocols: ['h2'] });
  await once(socket, 'secureConnect');
  socket.resume().write(Buffer.concat([PREFACE, encodeFrame(FrameType.SETTINGS, 0, 0)]));
  await until(() => host.connections.length === 1, 'connection');
  await new Promise((resolve) => setTimeout(resolve, 30));
  const block = encodeLiterals([
    [':method', 'GET'],
    [':scheme', 'https'],
    [':path', '/'],
  ]);
  // Until all is compiled, a turn is used up without the handlers.
  for (let round = 0; round < 60; round++) {
    held = [];
    for (let i = round * 90; i < (round + 1) * 90; i++) {
      socket.write(encodeFrame(FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, 2 * i + 1, block));
      await new Promise(setImmediate);
    }
    expect(held.length).to.be.at.least(90);
    most = 0;
    raw.write(Buffer.concat(held));
    await until(() => all === (round + 1) * 90, 'requests');
    await new Promise(setImmediate);
    expect(most).to.be.at.most(2 * 8);
  }
  raw.destroy();
});

/** A hundred requests, all of them reset. */
function resetHundred(client: H2Client): void {
  const ids = Array.from({ length: 100 }, () => client.request({ path: '/held' }));
  for (const id of ids) client.rst(id, 8);
}

it('reading: a process ends when what was put off has been read and answered', async () => {
  const file = fileURLToPath(new URL('./putting-off-server.ts', import.meta.url));
  const child = spawn(process.execPath, ['--import', 'tsx', file], { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const ended = once(child, 'close');
  await until(() => said.includes('\n'), 'the port');
  const client = await H2Client.connect({ port: Number.parseInt(said, 10), tls: false });
  client.transport.onEnding = () => client.end();
  for (let n = 0; n < 3; n++) resetHundred(client);
  const { text } = await client.response(client.request({ path: '/last' }));
  expect(text).to.equal('x');
  const [code] = await ended;
  expect(code).to.equal(0);
  expect(said).to.include('"drained":1');
});

for (const tls of [true, false]) {
  describe(`reading: HTTP/2 ${tls ? 'over TLS' : 'in cleartext'}`, () => {
    afterEach(closeEverything);

    it('leaves the application what it keeps of bodies, whoever is read next', async () => {
      const host = await serve(
        (req, res) => {
          const kept: Buffer[] = [];
          req.on('data', (chunk: Buffer) => kept.push(chunk));
          req.on('end', () => setTimeout(() => res.end(sha(Buffer.concat(kept))), 30));
        },
        { tls },
      );
      const clients = await Promise.all(Array.from({ length: 4 }, () => connect(host, { tls })));
      const sent = [1, 300, 5_000, 16_384, 200_000].flatMap((length, i) =>
        clients.map(async (client, of) => {
          const bytes = body(10 * i + of, length);
          const answer = await client.fetch({ method: 'POST', path: '/', body: bytes });
          expect(answer.text, `${length} octets`).to.equal(sha(bytes));
        }),
      );
      await Promise.all(sent);
    });

    it('leaves the application what it keeps of a tunnel', async () => {
      const kept: Buffer[] = [];
      const [host, client] = await pair(() => {}, { tls });
      const other = await connect(host, { tls });
      host.on('connect', (_req, duplex: Duplex) => {
        duplex.write('HTTP/1.1 200 OK\r\n\r\n');
        duplex.on('data', (chunk: Buffer) => kept.push(chunk));
      });
      const id = sendConnect(client);
      await client.expect('HEADERS');
      for (let i = 0; i < 20; i++) {
        client.data(id, body(i, 100 * i + 1));
        other.request({ method: 'POST', path: '/', body: body(100 + i, 3_000) });
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
      const all = Buffer.concat(Array.from({ length: 20 }, (_, i) => body(i, 100 * i + 1)));
      await until(() => Buffer.concat(kept).length === all.length, 'everything');
      expect(sha(Buffer.concat(kept))).to.equal(sha(all));
    });

    it('answers more requests than a turn takes, when the FIN comes right behind them', async () => {
      const [host, client] = await pair((_req, res) => res.end('x'), { tls, h2: { maxConcurrentStreams: 2_000 } });
      await client.fetch();
      client.transport.socket.cork();
      const ids = Array.from({ length: 1_000 }, () => client.request());
      client.end();
      client.transport.socket.uncork();
      const answers = await Promise.all(ids.map((id) => client.response(id)));
      expect(answers.filter(({ text }) => text === 'x')).to.have.length(1_000);
      await host.connection.closed;
      expect(host.connection.counts).to.include({ served: 1_001, aborted: 0 });
    });

    it('has no more in a turn than its share of it, though more has been received', async () => {
      let inTurn = 0;
      let most = 0;
      const count = (): void => {
        if (inTurn++ > 0) return;
        setImmediate(() => {
          most = Math.max(most, inTurn);
          inTurn = 0;
        });
      };
      const [, client] = await pair(
        (_req, res) => {
          count();
          burn(0.1);
          res.end('x');
        },
        { tls, h2: { maxConcurrentStreams: 2_000 } },
      );
      await client.fetch();
      client.transport.socket.cork();
      // Some 300 KiB: many TLS records, and several reads of the socket.
      const ids = Array.from({ length: 600 }, (_, i) => client.request({ path: `/${i}/${'y'.repeat(500)}` }));
      client.transport.socket.uncork();
      await Promise.all(ids.map((id) => client.response(id)));
      // The clock is looked at after each four; the turn of the rest may have a read of the socket in it, too.
      expect(most).to.be.at.most(2 * 8);
    });

    it('takes bodies in crumbs for work, too', async () => {
      let turns = 0;
      let began = 0;
      const [, client] = await pair(
        (req, res) => {
          began = turns;
          req.on('data', () => burn(0.02));
          req.on('end', () => res.end(`${turns - began}`));
        },
        { tls },
      );
      await client.fetch();
      client.transport.socket.cork();
      const id = client.request({ method: 'POST', path: '/', open: true });
      for (let i = 0; i < 4_000; i++) client.data(id, body(i, 3));
      client.data(id, Buffer.alloc(0), true);
      client.transport.socket.uncork();
      let over = false;
      const count = (): void => {
        turns++;
        if (!over) setImmediate(count);
      };
      count();
      const answer = await client.response(id);
      over = true;
      // 80 ms of work: an eighth of one in a turn, and up to sixteen of them more, after which the clock is looked at.
      expect(Number(answer.text)).to.be.at.least(80 / (0.125 + 16 * 0.02) / 2);
    });

    it('reads nothing more while a client does not read, and then all of it, in order', async () => {
      const order: string[] = [];
      const [, client] = await pair(
        (req, res) => {
          order.push(req.url ?? '');
          res.writeHead(200, { 'x-large': LARGE.repeat(12_000) }).end();
        },
        { tls, h2: { maxConcurrentStreams: 2_000 } },
      );
      await client.fetch();
      client.transport.socket.pause();
      client.transport.socket.cork();
      const ids = Array.from({ length: 1_200 }, (_, i) => client.request({ path: `/${i}/${'y'.repeat(40)}` }));
      client.transport.socket.uncork();
      await until(() => order.length > 20, 'the first requests');
      await new Promise((resolve) => setTimeout(resolve, 200));
      // What the kernels hold on both sides of loopback is some megabytes.
      expect(order.length).to.be.at.most(1_000);
      // Decoding such heads would take the client seconds.
      const frames = new FrameReader();
      const answered = new Set<number>();
      client.transport.onBytes = (bytes) => frames.push(bytes, ({ streamId }) => answered.add(streamId));
      client.transport.socket.resume();
      await until(() => ids.every((id) => answered.has(id)), 'answers');
      expect(order.slice(1).map((path) => path.split('/')[1])).to.deep.equal(ids.map((_, i) => `${i}`));
    });

    it('has a client that resets what it opens wait, and loses nothing of what it sends', async () => {
      const handled = { '/held': 0, '/last': 0, '/other': 0 };
      const [host, client] = await pair(
        (req, res) => {
          const url = req.url as keyof typeof handled;
          handled[url]++;
          if (url !== '/held') res.end('x');
        },
        { tls },
      );
      const other = await connect(host, { tls });
      await client.fetch({ path: '/other' });
      const from = performance.now();
      for (let n = 0; n < 4; n++) resetHundred(client);
      const last = client.response(client.request({ path: '/last' }));
      while (handled['/last'] === 0) await other.fetch({ path: '/other' });
      // Half of the first hundred, then one in two ms, with a hundred ahead and the last batch not waited for.
      expect(performance.now() - from).to.be.at.least(290);
      expect((await last).text).to.equal('x');
      // Nobody works for the last of a hundred if it is read together with its reset.
      expect(handled['/held']).to.be.within(396, 400);
      expect(handled['/other']).to.be.at.least(5);
      const counts = host.connections[0]?.counts;
      await until(() => counts?.served === 2 && counts.cancelled === 400, 'the end of all of them');
    });

    for (const [what, act] of [
      ['before its FIN', (_host: TestHost, client: H2Client) => client.end()],
      ['before its drain is over', (host: TestHost) => gracefulShutdown(host.connection)],
    ] as const) {
      it(`reads what it has put off ${what}`, async () => {
        let handled = 0;
        const [host, client] = await pair((req, res) => handled++ >= 0 && req.url === '/last' && res.end('x'), { tls });
        for (let n = 0; n < 3; n++) resetHundred(client);
        const last = client.response(client.request({ path: '/last' }));
        await until(() => handled > 200, 'the third hundred');
        const over = act(host, client);
        expect((await last).text).to.equal('x');
        await over;
        client.end();
        await host.connection.closed;
        expect(host.connection.counts).to.deep.include({ served: 1, refused: 0, aborted: 0 });
      });
    }

    it('cuts no client that sends on before it has read large heads', async () => {
      const waiting: ServerResponse[] = [];
      const [, client] = await pair((_req, res) => waiting.push(res), { tls });
      const ids = Array.from({ length: 24 }, () => client.request());
      await until(() => waiting.length === 24, 'requests');
      client.transport.socket.pause();
      for (const res of waiting) res.writeHead(200, { 'x-large': LARGE.repeat(400_000) }).end();
      await new Promise((resolve) => setTimeout(resolve, 50));
      client.frame(FrameType.PING, 0, 0, Buffer.alloc(8));
      await new Promise((resolve) => setTimeout(resolve, 50));
      // Decoding such heads would take the client seconds.
      const frames = new FrameReader();
      const answered = new Set<number>();
      let body = '';
      client.transport.onBytes = (bytes) =>
        frames.push(bytes, ({ type, streamId, payload }) => {
          if (type === FrameType.HEADERS) answered.add(streamId);
          else if (type === FrameType.DATA) body += payload.toString();
        });
      client.transport.socket.resume();
      await until(() => ids.every((id) => answered.has(id)), 'answers');
      const next = client.request();
      await until(() => waiting.length === 25, 'another request');
      waiting.at(-1)?.end('x');
      await until(() => answered.has(next) && body === 'x', 'its answer');
    });

    it('cuts no client for one head that is larger than what may wait', async () => {
      const [, client] = await pair((_req, res) => res.writeHead(200, { 'x-large': LARGE.repeat(1_300_000) }).end(), {
        tls,
      });
      await client.expect('SETTINGS');
      expect((await client.fetch()).status).to.equal(200);
      expect((await client.fetch()).status).to.equal(200);
    });

    for (const [what, h2, silence] of [
      // These begin before the heads below are made, which takes a busy machine long.
      ['a body', { bodyTimeout: 2_000 }, 3_000],
      ['a header block', { headersTimeout: 2_000 }, 3_000],
      ['the answer to a PING', { ping: { interval: 60, timeout: 2_000 } }, 3_000],
    ] as const) {
      it(`does not time ${what} while nothing is read`, async () => {
        const waiting: ServerResponse[] = [];
        let got = 0;
        const [host, client] = await pair(
          (req, res) => {
            if (req.method !== 'POST') {
              waiting.push(res);
              return;
            }
            req.on('data', (chunk: Buffer) => {
              got += chunk.length;
            });
            req.on('end', () => res.end('done'));
          },
          { tls, h2 },
        );
        // Whose ACK must not come in the middle of a header block.
        await client.expect('SETTINGS');
        const ids = Array.from({ length: 24 }, () => client.request());
        const upload = client.request({ method: 'POST', open: true });
        client.data(upload, 'a');
        await until(() => waiting.length === 24 && got === 1, 'requests');
        const open = client.nextStreamId();
        if (what === 'a header block') {
          client.headers(open, [[':method', 'GET']], Flag.END_STREAM);
          await until(() => host.drivers[0]?.session.midBlock === true, 'its beginning');
        }
        client.transport.socket.pause();
        for (const res of waiting) res.writeHead(200, { 'x-large': LARGE.repeat(400_000) }).end();
        await new Promise((resolve) => setTimeout(resolve, 30));
        if (what === 'a header block') {
          const rest = Buffer.concat([Buffer.from([0x86, 0x84, 0x01, 9]), Buffer.from('localhost')]);
          client.frame(FrameType.CONTINUATION, Flag.END_HEADERS, open, rest);
        }
        client.data(upload, 'b', true);
        await new Promise((resolve) => setTimeout(resolve, silence));
        const frames = new FrameReader();
        const answered = new Set<number>();
        const others: number[] = [];
        client.transport.onBytes = (bytes) =>
          frames.push(bytes, ({ type, flags, streamId, payload }) => {
            if (type === FrameType.HEADERS) answered.add(streamId);
            else if (type === FrameType.PING && flags === 0) client.frame(FrameType.PING, Flag.ACK, 0, payload);
            else if (type === FrameType.RST_STREAM || type === FrameType.GOAWAY) others.push(type);
          });
        client.transport.socket.resume();
        await until(() => ids.every((id) => answered.has(id)) && answered.has(upload), 'answers', 6_000);
        expect(others).to.deep.equal([]);
      });
    }
  });
}

it('reading: an application that writes nothing to the socket itself, in a handler, loses its own connection at most', async () => {
  const paths: string[] = [];
  const [host, client] = await pair(
    (req, res) => {
      paths.push(req.url ?? '');
      // Up to Node 22.23.3 and 24.22.1 Node decrypts the next record at once, in the middle of this one.
      if (paths.length > 1) host.connection.socket.write('');
      res.end();
    },
    { tls: true },
  );
  await client.fetch({ path: '/first' });
  client.transport.socket.cork();
  const sent = Array.from({ length: 50 }, (_, i) => `/${i}/${'y'.repeat(1_000)}`);
  const ids = sent.map((path) => client.request({ path }));
  client.transport.socket.uncork();
  const all = Promise.all(ids.map((id) => client.response(id))).catch(() => host.connection.closed);
  await Promise.race([all, host.connection.closed]);
  if (host.connection.state !== 'closed') expect(paths.length - 1).to.equal(sent.length);
  expect(sent.slice(0, paths.length - 1)).to.deep.equal(paths.slice(1));
  expect([client.goaways, (await connect(host, { tls: true })).ending]).to.deep.equal([[], 'open']);
});
