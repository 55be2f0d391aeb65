/**
 * HTTP/1.1 on one connection: which requests are unanswered, which answer says `Connection: close`, and the phases of a
 * drain. Parsing and framing are node:http's; the timers that its unlistening server doesn't run are in timeouts.ts.
 *
 * Pipelined requests reach the application one at a time, each when the one before has been answered. So no handler
 * runs for a request that comes after the answer with `close`, and `close` can go on the very last one.
 */
import { AsyncResource } from 'node:async_hooks';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { LiveConnection } from '../core/connection.js';
import type { DrainTerms, Driver } from '../core/driver.js';
import type { RequestEvent, RequestHost } from '../core/host.js';
import type { KeepAliveSettings } from '../core/keep-alive.js';
import { lingeringClose } from '../core/linger.js';
import { type DrainSettings, drain } from '../core/shutdown.js';
import { now } from '../core/timing.js';
import {
  advertiseKeepAlive,
  discardBody,
  hookStoreHeader,
  onMessageBegin,
  sendHead,
  silence,
  storeHeader,
} from '../node-internals.js';
import { storeHeaderWithClose } from './mark.js';
import type { H1Settings } from './options.js';
import { refusal, refusalFor } from './refusal.js';
import { Timeouts } from './timeouts.js';

/** What all HTTP/1.1 connections of a server share. */
export interface H1Context {
  readonly host: RequestHost;
  readonly settings: H1Settings;
  readonly keepAlive: KeepAliveSettings;
  /** For drains that nobody waits for: an idle connection's time is over, or its requests are used up. */
  readonly recycling: DrainSettings;
}

/**
 * ```
 * open ──► announced ──► committed ──► ended
 *   │          └──────────────────────────▲
 *   ├─────────────────────────────────────┘
 *   └──► upgraded
 * ```
 * - `announced`: a drain has begun; the next head that is the last one says `close`.
 * - `committed`: that head is on its way; later requests are late.
 * - `ended`: nothing more will be answered; our FIN is out or about to be.
 * - `upgraded`: the application has the socket.
 */
type State = 'open' | 'announced' | 'committed' | 'ended' | 'upgraded';

/** More late requests than a client could have on its way by accident: discarding them for ever would serve an attack. */
const MAX_LATE = 1_000;

/** A request that was received and is not answered yet. */
class Exchange {
  readonly driver: H1Connection;
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly startedAt = now();
  /** Whether the application got it; node:http answers some requests (no Host, unknown expectation) by itself. */
  delivered = false;
  /** Gives it to the application once the requests before it have been answered. */
  turn: (() => void) | undefined;

  constructor(driver: H1Connection, req: IncomingMessage, res: ServerResponse) {
    this.driver = driver;
    this.req = req;
    this.res = res;
  }
}

const kExchange = Symbol('lastcall.exchange');
type OwnedResponse = ServerResponse & { [kExchange]?: Exchange };

function onResponseClose(this: OwnedResponse): void {
  const exchange = this[kExchange];
  if (exchange !== undefined) exchange.driver.responseClosed(exchange);
}

function onHeadBegin(this: { readonly socket: (Socket & { [kDriver]?: H1Connection }) | null }): void {
  this.socket?.[kDriver]?.headBegan();
}

function onDestroySoon(this: Socket & { [kDriver]?: H1Connection }): void {
  this[kDriver]?.lastResponseFlushed();
}

/** Where a socket keeps its driver, for node:http's callbacks. */
const kDriver = Symbol('lastcall.h1');

/** The HTTP/1.1 driver of a socket that node:http hands us. */
export function h1ConnectionOf(socket: Socket): H1Connection | undefined {
  return (socket as Socket & { [kDriver]?: H1Connection })[kDriver];
}

/** Formats a head while a drain is under way: if it is the last that will be written, it says so. */
function storeLastHeader(this: OwnedResponse, firstLine: string, headers: unknown): void {
  const driver = this[kExchange]?.driver;
  if (driver?.isLast(this) !== true) {
    storeHeader(this, firstLine, headers);
    return;
  }
  storeHeaderWithClose(this, firstLine, headers);
  driver.closeAnnounced(this);
}

export class H1Connection implements Driver {
  readonly protocol = 'http/1.1';
  readonly rtt = undefined;
  readonly #connection: LiveConnection;
  readonly #socket: Socket;
  readonly #context: H1Context;
  readonly #timeouts: Timeouts;
  /** In the order of their arrival; the first is the one being answered. */
  readonly #unanswered: Exchange[] = [];
  #state: State = 'open';
  /** When the first byte of a head came that isn't complete yet, on the `now()` clock; 0: none. */
  #headBeganAt = 0;
  #received = 0;
  #late = 0;
  #idleSince = now();
  #announcedAt = 0;
  #terms: DrainTerms | undefined;
  /** Status to refuse the rest with once what was received before has been answered. */
  #refuseWith: number | undefined;
  #settled: (() => void) | undefined;
  #finished: (() => void) | undefined;
  #lingering: Promise<void> | undefined;

