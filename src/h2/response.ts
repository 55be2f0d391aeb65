/**
 * The answer on a stream, as http.ServerResponse. Setting and checking fields is node:http's; from the point where it
 * would format HTTP/1.1, the functions here hand the session what is meant instead. Frameworks replace the prototype of
 * responses, so they are own properties. Events after the last byte are exchange.ts's.
 */
import { AsyncResource } from 'node:async_hooks';
// The globals of these names are looked up anew each time.
import { Buffer } from 'node:buffer';
import { ServerResponse } from 'node:http';
import process from 'node:process';
import { httpDate } from './date.js';
import type { CorkedChunk, Exchange } from './exchange.js';
import { kCorked, kNeedDrain, kOutHeaders, type ResponseInternals } from './message-internals.js';
import { type H2Request, kExchange } from './request.js';
import { FieldList, fieldsOfLines, invalidStatus } from './response-fields.js';

type Callback = (error?: Error | null) => void;
type Chunk = string | Uint8Array;

const EMPTY = Buffer.alloc(0);

const native = ServerResponse.prototype;

function toBuffer(chunk: Chunk, encoding: BufferEncoding | null | undefined): Buffer {
  if (typeof chunk === 'string') return Buffer.from(chunk, encoding ?? 'utf8');
  if (Buffer.isBuffer(chunk)) return chunk;
  return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
}

function lengthMismatch(length: number, expected: number): Error & { code: string } {
  const error = new Error(
    `Response body's content-length of ${length} byte(s) does not match the content-length of ${expected} byte(s) set in header`,
  );
  return Object.assign(error, { code: 'ERR_HTTP_CONTENT_LENGTH_MISMATCH' });
}

/** The list that the last head was collected in, to be used again; `undefined` while it is in use. */
let spareList: FieldList | undefined = new FieldList();

/** Adds the fields of every form that writeHead() takes. */
function collect(list: FieldList, res: H2Response, headers: unknown): void {
  if (headers === null || typeof headers !== 'object') return;
  if (headers === res[kOutHeaders]) {
    const set = res[kOutHeaders];
    for (const key in set) {
      const entry = set[key];
      if (entry !== undefined) list.add(key, entry[1]);
    }
  } else if (Array.isArray(headers)) {
    const [first] = headers as unknown[];
    if (Array.isArray(first)) {
      for (const [name, value] of headers as [string, unknown][]) list.add(name, value);
    } else {
      if (headers.length % 2 !== 0) {
        const error = new TypeError('writeHead() takes raw headers as names and values in turn');
        throw Object.assign(error, { code: 'ERR_INVALID_ARG_VALUE' });
      }
      for (let i = 0; i < headers.length; i += 2) list.add(headers[i] as string, headers[i + 1]);
    }
  } else {
    for (const key of Object.keys(headers)) list.add(key, (headers as Record<string, unknown>)[key]);
  }
}

/**
 * Checks the head and encodes it; every way to write one ends here. As over HTTP/1.1, one without a body goes out with the
 * end, or when it is asked for: its client needn't wait for an end that comes behind it, and may leave when it has it.
 */
function storeHeader(this: H2Response, firstLine: string, headers: unknown): void {
  const status = this.statusCode;
  if (status < 200) throw invalidStatus(status);
  // Everything is checked before the first byte is encoded: a head that was begun can't be taken back.
  const list = spareList ?? new FieldList();
  spareList = undefined;
  list.clear();
  const exchange = this[kExchange];
  const isHead = exchange.stream.withoutBody;
  try {
    collect(list, this, headers);
  } catch (error) {
    // There may be another head, for which node:http has a body no more.
    this._hasBody = !isHead;
    throw error;
  }
  if (list.contentLength >= 0) {
    const isWhole = exchange.rest !== 'open' && this._hasBody;
    if (isWhole && this.strictContentLength && this._contentLength !== list.contentLength)
      throw lengthMismatch(this._contentLength ?? 0, list.contentLength);
    this._contentLength = list.contentLength;
    this._removedContLen = false;
  } else if (this._hasBody && !list.hasTrailer && this._trailer === '' && !this._removedContLen) {
    const length = this._contentLength;
    if (typeof length === 'number') list.put('content-length', String(length));
  }
  this._header = firstLine;
  this._headerSent = true;
  const withoutBody = isHead || status === 204 || status === 304;
  if (exchange.rest === 'open' && withoutBody) exchange.held = { status, list };
  else encodeHead(this, status, list);
}

