/**
 * Plays a conversation with a Session, frame by frame: a client's frames are built from raw bytes, the session's
 * handler writes down what it is told, and the output is read back by a parser of its own (and hpack.js), as lines
 * such as `HEADERS 1 END_STREAM :status=200`. Nothing here uses the code under test to build or to read bytes.
 */
import hpack from 'hpack.js';
import type { H2Error } from '../../src/h2/errors.js';
import { type RequestHead, Session, type SessionHandler, type SessionOptions } from '../../src/h2/session.js';
import type { Stream } from '../../src/h2/stream.js';

export type FieldList = readonly (readonly [name: string, value: string])[];

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

const ERRORS = [
  'NO_ERROR',
  'PROTOCOL_ERROR',
  'INTERNAL_ERROR',
  'FLOW_CONTROL_ERROR',
  'SETTINGS_TIMEOUT',
  'STREAM_CLOSED',
  'FRAME_SIZE_ERROR',
  'REFUSED_STREAM',
  'CANCEL',
  'COMPRESSION_ERROR',
  'CONNECT_ERROR',
  'ENHANCE_YOUR_CALM',
  'INADEQUATE_SECURITY',
  'HTTP_1_1_REQUIRED',
];

// Frames as a client sends them

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

/** Any frame at all. `length` may lie. */
export function frame(type: number, flags: number, streamId: number, payload: Buffer, length = payload.length): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(streamId >>> 0, 5);
  return Buffer.concat([header, payload]);
}

interface Padding {
  readonly pad?: number;
}

function padded(payload: Buffer, pad: number | undefined): Buffer {
  return pad === undefined ? payload : Buffer.concat([Buffer.from([pad]), payload, Buffer.alloc(pad)]);
}

export function data(
  streamId: number,
  content: string | Buffer,
  options: Padding & { readonly endStream?: boolean } = {},
): Buffer {
  const flags = (options.endStream === true ? 1 : 0) | (options.pad === undefined ? 0 : 8);
  return frame(0, flags, streamId, padded(Buffer.from(content), options.pad));
}

function hpackString(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest >>>= 7) length.push((rest & 127) | 128);
  length.push(rest);
  return Buffer.concat([Buffer.from(length), bytes]);
}

/** A field block of literals without indexing (RFC 7541 §6.2.2): it depends on no table. */
export function block(fields: FieldList): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value] of fields) parts.push(Buffer.from([0]), hpackString(name), hpackString(value));
  return Buffer.concat(parts);
}

interface HeadersOptions extends Padding {
  readonly endStream?: boolean;
  readonly endHeaders?: boolean;
  /** stream dependency, weight */
  readonly priority?: readonly [number, number];
}

/** HEADERS with the given field block, or fields. */
export function headers(streamId: number, fields: FieldList | Buffer, options: HeadersOptions = {}): Buffer {
  let payload = Buffer.isBuffer(fields) ? fields : block(fields);
  let flags = options.endHeaders === false ? 0 : 4;
  if (options.endStream === true) flags |= 1;
  if (options.pad !== undefined) flags |= 8;
  if (options.priority !== undefined) {
    flags |= 0x20;
    payload = Buffer.concat([uint32(options.priority[0]), Buffer.from([options.priority[1]]), payload]);
  }
  return frame(1, flags, streamId, padded(payload, options.pad));
}

export function continuation(streamId: number, fragment: Buffer, endHeaders: boolean): Buffer {
  return frame(9, endHeaders ? 4 : 0, streamId, fragment);
}

export function rstStream(streamId: number, errorCode = 8): Buffer {
  return frame(3, 0, streamId, uint32(errorCode));
}

export function settings(...pairs: readonly (readonly [id: number, value: number])[]): Buffer {
  const payload = pairs.map(([id, value]) => Buffer.concat([Buffer.from([id >> 8, id & 255]), uint32(value)]));
  return frame(4, 0, 0, Buffer.concat(payload));
}

export const SETTINGS_ACK = frame(4, 1, 0, Buffer.alloc(0));

export function ping(opaque = 'abcdefgh', flags = 0): Buffer {
  return frame(6, flags, 0, Buffer.from(opaque));
}

export function goaway(lastStreamId: number, errorCode = 0, debug = ''): Buffer {
  return frame(7, 0, 0, Buffer.concat([uint32(lastStreamId), uint32(errorCode), Buffer.from(debug)]));
}

export function windowUpdate(streamId: number, increment: number): Buffer {
  return frame(8, 0, streamId, uint32(increment));
}

