/**
 * Stopping a server: for a while it goes on as usual, then it takes in what waits in the accept queue, closes the
 * listener, and drains every connection; or only what has no request in flight. How one connection is drained is
 * core/shutdown.ts's.
 */
import type { Connection, LiveConnection } from './core/connection.js';
import { duration, givenOptions, optionRangeError } from './core/options.js';
import type { Registry } from './core/registry.js';
import { type DrainReport, type DrainSummary, summarize } from './core/report.js';
import { DRAIN_OPTIONS, type DrainOptions, type DrainSettings, drain, drainSettings } from './core/shutdown.js';
import { Alarm, epochNow, now } from './core/timing.js';
import { drainInWaves, type WaveSettings } from './core/waves.js';

/** Options of `server.shutdown`: those of a drain, and how long everything goes on before. */
export interface ShutdownOptions extends DrainOptions {
  /**
   * ms for all of it, `delay` and lingering included; then what is left is cut (default 25,000: within Kubernetes' 30 s).
   */
  timeout?: number;
  /**
   * ms in which all is served as usual, new connections and keep-alive included, so that balancers notice that
   * `server.ready` is false (default 0). A server that isn't listening doesn't wait.
   */
  delay?: number;
}

/** ShutdownOptions with every default in place. */
export interface ShutdownSettings extends DrainSettings {
  readonly delay: number;
}

/** The whole budget of a shutdown, in ms: within Kubernetes' 30 s. */
export const SHUTDOWN_TIMEOUT = 25_000;

/**
 * Checks the options of a shutdown and fills in their defaults.
 *
 * @param name how the errors call them
 * @throws {TypeError} ERR_LASTCALL_OPTION when an option is unknown or of the wrong type
 * @throws {RangeError} ERR_LASTCALL_OPTION when an option is out of its range
 */
export function shutdownSettings(
  options: ShutdownOptions | undefined,
  defaults: DrainOptions = {},
  name = 'shutdown',
): ShutdownSettings {
  const { delay: given, ...each } = givenOptions(name, options, [...DRAIN_OPTIONS, 'delay']);
  const settings = drainSettings(each, name, { ...defaults, timeout: SHUTDOWN_TIMEOUT });
  const delay = duration(`${name}.delay`, given, 0);
  if (delay > settings.timeout) {
    throw optionRangeError(`${name}.delay`, `at most ${name}.timeout (${settings.timeout} ms)`, delay);
  }
  return { ...settings, delay, budget: settings.timeout };
}

/** How many event-loop turns without a new connection mean that the accept queue is empty, */
const QUIET_TURNS = 2;

/** unless one took longer than this, in ms: whoever has connected meanwhile comes in the next. */
const SLOW_TURN = 5;

/** When every turn is slow, as many without a new connection have to do. */
const MAX_SLOW_TURNS = 32;

/**
 * Clients that keep coming must not keep the listener open. An accept queue is first in, first out, and Linux makes none
 * longer than this (net.core.somaxconn) by default: after as many, all that waited when the stop began have been taken in.
 */
const MAX_QUEUE = 4_096;

/**
 * The part of what is left of the budget that emptying the queue may take. Node accepts one connection in a turn of the
 * event loop: a process that is starved of CPU needs seconds for hundreds.
 */
const ACCEPTING_PART = 0.75;

/**
 * However short `idleWait` is: as long, in ms, may a connection that was accepted a moment ago take to bring its first
 * request, which comes two round trips later when it shakes hands.
 */
const FIRST_REQUEST_WAIT = 1_000;

/** All of them as soon as they may, but not in one turn of the event loop: those not told yet go on being served. */
const ALL: WaveSettings = {
  spread: 0,
  concurrency: Infinity,
  signal: undefined,
  onProgress: undefined,
  follow: false,
};

/**
 * ```
 * waiting ──► draining ──► stopped
 * ```
 * - `waiting`: for `delay`, all goes on as usual.
 * - `draining`: every connection is, also those that are accepted before the listener is closed.
 */
type State = 'waiting' | 'draining' | 'stopped';

/** One stop of a server, from the call to the last closed connection. */
export class Stop {
  /** Resolves when the listener, unless the server listens anew, and every connection of before are closed. */
  readonly done: Promise<DrainSummary>;
  readonly #connections: Registry;
  readonly #closeListener: () => Promise<void>;
  readonly #startedAt = now();
  /** Of connections that were accepted since the drains began. */
  readonly #later: Promise<DrainReport>[] = [];
  #state: State = 'waiting';
  #settings: ShutdownSettings;
  #resolve: (summary: DrainSummary) => void = () => {};
  #waited: () => void = () => {};
  readonly #delayed = new Alarm(() => this.#waited());
  /** Aborts when the delay is over: nothing stays behind on signals that live longer. */
  readonly #delayOver = new AbortController();