/** A head that is checked, and waits. */
export interface Head {
  readonly status: number;
  readonly list: FieldList;
}

function encodeHead(res: H2Response, status: number, list: FieldList): void {
  const exchange = res[kExchange];
  const { session } = exchange.owner;
  session.beginHeaders(exchange.stream, status);
  if (res.sendDate && !list.hasDate) session.field('date', httpDate());
  const { items, size } = list;
  // Clients hold an end that doesn't come with its head to the length that the head says. (RFC 9110 §8.6)
  const endsLater = exchange.rest === 'open' && (status === 204 || status === 304);
  for (let i = 0; i < size; i += 2) {
    if (endsLater && items[i] === 'content-length') continue;
    session.field(items[i] as string, items[i + 1] as string);
  }
  session.endHeaders(exchange.rest);
  spareList = list;
  exchange.owner.wrote();
}

function sendHeld(res: H2Response): void {
  const exchange = res[kExchange];
  const { held } = exchange;
  exchange.held = undefined;
  if (held !== undefined) encodeHead(res, held.status, held.list);
}

/** node:http's own functions send body bytes through this one, and flushHeaders() none. */
function send(
  this: H2Response,
  data: Chunk,
  encoding?: BufferEncoding | Callback | null,
  callback?: Callback | null,
): boolean {
  const done = typeof encoding === 'function' ? encoding : callback;
  const bytes = toBuffer(data, typeof encoding === 'function' ? undefined : encoding);
  sendHeld(this);
  return sendBytes(this, bytes, done);
}

function sendBytes(res: H2Response, bytes: Buffer, callback: Callback | null | undefined): boolean {
  const exchange = res[kExchange];
  const done = typeof callback === 'function' ? exchange.owner.written(AsyncResource.bind(callback)) : undefined;
  if (res[kCorked] > 0) {
    exchange.corked ??= [];
    exchange.corked.push({ bytes, done });
    exchange.corkedBytes += bytes.length;
    return exchange.queuedBytes <= exchange.view.writableHighWaterMark;
  }
  const more = exchange.owner.session.write(exchange.stream, bytes, done);
  exchange.owner.wrote();
  return more;
}

/** What was corked goes to the session, which fails it if its stream is over. */
export function sendCorked(exchange: Exchange): void {
  const chunks: CorkedChunk[] | undefined = exchange.corked;
  if (chunks === undefined) return;
  exchange.corked = undefined;
  exchange.corkedBytes = 0;
  for (const { bytes, done } of chunks) exchange.owner.session.write(exchange.stream, bytes, done);
  exchange.owner.wrote();
}

/** node:http formats interim responses and passes them here. */
function writeRaw(this: H2Response, data: Chunk, _encoding?: unknown, callback?: Callback | null): boolean {
  const text = typeof data === 'string' ? data : toBuffer(data, undefined).toString('latin1');
  const lineEnd = text.indexOf('\r\n');
  const status = Number(/^HTTP\/1\.1 (1\d\d) /.exec(text)?.[1]);
  const exchange = this[kExchange];
  // RFC 9113 §8.6: there is no 101.
  if (status === 101 || Number.isNaN(status)) throw invalidStatus(status);
  exchange.owner.session.informational(exchange.stream, status, fieldsOfLines(text.slice(lineEnd + 2)));
  if (status === 100) exchange.awaitsContinue = false;
  exchange.owner.wrote();
  if (typeof callback === 'function') process.nextTick(callback);
  return true;
}

function write(
  this: H2Response,
  chunk: Chunk,
  encoding?: BufferEncoding | Callback | null,
  callback?: Callback,
): boolean {
  const isBytes = typeof chunk === 'string' || chunk instanceof Uint8Array;
  // Its errors, and the rules of strictContentLength, are node:http's.
  if (!isBytes || this.finished || this.destroyed || this.strictContentLength) {
    return native.write.call(this, chunk, encoding as BufferEncoding, callback);
  }
  const done = typeof encoding === 'function' ? encoding : callback;
  if (this._header === null) this._implicitHeader();
  if (!this._hasBody) {
    if (typeof done === 'function') process.nextTick(done);
    return true;
  }
  const more = sendBytes(this, toBuffer(chunk, typeof encoding === 'function' ? undefined : encoding), done);
  if (!more) this[kNeedDrain] = true;
  return more;
}

