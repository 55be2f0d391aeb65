/**
 * HTTP/2 frames as RFC 9113 §4 and §6 lay them out, for the raw client: written without checks, so that illegal
 * ones can be sent, and read strictly. Shares nothing with src/h2.
 */
import hpack from 'hpack.js';

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
} as const;

export const Flag = { END_STREAM: 0x1, ACK: 0x1, END_HEADERS: 0x4, PADDED: 0x8, PRIORITY: 0x20 } as const;

export const ErrorCode = {
  NO_ERROR: 0x0,
  PROTOCOL_ERROR: 0x1,
  INTERNAL_ERROR: 0x2,
  FLOW_CONTROL_ERROR: 0x3,
  SETTINGS_TIMEOUT: 0x4,
  STREAM_CLOSED: 0x5,
  FRAME_SIZE_ERROR: 0x6,
  REFUSED_STREAM: 0x7,
  CANCEL: 0x8,
  COMPRESSION_ERROR: 0x9,
  CONNECT_ERROR: 0xa,
  ENHANCE_YOUR_CALM: 0xb,
  INADEQUATE_SECURITY: 0xc,
  HTTP_1_1_REQUIRED: 0xd,
} as const;

export const Setting = {
  HEADER_TABLE_SIZE: 0x1,
  ENABLE_PUSH: 0x2,
  MAX_CONCURRENT_STREAMS: 0x3,
  INITIAL_WINDOW_SIZE: 0x4,
  MAX_FRAME_SIZE: 0x5,
  MAX_HEADER_LIST_SIZE: 0x6,
  ENABLE_CONNECT_PROTOCOL: 0x8,
} as const;

/** RFC 9113 §3.4 */
export const PREFACE: Buffer = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

/** 2^31-1: the last-stream-id of a GOAWAY that only announces (RFC 9113 §6.8) */
export const MAX_STREAM_ID = 0x7fffffff;

/** A frame as it was read. */
export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
  /** ms, `performance.now()`'s clock */
  readonly at: number;
}

/** Names and values in order; pseudo-fields first. */
export type FieldList = readonly (readonly [name: string, value: string])[];

/** Any frame, legal or not; `length` lies about the payload when given. */
export function encodeFrame(
  type: number,
  flags: number,
  streamId: number,
  payload: Buffer = Buffer.alloc(0),
  length: number = payload.length,
): Buffer {
  const frame = Buffer.allocUnsafe(9 + payload.length);
  frame.writeUIntBE(length, 0, 3);
  frame[3] = type;
  frame[4] = flags;
  frame.writeUInt32BE(streamId >>> 0, 5);
  payload.copy(frame, 9);
  return frame;
}

export function uint32(...values: number[]): Buffer {
  const bytes = Buffer.allocUnsafe(4 * values.length);
  values.forEach((value, index) => {
    bytes.writeUInt32BE(value >>> 0, 4 * index);
  });
  return bytes;
}

/** The payload of SETTINGS: identifier and value pairs, in order. */
export function settingsPayload(entries: readonly (readonly [id: number, value: number])[]): Buffer {
  const bytes = Buffer.allocUnsafe(6 * entries.length);
  entries.forEach(([id, value], index) => {
    bytes.writeUInt16BE(id, 6 * index);
    bytes.writeUInt32BE(value >>> 0, 6 * index + 2);
  });
  return bytes;
}

/** The payload of GOAWAY. */
export function goawayPayload(lastStreamId: number, errorCode: number, debug = ''): Buffer {
  return Buffer.concat([uint32(lastStreamId, errorCode), Buffer.from(debug)]);
}

/** What a GOAWAY says. */
export function readGoaway(frame: Frame): { lastStreamId: number; errorCode: number; debug: string } {
  return {
    lastStreamId: frame.payload.readUInt32BE(0) & MAX_STREAM_ID,
    errorCode: frame.payload.readUInt32BE(4),
    debug: frame.payload.toString('utf8', 8),
  };
}

