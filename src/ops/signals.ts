/**
 * Signals: the first one shuts the server down and ends the process, a second one cuts what is left. A cluster's
 * `worker.disconnect()` is one, too. How a shutdown goes is the server's; this file decides when it starts, when it is
 * cut short, how long cleaning up may take, and with which exit code the process ends.
 */
import cluster from 'node:cluster';
import { once } from 'node:events';
import { constants } from 'node:os';
import { duration, givenOptions, optionRangeError, optionsObject, optionTypeError } from '../core/options.js';
import type { DrainSummary } from '../core/report.js';
import { now } from '../core/timing.js';
import { SHUTDOWN_TIMEOUT, type ShutdownOptions, shutdownSettings } from '../stop.js';
import type { Stoppable } from './drainable.js';

/** Why a process shuts down: a signal, or its cluster's primary has disconnected it. */
export type ShutdownCause = NodeJS.Signals | 'disconnect';

/**
 * Something to do when nothing is connected any more: close the database, flush the logs.
 *
 * @param signal aborted when the time is up; the process ends then
 */
export type Cleanup = (summary: DrainSummary, signal: AbortSignal) => unknown;

export interface SignalOptions {
  /**
   * How each signal shuts the server down, over its defaults; `false` leaves a signal alone. Others may be added.
   * Defaults: `SIGTERM: { delay: 5_000 }`, or a fifth of a shorter `timeout`; `SIGINT: { idleWait: 0 }` on a terminal, else `{ idleWait: 1_000 }`; on
   * Windows SIGBREAK as SIGINT.
   */
  readonly signals?: Readonly<Partial<Record<NodeJS.Signals, ShutdownOptions | false>>>;
  /** ms for everything, from the signal to the end of the process, `cleanup` included (default 25,000). */
  readonly timeout?: number;
  /** Run one after the other when nothing is connected any more, for what `timeout` has left, but at least a second. */
  readonly cleanup?: Cleanup | readonly Cleanup[];
  /** Called when a shutdown begins, and again when a second signal cuts it. When it fails, that is printed to stderr. */
  readonly onSignal?: (cause: ShutdownCause, step: 'drain' | 'cut') => unknown;
}

const SIGNAL_OPTIONS = ['signals', 'timeout', 'cleanup', 'onSignal'] as const;

/** Exit codes of a process that was shut down. Of several servers, what comes first here counts. */
const EXIT = [
  /** Requests were cut, or connections that nobody knew: the timeout or a second signal came first. */
  ['cut', 1],
  /** A cleanup failed, or did not end in time. */
  ['unclean', 3],
  /** No request was cut, but some arrived too late to be served (HTTP/1.1). */
  ['lossy', 2],
  /** Nothing was lost. */
  ['drained', 0],
] as const;
type Outcome = (typeof EXIT)[number][0];

/** How long after SIGTERM a balancer may take to notice, in ms, but no more of the whole budget than this part. */
const SIGTERM_DELAY = 5_000;
const DELAY_PART = 0.2;

/** On a terminal somebody waits: how long idle connections may bring one more request, in ms. */
const SIGINT_IDLE_WAIT = { terminal: 0, otherwise: 1_000 };

/**
 * npm passes the terminal's Ctrl-C on to a process that has had it already: under npm, a signal within this time (ms)
 * of the first is its echo.
 */
const NPM_ECHO = 250;

/** How long a cut may take until the process ends all the same, in ms: a connection's own 250 to flush, and some. */
const CUT_GRACE = 1_000;

/** What a cleanup has in any case, in ms. */
const MIN_CLEANUP = 1_000;

/** setTimeout's largest delay. */
const MAX_TIMEOUT = 2 ** 31 - 1;

