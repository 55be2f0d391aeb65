/**
 * `npm run faults`: the heap after many connections is what it was after a thousand. One process that is server and
 * client: connections of both protocols, over cleartext and TLS (resumed), that end in order, by a reset, by a drain or
 * in the middle of a request. Run with --expose-gc by what spawns it. Prints one line, exits 1 when the heap has grown.
 */
import { once } from 'node:events';
import { type AddressInfo, connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import * as v8 from 'node:v8';
import { argumentsOrExit } from '../../bench/lib/arguments.js';
import { LiveConnection } from '../../src/core/connection.js';
import { createServer, gracefulShutdown, type Server } from '../../src/index.js';
import { certificate } from '../wire/certificate.js';
import { encodeFrame, encodeLiterals, Flag, FrameType, PREFACE } from '../wire/h2-frames.js';
import { Random } from '../wire/random.js';

const args = argumentsOrExit({
  command: 'npm run faults --',
  summary: 'Compares the heap after a thousand connections with that after many.',
  options: {
    connections: { kind: 'number', fallback: 100_000, min: 1_000, max: 10_000_000, help: 'in all' },
    tls: { kind: 'number', fallback: 0.1, min: 0, max: 1, help: 'share of TLS connections' },
    seed: { kind: 'number', fallback: 1, min: 0, max: 2 ** 31, help: 'of all random choices' },
    leak: { kind: 'flag', help: 'keep every connection: the run must fail' },
  },
});

/** Those after which the heap is looked at first: code is compiled and pools are filled by then. */
const WARM_UP = 1_000;
const AT_A_TIME = 50;
/**
 * A connection weighs 7 KiB. What still grows after the first thousand is compiled code, what it keeps to be thrown away
 * again, and V8's own lists, by ever less: 1.5 MiB after 100,000, as snapshots told apart.
 */
const TOLERANCE = 2 * 2 ** 20;

v8.setFlagsFromString('--expose-gc');
const gc: () => void = globalThis.gc ?? (() => {});
const random = new Random(args.seed);
const kept: unknown[] = [];

const GET = Buffer.concat([
  PREFACE,
  encodeFrame(FrameType.SETTINGS, 0, 0),
  encodeFrame(
    FrameType.HEADERS,
    Flag.END_HEADERS | Flag.END_STREAM,
    1,
    encodeLiterals([
      [':method', 'GET'],
      [':scheme', 'https'],
      [':authority', 'localhost'],
      [':path', '/'],
    ]),
  ),
]);
const REQUESTS = {
  h1: Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'),
  'half of h1': Buffer.from('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf'),
  h2: GET,
  'half of h2': GET.subarray(0, GET.length - 5),
  nothing: Buffer.alloc(0),
} as const;
const KINDS = Object.keys(REQUESTS) as (keyof typeof REQUESTS)[];

async function start(options: object): Promise<{ server: Server; port: number }> {
  const server = createServer({ ...options, drain: { linger: 100 }, recycle: { maxAge: 600_000 } }, (req, res) => {
    req.on('error', () => {});
    if (req.method === 'GET') res.end('ok');
  });
  server.connections.on('open', (connection) => {
    if (args.leak) kept.push(connection);
    if (random.chance(0.1)) void gracefulShutdown(connection, { timeout: 100, idleWait: 0 });
  });
  server.on('tlsClientError', () => {});
  server.listen({ port: 0, host: '127.0.0.1', backlog: 1_024 });
  await once(server, 'listening');
  return { server, port: (server.address() as AddressInfo).port };
}

const cleartext = await start({ cleartext: true });
const secure = await start(await certificate());
let session: Buffer | undefined;

async function oneConnection(): Promise<void> {
  const isTls = random.chance(args.tls);
  const kind = KINDS[random.below(KINDS.length)] ?? 'h1';
  const ending = random.below(3);
  const raw = connectTcp({ port: isTls ? secure.port : cleartext.port, host: '127.0.0.1', noDelay: true });
  let socket: Socket = raw;
  raw.on('error', () => {});
  if (isTls) {
    const tls = connectTls({
      socket: raw,
      rejectUnauthorized: false,
      ALPNProtocols: [kind.endsWith('h2') ? 'h2' : 'http/1.1'],
      ...(session !== undefined && { session }),
    });
    if (session === undefined) tls.once('session', (made) => (session = made));
    socket = tls.on('error', () => {});
  }
  const closed = new Promise((resolve) => raw.once('close', resolve));
  socket.once(isTls ? 'secureConnect' : 'connect', () => {
    socket.write(REQUESTS[kind]);
    if (kind === 'h1' || kind === 'h2') socket.once('data', end);
    else setTimeout(end, 2);
  });
  socket.resume();
  const end = (): void => {
    // In a turn of its own: a reset in a TLS callback crashes Node.
    setImmediate(() => {
      if (ending === 0) raw.resetAndDestroy();
      if (ending === 1) socket.end();
      else socket.destroy();
    });
  };
  const limit = setTimeout(() => raw.destroy(), 5_000);
  await closed;
  clearTimeout(limit);
  socket.destroy();
}

async function run(count: number): Promise<void> {
  let left = count;
  await Promise.all(
    Array.from({ length: AT_A_TIME }, async () => {
      while (left > 0) {
        left -= 1;
        await oneConnection();
      }
    }),
  );
  while (cleartext.server.connections.size + secure.server.connections.size > 0) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The smallest of a few: what is still on its way to be collected is no leak. */
async function heap(): Promise<number> {
  let smallest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 4; i++) {
    gc();
    smallest = Math.min(smallest, process.memoryUsage().heapUsed);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return smallest;
}

await run(WARM_UP);
const before = await heap();
await run(args.connections - WARM_UP);
const after = await heap();
const { queryObjects } = v8 as typeof v8 & { queryObjects?: (type: object, options: object) => number };
const reachable = queryObjects?.(LiveConnection, { format: 'count' }) ?? 0;
const grown = after - before;
const passed = grown <= TOLERANCE && reachable === 0;
const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(2);
console.log(
  `${passed ? 'PASSED' : 'FAILED'}  heap ${mebibytes(before)} MiB after ${WARM_UP} connections, ${mebibytes(after)} MiB after ` +
    `${args.connections} (${(grown / (args.connections - WARM_UP)).toFixed(1)} bytes each); ${reachable} connections reachable`,
);
process.exit(passed ? 0 : 1);
