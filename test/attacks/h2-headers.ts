/**
 * Attacks over HTTP/2 by header blocks: too many frames, too large, too many fields, compressed to explode, malformed,
 * or meant to be read as something else behind a proxy.
 */
import { encodeFrame, encodeLiterals, type FieldList, Flag, FrameType } from '../wire/h2-frames.js';
import { Random } from '../wire/random.js';
import type { Attack } from './attack.js';
import { block, data, flood, get, getWith, inFrames, post, raw, streamId, WIDE } from './h2-bytes.js';

const FRAME = 16_384;
const SEES_431 = 'is answered 431, drained, and told ENHANCE_YOUR_CALM when it goes on';
const SEES_431_CALM = 'is answered 431, and told ENHANCE_YOUR_CALM when the budget is used up';
const CALM_431 = /^431, GOAWAY ENHANCE_YOUR_CALM "flood of frames that serve no request", closed$/;
const REFUSED_431 = /^431, (drain, )?GOAWAY ENHANCE_YOUR_CALM "streams are opened to be reset", closed$/;
const MALFORMED =
  /^RST_STREAM PROTOCOL_ERROR, (drain, )?GOAWAY ENHANCE_YOUR_CALM "streams are opened to be reset", closed$/;
const SEES_MALFORMED = 'has each stream reset with PROTOCOL_ERROR, is drained, and told ENHANCE_YOUR_CALM';

/** 272 KiB of fields, in the most frames that a block may have. */
const longBlock = Buffer.concat([block('/small/0/50'), encodeLiterals([['x', 'y'.repeat(17 * FRAME - 100)]])]);
/** 2,040 fields of four octets each, which count for 34 each. */
const manyFields = Buffer.concat([block('/small/0/50'), Buffer.concat(Array(2_040).fill(Buffer.of(0, 1, 0x78, 0)))]);

/** A field of 4,000 octets that goes into the table, … */
function stored(name: string, filling: string): Buffer {
  const head = [Buffer.of(0x40, name.length), Buffer.from(name), Buffer.of(0x7f, 0xa1, 0x1e)];
  return Buffer.concat([...head, Buffer.alloc(4_000, filling)]);
}

const storedField = stored('x', 'x');
const storedPriority = stored('priority', ',');
/** … and the first entry of the dynamic table: one octet for each of its 4,033. */
const FIRST = 0xbe;
const bomb = Buffer.concat([block('/small/0/50'), storedField, Buffer.alloc(12_000, FIRST)]);
const bombAgain = Buffer.concat([block('/small/0/50'), Buffer.alloc(16_000, FIRST)]);

/** As much of the bomb as is no request too large, with a field more or less so that no two requests are alike. */
function underTheLimit(n: number, field = storedField): Buffer {
  const fields = Buffer.alloc(15, FIRST);
  const path = block('/small/0/0');
  const filler = Buffer.of(0, 1, 0x61 + (n % 26), 1, 0x61 + (n % 25));
  if (n === 0) return get(streamId(n), Buffer.concat([path, field, fields]));
  return get(streamId(n), n % 2 === 0 ? Buffer.concat([path, fields]) : Buffer.concat([path, filler, fields]));
}

/** The table emptied, and filled again with 15 fields, in every block. */
function churn(n: number): Buffer {
  const parts: Buffer[] = [Buffer.of(0x20, 0x3f, 0xe1, 0x1f), block('/small/0/0')];
  for (let i = 0; i < 15; i++) parts.push(Buffer.of(0x40, 2, 0x61 + i, 0x61 + (n % 26), 1, 0x61 + i));
  return get(streamId(n), Buffer.concat(parts));
}

const PSEUDO: FieldList = [
  [':method', 'GET'],
  [':scheme', 'https'],
  [':authority', 'localhost'],
  [':path', '/'],
];

function replaced(name: string, value: string): FieldList {
  return PSEUDO.map((field) => (field[0] === name ? [name, value] : field));
}

function added(...field: readonly [string, string]): FieldList {
  return [...PSEUDO, field];
}

