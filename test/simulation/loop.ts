/**
 * A model of Node's event loop on a clock that only the simulation moves: timers, poll, immediates, closing, in Node's
 * order, each callback followed by the real process.nextTick queue and the real promises. The server under test runs in
 * it unchanged, because it replaces the timer functions and clocks that the server uses. What happens outside of the
 * server (network, clients) are events of the world: they happen at their time, whether or not the server's loop is busy.
 */
import { TimeQueue } from './heap.js';

/** Something whose state the kernel reports to the poll phase. */
export interface Pollable {
  /** It is in the list of what is ready already. */
  marked: boolean;
  /** Runs the server's callbacks for it, each through {@link Loop.call}. */
  poll(): void;
}

interface WorldEvent {
  readonly at: number;
  readonly order: number;
  readonly happen: () => void;
}

/** A stall of the server's loop: from `at` on it does nothing for `ms`. */
export interface Stall {
  readonly at: number;
  readonly ms: number;
}

/** ms that a callback of the server takes, so that no two things are at exactly the same time. */
const CALLBACK = 0.003;

/** Where every simulation's clock begins. */
const EPOCH = 1_000_000;

/** What the server's setTimeout returns. */
class FakeTimer {
  readonly at: number;
  readonly order: number;
  callback: (() => void) | undefined;
  /** Set by the application, not by the server. */
  readonly application: boolean;
  readonly #loop: Loop;

  constructor(loop: Loop, at: number, order: number, callback: () => void, application: boolean) {
    this.#loop = loop;
    this.at = at;
    this.order = order;
    this.callback = callback;
    this.application = application;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
  cancel(): void {
    if (this.callback === undefined) return;
    this.callback = undefined;
    this.#loop.forgot(this);
  }
}

class FakeImmediate {
  callback: (() => void) | undefined;
  constructor(callback: () => void) {
    this.callback = callback;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
}

/** Runs the queue of process.nextTick and the microtasks until both are empty. */
const runTicks: () => void = (process as unknown as { _tickCallback: () => void })._tickCallback;
if (typeof runTicks !== 'function')
  throw new Error('this Node has no process._tickCallback, which the simulation needs');

export class Loop {
  /** ms since the simulation began */
  #elapsed = 0;
  /** libuv's idea of the time: it is asked for once an iteration and after the poll. */
  #loopTime = 0;
  /** The time of the event of the world that is happening, else undefined. */
  #worldTime: number | undefined;
  #order = 0;
  #stalledFor = 0;
  #serverTimers = 0;
  #callbacks = 0;
  #immediates: FakeImmediate[] = [];
  #closing: (() => void)[] = [];
  #ready: Pollable[] = [];
  readonly #timers = new TimeQueue<FakeTimer>();
  readonly #events = new TimeQueue<WorldEvent>();
  readonly #stalls: Stall[];
  readonly #pick: (count: number) => number;

  /** @param pick a random whole number below its argument: the order in which the kernel names ready sockets */
  constructor(stalls: readonly Stall[], pick: (count: number) => number) {
    this.#stalls = [...stalls].sort((a, b) => a.at - b.at);
    this.#pick = pick;
  }

  /** ms since the beginning: the server's time, or, within an event of the world, the world's. */
  get time(): number {
    return this.#worldTime ?? this.#elapsed;
  }

  /** ms that the server's loop has been stalled in all. */
  get stalledFor(): number {
    return this.#stalledFor;
  }

