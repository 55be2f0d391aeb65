/**
 * One request on an HTTP/1.1 connection, from its parsed head until its answer is with the kernel, and the hooks in
 * node:http's objects by which the connection follows it. What they mean for the connection is connection.ts's.
 */
import type { AsyncResource } from 'node:async_hooks';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { RequestEvent } from '../core/host.js';
import {
  cutBody,
  detachSocket,
  discardBody,
  hookDetachSocket,
  hookStoreHeader,
  isRead,
  sentContinue,
  silence,
  storeHeader,
} from '../http-internals.js';
import { storeHeaderWithClose } from './mark.js';

/** Who follows the exchanges of a connection. */
export interface ExchangeOwner {
  /** The answer has been written out, unless the socket is destroyed. */
  finished(exchange: Exchange): void;
  /** Whether the head that is being formatted is the last that will be written. */
  isLast(exchange: Exchange): boolean;
  /** A head that says `close` has been formatted. */
  closeAnnounced(exchange: Exchange): void;
}

const kExchange = Symbol('lastcall.exchange');
type OwnedResponse = ServerResponse & { [kExchange]?: Exchange };

/** A request that was received and is not answered yet. */
export class Exchange {
  readonly owner: ExchangeOwner;
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  /** When its first byte came, on the `now()` clock. */
  readonly startedAt: number;
  /** How the application got it; node:http answers some requests (no Host, unknown expectation) by itself. */
  delivered: RequestEvent | undefined;
  /** How many bytes of the connection had been read when it came. */
  readonly bytesBefore: number;
  /** When its turn came, behind the requests before it. */
  turnAt: number;
  /** The application is yet to be given it. */
  waits = false;
  /** Where it waits for requests before it: the async context in which the application gets it. */
  context: AsyncResource | undefined;

  constructor(owner: ExchangeOwner, req: IncomingMessage, res: ServerResponse, startedAt: number, bytesBefore: number) {
    this.owner = owner;
    this.req = req;
    this.res = res;
    this.startedAt = startedAt;
    this.bytesBefore = bytesBefore;
    this.turnAt = startedAt;
    (res as OwnedResponse)[kExchange] = this;
    hookDetachSocket(res, onDetach);
  }

  /** From now on the owner decides which head says `close`. */
  followHead(): void {
    if (!this.res.headersSent) hookStoreHeader(this.res, storeLastHeader);
  }

  /** Whether more of the body has to come before the application goes on: it reads, and has all that came. */
  get awaitsBody(): boolean {
    const { req } = this;
    return !req.isPaused() && req.readableLength < req.readableHighWaterMark;
  }

  /** Whether the client waits for a 100 (Continue) before it sends the body; it needn't. */
  get awaitsContinue(): boolean {
    const { req } = this;
    if (this.delivered !== 'checkContinue' || sentContinue(this.res)) return false;
    return req.readableLength === 0 && !req.readableDidRead;
  }

  /** Nothing will be answered, and the rest of the body is of no use. */
  abandon(): void {
    abandon(this.req, this.res);
  }
}

/** The exchange of a response; `undefined` if it came too late to be one. */
export function exchangeOf(res: ServerResponse): Exchange | undefined {
  return (res as OwnedResponse)[kExchange];
}

/** A request that nobody will answer: what is written to its response goes nowhere, its body is discarded. */
export function abandon(req: IncomingMessage, res: ServerResponse): void {
  silence(res);
  // What follows is discarded: to whoever reads the body it must not look complete.
  if (isRead(req) && !req.complete) cutBody(req);
  discardBody(req);
}

function onDetach(this: OwnedResponse, socket: Socket): void {
  detachSocket(this, socket);
  const exchange = this[kExchange];
  exchange?.owner.finished(exchange);
}

/** Formats a head while a drain is under way: if it is the last that will be written, it says so. */
function storeLastHeader(this: OwnedResponse, firstLine: string, headers: unknown): void {
  const exchange = this[kExchange];
  if (exchange?.owner.isLast(exchange) !== true) {
    storeHeader(this, firstLine, headers);
    return;
  }
  storeHeaderWithClose(this, firstLine, headers);
  exchange.owner.closeAnnounced(exchange);
}