/** What a proxy might pass on as something else. */
export const SMUGGLING: Readonly<Record<string, FieldList>> = {
  'CR LF in a value': added('x', 'a\r\nGET /admin HTTP/1.1'),
  'LF in a value': added('x', 'a\nb'),
  'CR in a value': added('x', 'a\rb'),
  'NUL in a value': added('x', 'a\0b'),
  'a leading blank in a value': added('x', ' a'),
  'CR LF in a name': added('x: y\r\nz', 'a'),
  'a colon in a name': added('transfer-encoding:chunked', 'a'),
  'an upper-case name': added('Transfer-Encoding', 'chunked'),
  'transfer-encoding': added('transfer-encoding', 'chunked'),
  connection: added('connection', 'keep-alive'),
  upgrade: added('upgrade', 'h2c'),
  'te other than trailers': added('te', 'chunked'),
  'a second :path': [...PSEUDO, [':path', '/admin']],
  'a pseudo-header after a field': [...PSEUDO.slice(0, 3), ['x', 'y'], [':path', '/']],
  'an unknown pseudo-header': [[':x', 'y'], ...PSEUDO],
  'no :path': PSEUDO.slice(0, 3),
  'an empty :path': replaced(':path', ''),
  'an absolute :path': replaced(':path', 'https://localhost/admin'),
  'a :path without a slash': replaced(':path', 'admin'),
  'CR LF in :path': replaced(':path', '/ HTTP/1.1\r\nx: y'),
  'a blank in :path': replaced(':path', '/ HTTP/1.1'),
  'a fragment in :path': replaced(':path', '/#a'),
  '* as :path of GET': replaced(':path', '*'),
  'a blank in :method': replaced(':method', 'GET /admin HTTP/1.1'),
  'LF in :method': replaced(':method', 'GET\n'),
  'LF in :scheme': replaced(':scheme', 'https\n'),
  'a :scheme that holds an address': replaced(':scheme', 'https://evil/?'),
  'userinfo in :authority': replaced(':authority', 'admin@localhost'),
  'CR LF in :authority': replaced(':authority', 'localhost\r\nx: y'),
  'a path in :authority': replaced(':authority', 'localhost/admin'),
  'a host that disagrees with :authority': added('host', 'internal'),
  'two hosts': [...PSEUDO, ['host', 'localhost'], ['host', 'internal']],
  'two content-lengths': [...PSEUDO, ['content-length', '0'], ['content-length', '0']],
  'a content-length list': added('content-length', '0, 0'),
  'a signed content-length': added('content-length', '+0'),
  'a content-length without a body': added('content-length', '5'),
};
const shapes = Object.values(SMUGGLING);

/** Bodies longer and shorter than they were said to be, with and without trailers. */
const LIES: readonly ((id: number) => Buffer)[] = [
  (id) => Buffer.concat([post(id, ['content-length', '5']), data(id, 'toolong')]),
  (id) => Buffer.concat([post(id, ['content-length', '5']), data(id, 'cut', true)]),
  (id) =>
    Buffer.concat([
      post(id, ['content-length', '5']),
      data(id, 'cut'),
      raw(id, [['x', 'y']], Flag.END_HEADERS | Flag.END_STREAM),
    ]),
];

const random = new Random(3);

function garbage(): Buffer {
  return Buffer.from(Array.from({ length: 200 }, () => random.below(256)));
}