  /** @param socket the socket node:http will read from; `attached` must follow once it does */
  constructor(connection: LiveConnection, socket: Socket, context: H1Context) {
    this.#connection = connection;
    this.#socket = socket;
    this.#context = context;
    (socket as Socket & { [kDriver]?: H1Connection })[kDriver] = this;
    socket.allowHalfOpen = true;
    socket.destroySoon = onDestroySoon;
    this.#timeouts = new Timeouts(this, context.settings, context.keepAlive);
  }

  /** node:http has put its parser on the socket. */
  attached(): void {
    onMessageBegin(this.#socket, onHeadBegin);
  }

  // ── what Timeouts asks ──────────────────────────────────────────────────────────────────────────────────────────

  /** Nothing to answer, and not a byte of a next request. */
  get idle(): boolean {
    return this.#unanswered.length === 0 && this.#headBeganAt === 0;
  }

  get headBeganAt(): number {
    return this.#headBeganAt;
  }

  /** The request whose body is still being received and whose answer hasn't begun, if the application is reading it. */
  get awaitedBody(): { readonly startedAt: number } | undefined {
    const exchange = this.#unanswered.at(-1);
    if (exchange === undefined || exchange.req.complete || exchange.res.headersSent) return undefined;
    const { req } = exchange;
    const heldBack =
      req.isPaused() || req.readableLength >= req.readableHighWaterMark || exchange !== this.#unanswered[0];
    return heldBack ? undefined : exchange;
  }

  get bytesRead(): number {
    return this.#socket.bytesRead;
  }

  get over(): boolean {
    return this.#state === 'ended' || this.#state === 'upgraded' || this.#socket.destroyed;
  }

  /** When an idle connection's time is up, on the `now()` clock. */
  get idleUntil(): number {
    const held = this.#idleSince + this.#context.keepAlive.hold;
    const terms = this.#terms;
    if (terms === undefined) return held;
    const { idleWait, deadline, linger } = terms;
    const waited = idleWait === undefined ? held : Math.max(this.#idleSince, this.#announcedAt) + idleWait;
    return Math.min(waited, deadline - linger);
  }

  /** It was idle until its time was up, as seen after a poll. */
  idleExpired(): void {
    if (this.#state === 'announced') this.#settled?.();
    else void drain(this.#connection, this.#context.recycling);
  }

  /** A head or a body that doesn't come. */
  requestTimedOut(): void {
    this.#refuse(408);
  }

  // ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────

  headBegan(): void {
    this.#headBeganAt = now();
  }

  /** node:http has parsed a head and made its response. */
  received(req: IncomingMessage, res: ServerResponse): void {
    this.#headBeganAt = 0;
    if (this.#state === 'committed' || this.#state === 'ended') {
      this.#discard(req, res);
      return;
    }
    const exchange = new Exchange(this, req, res);
    (res as OwnedResponse)[kExchange] = exchange;
    res.on('close', onResponseClose);
    this.#unanswered.push(exchange);
    this.#connection.began();
    this.#received++;
    if (this.#state === 'announced') hookStoreHeader(res, storeLastHeader);
    const { maxRequestsPerSocket } = this.#context.settings;
    if (maxRequestsPerSocket > 0 && this.#received >= maxRequestsPerSocket && this.#state === 'open') {
      void drain(this.#connection, this.#context.recycling);
    }
  }

  /** node:http has a request for the application. */
  deliver(event: RequestEvent, req: IncomingMessage, res: ServerResponse): void {
    const exchange = (res as OwnedResponse)[kExchange];
    if (exchange === undefined) return;
    advertiseKeepAlive(res, this.#context.keepAlive.advertise);
    exchange.delivered = true;
    const deliver = (): void => this.#context.host.request(this.#connection, event, req, res);
    if (exchange === this.#unanswered[0]) deliver();
    else exchange.turn = AsyncResource.bind(deliver);
  }

  responseClosed(exchange: Exchange): void {
    const at = this.#unanswered.indexOf(exchange);
    if (at < 0) return;
    this.#unanswered.splice(at, 1);
    if (exchange.res.writableFinished) this.#connection.ended(exchange.delivered ? 'served' : 'malformed');
    else this.#abort(exchange);
    if (this.#state === 'ended') return;
    const next = this.#unanswered[0];
    if (next !== undefined) next.turn?.();
    else this.#becameIdle();
  }

  /** Whether nothing that was received comes after this response. */
  isLast(res: ServerResponse): boolean {
    return (
      this.#state === 'announced' &&
      this.#headBeganAt === 0 &&
      this.#refuseWith === undefined &&
      this.#unanswered.at(-1)?.res === res &&
      res.statusCode !== 101
    );
  }

  /** A head with `close` has been formatted: it goes out at once, so that no request can slip in between. */
  closeAnnounced(res: ServerResponse): void {
    this.#state = 'committed';
    sendHead(res);
    this.#settled?.();
  }

  /** An answer that ends the connection is with the kernel: in place of node:http's destroySoon(). */
  lastResponseFlushed(): void {
    const late = this.#unanswered.splice(1);
    for (const { req, res } of late) {
      this.#connection.ended('unserved');
      silence(res);
      discardBody(req);
    }
    this.#end();
  }

  /** The connection stops being HTTP. */
  upgrade(event: 'upgrade' | 'connect', req: IncomingMessage, head: Buffer): void {
    this.#headBeganAt = 0;
    if (this.#state === 'committed' || this.#state === 'ended') {
      this.#connection.counts.unserved++;
      this.#socket.resume();
      return;
    }
    this.#connection.began();
    const hand = (): void => {
      const { host } = this.#context;
      if (event === 'connect' && !host.listensFor('connect')) {
        this.#connection.ended('malformed');
        this.#socket.resume();
        this.#writeRefusal(501);
        return;
      }
      this.#state = 'upgraded';
      this.#settled?.();
      Reflect.deleteProperty(this.#socket, 'destroySoon');
      host.upgrade(this.#connection, event, req, this.#socket, head);
    };
    if (this.#unanswered.length === 0) hand();
    else this.#unanswered.at(-1)?.res.once('close', AsyncResource.bind(hand));
  }

  /** What node:http's parser or the socket reports. */
  clientError(error: Error & { code?: string }): void {
    if (this.#state === 'committed' || this.#state === 'ended' || this.#refuseWith !== undefined) return;
    const malformed = refusalFor(error.code);
    if (malformed === undefined) {
      // The transport failed. A connection that never said anything is a balancer's probe, not an error.
      if (this.#socket.bytesRead > 0) this.#context.host.clientError(this.#connection, error, this.#socket);
      this.#socket.destroy();
      return;
    }
    this.#headBeganAt = 0;
    if (this.#context.host.clientError(this.#connection, error, this.#socket)) {
      this.#connection.counts.malformed++;
      return;
    }
    this.#refuse(malformed);
  }

  // ── the phases of a drain ───────────────────────────────────────────────────────────────────────────────────────

  announce(terms: DrainTerms): void {
    this.#terms = terms;
    this.#announcedAt = now();
    if (this.#state !== 'open') return;
    this.#state = 'announced';
    for (const { res } of this.#unanswered) {
      if (!res.headersSent) hookStoreHeader(res, storeLastHeader);
    }
    this.#timeouts.reconsider();
  }

  tighten(terms: DrainTerms): void {
    if (this.#terms === undefined) return;
    this.#terms = terms;
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
      this.#socket.resume();
      this.#lingering = lingeringClose(this.#socket, this.#terms ?? this.#context.recycling);
    }
    return this.#lingering;
  }

  cut(): Promise<void> {
    return Promise.resolve();
  }

  closed(): void {
    this.#timeouts.stop();
    const upgraded = this.#state === 'upgraded';
    this.#state = 'ended';
    for (const exchange of this.#unanswered.splice(0)) this.#abort(exchange);
    while (upgraded && this.#connection.active > 0)
      this.#connection.ended(this.#connection.destroyedHere ? 'aborted' : 'served');
  }

  // ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────

  #becameIdle(): void {
    this.#idleSince = now();
    if (this.#refuseWith !== undefined) this.#writeRefusal(this.#refuseWith);
    else if (this.#state === 'announced') this.#timeouts.reconsider();
  }

  /** Nothing more will be answered: a drain goes on with its phases, without one the connection lingers by itself. */
  #end(): void {
    this.#state = 'ended';
    this.#settled?.();
    this.#finished?.();
    if (this.#terms !== undefined) return;
    this.#connection.moveTo('lingering');
    void this.linger().then(() => this.#connection.reset());
  }

  /** A request that came after the last answer: no handler sees it, nothing answers it. */
  #discard(req: IncomingMessage, res: ServerResponse): void {
    this.#connection.counts.unserved++;
    silence(res);
    discardBody(req);
    if (++this.#late > MAX_LATE) this.#connection.reset();
  }

  #abort(exchange: Exchange): void {
    this.#connection.aborted(exchange.req.method ?? '', exchange.req.url ?? '', exchange.startedAt);
  }

  /** Refuses what is being received, after all that was received before has been answered. */
  #refuse(status: number): void {
    this.#headBeganAt = 0;
    const inBody = this.#unanswered.at(-1);
    if (inBody !== undefined && !inBody.req.complete) {
      if (inBody.res.headersSent) {
        this.#connection.reset();
        return;
      }
      this.#unanswered.pop();
      silence(inBody.res);
      this.#connection.ended('malformed');
    } else {
      this.#connection.counts.malformed++;
    }
    if (this.#unanswered.length > 0) this.#refuseWith = status;
    else this.#writeRefusal(status);
  }

  #writeRefusal(status: number): void {
    this.#socket.write(refusal(status));
    this.#end();
  }
}
