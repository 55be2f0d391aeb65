/**
 * Recycling: connections that are old, used up or idle for long are drained, one by one, while all others go on. This
 * file decides when; the drain is an ordinary one that cuts nothing. How long an idle connection is kept in any case is
 * keep-alive.ts's.
 *
 * There is no timer per connection, let alone per request. Connections wait in buckets of time, and one alarm rings for
 * the next bucket; a request only notes when it ended, and whoever turns out to have been active is put back.
 */
import type { ConnectionState } from './connection.js';
import { duration, integer, optionRangeError, optionsObject, optionTypeError } from './options.js';
import { type DrainOptions, type DrainSettings, drainSettings } from './shutdown.js';
import { Alarm, now } from './timing.js';

/** When connections are drained by themselves; nothing is by default. */
export interface RecycleOptions {
  /** ms after which a connection is drained (default: never). */
  maxAge?: number;
  /** How much earlier than `maxAge` it may be, as a share of it, so that what came together doesn't go together (default 0.1). */
  jitter?: number;
  /** Requests after which a connection is drained; the last one is served (default: any number). */
  maxRequests?: number;
  /** ms without a request after which a connection is drained (default: never; `keepAlive.hold` holds all the same). */
  maxIdle?: number;
  /** ms from the announcement until what is left is cut (default `Infinity`: never). */
  timeout?: number;
}

const RECYCLE_OPTIONS = ['maxAge', 'jitter', 'maxRequests', 'maxIdle', 'timeout'] as const;

/** Why a connection is recycled. */
export type RecycleCause = 'age' | 'requests' | 'idle';

/** RecycleOptions with every default in place. */
export interface RecycleSettings {
  readonly maxAge: number;
  readonly jitter: number;
  readonly maxRequests: number;
  readonly maxIdle: number;
  /** What the drains are like. */
  readonly drain: Readonly<Record<RecycleCause, DrainSettings>>;
}

/**
 * Checks the options and fills in their defaults; `undefined` when nothing is to be recycled.
 *
 * @param defaults the server's defaults for every drain; its `timeout` doesn't apply
 * @param advertise `keepAlive.advertise`: a shorter `maxIdle` would break the promise
 * @throws {TypeError} ERR_LASTCALL_OPTION when an option is unknown or of the wrong type
 * @throws {RangeError} ERR_LASTCALL_OPTION when an option is out of its range
 */
export function recycleSettings(
  options: RecycleOptions | undefined,
  defaults: DrainOptions,
  advertise: number,
): RecycleSettings | undefined {
  optionsObject('recycle', options, RECYCLE_OPTIONS);
  const { maxRequests = Infinity, jitter = 0.1 } = options ?? {};
  if (typeof jitter !== 'number' || Number.isNaN(jitter)) throw optionTypeError('recycle.jitter', 'a number', jitter);
  if (jitter < 0 || jitter >= 1) throw optionRangeError('recycle.jitter', 'at least 0 and less than 1', jitter);
  const maxIdle = duration('recycle.maxIdle', options?.maxIdle, Infinity, { min: 1, infinite: true });
  if (maxIdle <= advertise) {
    throw optionRangeError('recycle.maxIdle', `longer than keepAlive.advertise (${advertise} ms)`, maxIdle);
  }
  const settings = {
    maxAge: duration('recycle.maxAge', options?.maxAge, Infinity, { min: 1, infinite: true }),
    jitter,
    maxRequests:
      maxRequests === Infinity ? Infinity : integer('recycle.maxRequests', maxRequests, 0, 1, Number.MAX_SAFE_INTEGER),
    maxIdle,
  };
  const timeout = duration('recycle.timeout', options?.timeout, Infinity, { infinite: true });
  if (Math.min(settings.maxAge, settings.maxRequests, settings.maxIdle) === Infinity) return undefined;
  const drain = (reason: string, more: DrainOptions = {}): DrainSettings =>
    drainSettings({ ...defaults, reason, ...more, timeout });
  return {
    ...settings,
    drain: {
      age: drain('maximum age'),
      requests: drain('maximum requests'),
      // It has had its time to bring one more request.
      idle: drain('maximum idle time', { idleWait: 0 }),
    },
  };
}

/** A connection, as far as recycling looks at it. */
export interface Recyclable {
  readonly state: ConnectionState;
  /** Requests in flight. */
  readonly active: number;
  readonly closed: Promise<void>;
}

/** Who is told of every request of a connection. */
export interface RequestObserver {
  /** A request was accepted, and counted in `active`. */
  began(): void;
  /** A request is over, and not counted in `active` any more. */
  ended(): void;
}

/** A bucket is this part of the shortest limit, in ms within the bounds below. */
const BUCKETS_PER_LIMIT = 20;
const MIN_BUCKET = 10;
const MAX_BUCKET = 1_000;

