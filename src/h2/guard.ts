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
 * Where most streams are reset, the application works on what nobody waits for: as many resets as may be streams at once
 * are free, and come back in so many ms.
 */
const FREE_AGAIN = 200;
/** Most of so many streams at least. */
const SAMPLE = 100;

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
  /** When all of the free resets are back. */
  #freeAt = 0;

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
   * How long what the peer asks for next has to wait, in ms: until half of the free resets are back, once they are used
   * up. Without it a client has as many requests handled as it can send, whatever may be open at once.
   */
  wait(now: number): number {
    const used = this.#freeAt - now;
    return used > FREE_AGAIN ? used - FREE_AGAIN / 2 : 0;
  }

  /**
   * A stream was reset, by the peer or by us for an error of the peer's (rapid reset, MadeYouReset).
   * Enough is more than half of `resetWindow` streams in a row, and as many again after the drain that follows.
   */
  reset(openedAt: number, now: number): ResetVerdict {
    if (now - openedAt >= RAPID) return 'fine';
    this.#rapid++;
    const { resetWindow, maxConcurrentStreams } = this.#limits;
    if (this.#rapid * 2 > Math.max(this.#opened, SAMPLE)) {
      this.#freeAt = Math.max(this.#freeAt, now) + FREE_AGAIN / maxConcurrentStreams;
    }
    if (!this.#warm && this.#opened < resetWindow) return 'fine';
    if (this.#rapid * 2 <= resetWindow) return 'fine';
    this.#warm = true;
    this.#opened = 0;
    this.#rapid = 0;
    if (this.#drained) return 'fail';
    this.#drained = true;
    return 'drain';
  }
}