function end(
  this: H2Response,
  chunkOrCallback?: Chunk | Callback | null,
  encodingOrCallback?: BufferEncoding | Callback | null,
  lastCallback?: Callback,
): H2Response {
  let chunk: Chunk | undefined;
  let encoding: BufferEncoding | undefined;
  let callback = lastCallback;
  if (typeof chunkOrCallback === 'function') callback = chunkOrCallback;
  else chunk = chunkOrCallback ?? undefined;
  if (typeof encodingOrCallback === 'function') callback = encodingOrCallback;
  else encoding = encodingOrCallback ?? undefined;

  if (this.finished) {
    native.end.call(this, chunk, encoding as BufferEncoding, callback);
    return this;
  }
  // node:http checks the chunk and makes the error.
  if (chunk && typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) native.write.call(this, chunk, 'utf8');
  if (this.destroyed) {
    this.finished = true;
    // Most don't ask, and after a flood of resets there are many; an error costs more than all the rest.
    if (callback !== undefined) process.nextTick(callback, endAfterDestroy());
    return this;
  }

  const exchange = this[kExchange];
  const { session } = exchange.owner;
  const { stream } = exchange;
  const bytes = chunk ? toBuffer(chunk, encoding) : EMPTY;
  if (this.strictContentLength) checkLength(this, bytes.length);
  if (this._header === null) {
    this._contentLength = bytes.length;
    exchange.rest = bytes.length === 0 && this._trailer === '' ? 'none' : 'said';
    try {
      this._implicitHeader();
    } catch (error) {
      // There may be another answer, with a body.
      this._contentLength = null;
      exchange.rest = 'open';
      throw error;
    }
  }
  if (exchange.held !== undefined) {
    exchange.rest = 'none';
    sendHeld(this);
  }
  if (callback !== undefined) this.once('finish', callback);
  this[kCorked] = 0;
  sendCorked(exchange);
  this.finished = true;
  if (this._trailer !== '') {
    if (bytes.length > 0) session.write(stream, bytes);
    session.end(stream, fieldsOfLines(this._trailer));
  } else if (stream.sending === 'body') {
    session.endWith(stream, bytes);
  }
  this._finish();
  exchange.ended();
  exchange.owner.wrote();
  return this;
}

function endAfterDestroy(): Error {
  return Object.assign(new Error('Cannot call end after a stream was destroyed'), { code: 'ERR_STREAM_DESTROYED' });
}

/** node:http's rule for strictContentLength, at the end of a response. */
function checkLength(res: H2Response, last: number): void {
  const written = res[kExchange].stream.bytesSent + res[kExchange].queuedBytes + last;
  if (res._contentLength === null || !res._hasBody || res._removedContLen) return;
  if (written !== res._contentLength) throw lengthMismatch(written, res._contentLength);
}

function cork(this: H2Response): void {
  this[kCorked]++;
}

function uncork(this: H2Response): void {
  if (this[kCorked] === 0) return;
  this[kCorked]--;
  if (this[kCorked] > 0) return;
  const exchange = this[kExchange];
  sendCorked(exchange);
  // Of what was too much while it was corked, the session may have kept so little that it tells of no room.
  if (this[kNeedDrain] && !exchange.stream.needsDrain) process.nextTick(drained, this);
}

export interface H2Response extends ResponseInternals {}

// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: the interface only names what ServerResponse really has
export class H2Response extends ServerResponse {
  declare readonly [kExchange]: Exchange;

  constructor(req: H2Request, exchange: Exchange) {
    super(req);
    // V8 makes room in the object for what it sees assigned to `this`.
    (this as { [kExchange]: Exchange })[kExchange] = exchange;
    (this as { socket: unknown }).socket = exchange.view;
    this._storeHeader = storeHeader;
    this._send = send;
    this._writeRaw = writeRaw;
    (this as { write: unknown }).write = write;
    (this as { end: unknown }).end = end;
    (this as { cork: unknown }).cork = cork;
    (this as { uncork: unknown }).uncork = uncork;
  }
}

/** The queue has room again. */
export function drained(res: H2Response): void {
  if (!res[kNeedDrain] || res.finished || res.destroyed) return;
  res[kNeedDrain] = false;
  res.emit('drain');
}
