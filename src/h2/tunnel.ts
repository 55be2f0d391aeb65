/**
 * A CONNECT stream (RFC 9113 §8.5) or an extended one (RFC 8441) as the application gets it: a Duplex. What it writes
 * first may be an HTTP/1.1 response head, as on a `'connect'` socket of node:http; it becomes the HEADERS. Without one
 * the tunnel is accepted with 200.
 */
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import type { LiveConnection } from '../core/connection.js';
import { copyOf } from './copy.js';
import { Crumbs } from './crumbs.js';
import { ErrorCode } from './errors.js';
import type { Fate, StreamOwner, StreamUser } from './exchange.js';
import type { RequestHead } from './fields.js';
import { H2Request } from './request.js';
import { FieldList, fieldsOfLines, invalidStatus } from './response-fields.js';
import { SocketView, type Viewed } from './socket-view.js';
import type { Stream } from './stream.js';

/** A response head in HTTP/1.1's form may be this long. */
const MAX_HEAD = 16_384;

const NO_BYTES = Buffer.alloc(0);
const HEAD_BEGIN = Buffer.from('HTTP/1.', 'latin1');
const HEAD_END = '\r\n\r\n';

type Done = (error?: Error | null) => void;

/** The two directions of a tunnel. */
export class H2Tunnel extends Duplex {
  /** The `:protocol` of an extended CONNECT (`'websocket'`), else `undefined`. */
  readonly protocol: string | undefined;
  readonly #user: TunnelUser;

  constructor(user: TunnelUser, protocol: string | undefined) {
    super({ allowHalfOpen: true });
    // As on a socket of HTTP/1.1: what a peer does must not crash an application that doesn't listen.
    this.on('error', () => {});
    this.#user = user;
    this.protocol = protocol;
  }

  /**
   * Answers the CONNECT. Not needed to accept it with 200: writing does that.
   *
   * @param status 2xx makes it a tunnel; anything else refuses it, and what is written then is the answer's body
   * @throws {RangeError} ERR_HTTP_INVALID_STATUS_CODE when the status isn't a final one, from 200 to 999
   * @throws {TypeError} ERR_INVALID_HTTP_TOKEN, ERR_INVALID_CHAR, ERR_HTTP_INVALID_HEADER_VALUE as setHeader()'s
   */
  respond(status: number, headers: Readonly<Record<string, string>> = {}): void {
    if (!Number.isInteger(status) || status < 200 || status > 999) throw invalidStatus(status);
    const list = new FieldList();
    for (const [name, value] of Object.entries(headers)) list.add(name, value);
    this.#user.respond(status, list.items);
  }

  get remoteAddress(): string | undefined {
    return this.#user.connection.remoteAddress;
  }
  get remotePort(): number | undefined {
    return this.#user.connection.remotePort;
  }
  setNoDelay(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  /** Emits `'timeout'` after `ms` without traffic; 0 turns it off. */
  setTimeout(ms: number, listener?: () => void): this {
    if (listener !== undefined) this.once('timeout', listener);
    this.#user.view.setTimeout(ms);
    return this;
  }

  override _read(): void {
    this.#user.wanted();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    this.#user.write(chunk, done);
  }

  override _writev(chunks: readonly { chunk: Buffer }[], done: Done): void {
    const last = chunks.length - 1;
    let failure: Error | null | undefined;
    const failed: Done = (error) => {
      failure ??= error;
    };
    for (let i = 0; i < last && !failure; i++) this.#user.write(chunks[i]?.chunk ?? NO_BYTES, failed);
    if (failure) done(failure);
    else this.#user.write(chunks[last]?.chunk ?? NO_BYTES, done);
  }

  override _final(done: Done): void {
    this.#user.complete();
    done();
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#user.view.destroy(error ?? undefined);
    done(error);
  }
}

/** The stream behind a tunnel. */
export class TunnelUser implements StreamUser, Viewed {
  readonly owner: StreamOwner;
  readonly stream: Stream;
  readonly view: SocketView;
  readonly req: H2Request;
  readonly duplex: H2Tunnel;
  readonly bodyless = true;
  readonly holdsHead = false;
  readonly awaitsContinue = false;
  fate: Fate = 'open';
  responded = false;
  delivered = false;
  over = false;
  /** What was written while it might still be a response head. */
  #head: Buffer | undefined = undefined;
  #uncredited = 0;
  /** END_STREAM has come: the application has all there is. */
  #complete = false;
  /** Of bytes that came faster than they were read. */
  #crumbs: Crumbs | undefined = undefined;

  constructor(owner: StreamOwner, stream: Stream, head: RequestHead) {
    this.owner = owner;
    this.stream = stream;
    this.view = new SocketView(this);
    this.duplex = new H2Tunnel(this, head.protocol);
    this.req = new H2Request(this, head);
    this.req.httpVersionMinor = 0;
    this.req.complete = true;
    if (head.endStream) this.end();
  }