export function priorityUpdate(streamId: number, value: string): Buffer {
  return frame(0x10, 0, 0, Buffer.concat([uint32(streamId), Buffer.from(value)]));
}

/** The fields of a plain request. */
export function request(method = 'GET', path = '/', ...more: FieldList): [string, string][] {
  return [
    [':method', method],
    [':scheme', 'https'],
    [':authority', 'example.com'],
    [':path', path],
    ...more.map(([name, value]): [string, string] => [name, value]),
  ];
}

export function get(streamId: number, ...more: FieldList): Buffer {
  return headers(streamId, request('GET', '/', ...more), { endStream: true });
}

export function post(streamId: number, ...more: FieldList): Buffer {
  return headers(streamId, request('POST', '/', ...more));
}

// Frames as the server sends them

export interface SentFrame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

export function parseFrames(bytes: Buffer): SentFrame[] {
  const frames: SentFrame[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (bytes.length - at < 9) throw new Error('output ends in the middle of a frame header');
    const length = bytes.readUIntBE(at, 3);
    if (bytes.length - at - 9 < length) throw new Error('output ends in the middle of a frame');
    frames.push({
      type: bytes[at + 3] as number,
      flags: bytes[at + 4] as number,
      streamId: bytes.readUInt32BE(at + 5),
      payload: bytes.subarray(at + 9, at + 9 + length),
    });
    at += 9 + length;
  }
  return frames;
}

function errorName(code: number): string {
  return ERRORS[code] ?? String(code);
}

/** Renders frames as lines; field blocks are decoded by hpack.js, in the order in which they were sent. */
export class FrameLines {
  readonly #decompressor = hpack.decompressor.create({ table: { maxSize: 4096 } });
  #pending: Buffer[] = [];

  render({ type, flags, streamId, payload }: SentFrame): string {
    const end = (flags & 1) !== 0 ? ' END_STREAM' : '';
    switch (type) {
      case 0:
        return `DATA ${streamId}${end} ${showContent(payload)}`;
      case 1:
        return `HEADERS ${streamId}${end} ${this.#fields(payload, (flags & 4) !== 0)}`;
      case 3:
        return `RST_STREAM ${streamId} ${errorName(payload.readUInt32BE(0))}`;
      case 4: {
        if ((flags & 1) !== 0) return 'SETTINGS ACK';
        const pairs: string[] = [];
        for (let i = 0; i < payload.length; i += 6) {
          pairs.push(`${payload.readUInt16BE(i)}=${payload.readUInt32BE(i + 2)}`);
        }
        return `SETTINGS ${pairs.join(' ')}`;
      }
      case 6:
        return `PING${(flags & 1) !== 0 ? ' ACK' : ''} ${payload.toString('latin1')}`;
      case 7: {
        const code = errorName(payload.readUInt32BE(4));
        return `GOAWAY ${payload.readUInt32BE(0)} ${code} ${payload.toString('utf8', 8)}`.trimEnd();
      }
      case 8:
        return `WINDOW_UPDATE ${streamId} ${payload.readUInt32BE(0)}`;
      case 9:
        return `CONTINUATION ${streamId} ${this.#fields(payload, (flags & 4) !== 0)}`;
      default:
        throw new Error(`the server sent a frame of type ${type}`);
    }
  }

  #fields(fragment: Buffer, complete: boolean): string {
    this.#pending.push(fragment);
    if (!complete) return '…';
    const whole = Buffer.concat(this.#pending);
    this.#pending = [];
    this.#decompressor.write(whole);
    this.#decompressor.execute();
    const shown: string[] = [];
    for (let field = this.#decompressor.read(); field; field = this.#decompressor.read()) {
      shown.push(`${field.name}=${field.value}`);
    }
    return shown.join(' ');
  }
}

function showContent(content: Buffer): string {
  return content.length > 40 ? `(${content.length})` : JSON.stringify(content.toString('latin1'));
}

// The conversation

/** What a test does when its server is told something. */
export interface Reactions {
  request?(session: Session, stream: Stream, head: RequestHead): void;
  data?(session: Session, stream: Stream, chunk: Buffer): void;
  end?(session: Session, stream: Stream, trailers: string[] | undefined): void;
  writable?(session: Session, stream: Stream): void;
  closed?(session: Session, stream: Stream): void;
  reset?(session: Session, stream: Stream): void;
}

