/**
 * HTTP/1.1 on one connection: which answer says `Connection: close`, what is refused, and the phases of a drain. Parsing
 * and framing are node:http's; the timers that its unlistening server doesn't run are in timeouts.ts, and what ends HTTP
 * behind the last request in upgrade.ts and refusal.ts.
 *
 * Pipelined requests reach the application one at a time (pipeline.ts), each when the one before has been answered. So no
 * handler runs for a request that comes after the answer with `close`, and `close` can go on the very last one.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { claimSocket, ignore, type LiveConnection } from '../core/connection.js';
import type { DrainTerms, Driver } from '../core/driver.js';
import type { RequestEvent, RequestHost } from '../core/host.js';
import type { KeepAliveSettings } from '../core/keep-alive.js';
import { LingeringClose } from '../core/linger.js';
import { type DrainSettings, drain } from '../core/shutdown.js';
import { now } from '../core/timing.js';
import {
  advertiseKeepAlive,
  cutBody,
  discardBody,
  formattedHead,
  isRead,
  isSilenced,
  onMessageBegin,
  responseOn,
  sendHead,
} from '../http-internals.js';
import { bytesTaken, type ResetWatcher, watchForReset } from '../socket-internals.js';
import { Backlog, type Reader } from './backlog.js';
import { abandon, Exchange, type ExchangeOwner, exchangeOf } from './exchange.js';
import { IdleTime } from './idle.js';
import { markFormattedHead } from './mark.js';
import type { H1Settings } from './options.js';
import { Pipeline, type PipelineOwner } from './pipeline.js';
import { limitBehind, Refusal, refusalFor, requestTimeoutError } from './refusal.js';
import { Tail } from './tail.js';
import { type Awaited, type Timed, Timeouts } from './timeouts.js';
import { forwardDrain, Upgrade, type UpgradeOwner } from './upgrade.js';
import { failWaiting, isWhole, pieceWrites } from './writes.js';

/** What all HTTP/1.1 connections of a server share. */
export interface H1Context {
  readonly host: RequestHost;
  readonly settings: H1Settings;
  readonly keepAlive: KeepAliveSettings;
  /** For drains that nobody waits for: an idle connection's time is over, or its requests are used up. */
  readonly recycling: DrainSettings;
  /** Has the ms without traffic after which a socket's `'timeout'` comes; `undefined`: node:http sees to it. */
  readonly inactivity?: { readonly timeout: number };
}

/**
 * ```
 * open ──► announced ──► committed ──► ended
 *   │          ├──────────────────────────▲
 *   ├──────────┼──────────────────────────┘
 *   └──────────┴──► upgraded
 * ```
 * - `announced`: a drain has begun; the next head that is the last one says `close`.
 * - `committed`: that head is on its way; later requests are late.
 * - `ended`: nothing more will be answered; our FIN is out or about to be.
 * - `upgraded`: the application has the socket.
 */
type State = 'open' | 'announced' | 'committed' | 'ended' | 'upgraded';

/** More late requests than a client could have on its way by accident: discarding them for ever would serve an attack. */
const MAX_LATE = 1_000;

/** Where a socket keeps its driver, for node:http's callbacks. */
const kDriver = Symbol('lastcall.h1');
type OwnedSocket = Socket & { [kDriver]?: H1Connection };

/** The HTTP/1.1 driver of a socket that node:http reads from. */
export function h1ConnectionOf(socket: Socket): H1Connection | undefined {
  return (socket as OwnedSocket)[kDriver];
}

function onHeadBegin(this: { readonly socket: OwnedSocket | null }): void {
  this.socket?.[kDriver]?.headBegan();
}

/** In place of the socket's own destroySoon(), which node:http calls when an answer that ends the connection is flushed. */
function onDestroySoon(this: OwnedSocket): void {
  this[kDriver]?.lastResponseFlushed();
}

/** node:http ends the socket once more when its peer has: an error object with a stack, for nobody. */
function onEndAgain(this: OwnedSocket): OwnedSocket {
  return this;
}

