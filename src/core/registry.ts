/**
 * The connections of a server: iterate, look up, select, drain those that live, and what became of the requests of all.
 * How one connection is drained is shutdown.ts's.
 */
import { EventEmitter } from 'node:events';
import type { Connection, LiveConnection } from './connection.js';
import { type CompiledFilter, type ConnectionFilter, compileFilter } from './filter.js';
import { optionTypeError } from './options.js';
import { type DrainSummary, noRequests, type RequestCounts, summarize } from './report.js';
import { emitApart } from './rethrow.js';
import { type DrainSettings, drain } from './shutdown.js';
import { drainInWaves, type WaveSettings } from './waves.js';

interface RegistryEvents {
  open: [connection: Connection];
  close: [connection: Connection];
}

/** The live connections of a server; emits `'open'` when one is accepted and `'close'` when it is gone. */
export class Registry extends EventEmitter<RegistryEvents> implements Iterable<Connection> {
  readonly #live = new Map<number, LiveConnection>();
  /** Of the connections that are closed. */
  readonly #ended = noRequests();
  /** Who is told of connections beside the events: more than ten drains at once are no leak of listeners. */
  readonly #openWatchers = new Set<Watcher>();
  readonly #closeWatchers = new Set<Watcher>();

  /** Registers a connection until it closes. */
  add(connection: LiveConnection): void {
    this.#live.set(connection.id, connection);
    void connection.closed.then(() => {
      this.#live.delete(connection.id);
      addTo(this.#ended, connection.counts);
      for (const watcher of this.#closeWatchers) watcher(connection);
      emitApart(this, 'close', connection);
    });
    for (const watcher of this.#openWatchers) watcher(connection);
    emitApart(this, 'open', connection);
  }

  /** Live connections, those in the handshake included. */
  get size(): number {
    return this.#live.size;
  }

  /**
   * How every request has ended since the server was made, of closed connections and of live ones: counters that only
   * grow, for exporters. Also what no report tells of: requests that were lost when a connection was closed because it
   * was idle, recycled, or drained to make room.
   */
  get requests(): Readonly<RequestCounts> {
    const all = { ...this.#ended };
    for (const { counts } of this.#live.values()) addTo(all, counts);
    return all;
  }

  get(id: number): Connection | undefined {
    return this.#live.get(id);
  }

  [Symbol.iterator](): Iterator<Connection> {
    return this.#live.values();
  }

  /** Every live connection, as whoever drives it sees it. */
  live(): LiveConnection[] {
    return [...this.#live.values()];
  }

  /**
   * The live connections that a filter names, oldest first.
   *
   * @throws {TypeError} ERR_LASTCALL_OPTION when the filter is empty, unknown or has an undefined value
   * @throws {RangeError} ERR_LASTCALL_OPTION for a value out of its range
   */
  select(filter: ConnectionFilter): Connection[] {
    return compileFilter(filter).select(this.#live.values());
  }

  /**
   * Drains what the filter names now, in waves; connections accepted later are its business only if they are to follow.
   *
   * @throws {TypeError} ERR_LASTCALL_OPTION for a filter as in `select`, or one that takes a sample where others follow
   * @throws {RangeError} ERR_LASTCALL_OPTION for a value out of its range
   */
  drain(filter: ConnectionFilter, settings: DrainSettings, waves: WaveSettings): Promise<DrainSummary> {
    const compiled = compileFilter(filter);
    if (waves.follow && compiled.sampled)
      throw optionTypeError('drain.follow', 'false when the filter takes a sample', true);
    return this.#drain(compiled, compiled.select(this.#live.values()), settings, waves);
  }

  async #drain(
    filter: CompiledFilter,
    members: readonly LiveConnection[],
    settings: DrainSettings,
    waves: WaveSettings,
  ): Promise<DrainSummary> {
    const newcomers = waves.follow ? new Newcomers(filter, this.#openWatchers, this.#closeWatchers) : undefined;
    try {
      const { reports, duration, ...rest } = await drainInWaves(
        members,
        (connection) => drain(connection, settings),
        waves,
        newcomers && (() => newcomers.take()),
        (closed) => watch(this.#closeWatchers, closed),
      );
      return summarize(reports, duration, rest);
    } finally {
      newcomers?.stop();
    }
  }
}

type Watcher = (connection: LiveConnection) => void;

/** @returns stops it */
function watch(watchers: Set<Watcher>, watcher: Watcher): () => void {
  watchers.add(watcher);
  return () => void watchers.delete(watcher);
}

function addTo(sum: RequestCounts, counts: Readonly<RequestCounts>): void {
  for (const key of Object.keys(sum) as (keyof RequestCounts)[]) sum[key] += counts[key];
}

/** Connections that were accepted since, until they match a filter. */
class Newcomers {
  readonly #filter: CompiledFilter;
  readonly #candidates = new Set<LiveConnection>();
  readonly #unwatch: readonly (() => void)[];

  constructor(filter: CompiledFilter, opens: Set<Watcher>, closes: Set<Watcher>) {
    this.#filter = filter;
    this.#unwatch = [
      watch(opens, (connection) => this.#candidates.add(connection)),
      watch(closes, (connection) => this.#candidates.delete(connection)),
    ];
  }

  /** Those that match now, each once. */
  take(): LiveConnection[] {
    const matching = this.#filter.select(this.#candidates);
    for (const connection of matching) this.#candidates.delete(connection);
    return matching;
  }

  stop(): void {
    for (const unwatch of this.#unwatch) unwatch();
  }
}
