/**
 * The frames of RFC 9113 §6 as bytes: types, flags, and writers that put a frame straight into an OutputBuffer.
 * Splitting received bytes into frames is `receive.ts`; what a frame means is `session.ts`.
 */

import type { OutputBuffer } from './output.js';

/** RFC 9113 §6, and RFC 9218 §7.1. */
export const FrameType = {
  DATA: 0x0,
  HEADERS: 0x1,
  PRIORITY: 0x2,
  RST_STREAM: 0x3,
  SETTINGS: 0x4,
  PUSH_PROMISE: 0x5,
  PING: 0x6,
  GOAWAY: 0x7,
  WINDOW_UPDATE: 0x8,
  CONTINUATION: 0x9,
  PRIORITY_UPDATE: 0x10,
} as const;

export const Flag = {
  END_STREAM: 0x1,
  ACK: 0x1,
  END_HEADERS: 0x4,
  PADDED: 0x8,
  PRIORITY: 0x20,
} as const;

/** RFC 9113 §4.1. */
export const FRAME_HEADER_SIZE = 9;
/** RFC 9113 §6.5.2: what every endpoint must take. */
export const MIN_MAX_FRAME_SIZE = 16_384;
export const MAX_MAX_FRAME_SIZE = 16_777_215;
/** The highest stream identifier, and what a GOAWAY that only announces carries. (RFC 9113 §6.8) */
export const MAX_STREAM_ID = 0x7fff_ffff;
/** RFC 9113 §3.4. */
export const CLIENT_PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

export function readUint32(bytes: Buffer, at: number): number {
  return (
    (((bytes[at] as number) << 24) |
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number)) >>>
    0
  );
}

/** A 31-bit integer; the reserved bit before it is ignored. (RFC 9113 §4.1) */
export function readUint31(bytes: Buffer, at: number): number {
  return readUint32(bytes, at) & MAX_STREAM_ID;
}

export function putUint32(bytes: Buffer, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** Writes a frame header to `bytes` at `at`. */
export function putFrameHeader(
  bytes: Buffer,
  at: number,
  length: number,
  type: number,
  flags: number,
  streamId: number,
): void {
  bytes[at] = length >>> 16;
  bytes[at + 1] = length >>> 8;
  bytes[at + 2] = length;
  bytes[at + 3] = type;
  bytes[at + 4] = flags;
  bytes[at + 5] = streamId >>> 24;
  bytes[at + 6] = streamId >>> 16;
  bytes[at + 7] = streamId >>> 8;
  bytes[at + 8] = streamId;
}

/** Writes a frame header and makes `room` bytes of payload writable after it. */
export function writeFrameHeader(
  out: OutputBuffer,
  length: number,
  type: number,
  flags: number,
  streamId: number,
  room = 0,
): void {
  out.reserve(FRAME_HEADER_SIZE + room);
  putFrameHeader(out.buf, out.pos, length, type, flags, streamId);
  out.pos += FRAME_HEADER_SIZE;
}

/** RFC 9113 §6.4. */
export function writeRstStream(out: OutputBuffer, streamId: number, errorCode: number): void {
  writeFrameHeader(out, 4, FrameType.RST_STREAM, 0, streamId, 4);
  putUint32(out.buf, out.pos, errorCode);
  out.pos += 4;
}

/** RFC 9113 §6.5: `settings` is identifier, value, identifier, value… */
export function writeSettings(out: OutputBuffer, settings: readonly number[]): void {
  const length = settings.length * 3;
  writeFrameHeader(out, length, FrameType.SETTINGS, 0, 0, length);
  for (let i = 0; i + 1 < settings.length; i += 2) {
    const id = settings[i] as number;
    out.buf[out.pos] = id >>> 8;
    out.buf[out.pos + 1] = id;
    putUint32(out.buf, out.pos + 2, settings[i + 1] as number);
    out.pos += 6;
  }
}

export function writeSettingsAck(out: OutputBuffer): void {
  writeFrameHeader(out, 0, FrameType.SETTINGS, Flag.ACK, 0);
}

/** RFC 9113 §6.7: the 8 octets at `payload[start]`. */
export function writePing(out: OutputBuffer, flags: number, payload: Buffer, start: number): void {
  writeFrameHeader(out, 8, FrameType.PING, flags, 0, 8);
  for (let i = 0; i < 8; i++) out.buf[out.pos + i] = payload[start + i] as number;
  out.pos += 8;
}

/** RFC 9113 §6.8. */
export function writeGoaway(out: OutputBuffer, lastStreamId: number, errorCode: number, debug: Buffer): void {
  const length = 8 + debug.length;
  writeFrameHeader(out, length, FrameType.GOAWAY, 0, 0, length);
  putUint32(out.buf, out.pos, lastStreamId);
  putUint32(out.buf, out.pos + 4, errorCode);
  out.buf.set(debug, out.pos + 8);
  out.pos += length;
}

/** RFC 9113 §6.9: stream 0 is the connection. */
export function writeWindowUpdate(out: OutputBuffer, streamId: number, increment: number): void {
  writeFrameHeader(out, 4, FrameType.WINDOW_UPDATE, 0, streamId, 4);
  putUint32(out.buf, out.pos, increment);
  out.pos += 4;
}