  get method(): string {
    return 'CONNECT';
  }
  get path(): string {
    return this.req.url ?? '';
  }
  get timeout(): number {
    return this.view.timeout;
  }
  get socket(): Socket {
    return this.owner.socket;
  }
  get connection(): LiveConnection {
    return this.owner.connection;
  }
  get queuedBytes(): number {
    return this.stream.queuedBytes;
  }
  get endsByItself(): boolean {
    return this.duplex.writableEnded && !this.responded;
  }

  data(bytes: Buffer): void {
    const { duplex } = this;
    if (Crumbs.wants(duplex, bytes)) {
      this.#crumbs ??= new Crumbs(duplex, () => this.wanted());
      this.#crumbs.keep(bytes);
      this.#uncredited += bytes.length;
      if (this.#crumbs.roomLeft) this.wanted();
      return;
    }
    this.#crumbs?.release();
    this.#uncredited += bytes.length;
    if (duplex.push(copyOf(bytes))) this.wanted();
  }

  wanted(): void {
    if (this.#uncredited === 0) return;
    this.owner.session.consumed(this.stream, this.#uncredited);
    this.#uncredited = 0;
    this.owner.wrote();
  }

  end(): void {
    this.#complete = true;
    this.#crumbs?.release();
    this.duplex.push(null);
  }

  respond(status: number, fields: readonly string[]): void {
    const { session } = this.owner;
    if (this.stream.sending !== 'nothing') return;
    session.beginHeaders(this.stream, status);
    for (let i = 0; i + 1 < fields.length; i += 2) {
      // RFC 9110 §9.3.6
      if (fields[i] === 'content-length' && status < 300) continue;
      session.field(fields[i] as string, fields[i + 1] as string);
    }
    session.endHeaders('open');
    this.owner.wrote();
  }

  write(chunk: Buffer, done: Done): void {
    let bytes: Buffer | undefined = chunk;
    try {
      if (this.stream.sending === 'nothing') bytes = this.#afterHead(chunk);
    } catch (error) {
      // The head may be what somebody else has sent.
      done(error as Error);
      return;
    }
    if (bytes === undefined) {
      done();
      return;
    }
    this.owner.session.write(this.stream, bytes, this.owner.written(done));
    this.owner.wrote();
  }

  /** Takes a response head off the first bytes; `undefined` while it may be going on. */
  #afterHead(chunk: Buffer): Buffer | undefined {
    const bytes = this.#head === undefined ? chunk : Buffer.concat([this.#head, chunk]);
    const compared = Math.min(bytes.length, HEAD_BEGIN.length);
    const isHead = bytes.compare(HEAD_BEGIN, 0, compared, 0, compared) === 0;
    const end = isHead ? bytes.indexOf(HEAD_END) : -1;
    if (isHead && end < 0 && bytes.length < MAX_HEAD) {
      this.#head = bytes;
      return undefined;
    }
    this.#head = undefined;
    if (end < 0) {
      this.respond(200, []);
      return bytes;
    }
    const text = bytes.toString('latin1', 0, end);
    const status = Number(/^HTTP\/1\.[01] ([2-5]\d\d)/.exec(text)?.[1] ?? 500);
    this.respond(status, fieldsOfLines(text.slice(text.indexOf('\r\n') + 2)));
    return bytes.subarray(end + HEAD_END.length);
  }

  complete(): void {
    if (this.stream.sending === 'nothing') this.respond(200, []);
    this.owner.session.endWith(this.stream, this.#head ?? NO_BYTES, (error) => {
      if (error === undefined) this.#framed();
    });
    this.#head = undefined;
    this.owner.wrote();
  }

  #framed(): void {
    if (this.responded || this.fate !== 'open') return;
    this.responded = true;
    this.owner.responded(this);
    this.view.sent();
  }

  finish(): void {}

  writable(): void {}

  reset(_errorCode: number, by: 'peer' | 'local'): void {
    if (this.fate === 'open') this.fate = by === 'peer' ? 'cancelled' : 'malformed';
  }

  closed(): void {
    if (this.fate === 'served') {
      if (!this.responded) {
        this.responded = true;
        this.owner.responded(this);
      }
      if (this.#complete) return;
    }
    this.lost();
  }

  lost(): void {
    this.view.destroyed = true;
    process.nextTick(() => {
      this.duplex.destroy(
        this.fate === 'cancelled' ? undefined : Object.assign(new Error('aborted'), { code: 'ECONNRESET' }),
      );
      this.view.tellClosed();
    });
  }

  destroyed(error: Error | undefined): void {
    const half = this.responded && this.stream.state !== 'closed';
    this.owner.abandon(
      this,
      half ? 'served' : 'aborted',
      error === undefined ? ErrorCode.CANCEL : ErrorCode.CONNECT_ERROR,
    );
  }

  timeoutChanged(): void {
    this.owner.timeoutChanged(this);
  }

  timedOut(): boolean {
    return this.duplex.emit('timeout');
  }
}