  /**
   * @param closeListener closes the listener, if it is open, and resolves when it and its sockets are closed, or the
   *   server listens anew
   */
  constructor(connections: Registry, settings: ShutdownSettings, closeListener: () => Promise<void>) {
    this.#connections = connections;
    this.#settings = settings;
    this.#closeListener = closeListener;
    this.done = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  /** Begins it. What the application does when it is told, another call of it included, finds it under way. */
  run(): void {
    void this.#run().then(this.#resolve);
  }

  /** A second call: the shorter limits win, for each connection. What has come since it was over is drained by itself. */
  join(settings: ShutdownSettings): Promise<DrainSummary> {
    if (this.#state === 'stopped') return this.#drainLater(settings);
    const elapsed = now() - this.#startedAt;
    this.#settings = shorter(this.#settings, {
      ...settings,
      timeout: settings.timeout + elapsed,
      budget: settings.budget + elapsed,
    });
    if (this.#state === 'waiting') {
      this.#delayed.atMost(now() + settings.delay);
      this.#waitNoLongerOn(settings.signal);
    } else void drainInWaves(this.#connections.live(), (connection) => this.#drain(connection), ALL);
    return this.done;
  }

  async #drainLater(settings: ShutdownSettings): Promise<DrainSummary> {
    const from = now();
    const live = this.#connections.live();
    const { reports, gone } = await drainInWaves(live, (connection) => drainOf(connection, settings), ALL);
    return summarize(reports, now() - from, { gone });
  }

  async #run(): Promise<DrainSummary> {
    if (this.#settings.delay > 0) await this.#wait();
    this.#state = 'draining';
    const onOpen = (connection: Connection): void => void this.#later.push(this.#drain(connection as LiveConnection));
    this.#connections.on('open', onOpen);
    const drained = drainInWaves(this.#connections.live(), (connection) => this.#drain(connection), ALL);
    await this.#emptyAcceptQueue();
    // Those of a server that listens anew are none of its business.
    const closed = this.#closeListener().then(() => void this.#connections.off('open', onOpen));
    const { reports, gone } = await drained;
    for (let done = -1; done < this.#later.length; ) {
      done = this.#later.length;
      await Promise.all(this.#later);
    }
    await closed;
    this.#state = 'stopped';
    return summarize([...reports, ...(await Promise.all(this.#later))], now() - this.#startedAt, { gone });
  }

  #wait(): Promise<void> {
    return new Promise((resolve) => {
      this.#waited = () => {
        this.#delayed.clear();
        this.#delayOver.abort();
        resolve();
      };
      this.#delayed.set(this.#startedAt + this.#settings.delay);
      this.#waitNoLongerOn(this.#settings.signal);
    });
  }

  /** What cuts connections cuts the delay, too. */
  #waitNoLongerOn(signal: AbortSignal | undefined): void {
    if (signal?.aborted) this.#waited();
    else signal?.addEventListener('abort', this.#waited, { once: true, signal: this.#delayOver.signal });
  }

  /** With what is left of the whole budget. */
  #drain(connection: LiveConnection): Promise<DrainReport> {
    const elapsed = now() - this.#startedAt;
    const { timeout, budget, idleWait } = this.#settings;
    return drainOf(connection, {
      ...this.#settings,
      timeout: Math.max(0, timeout - elapsed),
      budget: Math.max(0, budget - elapsed),
      idleWait,
    });
  }

  /** Closing a listener resets the connections that wait in its accept queue: take them in first. */
  async #emptyAcceptQueue(): Promise<void> {
    const left = this.#startedAt + this.#settings.budget - now();
    const until = now() + left * ACCEPTING_PART;
    let quiet = 0;
    let slow = 0;
    while (quiet < QUIET_TURNS && slow < MAX_SLOW_TURNS && this.#later.length < MAX_QUEUE && now() < until) {
      const before = this.#later.length;
      const began = now();
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#later.length > before) quiet = slow = 0;
      else if (now() - began > SLOW_TURN) {
        quiet = 0;
        slow++;
      } else quiet++;
    }
  }
}

/** Drains the connections that have no request in flight, without waiting for one more. */
export function drainIdle(connections: readonly LiveConnection[], settings: DrainSettings): void {
  const idle = connections.filter(({ active }) => active === 0);
  void drainInWaves(idle, (connection) => drainOf(connection, { ...settings, idleWait: 0 }), ALL);
}

/** A drain that waits for a second at least where a connection's first request may still be on its way. */
export function drainOf(connection: LiveConnection, settings: DrainSettings): Promise<DrainReport> {
  const { idleWait = Infinity } = settings;
  if (idleWait >= FIRST_REQUEST_WAIT || !isNew(connection)) return drain(connection, settings);
  return drain(connection, { ...settings, idleWait: FIRST_REQUEST_WAIT });
}

/** Whether its first request may still be on its way: it shakes hands, or it was accepted a moment ago. */
function isNew({ state, secure, active, served, openedAt }: LiveConnection): boolean {
  if (state === 'handshaking' && secure) return true;
  return active === 0 && served === 0 && epochNow() - openedAt < FIRST_REQUEST_WAIT;
}

/** Of two shutdowns of one server, counted from the same moment: the shorter limits. */
function shorter(a: ShutdownSettings, b: ShutdownSettings): ShutdownSettings {
  const idleWait = Math.min(a.idleWait ?? Infinity, b.idleWait ?? Infinity);
  const signals = [a.signal, b.signal].filter((signal) => signal !== undefined);
  return {
    timeout: Math.min(a.timeout, b.timeout),
    budget: Math.min(a.budget, b.budget),
    delay: Math.min(a.delay, b.delay),
    settle: Math.min(a.settle, b.settle),
    idleWait: a.idleWait === undefined && b.idleWait === undefined ? undefined : idleWait,
    linger: Math.min(a.linger, b.linger),
    lingerMax: Math.min(a.lingerMax, b.lingerMax),
    reason: a.reason || b.reason,
    signal: signals.length > 1 ? AbortSignal.any(signals) : signals[0],
  };
}