/** How many drains may begin in one turn of the event loop: a few ms of work. */
const TURN_LIMIT = 64;

export class Recycler<Conn extends Recyclable> {
  readonly settings: RecycleSettings;
  readonly #begin: (connection: Conn, settings: DrainSettings) => unknown;
  readonly #random: () => number;
  /** ms that a bucket spans. */
  readonly #span: number;
  /** By the number of the span at whose beginning its entries are looked at. */
  readonly #buckets = new Map<number, Set<Entry<Conn>>>();
  readonly #alarm = new Alarm(() => this.#look());

  /**
   * @param begin begins the drain of a connection
   * @param random numbers from 0 up to 1, for the jitter
   */
  constructor(
    settings: RecycleSettings,
    begin: (connection: Conn, settings: DrainSettings) => unknown,
    random: () => number = Math.random,
  ) {
    this.settings = settings;
    this.#begin = begin;
    this.#random = random;
    const shortest = Math.min(settings.maxAge, settings.maxIdle);
    this.#span = Math.min(MAX_BUCKET, Math.max(MIN_BUCKET, shortest / BUCKETS_PER_LIMIT));
  }

  /** Looks after a connection from now on; whoever counts its requests tells the observer that this returns. */
  watch(connection: Conn): RequestObserver {
    const { maxAge, jitter } = this.settings;
    const entry = new Entry(this, connection, now() + maxAge * (1 - jitter * this.#random()));
    this.#put(entry);
    void connection.closed.then(() => this.#forget(entry));
    return entry;
  }

  /** Connections that wait in a bucket. */
  get waiting(): number {
    let count = 0;
    for (const bucket of this.#buckets.values()) count += bucket.size;
    return count;
  }

  /** Drains a connection, unless a drain is under way or it is closed. */
  recycle(entry: Entry<Conn>, cause: RecycleCause): void {
    this.#forget(entry);
    const { connection } = entry;
    if (isLive(connection)) this.#begin(connection, this.settings.drain[cause]);
  }

  /** Puts it where it will be looked at when its time may be over; never before. */
  #put(entry: Entry<Conn>): void {
    const at = Math.min(entry.oldAt, entry.idleAt(this.settings.maxIdle));
    if (at === Infinity) return;
    const span = Math.ceil(at / this.#span);
    let bucket = this.#buckets.get(span);
    if (bucket === undefined) {
      bucket = new Set();
      this.#buckets.set(span, bucket);
    }
    bucket.add(entry);
    entry.span = span;
    this.#alarm.atMost(span * this.#span);
  }

  #forget(entry: Entry<Conn>): void {
    const bucket = this.#buckets.get(entry.span);
    if (bucket?.delete(entry) === true && bucket.size === 0) this.#buckets.delete(entry.span);
  }

  #look(): void {
    const at = now();
    let begun = 0;
    let next = Infinity;
    for (const [span, bucket] of this.#buckets) {
      if (span * this.#span > at || begun >= TURN_LIMIT) {
        next = Math.min(next, span * this.#span);
        continue;
      }
      for (const entry of bucket) {
        if (begun >= TURN_LIMIT) break;
        if (this.#lookAt(entry, at)) begun++;
      }
      if (bucket.size > 0) next = at;
    }
    this.#alarm.atMost(next);
  }

  /** Whether its drain began. */
  #lookAt(entry: Entry<Conn>, at: number): boolean {
    const cause: RecycleCause | undefined =
      entry.oldAt <= at ? 'age' : entry.idleAt(this.settings.maxIdle) <= at ? 'idle' : undefined;
    if (cause !== undefined) {
      this.recycle(entry, cause);
      return true;
    }
    this.#forget(entry);
    if (isLive(entry.connection)) this.#put(entry);
    return false;
  }
}

function isLive({ state }: Recyclable): boolean {
  return state === 'handshaking' || state === 'open';
}

/** One connection that is looked after. */
class Entry<Conn extends Recyclable> implements RequestObserver {
  readonly connection: Conn;
  /** When it is too old, on the `now()` clock. */
  readonly oldAt: number;
  /** The number of the span in whose bucket it is. */
  span = 0;
  readonly #recycler: Recycler<Conn>;
  #requests = 0;
  #idleSince = now();

  constructor(recycler: Recycler<Conn>, connection: Conn, oldAt: number) {
    this.#recycler = recycler;
    this.connection = connection;
    this.oldAt = oldAt;
  }

  /** When it has been idle for too long, on the `now()` clock, as far as is known now. */
  idleAt(maxIdle: number): number {
    return (this.connection.active > 0 ? now() : this.#idleSince) + maxIdle;
  }

  began(): void {
    if (++this.#requests === this.#recycler.settings.maxRequests) this.#recycler.recycle(this, 'requests');
  }

  ended(): void {
    this.#idleSince = now();
  }
}
