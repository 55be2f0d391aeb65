/**
 * The reset-at-every-point matrix: a conversation of several requests is broken off after every frame (HTTP/2) or at
 * every byte that means something (HTTP/1.1), in either direction, by RST and by FIN, without a drain and in one.
 */
import { expect } from 'chai';
import type { H1Client } from '../wire/h1-client.js';
import type { H2Client, H2Stream } from '../wire/h2-client.js';
import { encodeFrame, encodeLiterals, Flag, FrameType, PREFACE, settingsPayload, uint32 } from '../wire/h2-frames.js';
import { turns } from '../wire/waiting.js';
import {
  checkReport,
  drained,
  ENDINGS,
  type FaultEnding,
  type Ground,
  groundForEach,
  inBatches,
  nameOf,
  sumOf,
  WAYS,
  within,
} from './harness.js';

/** In either conversation. */
const REQUESTS = { h1: 6, h2: 7 } as const;

/** When a drain of the connection begins. */
const DRAINS = ['without a drain', 'in a drain from the beginning', 'as a drain begins'] as const;
type When = (typeof DRAINS)[number];

interface Point {
  readonly at: number;
  readonly ending: FaultEnding;
  readonly when: When;
  /** the break comes when the server has taken in what was sent before, or right behind it */
  readonly takenIn: boolean;
}

// ── the conversations ─────────────────────────────────────────────────────────────────────────────────────────────

function block(method: string, path: string): Buffer {
  return encodeLiterals([
    [':method', method],
    [':scheme', 'https'],
    [':authority', 'localhost'],
    [':path', path],
    ['x-field', 'a value that takes some room'],
  ]);
}

const { END_HEADERS, END_STREAM } = Flag;
const PARTS = block('GET', '/parts');

/** Frames as a client may send them, and pieces of frames between them. */
const H2_FRAMES: readonly Buffer[] = [
  Buffer.concat([PREFACE, encodeFrame(FrameType.SETTINGS, 0, 0, settingsPayload([[4, 100_000]]))]),
  encodeFrame(FrameType.HEADERS, END_HEADERS | END_STREAM, 1, block('GET', '/ok')),
  encodeFrame(FrameType.HEADERS, END_HEADERS, 3, block('POST', '/body')),
  encodeFrame(FrameType.DATA, 0, 3, Buffer.alloc(1_000, 'a')),
  encodeFrame(FrameType.HEADERS, 0, 5, PARTS.subarray(0, 20)),
  encodeFrame(FrameType.CONTINUATION, 0, 5, PARTS.subarray(20, 21)),
  encodeFrame(FrameType.CONTINUATION, END_HEADERS, 5, PARTS.subarray(21)),
  encodeFrame(FrameType.DATA, END_STREAM, 5, Buffer.alloc(10, 'b')),
  encodeFrame(FrameType.PING, 0, 0, Buffer.alloc(8, 'p')),
  encodeFrame(FrameType.HEADERS, END_HEADERS | END_STREAM, 7, block('GET', '/large')),
  encodeFrame(FrameType.HEADERS, END_HEADERS | END_STREAM, 9, block('GET', '/hold')),
  encodeFrame(FrameType.RST_STREAM, 0, 9, uint32(8)),
  encodeFrame(FrameType.DATA, 0, 3, Buffer.alloc(1_000, 'c')),
  encodeFrame(FrameType.HEADERS, END_HEADERS | END_STREAM, 3, encodeLiterals([['x-trailer', 'yes']])),
  encodeFrame(FrameType.WINDOW_UPDATE, 0, 0, uint32(1_000_000)),
  encodeFrame(FrameType.HEADERS, END_HEADERS, 11, block('POST', '/ok')),
  encodeFrame(FrameType.HEADERS, END_HEADERS | END_STREAM, 13, block('HEAD', '/ok')),
];

const H1_BYTES = Buffer.from(
  [
    'GET /ok HTTP/1.1\r\nHost: localhost\r\nX-Field: value\r\n\r\n',
    'POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n0123456789',
    'POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n',
    '5;ext=1\r\nhello\r\na\r\n0123456789\r\n0\r\nX-Trailer: yes\r\n\r\n',
    'GET /parts HTTP/1.1\r\nHost: localhost\r\n\r\n',
    'GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n',
    'POST /ok HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello',
  ].join(''),
  'latin1',
);

/** Where the parser's state changes: around every line end and every message, and somewhere within. */
function h1Cuts(bytes: Buffer): number[] {
  const cuts = new Set<number>([0, 1, 5, bytes.length]);
  for (let i = bytes.indexOf('\r\n'); i >= 0; i = bytes.indexOf('\r\n', i + 2)) {
    for (const cut of [i, i + 1, i + 2, i + 3, i + 6]) if (cut <= bytes.length) cuts.add(cut);
  }
  return [...cuts].sort((a, b) => a - b);
}

/** Every frame boundary, within the frame's header, and within its payload. */
function h2Cuts(): number[] {
  const cuts = new Set<number>([0, 10, 24]);
  let offset = 0;
  for (const { length } of H2_FRAMES) {
    for (const cut of [offset + 4, offset + 9, offset + Math.ceil(length / 2) + 4]) {
      if (cut < offset + length) cuts.add(cut);
    }
    offset += length;
    cuts.add(offset);
  }
  return [...cuts].sort((a, b) => a - b);
}

