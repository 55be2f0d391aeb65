/**
 * One request and its answer on one stream: what the session tells of the stream becomes the events of the request and
 * the response, in the order node:http has them, and how it ended is decided here. What goes out is response.ts's; the
 * counting is the connection's.
 */
import type { AsyncResource } from 'node:async_hooks';
import type { Socket } from 'node:net';
// The global of this name is looked up anew each time.
import process from 'node:process';
import type { LiveConnection } from '../core/connection.js';
import { endUnnoticed, hasNoListeners } from '../http-internals.js';
import { copyOf } from './copy.js';
import { Crumbs } from './crumbs.js';
import { ErrorCode } from './errors.js';
import type { RequestHead } from './fields.js';
import { markFinished } from './message-internals.js';
import { H2Request } from './request.js';
import { drained, H2Response, type Head, sendCorked } from './response.js';
import type { Session } from './session.js';
import { SocketView, type Viewed } from './socket-view.js';
import type { Framed, Rest, Stream } from './stream.js';

/** How a request of the application has ended; `'open'`: it hasn't. */
export type Fate = 'open' | 'served' | 'cancelled' | 'malformed' | 'aborted';

/** Who has a stream: what the connection tells it, and what it asks of it. */
export interface StreamUser {
  readonly stream: Stream;
  readonly method: string;
  readonly path: string;
  fate: Fate;
  /** END_STREAM of the answer has been framed. */
  responded: boolean;
  /** The answer has been written to the socket, which was done with it. */
  delivered: boolean;
  /** The stream is closed, and `fate` final. */
  over: boolean;
  /** Its head is kept for its end: the answer has begun, though nothing of it is sent. */
  readonly holdsHead: boolean;
  /** Its client waits for a 100 (Continue) before it sends the body. */
  readonly awaitsContinue: boolean;
  /** The application reads the request no further. */
  readonly readsNoMore?: boolean;
  /** ms without traffic after which the application wants to know; 0: never. */
  readonly timeout: number;
  /** The bytes are there during the call only. */
  data(bytes: Buffer): void;
  end(trailers: string[] | undefined): void;
  reset(errorCode: number, by: 'peer' | 'local'): void;
  writable(): void;
  /** The answer is complete, the request goes on. */
  framed?(): void;
  /** The stream is over; `fate` says how. */
  closed(): void;
  /** The answer has been written out. */
  finish(): void;
  /** The answer was framed, but the connection closed before it was written out. */
  lost(): void;
  /** There was no traffic for `timeout` ms. False: nobody listened. */
  timedOut(): boolean;
}

/** What streams ask of their connection. */
export interface StreamOwner {
  readonly session: Session;
  readonly socket: Socket;
  readonly connection: LiveConnection;
  /** The session has output, or may have. */
  wrote(): void;
  /** What to give the session with bytes: `callback` is called when the socket has taken them, or with an error. */
  written(callback: Framed): Framed;
  /** `user.responded` has become true: its `finish()` is to be called, or `lost()`. */
  responded(user: StreamUser): void;
  /** Ends a stream from our side, counted as `fate`. */
  abandon(user: StreamUser, fate: Fate, errorCode: number): void;
  timeoutChanged(user: StreamUser): void;
}

/** Body bytes that wait for uncork(). */
export interface CorkedChunk {
  readonly bytes: Buffer;
  readonly done: Framed | undefined;
}

function connectionReset(): Error {
  return Object.assign(new Error('aborted'), { code: 'ECONNRESET' });
}

export class Exchange implements StreamUser, Viewed {
  readonly owner: StreamOwner;
  readonly stream: Stream;
  readonly view: SocketView;
  readonly req: H2Request;
  readonly res: H2Response;
  /** Neither body nor trailers follow the request's head. */
  readonly bodyless: boolean;
  fate: Fate = 'open';
  responded = false;
  delivered = false;
  over = false;
  awaitsContinue = false;
  /** What comes behind the head that is stored next. */
  rest: Rest = 'open';
  /** A head that waits for the end, as no body comes behind it. */
  held: Head | undefined = undefined;
  corked: CorkedChunk[] | undefined = undefined;
  corkedBytes = 0;
  /** Body bytes handed to the request, but not yet wanted by the application. */
  #uncredited = 0;
  /** Of a body that came faster than it was read. */
  #crumbs: Crumbs | undefined = undefined;
  /** The async context that the application got the request in; its later events belong there, too. */
  #context: AsyncResource | undefined = undefined;

  constructor(owner: StreamOwner, stream: Stream, head: RequestHead) {
    this.owner = owner;
    this.stream = stream;
    this.bodyless = head.endStream;
    this.view = new SocketView(this);
    this.req = new H2Request(this, head);
    this.res = new H2Response(this.req, this);
    this.req.httpVersionMinor = 0;
  }

  get method(): string {
    return this.req.method ?? '';
  }
  get path(): string {
    return this.req.url ?? '';
  }
  get timeout(): number {
    return this.view.timeout;
  }
  get readsNoMore(): boolean {
    return this.req.destroyed;
  }
  get socket(): Socket {
    return this.owner.socket;
  }
  get connection(): LiveConnection {
    return this.owner.connection;
  }

  /** The context that the host gave the request to the application in. */
  within(context: AsyncResource): void {
    this.#context = context;
  }

  // The request

