/**
 * What the soak does to the server beside its load: attacks over raw sockets at a low rate, and clients whose sockets
 * are reset at random moments. None of them counts; whoever does must not notice.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { H1Client } from '../../../test/wire/h1-client.js';
import { H2Client } from '../../../test/wire/h2-client.js';
import {
  ErrorCode,
  encodeFrame,
  encodeLiterals,
  Flag,
  FrameType,
  PREFACE,
  Setting,
} from '../../../test/wire/h2-frames.js';
import type { Random } from '../../../test/wire/random.js';
import { h1Exchanges } from '../exchanges.js';
import { KIND_FIELD } from './app.js';
import { drawTarget, type Field, MIX, pause, type Target } from './clients.js';

/** Hostile sockets that are open at once. */
const MAX_OPEN = 24;
/** The longest that one is kept, ms. */
const MAX_LIFE_MS = 8_000;

/** Part of a TLS ClientHello: a record header that promises more than follows. */
const HALF_HELLO = Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03, 1, 2, 3, 4]);

const GET = encodeLiterals([
  [':method', 'GET'],
  [':scheme', 'https'],
  [':authority', 'localhost'],
  [':path', '/large/0/90000'],
]);

type Attack = (socket: Socket, random: Random) => void;

function frames(count: number, type: number, flags: number, streamId: number, payload?: Buffer): Buffer {
  return Buffer.concat(Array.from({ length: count }, () => encodeFrame(type, flags, streamId, payload)));
}

/** The preface and SETTINGS, then these bytes. */
function h2(socket: Socket, ...bytes: Buffer[]): void {
  socket.write(Buffer.concat([PREFACE, encodeFrame(FrameType.SETTINGS, 0, 0), ...bytes]));
}

const code = (errorCode: number): Buffer => Buffer.from([0, 0, 0, errorCode]);

const OVER_HTTP2: Readonly<Record<string, Attack>> = {
  'rapid reset': (socket) => {
    const bytes: Buffer[] = [];
    for (let id = 1; id < 1_200; id += 2) {
      bytes.push(encodeFrame(FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, id, GET));
      bytes.push(encodeFrame(FrameType.RST_STREAM, 0, id, code(ErrorCode.CANCEL)));
    }
    h2(socket, ...bytes);
  },
  'provoked resets': (socket) => {
    const bytes: Buffer[] = [];
    for (let id = 1; id < 1_200; id += 2) {
      bytes.push(encodeFrame(FrameType.HEADERS, Flag.END_HEADERS, id, GET));
      bytes.push(encodeFrame(FrameType.WINDOW_UPDATE, 0, id, code(0)));
    }
    h2(socket, ...bytes);
  },
  'PING flood': (socket) => h2(socket, frames(5_000, FrameType.PING, 0, 0, Buffer.alloc(8))),
  'SETTINGS flood': (socket) => h2(socket, frames(5_000, FrameType.SETTINGS, 0, 0)),
  'empty DATA flood': (socket) =>
    h2(socket, encodeFrame(FrameType.HEADERS, Flag.END_HEADERS, 1, GET), frames(5_000, FrameType.DATA, 0, 1)),
  'CONTINUATION flood': (socket) =>
    h2(
      socket,
      encodeFrame(FrameType.HEADERS, 0, 1, GET),
      frames(100, FrameType.CONTINUATION, 0, 1, Buffer.from([0, 1, 97, 1, 97])),
    ),
  'half a head': (socket) => h2(socket, encodeFrame(FrameType.HEADERS, 0, 1, GET)),
  'no window': (socket) => {
    const setting = Buffer.from([0, Setting.INITIAL_WINDOW_SIZE, 0, 0, 0, 0]);
    const bytes = [encodeFrame(FrameType.SETTINGS, 0, 0, setting)];
    for (let id = 1; id < 100; id += 2) {
      bytes.push(encodeFrame(FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, id, GET));
    }
    h2(socket, ...bytes);
  },
  'garbage frames': (socket, random) => {
    const bytes = Buffer.from(Array.from({ length: 400 }, () => random.below(256)));
    h2(socket, bytes);
  },
  'half a preface': (socket) => void socket.write(PREFACE.subarray(0, 10)),
};