const H2_BYTES = Buffer.concat(H2_FRAMES);

// ── the matrix ────────────────────────────────────────────────────────────────────────────────────────────────────

const AT_A_TIME = 64;

/** The suite takes a third of the points, another third of the ways at each; LASTCALL_FAULTS=all takes all of them. */
const STRIDE = process.env.LASTCALL_FAULTS === 'all' ? 1 : 3;

async function breakOff(client: H1Client | H2Client, ending: FaultEnding): Promise<void> {
  if (ending === 'reset') client.reset();
  else {
    client.end();
    await within(client.transport.closed, 'end of the connection');
  }
}

function points(cuts: readonly number[]): Point[] {
  return cuts.flatMap((at, i) =>
    ENDINGS.flatMap((ending) =>
      DRAINS.flatMap((when) => [true, false].map((takenIn) => ({ at, ending, when, takenIn }))),
    ).filter((_, j) => (i + j) % STRIDE === 0),
  );
}

/** The client sends so many bytes and breaks off. */
async function sendAndBreak(ground: Ground, bytes: Buffer, point: Point): Promise<void> {
  const client = ground.way.protocol === 'h1' ? await ground.connectH1() : await ground.connectH2({ preface: false });
  const connection = await ground.connectionOf(client.transport.localPort);
  let drain = point.when === 'in a drain from the beginning' ? drained(connection) : undefined;
  client.transport.write(bytes.subarray(0, point.at));
  if (point.takenIn) await turns(3);
  if (point.when === 'as a drain begins') drain = drained(connection);
  await breakOff(client, point.ending);
  await within(connection.closed, `end of the connection broken after ${point.at} bytes (${point.ending})`);
  if (drain !== undefined) checkReport(await drain);
}

/** The client sends everything and breaks off when it has received so many frames, or bytes. */
async function receiveAndBreak(ground: Ground, bytes: Buffer, point: Point): Promise<boolean> {
  const client =
    ground.way.protocol === 'h1'
      ? await ground.connectH1()
      : await ground.connectH2({ preface: false, credit: 'auto' });
  const connection = await ground.connectionOf(client.transport.localPort);
  let drain = point.when === 'in a drain from the beginning' ? drained(connection) : undefined;
  let received = 0;
  const ended = new Set<H2Stream>();
  let reached: (() => void) | undefined;
  const enough = new Promise<void>((resolve) => {
    reached = resolve;
  });
  const tick = (): void => {
    received++;
    if (received !== point.at) return;
    if (point.when === 'as a drain begins') drain = drained(connection);
    if (point.ending === 'reset') client.reset();
    else client.end();
    reached?.();
  };
  if ('onFrame' in client) {
    client.onFrame = tick;
    client.onStreamEnd = (stream) => {
      // One that was answered early ends, and is reset then: NO_ERROR.
      if (stream.ended) ended.add(stream);
    };
  } else {
    const { onBytes } = client.transport;
    client.transport.onBytes = (chunk) => {
      onBytes(chunk);
      tick();
    };
  }
  client.transport.write(bytes);
  // A conversation with fewer frames than that ends by our own hand.
  await Promise.race([enough, connection.closed, turns(60).then(() => turns(60))]);
  if (received < point.at) client.reset();
  await within(connection.closed, `end of the connection broken after ${point.at} received (${point.ending})`);
  client.destroy();
  if (drain !== undefined) checkReport(await drain);
  // What the client has read in full is served in any case; no request is counted twice.
  const answered = 'responses' in client ? client.responses.length : ended.size;
  expect(connection.counts.served, JSON.stringify({ point, counts: connection.counts })).to.be.at.least(answered);
  expect(sumOf(connection.counts), JSON.stringify(connection.counts)).to.be.at.most(REQUESTS[ground.way.protocol]);
  return received >= point.at;
}

for (const way of WAYS) {
  const bytes = way.protocol === 'h1' ? H1_BYTES : H2_BYTES;

  describe(`a client that breaks off, ${nameOf(way)}`, function () {
    this.timeout(60_000);
    let ground: Ground;
    groundForEach(way, { drain: { linger: 200, lingerMax: 1_000 } }, (opened) => {
      ground = opened;
    });

    it('after any byte that it has sent leaves nothing behind, and nobody else notices', async () => {
      const cuts = way.protocol === 'h1' ? h1Cuts(bytes) : h2Cuts();
      await inBatches(points(cuts), AT_A_TIME, (point) => sendAndBreak(ground, bytes, point));
      await ground.settled();
    });

    it('after anything that it has received leaves nothing behind, and nobody else notices', async () => {
      const steps = Array.from({ length: way.protocol === 'h1' ? 14 : 40 }, (_, i) => i + 1);
      let reached = 0;
      const chosen = points(steps).filter(({ takenIn }) => takenIn);
      await inBatches(chosen, AT_A_TIME, async (point) => {
        if (await receiveAndBreak(ground, bytes, point)) reached++;
      });
      await ground.settled();
      expect(reached, 'points that were reached').to.be.above(chosen.length / 3);
    });
  });
}
