/**
 * A clock that goes on only when it is told to: setTimeout, setImmediate and performance.now of this process run on it
 * until `restore`. What is awaited in between is real.
 */

interface Entry {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

const REAL = {
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setImmediate: globalThis.setImmediate,
  clearImmediate: globalThis.clearImmediate,
  now: performance.now,
};

export class FakeClock {
  #now = 1_000;
  #order = 0;
  #turns = 0;
  readonly #timers = new Map<object, Entry>();
  #immediates = new Map<object, () => void>();

  /** Takes the process's timers over. */
  constructor() {
    const install: Record<string, unknown> = {
      setTimeout: (run: () => void, ms: number) => this.#setTimeout(run, ms),
      clearTimeout: (timer: object) => this.#timers.delete(timer),
      setImmediate: (run: () => void) => {
        const handle = { unref: () => handle };
        this.#immediates.set(handle, run);
        return handle;
      },
      clearImmediate: (handle: object) => this.#immediates.delete(handle),
    };
    Object.assign(globalThis, install);
    performance.now = () => this.#now;
  }

  restore(): void {
    const { now, ...timers } = REAL;
    Object.assign(globalThis, timers);
    performance.now = now;
  }

  /** ms on this clock. */
  get now(): number {
    return this.#now;
  }

  /** How many turns of the event loop there have been. */
  get turns(): number {
    return this.#turns;
  }

  /** Timers and immediates that are set. */
  get pending(): number {
    return this.#timers.size + this.#immediates.size;
  }

  /** Goes on by `ms`, stopping at every timer. */
  async advance(ms: number): Promise<void> {
    const until = this.#now + ms;
    await this.turn();
    for (let at = this.#nextAt(); at <= until; at = this.#nextAt()) {
      this.#now = Math.max(this.#now, at);
      this.#runTimers();
      await this.turn();
    }
    this.#now = until;
  }

  /** The event loop is stuck for `ms`: time passes, and nothing runs. */
  stall(ms: number): void {
    this.#now += ms;
  }

  /** Runs the immediates that are set now, those that they set, and every promise's reactions, in no time. */
  async turn(): Promise<void> {
    do {
      this.#turns++;
      await new Promise((resolve) => REAL.setImmediate(resolve));
      const due = [...this.#immediates.entries()];
      for (const [handle, run] of due) if (this.#immediates.delete(handle)) run();
      await new Promise((resolve) => REAL.setImmediate(resolve));
    } while (this.#immediates.size > 0);
  }

  #setTimeout(run: () => void, ms: number): object {
    const handle = { unref: () => handle };
    this.#timers.set(handle, { at: this.#now + Math.max(1, ms), order: ++this.#order, run });
    return handle;
  }

  #nextAt(): number {
    let next = Infinity;
    for (const { at } of this.#timers.values()) next = Math.min(next, at);
    return next;
  }

  /** Every timer that is due, in one turn, as in Node. */
  #runTimers(): void {
    const due = [...this.#timers].filter(([, { at }]) => at <= this.#now);
    due.sort(([, a], [, b]) => a.at - b.at || a.order - b.order);
    for (const [handle, { run }] of due) if (this.#timers.delete(handle)) run();
  }
}