/** The signals that are listened to, and how each shuts down, without options. */
export function defaultSignals(
  timeout = SHUTDOWN_TIMEOUT,
  platform: NodeJS.Platform = process.platform,
  onTerminal = process.stdin.isTTY === true,
): Partial<Record<NodeJS.Signals, ShutdownOptions>> {
  const interrupt = { idleWait: onTerminal ? SIGINT_IDLE_WAIT.terminal : SIGINT_IDLE_WAIT.otherwise };
  return {
    SIGTERM: { delay: Math.min(SIGTERM_DELAY, timeout * DELAY_PART) },
    SIGINT: interrupt,
    // Ctrl-Break; SIGTERM never comes there.
    ...(platform === 'win32' && { SIGBREAK: interrupt }),
  };
}

/** The listeners of this file: they know of each other, and of no others. */
const ours = new WeakSet<object>();

/** Shutdowns under way in this process, cleaning up included: it ends with the last of them. */
let underWay = 0;
let worst: number = EXIT.length - 1;

/**
 * Shuts the server down on signals and ends the process. Call it before `listen()`: a signal that comes while the
 * application still starts then ends it in order.
 *
 * ```ts
 * onSignals(server, { cleanup: () => database.end() });
 * ```
 *
 * The first signal drains, a second one cuts what is left. The exit code is 0 when nothing was lost, 1 when requests
 * were cut, 2 when requests arrived too late to be served, 3 when a cleanup failed or didn't end in time. Of several
 * servers in one process, each with an `onSignals` of its own, the last ends the process, with the worst code. In a
 * `node:cluster` worker, the primary's `worker.disconnect()` does what a signal does, without delay.
 *
 * @returns a function that takes the listeners away again
 * @throws {TypeError} ERR_LASTCALL_OPTION when an option is unknown or of the wrong type
 * @throws {RangeError} ERR_LASTCALL_OPTION when an option is out of its range
 */
export function onSignals(server: Stoppable, options: SignalOptions = {}): (() => void) & Disposable {
  const settings = signalSettings(options);
  const shutdown = new SignalShutdown(server, settings);
  // A worker is disconnected by closing its servers; one that has none of the cluster's hears of nothing else than that.
  const onDisconnect = (): void => {
    if (cluster.worker?.exitedAfterDisconnect === true) shutdown.handle('disconnect');
  };
  const listeners = [...settings.signals.keys()].map((name) => {
    const listener = (): void => {
      warnOfOthers(name);
      shutdown.handle(name);
    };
    ours.add(listener);
    return { name, listener };
  });
  for (const { name, listener } of listeners) {
    warnOfOthers(name);
    process.on(name, listener);
  }
  server.on?.('stopping', onDisconnect);
  if (cluster.isWorker) process.on('disconnect', onDisconnect);
  const dispose = (): void => {
    for (const { name, listener } of listeners) process.off(name, listener);
    server.off?.('stopping', onDisconnect);
    process.off('disconnect', onDisconnect);
  };
  return Object.assign(dispose, { [Symbol.dispose]: dispose });
}

/** What the server is asked for; its own defaults hold for what isn't here. */
type Asked = ShutdownOptions & { readonly timeout: number };

interface SignalSettings {
  readonly signals: ReadonlyMap<NodeJS.Signals, Asked>;
  readonly disconnect: Asked;
  readonly cleanup: readonly Cleanup[];
  readonly onSignal: SignalOptions['onSignal'];
}