  /** Timers and immediates that the server has set and that haven't run. */
  get pending(): number {
    let immediates = 0;
    for (const immediate of this.#immediates) if (immediate.callback !== undefined) immediates++;
    return this.#serverTimers + immediates;
  }

  /** How many callbacks of the server have run. */
  get callbacks(): number {
    return this.#callbacks;
  }

  /** Something happens outside of the server, `delay` ms from now. */
  after(delay: number, happen: () => void): void {
    this.at(this.time + delay, happen);
  }

  /** Something happens outside of the server. */
  at(at: number, happen: () => void): void {
    this.#events.add({ at, order: this.#order++, happen });
  }

  /** The application's own setTimeout. */
  applicationTimer(ms: number, callback: () => void): void {
    this.#setTimeout(callback, ms, true);
  }

  /** The kernel has something to report. */
  mark(pollable: Pollable): void {
    if (pollable.marked) return;
    pollable.marked = true;
    this.#ready.push(pollable);
  }

  /** libuv's closing phase: the last of an iteration. */
  closing(callback: () => void): void {
    this.#closing.push(callback);
  }

  /** The server is busy for so long. */
  burn(ms: number): void {
    this.#elapsed += ms;
    this.#stalledFor += ms;
  }

  /** Runs one callback of the server, and what follows from it before the loop goes on. */
  call(callback: () => void): void {
    this.#catchUp();
    this.#callbacks++;
    callback();
    runTicks();
    this.#elapsed += CALLBACK;
  }

  /**
   * Runs until `done`, or until nothing will ever happen again, or for `limit` ms.
   *
   * @returns false: it is not done
   */
  run(done: () => boolean, limit: number): boolean {
    const until = this.#elapsed + limit;
    while (!done()) {
      if (this.#elapsed > until) return false;
      const [stall] = this.#stalls;
      if (stall !== undefined && stall.at <= this.#elapsed) {
        this.#stalls.shift();
        this.burn(stall.ms);
      }
      this.#loopTime = Math.floor(this.#elapsed);
      this.#runTimers();
      if (!this.#poll(until)) return done();
      this.#runImmediates();
      for (const close of this.#closing.splice(0)) this.call(close);
    }
    return true;
  }

  /** The timer functions and clocks of this process are this loop's while `run` runs. */
  within<T>(run: () => T): T {
    const real = { setTimeout, clearTimeout, setImmediate, clearImmediate };
    const realDateNow = Date.now;
    const now = (): number => EPOCH + this.#elapsed;
    Object.assign(globalThis, {
      setTimeout: (callback: (...args: unknown[]) => void, ms?: number, ...args: unknown[]) =>
        this.#setTimeout(() => callback(...args), ms, false),
      clearTimeout: (timer?: FakeTimer) => timer?.cancel(),
      setImmediate: (callback: (...args: unknown[]) => void, ...args: unknown[]) => {
        const immediate = new FakeImmediate(() => callback(...args));
        this.#immediates.push(immediate);
        return immediate;
      },
      clearImmediate: (immediate?: FakeImmediate) => {
        if (immediate !== undefined) immediate.callback = undefined;
      },
    });
    Date.now = () => Math.floor(now());
    Object.defineProperty(performance, 'now', { value: now, configurable: true, writable: true });
    try {
      return run();
    } finally {
      Object.assign(globalThis, real);
      Date.now = realDateNow;
      Reflect.deleteProperty(performance, 'now');
    }
  }

  /** A timer was cancelled. */
  forgot(timer: FakeTimer): void {
    if (!timer.application) this.#serverTimers--;
  }

  #setTimeout(callback: () => void, ms: number | undefined, application: boolean): FakeTimer {
    const delay = ms !== undefined && ms >= 1 && ms < 2 ** 31 ? Math.trunc(ms) : 1;
    // Node counts from libuv's idea of the time, which is older than the clock's.
    const timer = new FakeTimer(this, this.#loopTime + delay, this.#order++, callback, application);
    this.#timers.add(timer);
    if (!application) this.#serverTimers++;
    return timer;
  }

  /** The world goes on while the server is busy. */
  #catchUp(): void {
    for (let event = this.#events.first; event !== undefined && event.at <= this.#elapsed; event = this.#events.first) {
      this.#happen();
    }
  }

  #happen(): void {
    const event = this.#events.take();
    if (event === undefined) return;
    this.#worldTime = event.at;
    event.happen();
    this.#worldTime = undefined;
  }

  #runTimers(): void {
    for (;;) {
      const timer = this.#timers.first;
      if (timer === undefined || timer.at > this.#loopTime) return;
      this.#timers.take();
      const { callback } = timer;
      if (callback === undefined) continue;
      timer.cancel();
      this.call(callback);
      this.#loopTime = Math.floor(this.#elapsed);
    }
  }

  #runImmediates(): void {
    const immediates = this.#immediates;
    if (immediates.length === 0) return;
    this.#immediates = [];
    for (const immediate of immediates) {
      const { callback } = immediate;
      if (callback === undefined) continue;
      immediate.callback = undefined;
      this.call(callback);
    }
  }

  /** Waits for the kernel, then runs what it reports. False: nothing will ever happen again. */
  #poll(until: number): boolean {
    this.#catchUp();
    if (this.#ready.length === 0 && this.#immediates.length === 0 && this.#closing.length === 0) {
      while (this.#timers.first !== undefined && this.#timers.first.callback === undefined) this.#timers.take();
      const wake = Math.min(this.#timers.first?.at ?? Infinity, this.#stalls[0]?.at ?? Infinity, until + 1);
      for (let event = this.#events.first; event !== undefined && event.at <= wake; event = this.#events.first) {
        this.#elapsed = Math.max(this.#elapsed, event.at);
        this.#happen();
        if (this.#ready.length > 0) break;
      }
      if (this.#ready.length === 0) {
        if (this.#timers.size === 0 && this.#events.size === 0 && this.#stalls.length === 0) return false;
        this.#elapsed = Math.max(this.#elapsed, wake);
      }
    }
    this.#loopTime = Math.floor(this.#elapsed);
    const ready = this.#ready;
    this.#ready = [];
    while (ready.length > 0) {
      const at = ready.length === 1 ? 0 : this.#pick(ready.length);
      const [pollable] = ready.splice(at, 1);
      if (pollable === undefined) break;
      pollable.marked = false;
      pollable.poll();
    }
    return true;
  }
}