const OVER_HTTP1: Readonly<Record<string, Attack>> = {
  'slow head': (socket) => {
    socket.write('GET / HTTP/1.1\r\n');
    const timer = setInterval(() => socket.write('X-Slow: 1\r\n'), 300);
    socket.once('close', () => clearInterval(timer));
  },
  'slow body': (socket) => {
    socket.write('POST /upload/0/0 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n');
  },
  'slow reader': (socket) => {
    socket.pause();
    socket.write('GET /large/0/90000 HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(30));
  },
  smuggling: (socket) => {
    socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /');
  },
  garbage: (socket, random) => {
    socket.write(Buffer.from(Array.from({ length: 2_000 }, () => random.below(256))));
  },
  'a large head': (socket) => {
    socket.write(`GET / HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`);
  },
  silence: () => {},
};

const OVER_TCP: Readonly<Record<string, Attack>> = {
  'half a ClientHello': (socket) => void socket.write(HALF_HELLO),
  'no handshake': () => {},
  'text instead of TLS': (socket) => void socket.write('GET / HTTP/1.1\r\n\r\n'),
};

/** How many attacks of each kind there were. */
export type Attacked = Record<string, number>;

/** Attacks at random moments until the soak is over; ends when the last of them is gone. */
export async function attack(field: Field, random: Random, everyMs: number, attacked: Attacked): Promise<void> {
  const open = new Set<Socket>();
  const all = [
    ...Object.entries(OVER_HTTP2).map(([name, run]) => ({ name, run, alpn: 'h2' })),
    ...Object.entries(OVER_HTTP1).map(([name, run]) => ({ name, run, alpn: 'http/1.1' })),
    ...Object.entries(OVER_TCP).map(([name, run]) => ({ name, run, alpn: undefined })),
  ];
  while (!field.stop.aborted) {
    await pause(random.exponential(everyMs), field.stop);
    const chosen = all[random.below(all.length)];
    if (chosen === undefined || open.size >= MAX_OPEN) continue;
    attacked[chosen.name] = (attacked[chosen.name] ?? 0) + 1;
    const target = chosen.alpn === undefined ? { port: field.tlsPort, tls: false } : drawTarget(field, random);
    launch(target, chosen.alpn, open, random, (socket) => chosen.run(socket, random));
  }
  for (const socket of open) socket.destroy();
}

function launch(
  { port, tls }: Target,
  alpn: string | undefined,
  open: Set<Socket>,
  random: Random,
  run: (socket: Socket) => void,
): void {
  const raw = connectTcp({ port, host: '127.0.0.1' });
  const socket =
    tls && alpn !== undefined ? connectTls({ socket: raw, rejectUnauthorized: false, ALPNProtocols: [alpn] }) : raw;
  open.add(raw);
  raw.on('error', () => {});
  socket.on('error', () => {});
  socket.resume();
  socket.once(socket === raw ? 'connect' : 'secureConnect', () => run(socket));
  const timer = setTimeout(
    () => {
      if (random.chance(0.5)) raw.resetAndDestroy();
      socket.destroy();
    },
    random.between(0, MAX_LIFE_MS),
  );
  raw.once('close', () => {
    clearTimeout(timer);
    open.delete(raw);
    socket.destroy();
  });
}

/** Clients that behave well until their socket is reset, or half-closed, somewhere in the middle of it. */
export async function breakSockets(field: Field, random: Random, everyMs: number, broken: { count: number }) {
  const pending = new Set<Promise<void>>();
  while (!field.stop.aborted) {
    await pause(random.exponential(everyMs), field.stop);
    if (pending.size >= MAX_OPEN) continue;
    broken.count++;
    const one: Promise<void> = breakOne(drawTarget(field, random), random.fork())
      .catch(() => {})
      .finally(() => pending.delete(one));
    pending.add(one);
  }
  await Promise.all(pending);
}

async function breakOne(target: Target, random: Random): Promise<void> {
  const after = random.exponential(60);
  const isH2 = random.chance(0.5);
  const client = isH2 ? await H2Client.connect({ ...target, record: false }) : await H1Client.connect(target);
  const exchange = h1Exchanges(MIX);
  for (let n = 0; n < 1 + random.below(4); n++) {
    const { request } = exchange(n, random);
    if (client instanceof H2Client) client.request({ ...request, headers: [[KIND_FIELD, 'faulty']] });
    else client.request({ ...request, headers: { [KIND_FIELD]: 'faulty' } });
  }
  await new Promise((resolve) => setTimeout(resolve, after));
  if (random.chance(0.7)) client.reset();
  else {
    client.end();
    await Promise.race([client.transport.closed, new Promise((resolve) => setTimeout(resolve, 3_000))]);
    client.destroy();
  }
}
