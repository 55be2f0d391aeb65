/**
 * gracefulShutdown: the phases of a drain and its deadline, for every protocol. What a phase means on the wire belongs
 * to the protocol's driver.
 */
import { type Connection, LiveConnection } from './connection.js';
import type { DrainTerms, Driver } from './driver.js';
import { duration, givenOptions, optionRangeError, optionTypeError } from './options.js';
import { type DrainReport, outcomeOf, type RequestCounts } from './report.js';
import { watchForSelfWait } from './self-wait.js';
import { Alarm, now } from './timing.js';

export interface DrainOptions {
  /** ms from the announcement until what is left is cut (default 30,000; `Infinity`: never). */
  timeout?: number;
  /**
   * h2: longest wait in ms for the PING's answer, and for the rest of a request whose head has begun to come, counted from
   * when the PING was written out (default 5,000).
   */
  settle?: number;
  /**
   * h1: how long in ms an idle connection may still bring one request (default: until `keepAlive.hold` runs out, at
   * most `timeout` less `linger` or, if that is less, a quarter of itself; 0 closes at once). Running out of it is no
   * failure.
   */
  idleWait?: number;
  /** ms of the peer's silence after our FIN; every byte received restarts it (default 2,000). */
  linger?: number;
  /** ms that lingering may take in all (default 30,000). */
  lingerMax?: number;
  /** Goes into the GOAWAY's debug data. */
  reason?: string;
  /** Aborting it cuts now. */
  signal?: AbortSignal;
}

export const DRAIN_OPTIONS = ['timeout', 'settle', 'idleWait', 'linger', 'lingerMax', 'reason', 'signal'] as const;

/** GOAWAY debug data is a line for a person, not a document. */
const MAX_REASON = 1024;

/** How long a forced cut may take to flush, in ms. */
const CUT_FLUSH = 250;

/** DrainOptions with every default in place. */
export interface DrainSettings extends Omit<DrainTerms, 'deadline' | 'idleDeadline'> {
  readonly timeout: number;
  readonly signal: AbortSignal | undefined;
  /** ms from the call until the connection is closed, lingering included: a shutdown's budget. */
  readonly budget: number;
}

/**
 * Checks drain options and fills in their defaults.
 *
 * @param name how the errors call them
 */
export function drainSettings(
  options: DrainOptions | undefined,
  name = 'drain',
  defaults: DrainOptions = {},
): DrainSettings {
  const given: DrainOptions = { ...defaults, ...givenOptions(name, options, DRAIN_OPTIONS) };
  const { reason = '', signal, idleWait } = given;
  if (typeof reason !== 'string') throw optionTypeError(`${name}.reason`, 'a string', reason);
  if (reason.length > MAX_REASON)
    throw optionRangeError(`${name}.reason`, `at most ${MAX_REASON} characters`, `${reason.length} characters`);
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw optionTypeError(`${name}.signal`, 'an AbortSignal', signal);
  return {
    timeout: duration(`${name}.timeout`, given.timeout, 30_000, { infinite: true }),
    settle: duration(`${name}.settle`, given.settle, 5_000),
    idleWait: idleWait === undefined ? undefined : duration(`${name}.idleWait`, idleWait, 0, { infinite: true }),
    linger: duration(`${name}.linger`, given.linger, 2_000),
    lingerMax: duration(`${name}.lingerMax`, given.lingerMax, 30_000),
    reason,
    signal,
    budget: Infinity,
  };
}

/**
 * Closes one connection without losing a request, while all others go on.
 *
 * The peer is told as early as its protocol lets us, every request that was sent before it could know is served, and
 * the connection is closed when nothing is left. Resolves when it is closed, whatever the peer does; never rejects for
 * what a peer does. Calling it again joins the drain under way: the shorter limits win, each counted from its call.
 *
 * ```ts
 * const report = await gracefulShutdown(connectionOf(req), { timeout: 10_000 });
 * if (report.outcome !== 'drained') log.warn(report);
 * ```
 *
 * Awaited inside a handler of the same connection it would wait for that handler: don't.
 *
 * @param connection a connection of a registry; one that is already closed resolves at once
 * @throws {TypeError} ERR_LASTCALL_OPTION when an option is of the wrong type or unknown, or `connection` is none
 * @throws {RangeError} ERR_LASTCALL_OPTION when an option is out of its range
 */