export const H2_HEADERS: readonly Attack[] = [
  {
    name: 'continuation-flood',
    title: 'CONTINUATION without end (CVE-2024-27316)',
    protocol: 'h2',
    sees: 'is told ENHANCE_YOUR_CALM after 16 CONTINUATION frames',
    ends: /^GOAWAY ENHANCE_YOUR_CALM "field block of over 16 CONTINUATION frames", closed$/,
    limits: ['continuations'],
    run: (target) => {
      const piece = encodeLiterals([['x', 'y'.repeat(1_000)]]);
      const fragment = encodeFrame(FrameType.CONTINUATION, 0, 1, piece);
      return flood(target, () => fragment, { ack: false, begin: inFrames(1, block('/'), FRAME, false) });
    },
  },
  {
    name: 'continuation-empty',
    title: 'empty CONTINUATION without end',
    protocol: 'h2',
    sees: 'is told ENHANCE_YOUR_CALM after 16 CONTINUATION frames',
    ends: /^GOAWAY ENHANCE_YOUR_CALM "field block of over 16 CONTINUATION frames", closed$/,
    limits: ['continuations'],
    run: (target) => {
      const fragment = encodeFrame(FrameType.CONTINUATION, 0, 1);
      return flood(target, () => fragment, { ack: false, begin: inFrames(1, block('/'), FRAME, false) });
    },
  },
  {
    name: 'continuation-ended',
    title: 'CONTINUATION with END_HEADERS, 272 KiB a block',
    protocol: 'h2',
    sees: SEES_431_CALM,
    ends: CALM_431,
    limits: ['maxHeaderSize', 'floods'],
    run: (target) => flood(target, (n) => inFrames(streamId(n), longBlock, FRAME), { decode: true }),
  },
  {
    name: 'hpack-bomb',
    title: 'HPACK bomb: 64 MB of fields in 16 KB (CVE-2016-6581)',
    protocol: 'h2',
    sees: SEES_431_CALM,
    ends: CALM_431,
    limits: ['maxHeaderSize', 'floods'],
    run: (target) => flood(target, (n) => get(streamId(n), n === 0 ? bomb : bombAgain), { decode: true }),
  },
  {
    name: 'hpack-under-limit',
    title: 'HPACK: 60 KB of fields in 65 octets, again and again',
    protocol: 'h2',
    sees: 'is served as any client',
    ends: /^open$/,
    run: (target) => flood(target, (n) => underTheLimit(n), { begin: WIDE, batch: 40, after: { unanswered: 40 } }),
  },
  {
    name: 'hpack-priority',
    title: 'HPACK: a priority of 60,000 members in 65 octets, again and again',
    protocol: 'h2',
    sees: 'is served as any client',
    ends: /^open$/,
    run: (target) =>
      flood(target, (n) => underTheLimit(n, storedPriority), { begin: WIDE, batch: 40, after: { unanswered: 40 } }),
  },
  {
    name: 'table-churn',
    title: 'HPACK table emptied and refilled by every request',
    protocol: 'h2',
    sees: 'is served as any client',
    ends: /^open$/,
    run: (target) => flood(target, churn, { begin: WIDE, batch: 40, after: { unanswered: 40 } }),
  },
  {
    name: 'table-updates',
    title: 'HPACK table size updates without end',
    protocol: 'h2',
    sees: 'is told COMPRESSION_ERROR',
    ends: /^GOAWAY COMPRESSION_ERROR "more than 2 dynamic table size updates in a header block", closed$/,
    limits: ['protocolErrors'],
    run: (target) => flood(target, (n) => get(streamId(n), Buffer.concat([Buffer.alloc(9_000, 0x20), block('/')]))),
  },
  {
    name: 'hpack-garbage',
    title: 'HPACK that can’t be decoded',
    protocol: 'h2',
    sees: 'is told COMPRESSION_ERROR',
    ends: /^GOAWAY COMPRESSION_ERROR ".+", closed$/,
    limits: ['protocolErrors'],
    run: (target) => flood(target, (n) => get(streamId(n), Buffer.concat([garbage(), Buffer.of(0x80)]))),
  },
  {
    name: 'header-flood',
    title: 'header flood: 2,040 fields a request',
    protocol: 'h2',
    sees: SEES_431,
    ends: REFUSED_431,
    limits: ['maxHeaderSize', 'resets'],
    run: (target) => flood(target, (n) => get(streamId(n), manyFields), { decode: true }),
  },
  {
    name: 'empty-names',
    title: 'zero-length header names (CVE-2019-9516)',
    protocol: 'h2',
    sees: SEES_MALFORMED,
    ends: MALFORMED,
    limits: ['malformed', 'resets'],
    run: (target) => flood(target, (n) => getWith(streamId(n), [['', '']])),
  },
  {
    name: 'smuggling',
    title: `request smuggling, ${shapes.length} shapes`,
    protocol: 'h2',
    sees: SEES_MALFORMED,
    ends: MALFORMED,
    limits: ['malformed', 'resets'],
    run: (target) => flood(target, (n) => raw(streamId(n), shapes[n % shapes.length] ?? PSEUDO), { decode: true }),
  },
  {
    name: 'length-lies',
    title: 'content-length that lies',
    protocol: 'h2',
    sees: SEES_MALFORMED,
    ends: MALFORMED,
    limits: ['malformed', 'resets'],
    run: (target) => flood(target, (n) => LIES[n % LIES.length]?.(streamId(n)) ?? Buffer.alloc(0), { decode: true }),
  },
];
