import type { IncomingMessage, ServerResponse } from 'node:http';
import { expect } from 'chai';
import { type LimitCounts, noLimits } from '../../src/core/limits.js';
import type { H2Client } from '../wire/h2-client.js';
import { ErrorCode, encodeFrame, encodeLiterals, Flag, FrameType, Setting } from '../wire/h2-frames.js';
import { stall } from '../wire/waiting.js';
import type { TestHost } from './host.js';
import { closeEverything, pair, until } from './serve.js';

const HEAD = encodeLiterals([
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/'],
  [':authority', 'localhost'],
]);

/** A connection whose client has been sent a PING, and answers none. */
async function pinged(ping: { interval: number; timeout: number }): Promise<{
  readonly host: TestHost;
  readonly client: H2Client;
  readonly limits: LimitCounts;
}> {
  const [host, client] = await pair((_req, res) => res.end(), { h2: { ping } }, { pingAck: 'manual' });
  await client.fetch();
  const limits = noLimits();
  host.connection.limitCounts = limits;
  await client.expect('PING');
  return { host, client, limits };
}

describe('the times of an HTTP/2 connection', () => {
  afterEach(closeEverything);

  it('end a connection whose preface never comes', async () => {
    const [host, client] = await pair(
      () => {},
      { h2: { prefaceTimeout: 60 } },
      { preface: false, settingsAck: 'manual' },
    );
    await client.ended();
    await host.connection.closed;
  });

  it('leave a body alone that comes a few octets at a time in one frame', async () => {
    const OCTETS = 2_000;
    let timeouts = 0;
    const [, client] = await pair(
      (req, res) => {
        req.setTimeout(250, () => timeouts++);
        req.resume().on('end', () => res.end('all'));
      },
      { h2: { bodyTimeout: 250 } },
    );
    const id = client.request({ method: 'POST', open: true });
    const frame = encodeFrame(FrameType.DATA, Flag.END_STREAM, id, Buffer.alloc(OCTETS));
    for (let at = 0; at < frame.length; at += 100) {
      client.transport.write(frame.subarray(at, at + 100));
      await new Promise((resolve) => setTimeout(resolve, 40));
    }
    expect((await client.response(id)).text).to.equal('all');
    expect(timeouts).to.equal(0);
  });

  it('leave a connection alone whose preface has come', async () => {
    const [host, client] = await pair((_req, res) => res.end('ok'), { h2: { prefaceTimeout: 400 } });
    await client.expectAck('SETTINGS');
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(host.connection.state).to.equal('open');
    expect((await client.fetch()).text).to.equal('ok');
  });

  it('end a connection whose request head is never complete', async () => {
    const [, client] = await pair(() => {}, { h2: { headersTimeout: 60 } });
    await client.expectAck('SETTINGS');
    client.frame(FrameType.HEADERS, 0, 1, Buffer.from([0x82]));
    await client.expect('GOAWAY');
    expect(client.goaways.at(-1)?.errorCode).to.equal(ErrorCode.ENHANCE_YOUR_CALM);
    await client.ended();
  });

  it('reset a request whose body stops coming', async () => {
    const [host, client] = await pair((req) => req.resume(), { h2: { bodyTimeout: 60 } });
    const id = client.request({ method: 'POST', open: true });
    client.data(id, 'x');
    const stream = await client.response(id);
    expect(stream.reset).to.equal(ErrorCode.CANCEL);
    await until(() => host.connection.active === 0, 'end');
    expect(host.connection.counts.malformed).to.equal(1);
  });

  it('leave a request alone whose handler has not asked for its body yet (100-continue)', async () => {
    const [host, client] = await pair(() => {}, { h2: { bodyTimeout: 100 } });
    host.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => {
      if (req.url === '/decides') setTimeout(() => res.end('decided'), 400);
      if (req.url === '/asks') res.writeContinue();
      req.resume();
    });
    const expecting = { method: 'POST', open: true, headers: [['expect', '100-continue']] as [string, string][] };
    const decided = await client.fetch({ ...expecting, path: '/decides' });
    expect(decided.text).to.equal('decided');
    // Its answer is complete: the rest of it is not waited for longer than others'.
    await until(() => client.stream(decided.id).reset !== undefined, 'end');
    expect(client.stream(decided.id).reset).to.equal(ErrorCode.NO_ERROR);
    const unasked = client.request({ ...expecting, path: '/waits' });
    client.data(unasked, 'all the same');
    expect((await client.response(unasked)).reset).to.equal(ErrorCode.CANCEL);
    expect((await client.fetch({ ...expecting, path: '/asks' })).reset).to.equal(ErrorCode.CANCEL);
  });

  it('begin anew with each head, though every read ends in the middle of one', async () => {
    const [host, client] = await pair((_req, res) => res.end('ok'), { h2: { headersTimeout: 300 } });
    await client.expectAck('SETTINGS');
    const head = (id: number): Buffer => encodeFrame(FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, id, HEAD);
    let rest = head(1);
    // Handlers that are cold take a slice of the turn: then what follows is read by itself.
    const COUNT = 600;
    for (let id = 3; id < 2 * COUNT; id += 2) {
      const next = head(id);
      client.write(Buffer.concat([rest, next.subarray(0, 12)]));
      rest = next.subarray(12);
      await new Promise((resolve) => setTimeout(resolve, 6));
    }
    client.write(rest);
    await until(() => host.connection.counts.served === COUNT, 'answers');
    expect(client.goaways).to.deep.equal([]);
  });

  it('reset a connection that provokes answers and reads none, also while no request is open', async () => {
    const [host, client] = await pair(() => {}, {
      h2: { sendTimeout: 200 },
      session: { floodBudget: Number.MAX_SAFE_INTEGER },
    });
    await client.expectAck('SETTINGS');
    const limits = noLimits();
    host.connection.limitCounts = limits;
    await new Promise((resolve) => setTimeout(resolve, 300));
    client.transport.socket.pause();
    const ping = encodeFrame(FrameType.PING, 0, 0, Buffer.alloc(8));
    const pings = Buffer.concat(Array.from({ length: 4_000 }, () => ping));
    const timer = setInterval(() => client.write(pings), 1);
    await host.connection.closed;
    clearInterval(timer);
    expect(limits).to.deep.equal({ ...noLimits(), sendTimeout: 1 });
  });

  it('leave others their turns while all requests of a connection run out of time at once', async () => {
    let turns = 0;
    const began: number[] = [];
    const [host, client] = await pair(
      (req, res) => {
        res.on('close', () => began.push(turns));
        req.resume();
      },
      { h2: { bodyTimeout: 60 } },
    );
    for (let i = 0; i < 100; i++) client.request({ method: 'POST', open: true });
    await until(() => host.connections.length > 0 && host.connection.active === 100, 'requests');
    let over = false;
    const count = (): void => {
      turns++;
      if (!over) setImmediate(count);
    };
    count();
    await until(() => host.connection.active === 0, 'end');
    over = true;
    expect(host.connection.counts.malformed).to.equal(100);
    const most = Math.max(...began.map((turn) => began.filter((other) => other === turn).length));
    expect(most).to.be.at.most(8);
  });

  it('spare a body that trickles, one whose answer has begun, and one that the application does not read', async () => {
    const [host, client] = await pair(
      (req, res) => {
        if (req.url === '/begun') res.write('x');
        if (req.url === '/said') res.writeHead(204);
        if (req.url === '/unread') req.pause();
        else req.resume();
        req.on('end', () => res.end());
      },
      { h2: { bodyTimeout: 800 } },
    );
    const [trickle, begun, unread, said] = ['/trickle', '/begun', '/unread', '/said'].map((path) =>
      client.request({ method: 'POST', path, open: true }),
    );
    for (let i = 0; i < 6; i++) client.data(unread ?? 0, Buffer.alloc(16_000));
    for (let i = 0; i < 10; i++) {
      await new Promise((resolve) => setTimeout(resolve, 120));
      client.data(trickle ?? 0, 'x');
    }
    for (const id of [trickle, begun, unread, said]) expect(client.stream(id ?? 0).reset).to.equal(undefined);
    expect(host.connection.active).to.equal(4);
  });

  it('cancel an answer for which the client gives no window', async () => {
    const [host, client] = await pair(
      (_req, res) => res.end(Buffer.alloc(100_000)),
      { h2: { sendTimeout: 80 } },
      { credit: 'manual', settings: [[Setting.INITIAL_WINDOW_SIZE, 1_000]] },
    );
    const stream = await client.response(client.request());
    expect(stream.reset).to.equal(ErrorCode.CANCEL);
    await until(() => host.connection.active === 0, 'end');
    expect(host.connection.counts.aborted).to.equal(1);
  });

  it('end a connection whose client reads nothing', async () => {
    const [host, client] = await pair(
      (_req, res) => res.end(Buffer.alloc(8_000_000)),
      { h2: { sendTimeout: 100 } },
      { settings: [[Setting.INITIAL_WINDOW_SIZE, 16_000_000]] },
    );
    client.windowUpdate(0, 16_000_000);
    client.transport.socket.pause();
    client.request();
    await until(() => host.connections.length === 1, 'connection');
    await host.connection.closed;
    expect(host.connection.counts.aborted).to.equal(1);
  });

  it('spare a client that gives window slowly', async () => {
    const [, client] = await pair(
      (_req, res) => res.end(Buffer.alloc(5_000)),
      { h2: { sendTimeout: 800 } },
      { credit: 'manual', settings: [[Setting.INITIAL_WINDOW_SIZE, 500]] },
    );
    const id = client.request();
    for (let i = 0; i < 9; i++) {
      await new Promise((resolve) => setTimeout(resolve, 130));
      client.windowUpdate(id, 500);
    }
    expect((await client.response(id)).reset).to.equal(undefined);
  });

  it('spare an answer that waits for its share of the window of the connection, and that alone', async () => {
    const [host, client] = await pair(
      (req, res) => res.end(Buffer.alloc(Number(req.url?.slice(1)))),
      { h2: { sendTimeout: 400 } },
      { credit: 'manual', settings: [[Setting.INITIAL_WINDOW_SIZE, 1_000_000]] },
    );
    const urgent = client.request({ path: '/300000', headers: [['priority', 'u=0']] });
    const patient = client.request({ path: '/20000', headers: [['priority', 'u=7']] });
    for (let window = 65_535; window < 320_000; window += 20_000) {
      await new Promise((resolve) => setTimeout(resolve, 120));
      client.windowUpdate(0, 20_000);
    }
    const answers = [await client.response(urgent), await client.response(patient)];
    expect(answers.map(({ text, reset }) => [text.length, reset])).to.deep.equal([
      [300_000, undefined],
      [20_000, undefined],
    ]);

    // Nobody has any of it now.
    const both = [client.request({ path: '/300000' }), client.request({ path: '/300000' })];
    for (const id of both) expect((await client.response(id)).reset).to.equal(ErrorCode.CANCEL);
    await until(() => host.connection.active === 0, 'end');
    expect(host.connection.counts.aborted).to.equal(2);
  });

  it('spare an answer whose window has come behind requests that have yet to be read', async () => {
    const [host, client] = await pair(
      (req, res) => {
        if (req.url === '/large') {
          res.end(Buffer.alloc(100_000));
          return;
        }
        stall(6);
        res.end();
      },
      { h2: { sendTimeout: 300 } },
      { credit: 'manual' },
    );
    const large = client.request({ path: '/large' });
    await until(() => client.stream(large).receiveWindow === 0, 'first part');
    client.transport.socket.cork();
    for (let i = 0; i < 95; i++) client.request();
    client.windowUpdate(large, 50_000);
    client.windowUpdate(0, 50_000);
    client.transport.socket.uncork();
    expect((await client.response(large)).reset).to.equal(undefined);
    await until(() => host.connection.counts.served === 96, 'answers');
  });

  it('begin when what is waited for is seen to be: what was seen before the loop stood still says nothing', async () => {
    const [, client] = await pair(
      (req, res) => {
        let read = 0;
        req.on('data', (chunk: Buffer) => {
          read += chunk.length;
        });
        req.pause();
        req.on('end', () => res.end(String(read)));
        setTimeout(() => {
          stall(900);
          req.resume();
        }, 150);
      },
      { h2: { bodyTimeout: 400 } },
    );
    const id = client.request({ method: 'POST', open: true });
    for (let i = 0; i < 6; i++) client.data(id, Buffer.alloc(16_000));
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    client.data(id, 'y', true);
    const answer = await client.response(id);
    expect([answer.reset, answer.text]).to.deep.equal([undefined, '96001']);
  });

  it('are never shorter than they are said to be, whenever the waiting begins', async () => {
    const took: number[] = [];
    const [, client] = await pair(
      (req, res) => {
        // All of its window.
        res.write(Buffer.alloc(1_000));
        setTimeout(
          () => {
            const from = performance.now();
            res.write(Buffer.alloc(2_000));
            res.on('close', () => took.push(performance.now() - from));
          },
          Number(req.url?.slice(1)),
        );
      },
      { h2: { sendTimeout: 400 } },
      { credit: 'manual', settings: [[Setting.INITIAL_WINDOW_SIZE, 1_000]] },
    );
    for (let i = 0; i < 12; i++) client.request({ path: `/${200 + i * 10}` });
    await until(() => took.length === 12, 'ends');
    expect(Math.min(...took)).to.be.above(395);
    expect(Math.max(...took)).to.be.below(2_000);
  });

  it('hold for a stream without a window, whatever others are sent', async () => {
    const [, client] = await pair(
      (_req, res) => res.end(Buffer.alloc(100_000)),
      { h2: { sendTimeout: 300 } },
      { credit: 'manual', settings: [[Setting.INITIAL_WINDOW_SIZE, 1_000]] },
    );
    const [starved, fed] = [client.request(), client.request()];
    const feeding = setInterval(() => client.windowUpdate(fed, 1), 40);
    expect((await client.response(starved)).reset).to.equal(ErrorCode.CANCEL);
    clearInterval(feeding);
    expect(client.stream(fed).reset).to.equal(undefined);
  });

  it('hold beside limits that are far shorter, though the loop is always late', async () => {
    const [host, client] = await pair((req) => req.resume(), {
      h2: { bodyTimeout: 800, ping: { interval: 1_000, timeout: 200 } },
    });
    const stalls = setInterval(() => stall(120), 300);
    const stream = await client.response(client.request({ method: 'POST', open: true }));
    clearInterval(stalls);
    expect(stream.reset).to.equal(ErrorCode.CANCEL);
    expect(host.connection.state).to.equal('open');
  });

  it('drain a connection that has been idle for `hold`', async () => {
    const [host, client] = await pair((_req, res) => res.end(), { keepAlive: { advertise: 0, hold: 300 } });
    await client.fetch();
    await until(() => client.goaways.length === 2, 'GOAWAYs');
    expect(await client.ended()).to.equal('fin');
    await host.connection.closed;
  });

  it('keep a connection that is used within `hold`', async () => {
    const [host, client] = await pair((_req, res) => res.end(), { keepAlive: { advertise: 0, hold: 800 } });
    for (let i = 0; i < 12; i++) {
      await client.fetch();
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(host.connection.state).to.equal('open');
    expect(client.goaways).to.have.length(0);
  });

  it('find out that the peer is gone, if PINGs are asked for', async () => {
    const { host, limits } = await pinged({ interval: 300, timeout: 200 });
    await host.connection.closed;
    expect(limits).to.deep.equal({ ...noLimits(), ping: 1 });
  });

  it('are not held against a peer whose end came while the loop stood still', async () => {
    const { host, client, limits } = await pinged({ interval: 200, timeout: 400 });
    // Its time begins.
    await new Promise((resolve) => setTimeout(resolve, 150));
    // Closes at once: the kernel has the FIN, and the server reads it once timers have run.
    await new Promise((resolve) => setImmediate(resolve));
    client.destroy();
    stall(800);
    await host.connection.closed;
    expect(limits).to.deep.equal(noLimits());
  });

  it('keep a peer to which so much is on its way that it can’t answer a PING in time', async () => {
    const SIZE = 40_000_000;
    const PER_MS = 13_000;
    let written = false;
    const [host, client] = await pair(
      (_req, res) => res.on('close', () => (written = true)).end(Buffer.alloc(SIZE)),
      { h2: { ping: { interval: 700, timeout: 150 } } },
      { credit: 'manual', record: false, settings: [[Setting.INITIAL_WINDOW_SIZE, 2 * SIZE]] },
    );
    client.windowUpdate(0, 2 * SIZE);
    const { socket } = client.transport;
    const from = performance.now();
    let taken = 0;
    // A pace, not a pause after each piece: a busy machine must not make a peer of it that has stopped reading. What the
    // kernel holds in the end is read at once, since nothing shows then that it is.
    const isAhead = (): boolean => !written && taken > PER_MS * (performance.now() - from);
    socket.on('data', (chunk: Buffer) => {
      taken += chunk.length;
      if (isAhead()) socket.pause();
    });
    const reading = setInterval(() => {
      if (!isAhead()) socket.resume();
    }, 5);
    const answer = await client.response(client.request(), 20_000);
    clearInterval(reading);
    expect([answer.ended, host.connection.state]).to.deep.equal([true, 'open']);
    expect(performance.now() - from).to.be.above(900);
  });

  it('ask a peer that speaks, but answers no PING, no second time', async () => {
    const { host, client } = await pinged({ interval: 60, timeout: 2_000 });
    for (let i = 0; i < 4; i++) {
      await new Promise((resolve) => setTimeout(resolve, 150));
      await client.fetch();
    }
    expect(client.frames.filter(({ type }) => type === FrameType.PING)).to.have.length(1);
    expect(host.connection.state).to.equal('open');
  });

  it('keep a peer that answers PINGs', async () => {
    const [host, client] = await pair((_req, res) => res.end(), { h2: { ping: { interval: 300, timeout: 600 } } });
    await client.fetch();
    await until(
      () =>
        client.frames.filter((frame) => frame.type === FrameType.PING && (frame.flags & Flag.ACK) === 0).length >= 4,
      'PINGs',
    );
    expect(host.connection.state).to.equal('open');
  });
});
