/**
 * The requests of a connection that aren't answered yet, in the order of their arrival. The application has the first
 * one; each that came behind another waits until it is the first, and then for a turn of the event loop that has room
 * for its handler.
 */
import { AsyncResource } from 'node:async_hooks';
import { REQUEST_RESOURCE } from '../core/host.js';
import { now } from '../core/timing.js';
import { Share } from '../core/turns.js';
import { receiveWithin } from '../http-internals.js';
import type { Exchange } from './exchange.js';

/** Requests that may wait for their turn, as many as HTTP/2's streams; beyond it nothing is read until half are answered. */
const MOST = 100;

/** Bytes that came since the first of those that wait; heads and bodies, they are all in memory. */
const MOST_BYTES = 262_144;

/** ms that a request counts for at least: what is done behind an `await` is in the same turn as a rule, and not seen. */
const LEAST_WORK = 0.01;

/**
 * ms that the handlers of requests that waited take of a turn of the event loop, for all connections together. Answered
 * one after the other, those of a crowd that pipelines would make one turn otherwise.
 */
const turns = new Share(0.5, LEAST_WORK);

/** Who handles the requests. */
export interface PipelineOwner {
  /** Nothing more is handled: the connection has ended, or isn't HTTP any more. */
  readonly handlesNoMore: boolean;
  /** The turn of a request has come. */
  handle(exchange: Exchange): void;
  /** One that had to wait has been handled, and isn't received in full: nobody read its body until now. */
  bodyIsDue(): void;
}

function advance(pipeline: Pipeline): void {
  pipeline.advance();
}

export class Pipeline {
  readonly #owner: PipelineOwner;
  readonly #exchanges: Exchange[] = [];
  /** The first one waits for a turn that has room. */
  #waitsForRoom = false;

  constructor(owner: PipelineOwner) {
    this.#owner = owner;
  }

  /** The one that is being answered. */
  get first(): Exchange | undefined {
    return this.#exchanges[0];
  }

  /** The one that came last. */
  get last(): Exchange | undefined {
    return this.#exchanges.at(-1);
  }

  get isEmpty(): boolean {
    return this.#exchanges.length === 0;
  }

  /**
   * More wait than may.
   *
   * @param bytesRead of the connection, so far
   */
  isFull(bytesRead: number): boolean {
    if (this.#exchanges.length > MOST) return true;
    const waiting = this.#exchanges[1];
    return waiting !== undefined && bytesRead - waiting.bytesBefore > MOST_BYTES;
  }

  /** No more than half as many wait as may. */
  get isHalfEmpty(): boolean {
    return this.#exchanges.length <= MOST / 2;
  }

  /** From the first to the last. */
  values(): Iterable<Exchange> {
    return this.#exchanges;
  }

  /** Comes behind all the others. */
  add(exchange: Exchange): void {
    this.#exchanges.push(exchange);
  }

  /**
   * The application is to have it when its turn comes. That is never now. First comes what else was read with it, for
   * `close` goes on the last. And a tick is an async context of its own, if it is scheduled here and not by the handler
   * of the request before. The one after the next: in the next the body's end is told to those who listen already,
   * outside the handler's context.
   */
  handleInTurn(exchange: Exchange): void {
    exchange.waits = true;
    if (exchange === this.#exchanges[0]) process.nextTick(process.nextTick, advance, this);
    else exchange.context = new AsyncResource(REQUEST_RESOURCE);
  }

  /** Whose turn it is, if the application doesn't have it yet, gets there. */
  advance(): void {
    const exchange = this.#exchanges[0];
    if (exchange?.waits !== true || this.#owner.handlesNoMore) return;
    if (exchange.context === undefined) this.#handle(exchange);
    else this.#waitForRoom();
  }

  #waitForRoom(): void {
    if (this.#waitsForRoom) return;
    this.#waitsForRoom = true;
    turns.do(() => {
      this.#waitsForRoom = false;
      const exchange = this.#exchanges[0];
      // Meanwhile the connection may have ended, or be at something else.
      if (exchange?.waits !== true || exchange.context === undefined || this.#owner.handlesNoMore) return;
      exchange.turnAt = now();
      exchange.context.runInAsyncScope(this.#handle, this, exchange);
      if (!exchange.req.complete) this.#owner.bodyIsDue();
    });
  }

  #handle(exchange: Exchange): void {
    const { req } = exchange;
    exchange.waits = false;
    this.#owner.handle(exchange);
    // The rest comes in the parser's context, where what the handler has entered isn't.
    if (!req.complete) receiveWithin(req, new AsyncResource(REQUEST_RESOURCE));
  }

  /** The first one has been answered. */
  removeFirst(): void {
    this.#exchanges.shift();
  }

  /** The last one won't be answered. */
  removeLast(): void {
    this.#exchanges.pop();
  }

  /** None of them will be answered. */
  removeAll(): Exchange[] {
    return this.#exchanges.splice(0);
  }
}