export function gracefulShutdown(connection: Connection, options: DrainOptions = {}): Promise<DrainReport> {
  if (!(connection instanceof LiveConnection))
    throw optionTypeError('connection', 'a connection of a lastcall registry', connection);
  return drain(connection, drainSettings(options, 'drain', connection.drainDefaults));
}

/** gracefulShutdown with options that were checked before. */
export function drain(connection: LiveConnection, settings: DrainSettings): Promise<DrainReport> {
  const running = drains.get(connection);
  if (running !== undefined) {
    // Once it is closed there is nothing to shorten, and no alarm to leave behind.
    if (connection.state !== 'closed') running.join(settings);
    return running.done;
  }
  const begun = new Drain(connection, settings);
  drains.set(connection, begun);
  begun.run();
  return begun.done;
}

const drains = new WeakMap<LiveConnection, Drain>();

/**
 * What each signal cuts. One listener for all of it: adding one to an AbortSignal looks at every other, which for the
 * 20,000 connections of a shutdown takes seconds.
 */
const cuts = new WeakMap<AbortSignal, Set<() => void>>();

function cutOnAbort(signal: AbortSignal, cut: () => void): void {
  const known = cuts.get(signal);
  if (known !== undefined) {
    known.add(cut);
    return;
  }
  cuts.set(signal, new Set([cut]));
  signal.addEventListener('abort', cutAll, { once: true });
}

function cutNoMore(signal: AbortSignal, cut: () => void): void {
  const known = cuts.get(signal);
  if (known?.delete(cut) !== true || known.size > 0) return;
  cuts.delete(signal);
  signal.removeEventListener('abort', cutAll);
}

function cutAll(this: AbortSignal): void {
  for (const cut of cuts.get(this) ?? []) cut();
}

/**
 * Lingering has to have its part of the timeout, but however short that is, most of it is for the requests that clients
 * are about to send.
 */
const LINGER_PART = 0.25;

/** ms that a connection without a request is kept at most. */
function idleTime({ timeout, linger }: DrainSettings): number {
  return timeout === Infinity ? Infinity : timeout - Math.min(linger, timeout * LINGER_PART);
}

/** One drain of one connection. */
class Drain {
  readonly done: Promise<DrainReport>;
  readonly #connection: LiveConnection;
  readonly #startedAt = now();
  readonly #before: RequestCounts;
  readonly #phases = { announce: 0, settle: 0, finish: 0, linger: 0 };
  /** Rings at the deadline and, once only lingering is left, at the end of the budget. */
  readonly #alarm = new Alarm(() => this.#cut());
  readonly #gone: Promise<undefined>;
  #resolve: (report: DrainReport) => void = () => {};
  #terms: DrainTerms;
  /** When the connection has to be closed, on the `now()` clock. */
  #end: number;
  #forced = false;