/** A session with a server that writes down what happens, and a client's end of the wire. */
export class Conversation implements SessionHandler {
  readonly session: Session;
  readonly heads = new Map<number, RequestHead>();
  readonly streams = new Map<number, Stream>();
  readonly reasons: string[] = [];
  /** Milliseconds on the session's clock. */
  clock = 0;
  readonly #lines = new FrameLines();
  readonly #reactions: Reactions;
  readonly #events: string[] = [];
  /** DATA of one stream in a row: one event, however it was cut. */
  #chunks: string[] = [];
  #chunksOf = 0;

  constructor(reactions: Reactions = {}, options: Partial<SessionOptions> = {}) {
    this.#reactions = reactions;
    this.session = new Session(this, { now: () => this.clock, ...options });
    this.session.budget = Number.MAX_SAFE_INTEGER;
  }

  /** A conversation past the preface and both SETTINGS; the output so far is left out. */
  static open(reactions: Reactions = {}, options: Partial<SessionOptions> = {}): Conversation {
    const conversation = new Conversation(reactions, options);
    conversation.session.start();
    conversation.send(PREFACE, settings(), SETTINGS_ACK);
    conversation.output();
    return conversation;
  }

  /** Plays the client's bytes to the session. */
  send(...bytes: readonly Buffer[]): this {
    this.session.receive(Buffer.concat(bytes));
    return this;
  }

  /** What the server has sent since the last call. */
  frames(): SentFrame[] {
    return parseFrames(Buffer.concat(this.session.output.take()));
  }

  /** What the server has sent since the last call, as lines. */
  output(): string[] {
    return this.frames().map((sent) => this.#lines.render(sent));
  }

  /** The handler's calls since the last call, as lines. */
  told(): string[] {
    this.#note();
    return this.#events.splice(0);
  }

  #note(event?: string): void {
    if (this.#chunks.length > 0) this.#events.push(`data ${this.#chunksOf} ${this.#chunks.join('')}`);
    this.#chunks = [];
    if (event !== undefined) this.#events.push(event);
  }

  stream(streamId: number): Stream {
    const stream = this.streams.get(streamId);
    if (stream === undefined) throw new Error(`no request on stream ${streamId}`);
    return stream;
  }

  head(streamId: number): RequestHead {
    const head = this.heads.get(streamId);
    if (head === undefined) throw new Error(`no request on stream ${streamId}`);
    return head;
  }

  /** A response head of status 200 without fields. */
  respond(streamId: number, endStream = false, status = 200): Stream {
    const stream = this.stream(streamId);
    this.session.beginHeaders(stream, status);
    this.session.endHeaders(endStream ? 'none' : 'open');
    return stream;
  }

  request(stream: Stream, head: RequestHead): void {
    this.#note(`request ${stream.id} ${head.method} ${head.path}${head.endStream ? ' complete' : ''}`);
    this.heads.set(stream.id, head);
    this.streams.set(stream.id, stream);
    this.#reactions.request?.(this.session, stream, head);
  }
  data(stream: Stream, chunk: Buffer): void {
    if (this.#chunksOf !== stream.id) this.#note();
    this.#chunksOf = stream.id;
    this.#chunks.push(chunk.toString('latin1'));
    this.#reactions.data?.(this.session, stream, chunk);
  }
  end(stream: Stream, trailers: string[] | undefined): void {
    this.#note(`end ${stream.id}${trailers === undefined ? '' : ` ${trailers.join(' ')}`}`);
    this.#reactions.end?.(this.session, stream, trailers);
  }
  reset(stream: Stream, errorCode: number, by: 'peer' | 'local'): void {
    this.#note(`reset ${stream.id} ${errorName(errorCode)} ${by}`);
    this.#reactions.reset?.(this.session, stream);
  }
  writable(stream: Stream): void {
    this.#note(`writable ${stream.id}`);
    this.#reactions.writable?.(this.session, stream);
  }
  closed(stream: Stream): void {
    this.#note(`closed ${stream.id}`);
    this.#reactions.closed?.(this.session, stream);
  }
  malformed(streamId: number, why: string): void {
    this.#note(`malformed ${streamId}`);
    this.reasons.push(why);
  }
  refused(streamId: number): void {
    this.#note(`refused ${streamId}`);
  }
  pong(bytes: Buffer, start: number): void {
    this.#note(`pong ${bytes.toString('latin1', start, start + 8)}`);
  }
  goaway(lastStreamId: number, errorCode: number): void {
    this.#note(`goaway ${lastStreamId} ${errorName(errorCode)}`);
  }
  abuse(kind: string): void {
    this.#note(`abuse ${kind}`);
  }
  readLater(ms: number): void {
    this.#note(`read later in ${ms} ms`);
  }
  failed(error: H2Error): void {
    this.#note(`failed ${error.code}`);
  }
}