function next(driver: H1Connection): void {
  driver.next();
}

/**
 * A head that nothing has followed yet. A corked one follows with its body, and so does one that only goes with text:
 * node:http makes such characters of a Content-Disposition where it knows the length.
 */
function sendLoneHead(res: ServerResponse): void {
  const head = formattedHead(res);
  if (head !== undefined && res.writableCorked === 0 && !/[\u0100-\uffff]/.test(head)) sendHead(res);
}

export class H1Connection implements Driver, ExchangeOwner, PipelineOwner, Reader, ResetWatcher, Timed, UpgradeOwner {
  readonly protocol = 'http/1.1';
  readonly rtt = undefined;
  readonly smoothedRtt = undefined;
  readonly connection: LiveConnection;
  readonly socket: Socket;
  readonly #context: H1Context;
  readonly #timeouts: Timeouts;
  readonly #backlog: Backlog;
  readonly #unanswered: Pipeline;
  /** What ends HTTP on the connection, once all requests before it have been answered. */
  #behind: Upgrade | Refusal | undefined;
  #state: State = 'open';
  /** When the first byte of a head came that isn't complete yet, on the `now()` clock; 0: none. */
  #headBeganAt = 0;
  readonly #tail: Tail;
  readonly #idle: IdleTime;
  #received = 0;
  #late = 0;
  #terms: DrainTerms | undefined;
  #settled: (() => void) | undefined;
  #finished: (() => void) | undefined;
  #lingering: LingeringClose | undefined;

  /** @param socket the socket node:http will read from; `attached` must follow once it does */
  constructor(connection: LiveConnection, socket: Socket, context: H1Context) {
    this.connection = connection;
    this.socket = socket;
    this.#context = context;
    (socket as OwnedSocket)[kDriver] = this;
    socket.allowHalfOpen = true;
    socket.destroySoon = onDestroySoon;
    pieceWrites(socket);
    watchForReset(socket, this);
    this.#backlog = new Backlog(socket, this);
    this.#unanswered = new Pipeline(this);
    this.#tail = new Tail(socket, () => this.#tailOver());
    this.#idle = new IdleTime(context.keepAlive);
    this.#timeouts = new Timeouts(this, context.settings);
    this.#timeouts.begin();
  }

  /** node:http has put its parser on the socket. */
  attached(): void {
    onMessageBegin(this.socket, onHeadBegin);
    this.#backlog.attached();
  }

  /** The connection has said nothing for as long as it may, since before its protocol was known. */
  silentTooLong(): void {
    this.#idle.silentTooLong();
    this.#timeouts.reconsider();
  }

  // ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────

  get over(): boolean {
    return this.#state === 'ended' || this.#state === 'upgraded' || this.socket.destroyed;
  }

  get bytesRead(): number {
    return this.socket.bytesRead;
  }

  get answering(): boolean {
    return !this.#unanswered.isEmpty;
  }

  /** What the application has corked waits for the application. */
  get waiting(): number {
    return this.socket.writableCorked > 0 ? 0 : this.socket.writableLength;
  }

  get bytesTaken(): number {
    return bytesTaken(this.socket);
  }

  get awaited(): Awaited {
    return this.#backlog.stopped ? { what: 'answer' } : this.#awaitedIfRead;
  }