function signalSettings(options: SignalOptions): SignalSettings {
  optionsObject('onSignals', options, SIGNAL_OPTIONS);
  const { signals: each = {}, cleanup = [], onSignal } = options;
  const given: SignalOptions['signals'] & object = givenOptions('onSignals.signals', each, Object.keys(each));
  const timeout = duration('onSignals.timeout', options.timeout, SHUTDOWN_TIMEOUT, { infinite: true });
  const hooks: readonly Cleanup[] = typeof cleanup === 'function' ? [cleanup] : cleanup;
  if (!Array.isArray(hooks) || hooks.some((hook) => typeof hook !== 'function'))
    throw optionTypeError('onSignals.cleanup', 'a function or an array of functions', cleanup);
  if (onSignal !== undefined && typeof onSignal !== 'function')
    throw optionTypeError('onSignals.onSignal', 'a function', onSignal);
  const signals = new Map<NodeJS.Signals, Asked>();
  for (const name of Object.keys({ ...defaultSignals(), ...given }) as NodeJS.Signals[]) {
    const own = given[name];
    if (own === false) continue;
    const option = `onSignals.signals.${name}`;
    if (own !== undefined && (typeof own !== 'object' || own === null))
      throw optionTypeError(option, 'an object or false', own);
    if (!SIGNALS.includes(name)) throw optionRangeError(option, 'a signal that can be caught', name);
    const defaults = { timeout, ...defaultSignals(own?.timeout ?? timeout)[name] };
    const asked: Asked = { ...defaults, ...givenOptions(option, own, Object.keys(own ?? {})) };
    signals.set(name, { ...asked, timeout: shutdownSettings(asked, {}, option).timeout });
  }
  return { signals, disconnect: { timeout, idleWait: SIGINT_IDLE_WAIT.otherwise }, cleanup: hooks, onSignal };
}

/** Those that this system or Windows has, and a process can listen to. */
const SIGNALS: readonly string[] = [...Object.keys(constants.signals), 'SIGBREAK'].filter(
  (name) => name !== 'SIGKILL' && name !== 'SIGSTOP',
);

const warned = new Set<string>();

/** Whoever else listens for a signal may end the process, or close the server in its own way, while we drain. */
function warnOfOthers(name: NodeJS.Signals): void {
  if (warned.has(name) || process.listeners(name).every((listener) => ours.has(listener))) return;
  warned.add(name);
  process.emitWarning(
    `another listener for ${name} exists: if it ends the process or closes the server, requests are lost that onSignals would have had served`,
    { code: 'LASTCALL_SIGNAL_LISTENER' },
  );
}

/** What is awaited of a shutdown; of a server made elsewhere also how many connections were left that nobody knew. */
type Summary = Awaited<ReturnType<Stoppable['shutdown']>>;

/**
 * One server's way to the end of its process.
 *
 * ```
 * serving ──► ending ──► over
 * ```
 * - `ending`: it is shut down, then cleaned up after. A second signal cuts either.
 * - `over`: other servers keep the process.
 *
 * A listen() that was under way when the signal came, or follows it, may succeed all the same: until the process ends,
 * a server that listens has it shut down again, and so has whatever connects once it is shut down.
 */
class SignalShutdown {
  readonly #server: Stoppable;
  readonly #settings: SignalSettings;
  readonly #cut = new AbortController();
  #state: 'serving' | 'ending' | 'over' = 'serving';
  /** Shutdowns of the server that are under way: a second one, when it listens anew in the middle of the first. */
  #drains = 0;
  /** Resolves when those that have begun since the first are over. */
  #again: Promise<unknown> = Promise.resolve();
  #startedAt = 0;

  constructor(server: Stoppable, settings: SignalSettings) {
    this.#server = server;
    this.#settings = settings;
  }

  handle(cause: ShutdownCause): void {
    if (this.#state === 'serving') {
      this.#state = 'ending';
      this.#startedAt = now();
      underWay++;
      this.#tell(cause, 'drain');
      void this.#run(this.#asked(cause));
    } else if (cause !== 'disconnect') this.#handleAgain(cause);
  }

