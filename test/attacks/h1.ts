/**
 * Attacks over HTTP/1.1: heads and bodies that don't come, answers that nobody reads, requests without end, and what
 * could be read as two requests behind a proxy.
 */
import type { Attack, Outcome, Target } from './attack.js';
import { H1Peer, type PeerOptions } from './peer.js';

const LIMIT = 800;
const TIMES = { headersTimeout: LIMIT, bodyTimeout: LIMIT, sendTimeout: LIMIT } as const;
const DRIBBLE = 100;

const POST = 'POST /upload/0/0 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n';

async function hold(
  target: Target,
  options: PeerOptions,
  begin: string,
  dribble?: (n: number) => string,
): Promise<Outcome> {
  const peer = await H1Peer.open(target, options);
  let going = begin === '' || (await peer.write(begin));
  for (let n = 0; going; n++) {
    await peer.idle(DRIBBLE);
    going = !peer.over && (dribble === undefined || (await peer.write(dribble(n))));
  }
  return peer.outcome();
}

async function flood(target: Target, unit: string, begin = ''): Promise<Outcome> {
  const peer = await H1Peer.open(target);
  const burst = Buffer.from(unit.repeat(Math.ceil(16_384 / unit.length)), 'latin1');
  let going = begin === '' || (await peer.write(begin));
  while (going) going = await peer.write(burst);
  return peer.outcome();
}

/** What a proxy and a server might read differently. */
const SMUGGLING: readonly string[] = [
  'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!',
  'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello',
  'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n',
  'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n',
  'GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n',
  'GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n',
  'GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n',
  'GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n',
  'GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n',
];
let shape = 0;

export const H1: readonly Attack[] = [
  {
    name: 'slowloris',
    title: 'Slowloris: a head that comes a line at a time',
    protocol: 'h1',
    sees: 'is answered 408 after headersTimeout, and closed',
    ends: /^408, closed$/,
    limits: ['headersTimeout'],
    server: { h1: TIMES },
    connections: 100,
    run: (target) => hold(target, {}, 'GET / HTTP/1.1\r\nHost: x\r\n', (n) => `X-${n}: y\r\n`),
  },
  {
    name: 'h1-silent-body',
    title: 'a body that doesn’t come',
    protocol: 'h1',
    sees: 'is answered 408 after bodyTimeout, and closed',
    ends: /^408, closed$/,
    limits: ['bodyTimeout'],
    server: { h1: TIMES },
    connections: 100,
    run: (target) => hold(target, {}, `${POST}x`),
  },
  {
    name: 'h1-slow-body',
    title: 'a body that comes an octet at a time',
    protocol: 'h1',
    sees: 'is served: no limit in total',
    ends: /^open$/,
    server: { h1: TIMES },
    connections: 100,
    run: (target) => hold(target, {}, POST, () => 'x'),
  },
  {
    name: 'h1-slow-read',
    title: 'slow read: an answer of 8 MB that nobody reads',
    protocol: 'h1',
    sees: 'is reset after sendTimeout',
    ends: /^reset$/,
    limits: ['headersTimeout', 'sendTimeout'],
    server: { h1: TIMES },
    connections: 20,
    run: (target) =>
      hold(
        target,
        { deaf: true },
        'GET /large/0/8000000 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n',
        () => 'X: y\r\n',
      ),
  },
  {
    name: 'h1-pipelining',
    title: 'requests pipelined behind a slow one, without end',
    protocol: 'h1',
    sees: 'is not read from until it has been answered',
    ends: /^open$/,
    limits: ['pipelining'],
    run: (target) =>
      flood(target, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n', 'GET /small/0/60000 HTTP/1.1\r\nHost: x\r\n\r\n'),
  },
  {
    name: 'h1-large-head',
    title: 'a head without end',
    protocol: 'h1',
    sees: 'is answered 431, and closed',
    ends: /^431, (closed|reset)$/,
    limits: ['maxHeaderSize'],
    run: (target) => flood(target, `X: ${'y'.repeat(1_000)}\r\n`, 'GET / HTTP/1.1\r\nHost: x\r\n'),
  },
  {
    name: 'h1-empty-lines',
    title: 'empty lines without end',
    protocol: 'h1',
    sees: 'is read for as long as it sends',
    ends: /^open$/,
    run: (target) => flood(target, '\r\n'),
  },
  {
    name: 'h1-chunk-extensions',
    title: 'chunk extensions without end (CVE-2024-22019)',
    protocol: 'h1',
    sees: 'is answered 413, and closed',
    ends: /^413, (closed|reset)$/,
    limits: ['malformed'],
    run: (target) =>
      flood(
        target,
        'x'.repeat(1_000),
        'POST /upload/0/0 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a=',
      ),
  },
  {
    name: 'h1-smuggling',
    title: `request smuggling, ${SMUGGLING.length} shapes`,
    protocol: 'h1',
    sees: 'is answered 400, and closed',
    ends: /^400, closed$/,
    limits: ['malformed'],
    run: (target) => hold(target, {}, SMUGGLING[shape++ % SMUGGLING.length] ?? ''),
  },
];
