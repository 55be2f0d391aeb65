/**
 * Timers that decide. After a stalled event loop Node runs timers before it delivers what the kernel already holds, so
 * a timer that closes, commits or answers acts on stale facts (measured: it lost 50 of 50 requests; deciding after one
 * poll lost none). Everything in lastcall that acts on time goes through here.
 */
// The global of this name is looked up anew each time.
import { performance } from 'node:perf_hooks';
import { type Ringer, ringAfterPoll, withdraw } from './ringing.js';

/** setTimeout's largest delay; what is longer waits in several rounds. */
const MAX_TIMEOUT = 2 ** 31 - 1;

/** ms on a clock that never jumps. */
export function now(): number {
  return performance.now();
}

/**
 * A moment on the `now()` clock in whole ms since the epoch, as the system's clock had it when the process began and the
 * clock that never jumps has gone on since: ages and idle times stay right when somebody sets the system's clock.
 */
export function epochAt(at: number): number {
  return Math.floor(performance.timeOrigin + at);
}

/** `epochAt` now. */
export function epochNow(): number {
  return epochAt(now());
}

/** Calls back once `at` (on the `now()` clock) has passed and the event loop has polled since: look again, then act. */
export class Alarm {
  readonly #ring: () => void;
  readonly #keepsAlive: boolean;
  #at = Infinity;
  #timer: NodeJS.Timeout | undefined;
  #ringer: Ringer | undefined;

  /** @param keepsAlive whether the process stays for it (default: no) */
  constructor(ring: () => void, keepsAlive = false) {
    this.#ring = ring;
    this.#keepsAlive = keepsAlive;
  }

  /** When it rings; `Infinity` when it isn't set. */
  get at(): number {
    return this.#at;
  }

  /** Sets or moves the alarm. */
  set(at: number): void {
    this.clear();
    this.#at = at;
    if (at === Infinity) return;
    this.#timer = setTimeout(() => this.#due(), Math.min(MAX_TIMEOUT, Math.max(1, Math.ceil(at - now()))));
    if (!this.#keepsAlive) this.#timer.unref();
  }

  /** Sets the alarm unless it rings earlier already. */
  atMost(at: number): void {
    if (at < this.#at) this.set(at);
  }

  clear(): void {
    clearTimeout(this.#timer);
    if (this.#ringer !== undefined) withdraw(this.#ringer);
    this.#at = Infinity;
  }

  #due(): void {
    if (now() < this.#at) {
      this.set(this.#at);
      return;
    }
    this.#ringer = ringAfterPoll(() => {
      this.#ringer = undefined;
      this.#at = Infinity;
      this.#ring();
    });
  }
}
