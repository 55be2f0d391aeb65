/**
 * What the session tells of streams becomes requests (exchange.ts) and tunnels (tunnel.ts) of the application, and each
 * of them is counted, once: when its stream is over and, if it was answered, the answer has been written out. The socket
 * and the life of the connection are connection.ts's.
 */
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { LiveConnection } from '../core/connection.js';
import type { RequestEvent } from '../core/host.js';
import type { Limit } from '../core/limits.js';
import { rethrow } from '../core/rethrow.js';
import { now } from '../core/timing.js';
import type { H2Context } from './connection.js';
import { ErrorCode, type H2Error } from './errors.js';
import { Exchange, type Fate, type StreamOwner, type StreamUser } from './exchange.js';
import { isMisdirected } from './misdirected.js';
import { type RequestHead, Session, type SessionHandler } from './session.js';
import type { Framed, Stream } from './stream.js';
import { TunnelUser } from './tunnel.js';
import { type Tracked, Wire, type WireEvents } from './wire.js';

/** What the requests of a connection tell it. */
export interface RequestsEvents {
  /** A request has begun. */
  busy(): void;
  /** A request has ended, or what was written is out: whoever waits for that should look. */
  progressed(): void;
  writtenOut(): void;
  /** The application wants to know of a silence of `ms` on a stream. */
  watch(ms: number): void;
  pong(bytes: Buffer, start: number): void;
  /** The client says that it is about to leave, or misbehaves: the connection is to be drained. */
  drainWanted(): void;
  /** What the client sends next is to be read in so many ms. */
  readLater(ms: number): void;
  /** A connection error of the peer's. */
  failed(error: H2Error): void;
}

/** Calls back when bytes are the application's again. */
class Callback implements Tracked {
  readonly #callback: Framed;

  constructor(callback: Framed) {
    this.#callback = callback;
  }

  wrote(): void {}

  writtenOut(): void {
    try {
      this.#callback();
    } catch (error) {
      rethrow(error);
    }
  }

  lost(): void {
    const error = new Error('the connection was closed before this was written');
    process.nextTick(this.#callback, Object.assign(error, { code: 'ERR_STREAM_DESTROYED' }));
  }
}

const NO_BYTES = Buffer.alloc(0);

export class Requests implements SessionHandler, StreamOwner, WireEvents {
  readonly connection: LiveConnection;
  readonly socket: Socket;
  readonly session: Session;
  readonly wire: Wire;
  readonly #context: H2Context;
  readonly #events: RequestsEvents;
  /**
   * The request that was read last. The application gets it with the next one, with the next DATA or trailers, or at the
   * end of the read: if what comes right behind it resets it, nobody has to work for it (CVE-2023-44487, CVE-2025-8671).
   */
  #last: Stream | undefined = undefined;
  #lastHead: RequestHead | undefined = undefined;
  /** How it ends unless the application gets it. */
  #lastFate: 'cancelled' | 'malformed' | 'refused' | 'aborted' = 'aborted';

  constructor(connection: LiveConnection, socket: Socket, context: H2Context, events: RequestsEvents) {
    this.connection = connection;
    this.socket = socket;
    this.#context = context;
    this.#events = events;
    this.session = new Session(this, context.settings.session);
    this.wire = new Wire(socket, this.session, this);
  }

  /** Those whose stream is open, as far as the application has got them. */
  *users(): Iterable<StreamUser> {
    for (const stream of this.session.streams.values()) {
      if (stream.owner !== undefined) yield stream.owner as StreamUser;
    }
  }

  // Requests: the session's calls. A listener's exception must not pass through the session.

  request(stream: Stream, head: RequestHead): void {
    const before = this.#last;
    const headBefore = this.#lastHead;
    this.#last = stream;
    this.#lastHead = head;
    this.connection.began(head.authority, stream.openedAt);
    this.#events.busy();
    if (before !== undefined) this.#handOver(before, headBefore as RequestHead);
  }

  handOver(): void {
    const stream = this.#last;
    if (stream === undefined) return;
    const head = this.#lastHead as RequestHead;
    this.#last = undefined;
    this.#lastHead = undefined;
    this.#handOver(stream, head);
  }

  #handOver(stream: Stream, head: RequestHead): void {
    if (head.method === 'CONNECT') {
      this.#connect(stream, head);
      return;
    }
    const exchange = new Exchange(this, stream, head);
    stream.owner = exchange;
    const { timeout, misdirected } = this.#context.settings;
    if (timeout > 0) exchange.view.setTimeout(timeout);
    if (misdirected && isMisdirected(this.socket as TLSSocket, head.authority)) {
      exchange.res.writeHead(421).end();
      return;
    }
    const event = this.#eventOf(exchange, head);
    if (event === undefined) return;
    exchange.awaitsContinue = event === 'checkContinue';
    exchange.within(this.#context.host.request(this.connection, event, exchange.req, exchange.res));
  }

  /** RFC 9110 §10.1.1: which event a request is; `undefined` when it has been answered. */
  #eventOf(exchange: Exchange, head: RequestHead): RequestEvent | undefined {
    const { host } = this.#context;
    if (head.expectContinue) {
      if (host.listensFor('checkContinue')) return 'checkContinue';
      exchange.res.writeContinue();
      return 'request';
    }
    if (!head.rawHeaders.includes('expect') || exchange.req.headers.expect === undefined) return 'request';
    if (host.listensFor('checkExpectation')) return 'checkExpectation';
    exchange.res.writeHead(417).end();
    return undefined;
  }