  /** The same, if what comes is read at all. */
  get #awaitedIfRead(): Awaited {
    if (this.#headBeganAt > 0) {
      // Behind an answer that the client doesn't read, node:http doesn't read either.
      return this.socket.isPaused() ? { what: 'answer' } : { what: 'head', since: this.#headBeganAt };
    }
    const exchange = this.#unanswered.last;
    if (exchange !== undefined) {
      // Of a request that waits for its turn nobody reads the body.
      if (exchange !== this.#unanswered.first || exchange.waits) return { what: 'answer' };
      if (exchange.req.complete || exchange.req.destroyed || exchange.awaitsContinue) return { what: 'answer' };
      const heldBack = exchange.res.headersSent || !exchange.awaitsBody;
      return { what: 'body', since: exchange.turnAt, heldBack };
    }
    if (this.#tail.isOpen) {
      const { hold } = this.#context.keepAlive;
      return { what: 'tail', since: this.#tail.since, until: this.#idle.lastMoment, hold };
    }
    return { what: 'request', until: this.#idle.until };
  }

  expired({ what }: Awaited): void {
    if (what === 'head' || what === 'body') {
      if (!this.#isRefused) this.connection.limited(what === 'head' ? 'headersTimeout' : 'bodyTimeout');
      this.clientError(requestTimeoutError());
    } else if (this.#state === 'announced') this.#settled?.();
    else if (what === 'tail') this.end();
    // It has had its time.
    else void drain(this.connection, { ...this.#context.recycling, idleWait: 0 });
  }

  stuck(): void {
    this.connection.limited('sendTimeout');
    this.connection.reset();
  }

  /**
   * Nothing was read or written for the server's `timeout`, or for what a request has asked for (`req.setTimeout()`).
   *
   * @param emit tells the application; `false`: it doesn't listen
   */
  inactive(emit: () => boolean): void {
    const { req, res } = this.#unanswered.first ?? {};
    const heard =
      (res?.listenerCount('timeout') ?? 0) > 0 || (!req?.complete && (req?.listenerCount('timeout') ?? 0) > 0);
    if (emit() || heard || this.over) return;
    const { bytesRead, bytesWritten } = this.socket;
    setImmediate(() => {
      if (this.socket.bytesRead !== bytesRead || this.socket.bytesWritten !== bytesWritten || this.over) return;
      if (this.connection.active > 0) this.connection.destroy();
      else void drain(this.connection, { ...this.#context.recycling, idleWait: 0 });
    });
  }

  // ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────

  headBegan(): void {
    // What won't be answered isn't timed either.
    if (this.#isLate) return;
    const at = now();
    this.#headBeganAt = at;
    if (this.socket.isPaused()) this.#backlog.watch();
    this.#timeouts.requestBegan(at);
  }

  /** node:http has parsed a head and made its response. */
  received(req: IncomingMessage, res: ServerResponse): void {
    const startedAt = this.#headBeganAt || now();
    this.#headBeganAt = 0;
    this.#backlog.grew();
    // Behind a FIN of the application's own nothing can be answered either.
    if (this.#isLate || this.socket.writableEnded) {
      abandon(req, res);
      this.#countLate();
      return;
    }
    const exchange = new Exchange(this, req, res, startedAt, this.bytesRead);
    this.#tail.forget();
    this.#unanswered.add(exchange);
    this.connection.began(req.headers.host, startedAt);
    this.#received++;
    if (this.#state === 'announced') exchange.followHead();
    if (this.#unanswered.isFull(this.bytesRead) && this.#backlog.hold()) this.connection.limited('pipelining');
    const { maxRequestsPerSocket } = this.#context.settings;
    if (maxRequestsPerSocket > 0 && this.#received >= maxRequestsPerSocket && this.#state === 'open') {
      void drain(this.connection, this.#context.recycling);
    }
  }

  /** A request that reached its handler before this driver came. */
  inFlight(req: IncomingMessage, res: ServerResponse): void {
    this.received(req, res);
    const exchange = exchangeOf(res);
    if (exchange !== undefined) exchange.delivered = 'request';
  }

  /** A request that was answered before this driver came, and isn't complete yet. */
  answeredEarly(req: IncomingMessage): void {
    this.#awaitTail(req, now());
  }

  /** The application has the socket. */
  get isUpgraded(): boolean {
    return this.#state === 'upgraded';
  }

  /** Who hears of its requests. */
  get host(): RequestHost {
    return this.#context.host;
  }

  /**
   * node:http has a request for the application.
   *
   * @returns false: it isn't one that node:http has parsed, or the application has it already
   */
  deliver(event: RequestEvent, res: ServerResponse): boolean {
    const exchange = exchangeOf(res);
    if (exchange === undefined) return isSilenced(res);
    if (exchange.delivered !== undefined) return false;
    advertiseKeepAlive(res, this.#context.keepAlive.advertise);
    exchange.delivered = event;
    this.#unanswered.handleInTurn(exchange);
    return true;
  }

  /** Requests from now on come after the last that will be answered. */
  get #isLate(): boolean {
    return this.#state === 'committed' || this.#state === 'ended' || this.#isRefused;
  }

  get #isRefused(): boolean {
    return this.#behind instanceof Refusal;
  }

  /** No handler sees it, nothing answers it. */
  #countLate(): void {
    const isCounted = this.#behind instanceof Refusal && this.#behind.takesHead();
    if (!isCounted) this.connection.counts.unserved++;
    if (++this.#late > MAX_LATE) this.connection.reset();
  }

  finished(exchange: Exchange): void {
    // 'finish' comes for answers that were dropped with their socket, too, even just before it is destroyed; they end
    // with the connection.
    if (this.#socketFailed || this.#unanswered.first !== exchange) return;
    const at = now();
    this.#unanswered.removeFirst();
    this.connection.ended(exchange.delivered !== undefined ? 'served' : 'malformed', at);
    this.#resetInactivity();
    if (this.#unanswered.isHalfEmpty) this.#backlog.release();
    if (!exchange.req.complete) this.#awaitTail(exchange.req, exchange.turnAt);
    if (this.answering || this.#behind !== undefined) {
      // node:http gives the socket to the next response first.
      process.nextTick(next, this);
      return;
    }
    this.#idle.beginsAt(at);
    this.#timeouts.idle(this.#idle.until);
  }

  /** What a request has asked for (`req.setTimeout()`) ends with its answer, as in node:http with its keep-alive timer. */
  #resetInactivity(): void {
    const { inactivity } = this.#context;
    const socket = this.socket;
    // A duplex that is no socket may have no such time.
    if (inactivity === undefined || socket.timeout === undefined || socket.timeout === inactivity.timeout) return;
    socket.setTimeout(inactivity.timeout);
  }

  /** A head that had begun when reading was stopped is timed from now on. */
  readsOn(): void {
    if (this.#headBeganAt > 0) this.headBegan();
    this.#timeouts.reconsider();
  }

  peerReset(isTaken: boolean): void {
    const exchange = this.#unanswered.first;
    if (!isTaken || exchange === undefined || !isWhole(this.socket)) return;
    const { res } = exchange;
    if (!res.writableEnded || res.writableLength > this.socket.writableLength) return;
    this.#unanswered.removeFirst();
    this.connection.ended(exchange.delivered !== undefined ? 'served' : 'malformed');
  }

  destroying(): void {
    failWaiting(this.socket);
  }

  get #socketFailed(): boolean {
    return this.socket.destroyed || this.socket.errored !== null;
  }

  get handlesNoMore(): boolean {
    return this.over || this.#socketFailed;
  }

  handle({ delivered = 'request', req, res }: Exchange): void {
    this.#context.host.deliver(this.connection, delivered, req, res);
  }

  bodyIsDue(): void {
    this.#timeouts.reconsider();
  }

  /** An answer is complete: what is next? */
  next(): void {
    if (this.handlesNoMore) return;
    if (this.answering) this.#unanswered.advance();
    else this.#behind?.turn();
  }

  /** An answer is complete before its request. */
  #awaitTail(req: IncomingMessage, since: number): void {
    this.#tail.begin(req, since);
    this.#timeouts.reconsider();
  }

  #tailOver(): void {
    this.#idle.beginsAt(now());
    this.#timeouts.idle(this.#idle.until);
  }

  isLast(exchange: Exchange): boolean {
    return (
      this.#state === 'announced' &&
      // What node:http answers by itself it answers while it parses: what came along behind it isn't known yet.
      exchange.delivered !== undefined &&
      this.#headBeganAt === 0 &&
      !this.#backlog.holdsBytes &&
      this.#behind === undefined &&
      this.#unanswered.last === exchange &&
      exchange.res.statusCode !== 101
    );
  }

  /** The head goes out before anything more is read, so that no request can slip in between; if it may, with its body. */
  closeAnnounced({ res }: Exchange): void {
    this.#state = 'committed';
    process.nextTick(sendLoneHead, res);
    this.#settled?.();
  }

  /** An answer that ends the connection is with the kernel, or was dropped because the socket failed: 'close' follows then. */
  lastResponseFlushed(): void {
    if (this.#socketFailed) return;
    const { first } = this.#unanswered;
    // The application may have asked for it itself: what it has ended is flushed first.
    const flushing = first?.res.writableEnded === true && responseOn(this.socket) === first.res ? first : undefined;
    for (const exchange of this.#unanswered.removeAll()) {
      if (exchange === flushing) continue;
      this.connection.ended('unserved');
      exchange.abandon();
    }
    if (flushing !== undefined) this.#unanswered.add(flushing);
    this.#behind?.passedOver();
    this.end();
  }

  // ── what is no request ──────────────────────────────────────────────────────────────────────────────────────────

  /** The connection stops being HTTP: node:http reads no further. */
  upgrade(event: 'upgrade' | 'connect', req: IncomingMessage, stream: Duplex, head: Buffer): void {
    const startedAt = this.#headBeganAt || now();
    const answering = (): ServerResponse | undefined => this.#unanswered.first?.res;
    this.#headBeganAt = 0;
    this.#backlog.letGo();
    if (stream !== this.socket) {
      // Some versions of Node hand over a stream that is destroyed with the socket, and its errors, for a request whose
      // body is still to come.
      stream.on('error', ignore);
      claimSocket(stream, this.connection);
    }
    if (this.#isLate) {
      this.#countLate();
      discardBody(req);
      forwardDrain(this.socket, answering);
      stream.resume();
      this.socket.resume();
      return;
    }
    this.#received++;
    // A drain that begins with it has to know of it.
    const upgrade = new Upgrade(this, { event, req, stream, head, startedAt });
    this.#behind = upgrade;
    this.connection.began(req.headers.host);
    if (this.answering) upgrade.waitFor(answering);
    else upgrade.turn();
  }

  /** The socket is as Node hands it over: over TLS it ends when its client does. And Node may parse HTTP on it anew. */
  handingOver(): void {
    this.#state = 'upgraded';
    this.#timeouts.stop();
    this.#settled?.();
    const socket: OwnedSocket = this.socket;
    Reflect.deleteProperty(socket, 'destroySoon');
    Reflect.deleteProperty(socket, kDriver);
    socket.allowHalfOpen = !this.connection.secure;
  }

  /** What node:http's parser, the socket, or the clock reports. */
  clientError(error: Error & { code?: string }): void {
    if (this.#backlog.paused(error)) return;
    if (this.#state === 'ended' || this.#state === 'upgraded' || this.#isRefused) return;
    const status = refusalFor(error.code);
    const last = this.#unanswered.last;
    const broken = this.#headBeganAt === 0 && last?.req.complete === false ? last : undefined;
    if (status === undefined) this.#transportFailed(error);
    else if (this.#state !== 'committed') this.#refuse(error, status, broken);
    else if (broken !== undefined) this.#breakOff(broken);
  }

  #transportFailed(error: Error): void {
    // A connection that never said anything is a balancer's probe, not an error.
    if (this.socket.bytesRead > 0) this.#context.host.clientError(this.connection, error, this.socket);
    this.socket.destroy();
  }

  /** Refuses what is being received, after all that was received before has been answered. */
  #refuse(error: Error, status: number, broken: Exchange | undefined): void {
    const limit = limitBehind(status);
    if (limit !== undefined) this.connection.limited(limit);
    const headIsOpen = this.#headBeganAt > 0;
    this.#headBeganAt = 0;
    const upgrade = this.#behind instanceof Upgrade ? this.#behind : undefined;
    upgrade?.drop();
    const answerBegan = broken?.res.headersSent === true;
    const answered = broken === undefined && !headIsOpen && this.#tail.isOpen;
    // An answer that is there already, or has begun, leaves no place for another.
    const answer = answered || answerBegan ? undefined : status;
    const tell = (): boolean => this.#context.host.clientError(this.connection, error, this.socket);
    const refusal = new Refusal(this.connection, this.socket, answer, headIsOpen, tell, () => this.end());
    this.#behind = refusal;
    if (refusal.isPending) {
      if (broken !== undefined) this.#unanswered.removeLast();
      else if (upgrade === undefined) this.connection.began();
    }
    // Whoever answers instead has to wait for the answers before it, too.
    const isNow = answerBegan && broken === this.#unanswered.first;
    if ((isNow || !this.answering) && refusal.tell()) return;
    if (broken !== undefined) {
      if (answerBegan) this.#breakOff(broken);
      else broken.abandon();
    }
    if (!this.answering) refusal.turn();
  }

  /** The rest of a body won't come, and its answer has begun: a handler that reads it, now or later, must not wait. */
  #breakOff({ req }: Exchange): void {
    if (isRead(req)) this.connection.reset();
    else cutBody(req);
  }

  // ── the phases of a drain ───────────────────────────────────────────────────────────────────────────────────────

  announce(terms: DrainTerms): void {
    this.#terms = terms;
    this.#idle.draining(terms);
    this.#lingering?.tighten(terms);
    if (this.#state !== 'open') return;
    this.#state = 'announced';
    for (const exchange of this.#unanswered.values()) exchange.followHead();
    const answering = this.#unanswered.first;
    if (answering !== undefined && this.isLast(answering) && markFormattedHead(answering.res)) {
      this.closeAnnounced(answering);
    }
    this.#timeouts.reconsider();
  }

  tighten(terms: DrainTerms): void {
    if (this.#terms === undefined) return;
    this.#idle.tighten(terms, this.#awaitedIfRead.what === 'request');
    this.#terms = terms;
    this.#lingering?.tighten(terms);
    this.#timeouts.reconsider();
  }

  settle(): Promise<void> {
    if (this.#state !== 'announced') return Promise.resolve();
    return new Promise((resolve) => {
      this.#settled = resolve;
    });
  }

  commit(): void {
    if (this.#state === 'announced') this.#state = 'ended';
  }

  finish(): Promise<void> {
    if (this.#state === 'ended') return Promise.resolve();
    return new Promise((resolve) => {
      this.#finished = resolve;
    });
  }

  linger(): Promise<void> {
    if (this.#lingering === undefined) {
      this.#timeouts.stop();
      this.#backlog.release();
      this.socket.resume();
      const limits = this.#terms ?? this.#context.recycling;
      this.#lingering = new LingeringClose(this.socket, limits, () => this.#discardTail());
      this.socket.end = onEndAgain;
    }
    return this.#lingering.over;
  }

  /** A handler that doesn't read on holds up the client, and has had as long as a silent one. */
  #discardTail(): boolean {
    if (!this.#tail.isOpen || !this.socket.isPaused()) return false;
    this.#tail.discard();
    this.socket.resume();
    return true;
  }

  cut(): Promise<void> {
    return Promise.resolve();
  }

  closed(): void {
    this.#timeouts.stop();
    this.#state = 'ended';
    for (const { delivered, req, startedAt } of this.#unanswered.removeAll()) {
      if (delivered !== undefined) this.connection.aborted(req.method ?? '', req.url ?? '', startedAt);
      else this.connection.ended('malformed');
    }
    this.#behind?.closed();
    this.#behind = undefined;
  }

  /** Nothing more will be answered: a drain goes on with its phases, without one the connection lingers by itself. */
  end(): void {
    if (this.#state === 'ended' || this.#state === 'upgraded') return;
    this.#state = 'ended';
    this.#settled?.();
    this.#finished?.();
    if (this.#terms !== undefined) return;
    this.connection.moveTo('lingering');
    void this.linger().then(() => this.connection.reset());
  }
}