/** A frame in one readable line, for messages and timelines. */
export function describeFrame(frame: Frame): string {
  const names = Object.entries(FrameType);
  const name = names.find(([, type]) => type === frame.type)?.[0] ?? `type 0x${frame.type.toString(16)}`;
  const notes: string[] = [];
  if (frame.streamId !== 0) notes.push(`stream ${frame.streamId}`);
  if (frame.type === FrameType.GOAWAY && frame.payload.length >= 8) {
    const { lastStreamId, errorCode } = readGoaway(frame);
    notes.push(`last ${lastStreamId === MAX_STREAM_ID ? '2^31-1' : lastStreamId}`, errorName(errorCode));
  } else if (frame.type === FrameType.RST_STREAM && frame.payload.length === 4) {
    notes.push(errorName(frame.payload.readUInt32BE(0)));
  } else if (frame.type === FrameType.DATA) {
    notes.push(`${frame.payload.length} bytes`);
  }
  const isAck = (frame.type === FrameType.SETTINGS || frame.type === FrameType.PING) && (frame.flags & Flag.ACK) !== 0;
  if (isAck) notes.push('ACK');
  const endsStream =
    (frame.type === FrameType.DATA || frame.type === FrameType.HEADERS) && (frame.flags & Flag.END_STREAM) !== 0;
  if (endsStream) notes.push('END_STREAM');
  return notes.length === 0 ? name : `${name} (${notes.join(', ')})`;
}

export function errorName(code: number): string {
  return Object.entries(ErrorCode).find(([, value]) => value === code)?.[0] ?? `error 0x${code.toString(16)}`;
}

/** Cuts a byte stream into frames, however it was split. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);

  /** Hands each complete frame to `onFrame`, in order. Payloads are views of what came in. */
  push(bytes: Buffer, onFrame: (frame: Frame) => void): void {
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const at = performance.now();
    let offset = 0;
    while (this.#rest.length - offset >= 9) {
      const length = this.#rest.readUIntBE(offset, 3);
      const end = offset + 9 + length;
      if (this.#rest.length < end) break;
      const frame: Frame = {
        type: this.#rest.readUInt8(offset + 3),
        flags: this.#rest.readUInt8(offset + 4),
        streamId: this.#rest.readUInt32BE(offset + 5) & MAX_STREAM_ID,
        payload: this.#rest.subarray(offset + 9, end),
        at,
      };
      offset = end;
      onFrame(frame);
    }
    this.#rest = this.#rest.subarray(offset);
  }
}

/** HPACK by hpack.js, one per connection: both directions with their tables. */
export class HpackCodec {
  readonly #compressor = hpack.compressor.create({ table: { maxSize: 4096 } });
  readonly #decompressor = hpack.decompressor.create({ table: { maxSize: 4096 } });
  #fault: Error | undefined;

  constructor() {
    this.#decompressor.on('error', (error) => {
      this.#fault = error;
    });
  }

  /** Encodes one header block; repeated fields get indexed, so the server's table must stay in step. */
  encode(fields: FieldList): Buffer {
    this.#compressor.write(fields.map(([name, value]) => ({ name, value })));
    return drain(() => this.#compressor.read());
  }

  /** @throws {Error} when the block can't be decoded */
  decode(block: Buffer): [name: string, value: string][] {
    this.#decompressor.write(block);
    this.#decompressor.execute();
    if (this.#fault !== undefined) throw this.#fault;
    const fields: [string, string][] = [];
    for (let field = this.#decompressor.read(); field !== null; field = this.#decompressor.read()) {
      fields.push([field.name, field.value]);
    }
    return fields;
  }
}

/** A header block of literals that leave no trace in any table: may be sent at any time, and kept to be sent again. */
export function encodeLiterals(fields: FieldList): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value] of fields) {
    parts.push(Buffer.of(0), literal(name), literal(value));
  }
  return Buffer.concat(parts);
}

function literal(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  const head: number[] = [];
  // RFC 7541 §5.1: an integer with a prefix of 7 bits; the H bit stays 0
  if (bytes.length < 127) head.push(bytes.length);
  else {
    head.push(127);
    let left = bytes.length - 127;
    for (; left >= 128; left = Math.floor(left / 128)) head.push((left % 128) + 128);
    head.push(left);
  }
  return Buffer.concat([Buffer.from(head), bytes]);
}

function drain(read: () => Buffer | null): Buffer {
  const parts: Buffer[] = [];
  for (let part = read(); part !== null; part = read()) parts.push(part);
  return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
}
