/**
 * Budgets against peers that make us work for nothing: floods of frames without use, and streams that are opened to be
 * reset. It counts and says when it is enough; what then happens is `lifecycle.ts`.
 */

import type { Limits } from './settings.js';

/** What a request pays for: clients send PINGs and WINDOW_UPDATEs with each. */
const EARNED_BY_REQUEST = 8;
/** What a DATA frame pays for that carries all there was to send: clients answer one with a PING (to measure) and two WINDOW_UPDATEs. */
const EARNED_BY_DATA = 4;
/** DATA octets that pay for one frame: the keenest readers send a WINDOW_UPDATE for every 4 KiB, on stream and connection. */
const OCTETS_PER_UNIT = 1_024;
/** A stream reset sooner than this after its opening, in ms, counts as a rapid reset. */
const RAPID = 1_000;
/**
 * Where most streams are reset, each keeps its place among the concurrent ones for so many ms: the application still works
 * on what it was asked for.
 */
const PLACE_KEPT = 200;

/** What is to be done about resets. */
export type ResetVerdict = 'fine' | 'drain' | 'fail';

export class Guard {
  readonly #limits: Limits;
  #budget: number;
  #refilledAt: number;
  /** Octets of DATA sent that have not been turned into budget. */
  #octets = 0;

  /** Streams opened: in total until `resetWindow` is reached once, then of the current window. */
  #opened = 0;
  /** Of those, reset within a second. */
  #rapid = 0;
  #warm = false;
  #drained = false;
  /** When the last place is free again that a reset keeps, were they kept one after the other. */
  #placesFreeAt = 0;

  constructor(limits: Limits, now: number) {
    this.#limits = limits;
    this.#budget = limits.floodBudget;
    this.#refilledAt = now;
  }

  /** Takes the price of a frame that serves no request. False: the budget is used up. */
  spend(units: number, now: number): boolean {
    if (now > this.#refilledAt) {
      this.#earn(((now - this.#refilledAt) * this.#limits.floodRefill) / 1_000);
      this.#refilledAt = now;
    }
    this.#budget -= units;
    return this.#budget >= 0;
  }

  /**
   * DATA has been framed: the peer has received something for its WINDOW_UPDATEs. A frame that a small window cut short
   * earns by its octets only.
   */
  sent(octets: number, whole: boolean): void {
    if (whole) this.#earn(EARNED_BY_DATA);
    this.#octets += octets;
    if (this.#octets >= OCTETS_PER_UNIT) {
      const units = Math.floor(this.#octets / OCTETS_PER_UNIT);
      this.#octets -= units * OCTETS_PER_UNIT;
      this.#earn(units);
    }
  }

  #earn(units: number): void {
    this.#budget = Math.min(this.#budget + units, this.#limits.floodBudget);
  }

  /** A request has been accepted, or was malformed. */
  opened(): void {
    this.#earn(EARNED_BY_REQUEST);
    this.#opened++;
    if (this.#opened <= this.#limits.resetWindow) return;
    this.#warm = true;
    this.#opened = 1;
    this.#rapid = 0;
  }

  /**
   * How long what the peer asks for has to wait, in ms: for half of the places, once resets keep them all. Without it a
   * client has as many requests handled as it can send, whatever may be open at once.
   */
  wait(now: number): number {
    const kept = this.#placesFreeAt - now;
    return kept > PLACE_KEPT ? kept - PLACE_KEPT / 2 : 0;
  }

  /**
   * A stream was reset, by the peer or by us for an error of the peer's (rapid reset, MadeYouReset).
   * Enough is more than half of `resetWindow` streams in a row, and as many again after the drain that follows.
   */
  reset(openedAt: number, now: number): ResetVerdict {
    if (now - openedAt >= RAPID) return 'fine';
    this.#rapid++;
    const { resetWindow, maxConcurrentStreams } = this.#limits;
    if (this.#rapid * 2 > this.#opened) {
      this.#placesFreeAt = Math.max(this.#placesFreeAt, now) + PLACE_KEPT / maxConcurrentStreams;
    }
    if (!this.#warm && this.#opened < resetWindow) return 'fine';
    if (this.#rapid * 2 <= resetWindow) return 'fine';
    this.#rapid = 0;
    if (this.#drained) return 'fail';
    this.#drained = true;
    return 'drain';
  }
}
