/**
 * How long an HTTP/1.1 connection without a request is kept: for `keepAlive.hold`, in a drain for `idleWait`, and never
 * so long that no time is left to linger. Whether it is idle is connection.ts's; the times are on the `now()` clock.
 */
import type { DrainTerms } from '../core/driver.js';
import type { KeepAliveSettings } from '../core/keep-alive.js';
import { now } from '../core/timing.js';

export class IdleTime {
  readonly #keepAlive: KeepAliveSettings;
  #since = now();
  /** It has been silent for as long as it may since before its protocol was known. */
  #isOver = false;
  #terms: DrainTerms | undefined;
  /** When the drain was asked for its `idleWait`, */
  #waitFrom = 0;
  /** and when the time would have been up for those who asked before. */
  #atMost = Infinity;

  constructor(keepAlive: KeepAliveSettings) {
    this.#keepAlive = keepAlive;
  }

  /** When it is up, if the connection is idle. */
  get until(): number {
    if (this.#isOver) return 0;
    const held = this.#since + this.#keepAlive.hold;
    if (this.#terms === undefined) return held;
    const { idleWait } = this.#terms;
    const waited = idleWait === undefined ? held : Math.max(this.#since, this.#waitFrom) + idleWait;
    return Math.min(waited, this.#atMost, this.lastMoment);
  }

  /** The end of a drain must leave time to linger. */
  get lastMoment(): number {
    return this.#terms?.idleDeadline ?? Infinity;
  }

  /** Nothing is left to answer, or to receive of what was answered. */
  beginsAt(at: number): void {
    this.#since = at;
    this.#isOver = false;
  }

  silentTooLong(): void {
    this.#isOver = true;
  }

  /** A drain has begun. */
  draining(terms: DrainTerms): void {
    this.#terms = terms;
    this.#waitFrom = now();
  }

  /** @param isIdle whether the time that it has so far is running */
  tighten(terms: DrainTerms, isIdle: boolean): void {
    if (terms.idleWait !== this.#terms?.idleWait) {
      if (isIdle) this.#atMost = this.until;
      this.#waitFrom = now();
    }
    this.#terms = terms;
  }
}