  data(bytes: Buffer): void {
    const { req } = this;
    if (req._dumped || req.destroyed) {
      // Until it is answered, as much of what nobody reads may come as of what nobody has read yet.
      if (req._dumped || this.responded) this.owner.session.consumed(this.stream, bytes.length);
      return;
    }
    const context = this.#context;
    if (Crumbs.wants(req, bytes)) {
      this.#crumbs ??= new Crumbs(req, () => this.wanted(), context);
      this.#crumbs.keep(bytes);
      this.#uncredited += bytes.length;
      if (this.#crumbs.roomLeft) this.wanted();
      return;
    }
    this.#releaseCrumbs();
    this.#uncredited += bytes.length;
    const chunk = copyOf(bytes);
    const more = context === undefined ? req.push(chunk) : context.runInAsyncScope(req.push, req, chunk);
    if (more) this.wanted();
  }

  /** The application takes more of the body: the peer may send as much as it has taken. */
  wanted(): void {
    if (this.#uncredited === 0) return;
    this.owner.session.consumed(this.stream, this.#uncredited);
    this.#uncredited = 0;
    this.owner.wrote();
  }

  end(trailers: string[] | undefined): void {
    const { req } = this;
    req.complete = true;
    if (trailers !== undefined && trailers.length > 0) req._addHeaderLines(trailers, trailers.length);
    if (req.destroyed) return;
    this.#releaseCrumbs();
    const context = this.#context;
    if (context === undefined) this.#endRequest();
    else context.runInAsyncScope(this.#endRequest, this);
  }

  #endRequest(): void {
    const { req } = this;
    req.push(null);
    if (!req._dumped) return;
    // It was answered before: nobody has it flow, and whoever waits for its end is told of it.
    req._dumped = false;
    this.#discardRequest();
  }

  /** Whatever is pushed may have 'readable' emitted. */
  #releaseCrumbs(): void {
    const crumbs = this.#crumbs;
    if (crumbs === undefined) return;
    if (this.#context === undefined) crumbs.release();
    else this.#context.runInAsyncScope(crumbs.release, crumbs);
  }

  // The response

  get queuedBytes(): number {
    return this.stream.queuedBytes + this.corkedBytes;
  }
  get endsByItself(): boolean {
    return this.res.finished && !this.responded;
  }
  get holdsHead(): boolean {
    return this.held !== undefined;
  }

  writable(): void {
    const context = this.#context;
    if (context === undefined) drained(this.res);
    else context.runInAsyncScope(drained, undefined, this.res);
  }

  /** The application has ended the response; all of it may be framed already. */
  ended(): void {
    if (this.stream.sending === 'ended' && this.fate === 'open') this.framed();
  }

  /** END_STREAM is framed. */
  framed(): void {
    if (this.responded) return;
    this.responded = true;
    this.owner.responded(this);
    this.view.sent();
  }

  finish(): void {
    const context = this.#context;
    if (context === undefined || (hasNoListeners(this.res) && hasNoListeners(this.req))) this.#finish();
    else context.runInAsyncScope(this.#finish, this);
  }

  #finish(): void {
    const { req, res } = this;
    markFinished(res);
    res.emit('finish');
    // As node:http does: what nobody reads must not keep the request open.
    if (!req._consuming && !req._readableState.resumeScheduled) this.#discardRequest();
    if (hasNoListeners(res)) markClosed(res);
    else process.nextTick(emitClose, res);
  }

  #discardRequest(): void {
    const { req } = this;
    if (!req.complete && this.fate === 'open') {
      req._dumped = true;
      return;
    }
    if (!hasNoListeners(req)) {
      if (this.bodyless && !req._readableState.ended) req.push(null);
      req._dump();
      return;
    }
    endUnnoticed(req);
  }

  // The stream

  reset(_errorCode: number, by: 'peer' | 'local'): void {
    if (this.fate !== 'open') return;
    if (this.responded) this.fate = 'served';
    else this.fate = by === 'peer' ? 'cancelled' : 'malformed';
  }

  closed(): void {
    if (this.fate === 'served') {
      this.framed();
      if (this.req.complete) return;
    }
    this.#cutShort();
  }

  lost(): void {
    this.#cutShort();
  }

  #cutShort(): void {
    this.view.destroyed = true;
    // Whoever waits for what they wrote learns that it is lost.
    sendCorked(this);
    if (this.fate !== 'served') this.res.destroyed = true;
    const context = this.#context;
    if (context === undefined) process.nextTick(emitAborted, this);
    else context.runInAsyncScope(process.nextTick, process, emitAborted, this);
  }

  /** The stream ended before both messages were complete. */
  aborted(): void {
    const { req, res, view } = this;
    if (!req.destroyed) {
      if (req.listenerCount('error') > 0) req.destroy(connectionReset());
      else req.destroy();
    }
    if (this.fate !== 'served') emitClose(res);
    view.tellClosed();
  }

  // The view

  destroyed(error: Error | undefined): void {
    // A response that is complete stays so; the client is only asked to stop its request. (RFC 9113 §8.1)
    if (this.responded) this.owner.abandon(this, 'served', ErrorCode.NO_ERROR);
    else this.owner.abandon(this, 'aborted', error === undefined ? ErrorCode.CANCEL : ErrorCode.INTERNAL_ERROR);
  }

  timeoutChanged(): void {
    this.owner.timeoutChanged(this);
  }

  timedOut(): boolean {
    const context = this.#context;
    return context === undefined ? this.#timedOut() : context.runInAsyncScope(this.#timedOut, this);
  }

  #timedOut(): boolean {
    const { req, res, view } = this;
    const byRequest = !req.complete && req.emit('timeout', view);
    const byResponse = res.emit('timeout', view);
    const byView = view.emit('timeout');
    return byRequest || byResponse || byView;
  }
}

function markClosed(res: H2Response): void {
  res.destroyed = true;
  res._closed = true;
}

function emitClose(res: H2Response): void {
  if (res._closed) return;
  markClosed(res);
  res.emit('close');
}

function emitAborted(exchange: Exchange): void {
  exchange.aborted();
}