  #connect(stream: Stream, head: RequestHead): void {
    const user = new TunnelUser(this, stream, head);
    stream.owner = user;
    const { host } = this.#context;
    try {
      if (host.listensFor('connect') && host.upgrade(this.connection, 'connect', user.req, user.duplex, NO_BYTES))
        return;
    } catch (error) {
      rethrow(error);
    }
    user.respond(501, ['content-length', '0']);
    user.complete();
    this.abandon(user, 'served', ErrorCode.NO_ERROR);
  }

  data(stream: Stream, chunk: Buffer): void {
    try {
      (stream.owner as StreamUser).data(chunk);
    } catch (error) {
      rethrow(error);
    }
  }

  end(stream: Stream, trailers: string[] | undefined): void {
    try {
      (stream.owner as StreamUser).end(trailers);
    } catch (error) {
      rethrow(error);
    }
  }

  writable(stream: Stream): void {
    try {
      (stream.owner as StreamUser).writable();
    } catch (error) {
      rethrow(error);
    }
  }

  sentEnd(stream: Stream): void {
    (stream.owner as StreamUser).framed?.();
  }

  reset(stream: Stream, errorCode: number, by: 'peer' | 'local'): void {
    if (stream !== this.#last) (stream.owner as StreamUser).reset(errorCode, by);
    else if (this.#lastFate === 'aborted') this.#lastFate = by === 'peer' ? 'cancelled' : 'malformed';
  }

  closed(stream: Stream): void {
    if (stream === this.#last) {
      this.#lastEnded(stream, this.#lastHead as RequestHead);
      return;
    }
    const user = stream.owner as StreamUser;
    if (user.fate === 'open') user.fate = 'served';
    user.closed();
    user.over = true;
    if (user.fate !== 'served' || user.delivered) this.#count(user);
  }

  /** What the application has not got yet it won't get: its client may send it again. */
  refuseLast(): void {
    if (this.#last === undefined) return;
    this.#lastFate = 'refused';
    this.session.reset(this.#last, ErrorCode.REFUSED_STREAM);
  }

  /** The last one has ended, and the application will never know of it. */
  #lastEnded({ openedAt }: Stream, { method, path }: RequestHead): void {
    const fate = this.#lastFate;
    this.#last = undefined;
    this.#lastHead = undefined;
    this.#lastFate = 'aborted';
    if (fate === 'aborted') this.connection.aborted(method, path, openedAt);
    else this.connection.ended(fate);
    this.#events.progressed();
  }

  malformed(): void {
    this.connection.counts.malformed++;
  }

  refused(): void {
    this.connection.counts.refused++;
  }

  pong(bytes: Buffer, start: number): void {
    this.#events.pong(bytes, start);
  }

  goaway(): void {
    this.#events.drainWanted();
  }

  limited(limit: Limit): void {
    this.connection.limited(limit);
  }

  abuse(): void {
    this.#events.drainWanted();
  }

  readLater(ms: number): void {
    this.#events.readLater(ms);
  }

  failed(error: H2Error): void {
    this.markCut();
    this.#events.failed(error);
  }

  // What streams ask for

  wrote(): void {
    this.wire.schedule();
  }

  responded(user: StreamUser): void {
    this.wire.follow(user);
    this.wire.schedule();
    this.#events.progressed();
  }

  abandon(user: StreamUser, fate: Fate, errorCode: number): void {
    if (user.fate === 'open') user.fate = fate;
    this.session.reset(user.stream, errorCode);
    this.wire.schedule();
  }

  written(callback: Framed): Framed {
    return (error) => {
      if (error === undefined) this.wire.track(new Callback(callback));
      else process.nextTick(callback, error);
    };
  }

  timeoutChanged(user: StreamUser): void {
    this.#events.watch(user.timeout);
  }

  // Accounting

  delivered(user: StreamUser, at: number): void {
    user.delivered = true;
    // One that was cut or cancelled meanwhile was counted when its stream closed.
    if (user.over && user.fate === 'served') this.#count(user, at);
    try {
      user.finish();
    } catch (error) {
      rethrow(error);
    }
  }

  writtenOut(): void {
    this.#events.writtenOut();
  }

  /** The session is about to close every stream, because the connection is at its end: what isn't answered is cut. */
  markCut(): void {
    for (const user of this.users()) {
      if (user.fate === 'open') user.fate = user.responded || user.stream.sending === 'ended' ? 'served' : 'aborted';
    }
  }

  /** The socket is closed: what is open, or answered but not written out, never will be. */
  gone(): void {
    this.markCut();
    this.session.destroy();
    for (const user of this.wire.closed()) {
      user.lost();
      if (user.fate !== 'served') continue;
      user.fate = 'aborted';
      if (user.over) this.#count(user);
    }
  }

  #count(user: StreamUser, at = now()): void {
    const { connection } = this;
    if (user.fate === 'aborted') connection.aborted(user.method, user.path, user.stream.openedAt);
    else if (user.fate !== 'open') connection.ended(user.fate, at);
    this.#events.progressed();
  }
}
