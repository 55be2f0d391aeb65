/**
 * The live connections of a server: iterate, look up, select, drain. How one connection is drained is shutdown.ts's.
 */
import { EventEmitter } from 'node:events';
import type { Connection, LiveConnection, Protocol } from './connection.js';
import { optionsObject, optionTypeError } from './options.js';
import { type DrainSummary, summarize } from './report.js';
import { type DrainSettings, drain } from './shutdown.js';
import { now } from './timing.js';

/** Which connections; every condition given must hold. */
export interface ConnectionConditions {
  /** Connections of this protocol. */
  protocol?: Protocol;
  /** Connections that carry all of these tags with these values. */
  tags?: Readonly<Record<string, string>>;
}

/**
 * Which connections: `'all'`, conditions, or a predicate. Conditions that are empty, unknown or `undefined` throw: a
 * typo must not drain the world.
 */
export type ConnectionFilter = 'all' | ConnectionConditions | ((connection: Connection) => boolean);

const CONDITIONS = ['protocol', 'tags'] as const;
const PROTOCOLS: readonly unknown[] = ['http/1.1', 'h2'];

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
   */
  select(filter: ConnectionFilter): Connection[] {
    return this.#select(filter);
  }

  /** Drains what the filter names now; connections accepted later are not its business. */
  drain(filter: ConnectionFilter, settings: DrainSettings): Promise<DrainSummary> {
    const from = now();
    const drains = this.#select(filter).map((connection) => drain(connection, settings));
    return Promise.all(drains).then((reports) => summarize(reports, now() - from));
  }

  #select(filter: ConnectionFilter): LiveConnection[] {
    const matches = predicate(filter);
    return [...this.#live.values()].filter(matches);
  }
}

function predicate(filter: ConnectionFilter): (connection: Connection) => boolean {
  if (filter === 'all') return () => true;
  if (typeof filter === 'function') return strict(filter);
  if (typeof filter !== 'object' || filter === null)
    throw optionTypeError('filter', `'all', an object of conditions or a predicate`, filter);
  const conditions = Object.keys(optionsObject('filter', filter, CONDITIONS));
  if (conditions.length === 0)
    throw optionTypeError('filter', `'all' or at least one of ${CONDITIONS.join(', ')}`, filter);
  const { protocol, tags } = filter;
  if (conditions.includes('protocol') && !PROTOCOLS.includes(protocol)) {
    throw optionTypeError('filter.protocol', `'http/1.1' or 'h2'`, protocol);
  }
  const wanted = conditions.includes('tags') ? tagEntries(tags) : [];
  return (connection) =>
    (protocol === undefined || connection.protocol === protocol) &&
    wanted.every(([name, value]) => connection.tags.get(name) === value);
}

/** An async predicate's promise, or a tag's value, would be true for connections that nobody meant. */
function strict(filter: (connection: Connection) => unknown): (connection: Connection) => boolean {
  return (connection) => {
    const matches = filter(connection);
    if (typeof matches !== 'boolean') throw optionTypeError('filter', 'a predicate that returns a boolean', matches);
    return matches;
  };
}

function tagEntries(tags: unknown): [string, string][] {
  if (typeof tags !== 'object' || tags === null || Object.keys(tags).length === 0) {
    throw optionTypeError('filter.tags', 'an object with at least one tag', tags);
  }
  return Object.entries(tags).map(([name, value]) => {
    if (typeof value !== 'string') throw optionTypeError(`filter.tags.${name}`, 'a string', value);
    return [name, value];
  });
}