  constructor(connection: LiveConnection, settings: DrainSettings) {
    this.#connection = connection;
    this.#gone = connection.closed.then(() => undefined);
    this.#before = { ...connection.counts };
    const { timeout } = settings;
    const idleDeadline = this.#startedAt + idleTime(settings);
    this.#terms = { ...settings, deadline: this.#startedAt + timeout, idleDeadline };
    this.#end = this.#startedAt + settings.budget;
    this.#alarm.set(Math.min(this.#terms.deadline, this.#end));
    this.#cutOn(settings.signal);
    this.done = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  /** Begins it. Whatever the announcement makes the application do, another call of it included, finds it under way. */
  run(): void {
    watchForSelfWait(this.#connection);
    this.#connection.cutRequests.length = 0;
    void this.#run().then(this.#resolve);
  }

  /** A second call: whatever ends sooner wins. */
  join(settings: DrainSettings): void {
    const { idleWait } = settings;
    this.#terms = {
      ...this.#terms,
      deadline: Math.min(this.#terms.deadline, now() + settings.timeout),
      idleDeadline: Math.min(this.#terms.idleDeadline, now() + idleTime(settings)),
      settle: Math.min(this.#terms.settle, settings.settle),
      idleWait: this.#terms.idleWait === undefined ? idleWait : Math.min(this.#terms.idleWait, idleWait ?? Infinity),
      linger: Math.min(this.#terms.linger, settings.linger),
      lingerMax: Math.min(this.#terms.lingerMax, settings.lingerMax),
    };
    this.#end = Math.min(this.#end, now() + settings.budget);
    this.#alarm.atMost(this.#finished ? this.#end : Math.min(this.#terms.deadline, this.#end));
    this.#cutOn(settings.signal);
    this.#connection.driver?.tighten(this.#terms);
    this.#connection.drainTerms = this.#terms;
  }

  async #run(): Promise<DrainReport> {
    const connection = this.#connection;
    if (connection.state !== 'closed') {
      // Announced before anything else runs: an answer that the application writes next already says so.
      connection.driver?.announce(this.#terms);
      connection.moveTo('draining');
      connection.drainBegan();
      await this.#walk(connection.driver ?? (await this.#announceLater()));
      await connection.closed;
    }
    this.#alarm.clear();
    return this.#report();
  }

  /** The protocol isn't known yet: the announcement waits for it. */
  async #announceLater(): Promise<Driver | undefined> {
    const connection = this.#connection;
    connection.drainTerms = this.#terms;
    const established = new Promise<Driver>((resolve) => {
      connection.whenEstablished((driver) => {
        driver.announce(this.#terms);
        resolve(driver);
      });
    });
    return this.#phase('announce', () => established);
  }

  async #walk(driver: Driver | undefined): Promise<void> {
    if (driver === undefined || this.#over) return;
    await this.#phase('settle', () => driver.settle());
    if (this.#over) return;
    driver.commit();
    await this.#phase('finish', () => driver.finish());
    if (this.#over) return;
    // The timeout has been kept: whoever reads the last answer slowly gets it all the same.
    this.#alarm.set(this.#end);
    this.#connection.moveTo('lingering');
    await this.#phase('linger', () => driver.linger());
    this.#connection.reset();
  }

  /** Waits for a phase, or for the end of the connection, whichever comes first. */
  async #phase<T>(name: keyof DrainReport['phases'], run: () => Promise<T>): Promise<T | undefined> {
    const from = now();
    const result = await Promise.race([run(), this.#gone]);
    this.#phases[name] = now() - from;
    return result;
  }

  /** Everything has been answered. */
  get #finished(): boolean {
    return this.#connection.state === 'lingering';
  }

  get #over(): boolean {
    return this.#forced || this.#connection.state === 'closed';
  }

  #cutOn(signal: AbortSignal | undefined): void {
    if (signal === undefined) return;
    if (signal.aborted) {
      setImmediate(this.#cut);
      return;
    }
    cutOnAbort(signal, this.#cut);
    void this.#connection.closed.then(() => cutNoMore(signal, this.#cut));
  }

  /** Time is up: what is open is aborted, and has a moment to tell the peer so. */
  readonly #cut = (): void => {
    if (this.#over) return;
    this.#forced = true;
    const connection = this.#connection;
    connection.destroyedHere = true;
    const cutting = connection.active > 0;
    const end = (): void => connection.reset(undefined, cutting);
    // While it lingers there is nothing to tell.
    const flushed = (this.#finished ? undefined : connection.driver?.cut()) ?? Promise.resolve();
    const timer = setTimeout(end, CUT_FLUSH);
    void flushed.then(() => {
      clearTimeout(timer);
      end();
    });
  };

  #report(): DrainReport {
    const connection = this.#connection;
    const { counts } = connection;
    const before = this.#before;
    const during: RequestCounts = {
      served: counts.served - before.served,
      cancelled: counts.cancelled - before.cancelled,
      malformed: counts.malformed - before.malformed,
      refused: counts.refused - before.refused,
      aborted: counts.aborted - before.aborted,
      unserved: counts.unserved - before.unserved,
    };
    return {
      id: connection.id,
      protocol: connection.protocol,
      outcome: outcomeOf(during, connection.destroyedHere),
      ...during,
      cut: [...connection.cutRequests],
      rtt: connection.driver?.rtt,
      phases: this.#phases,
      duration: now() - this.#startedAt,
    };
  }
}
