/**
 * The live connections of a server: iterate, look up, select, drain. How one connection is drained is shutdown.ts's.
 */
import { EventEmitter } from 'node:events';
import type { Connection, LiveConnection } from './connection.js';
import { type CompiledFilter, type ConnectionFilter, compileFilter } from './filter.js';
import { optionTypeError } from './options.js';
import { type DrainSummary, summarize } from './report.js';
import { type DrainSettings, drain } from './shutdown.js';
import { drainInWaves, type WaveSettings } from './waves.js';

interface RegistryEvents {
  open: [connection: Connection];
  close: [connection: Connection];
}

/** The live connections of a server; emits `'open'` when one is accepted and `'close'` when it is gone. */
export class Registry extends EventEmitter<RegistryEvents> implements Iterable<Connection> {
  readonly #live = new Map<number, LiveConnection>();

  /** Registers a connection until it closes. */
  add(connection: LiveConnection): void {
    this.#live.set(connection.id, connection);
    void connection.closed.then(() => {
      this.#live.delete(connection.id);
      this.emit('close', connection);
    });
    this.emit('open', connection);
  }

  /** Live connections, those in the handshake included. */
  get size(): number {
    return this.#live.size;
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

  /** Drains what the filter names now, in waves; connections accepted later are its business only if they are to follow. */
  async drain(filter: ConnectionFilter, settings: DrainSettings, waves: WaveSettings): Promise<DrainSummary> {
    const compiled = compileFilter(filter);
    if (waves.follow && compiled.sampled)
      throw optionTypeError('drain.follow', 'false when the filter takes a sample', true);
    const members = compiled.select(this.#live.values());
    const newcomers = waves.follow ? new Newcomers(this, compiled) : undefined;
    try {
      const { reports, duration, ...rest } = await drainInWaves(
        members,
        (connection) => drain(connection, settings),
        waves,
        newcomers && (() => newcomers.take()),
      );
      return summarize(reports, duration, rest);
    } finally {
      newcomers?.stop();
    }
  }
}

/** Connections that were accepted since, until they match a filter. */
class Newcomers {
  readonly #registry: Registry;
  readonly #filter: CompiledFilter;
  readonly #candidates = new Set<LiveConnection>();

  constructor(registry: Registry, filter: CompiledFilter) {
    this.#registry = registry;
    this.#filter = filter;
    registry.on('open', this.#onOpen);
    registry.on('close', this.#onClose);
  }

  /** Those that match now, each once. */
  take(): LiveConnection[] {
    const matching = this.#filter.select(this.#candidates);
    for (const connection of matching) this.#candidates.delete(connection);
    return matching;
  }

  stop(): void {
    this.#registry.off('open', this.#onOpen);
    this.#registry.off('close', this.#onClose);
  }

  readonly #onOpen = (connection: Connection): void => void this.#candidates.add(connection as LiveConnection);
  readonly #onClose = (connection: Connection): void => void this.#candidates.delete(connection as LiveConnection);
}