  #handleAgain(cause: ShutdownCause): void {
    const echo = process.env.npm_lifecycle_event === undefined ? 0 : NPM_ECHO;
    if (now() - this.#startedAt < echo || this.#cut.signal.aborted) return;
    if (this.#drains > 0 || this.#state !== 'over') this.#tell(cause, 'cut');
    this.#cut.abort();
    setTimeout(() => {
      if (this.#drains === 0) return;
      for (const connection of this.#server.connections) connection.destroy();
      process.exit(1);
    }, CUT_GRACE).unref();
  }

  /** What it makes of that, failures included, is no reason to end otherwise. */
  #tell(cause: ShutdownCause, step: 'drain' | 'cut'): void {
    const failed = (error: unknown): void => console.error('lastcall: onSignal failed:', error);
    try {
      Promise.resolve(this.#settings.onSignal?.(cause, step)).catch(failed);
    } catch (error) {
      failed(error);
    }
  }

  async #run(asked: Asked): Promise<void> {
    const until = this.#startedAt + asked.timeout;
    const again = (): void => this.#shutDownAgain({ ...asked, delay: 0 }, until);
    this.#server.on?.('listening', again);
    this.#server.connections.on('open', () => {
      if (this.#drains === 0) again();
    });
    const summary = await this.#shutDown(asked);
    if (this.#isInUse) again();
    await this.#allAgain();
    const clean = await this.#cleanUp(summary, until);
    this.#state = 'over';
    end(outcomeOf(summary), clean ? 'drained' : 'unclean');
  }

  async #shutDown(asked: Asked): Promise<Summary> {
    const cut = this.#cut.signal;
    const signal = asked.signal === undefined ? cut : AbortSignal.any([asked.signal, cut]);
    this.#drains++;
    const summary = await this.#server.shutdown({ ...asked, signal });
    this.#drains--;
    return summary;
  }

  #shutDownAgain(asked: Asked, until: number): void {
    const timeout = until - now();
    if (timeout <= 0 || this.#cut.signal.aborted) {
      // Somebody who listens again whenever it closes must keep neither the process nor the event loop.
      setImmediate(() => void this.#server.shutdown({ ...asked, timeout: 0 }));
      return;
    }
    underWay++;
    const over = this.#shutDown({ ...asked, timeout }).then(async (summary) => {
      // Whatever it is that is left needs the event loop to go.
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#isInUse) this.#shutDownAgain(asked, until);
      end(outcomeOf(summary));
    });
    this.#again = Promise.all([this.#again, over]);
  }

  /** Those that begin meanwhile, too. */
  async #allAgain(): Promise<void> {
    for (let waited: unknown; waited !== this.#again; ) {
      waited = this.#again;
      await waited;
    }
  }

  /** It listens, or somebody is connected, and nothing shuts it down. */
  get #isInUse(): boolean {
    return this.#drains === 0 && (this.#server.ready === true || this.#server.connections.size > 0);
  }

  #asked(cause: ShutdownCause): Asked {
    const { signals, disconnect } = this.#settings;
    return (cause === 'disconnect' ? undefined : signals.get(cause)) ?? disconnect;
  }

  /** Whether all of it succeeded in time. */
  async #cleanUp(summary: DrainSummary, until: number): Promise<boolean> {
    const { cleanup } = this.#settings;
    if (cleanup.length === 0) return true;
    const over = new AbortController();
    const cut = this.#cut.signal;
    const left = cut.aborted ? MIN_CLEANUP : Math.max(MIN_CLEANUP, until - now());
    const timer = setTimeout(() => over.abort(), Math.min(MAX_TIMEOUT, left));
    cut.addEventListener('abort', () => over.abort());
    const late = once(over.signal, 'abort').then(() => false);
    const done = (async () => {
      let clean = true;
      for (const hook of cleanup) {
        try {
          if (!over.signal.aborted) await hook(summary, over.signal);
        } catch (error) {
          clean = false;
          console.error('lastcall: a cleanup failed:', error);
        }
      }
      return clean;
    })();
    const clean = await Promise.race([done, late]);
    clearTimeout(timer);
    return clean;
  }
}

function outcomeOf({ outcomes, unknown = 0 }: Summary): Outcome {
  if (outcomes.forced > 0 || unknown > 0) return 'cut';
  return outcomes.lossy > 0 ? 'lossy' : 'drained';
}

/** Something is over: ends the process, unless something else is under way. The worst of all outcomes counts. */
function end(...outcomes: Outcome[]): void {
  for (const outcome of outcomes) {
    worst = Math.min(
      worst,
      EXIT.findIndex(([name]) => name === outcome),
    );
  }
  underWay--;
  if (underWay === 0) process.exit(EXIT[worst]?.[1]);
}
