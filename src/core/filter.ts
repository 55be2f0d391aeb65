/**
 * Which connections: a filter is checked and compiled once to a test of one connection. What a person types is
 * filter-text.ts's, who is asked belongs to the registry.
 */
import type { Authorities } from './authorities.js';
import { AddressSet } from './cidr.js';
import { type Connection, type Protocol, tagsOf } from './connection.js';
import { optionRangeError, optionsObject, optionTypeError } from './options.js';
import { epochNow } from './timing.js';

/** One value, or several of which one must hold. */
export type OneOf<T> = T | readonly T[];

/** What a number must be; every bound given must hold. */
export interface Bounds {
  readonly over?: number;
  readonly atLeast?: number;
  readonly under?: number;
  readonly atMost?: number;
}

/** A part of the connections that meet every other condition: `fraction` or `count`, one of them. */
export interface Sample {
  /** More than 0, at most 1; it is rounded up, so that a sample of some connections is never none. */
  readonly fraction?: number;
  /** At least 1. */
  readonly count?: number;
  /** Which ones: `'oldest'` first (the default), or `'random'`. */
  readonly order?: 'oldest' | 'random';
  /**
   * Makes a random sample repeatable: a whole number from 0 to 2^32 - 1. The same seed picks the same connections, and
   * a larger sample contains the smaller one.
   */
  readonly seed?: number;
}

/** Which connections; every condition given must hold. */
export interface ConnectionConditions {
  /** Connections of this protocol; those whose protocol isn't known yet have none. */
  protocol?: OneOf<Protocol>;
  /** Connections that carry all of these tags with these values. */
  tags?: Readonly<Record<string, OneOf<string>>>;
  /** The client's address, or a CIDR range that contains it; `::ffff:10.0.0.1` and `10.0.0.1` are one address. */
  remoteAddress?: OneOf<string>;
  /** The host name of the TLS handshake (SNI), and only that. */
  servername?: OneOf<string>;
  /** A host that a request on the connection named; without a port it stands for every port. */
  authority?: OneOf<string>;
  localPort?: OneOf<number>;
  /** ms since the connection was accepted. */
  age?: Bounds;
  /** ms since a request last ended; 0 while one is in flight. */
  idle?: Bounds;
  /** Requests answered in full. */
  served?: number | Bounds;
  /** Requests in flight. */
  active?: number | Bounds;
  /** Only a part of what the other conditions leave. */
  sample?: Sample;
  /** Whatever else: called for connections that meet the conditions above. */
  where?: (connection: Connection) => boolean;
}

/**
 * Which connections: `'all'`, conditions, or a predicate. Conditions that are empty, unknown or `undefined` throw: a
 * typo must not drain the world.
 */
export type ConnectionFilter = 'all' | ConnectionConditions | ((connection: Connection) => boolean);

/** What a condition looks at. */
type Candidate = Connection & { readonly authorities?: Authorities };

/** @param at ms since the epoch */
type Test = (connection: Candidate, at: number) => boolean;

/** A filter that was checked once, for any number of connections. */
export class CompiledFilter {
  /** Whether it takes a sample: then matching alone doesn't mean being selected. */
  readonly sampled: boolean;
  readonly #tests: readonly Test[];
  readonly #pick: (<C extends Connection>(matching: C[]) => C[]) | undefined;

  constructor(tests: readonly Test[], sample: Sample | undefined) {
    this.#tests = tests;
    this.sampled = sample !== undefined;
    this.#pick = sample && sampler(sample);
  }

  /** Whether a connection meets every condition; a sample is not looked at. */
  matches(connection: Connection, at = epochNow()): boolean {
    for (const test of this.#tests) if (!test(connection, at)) return false;
    return true;
  }

  /** The connections that the filter names, in the order given, which should be oldest first. */
  select<C extends Connection>(connections: Iterable<C>): C[] {
    const at = epochNow();
    const matching: C[] = [];
    // Tens of thousands of connections are asked in one go, usually about one thing.
    const [only] = this.#tests;
    const test: Test =
      only !== undefined && this.#tests.length === 1 ? only : (connection) => this.matches(connection, at);
    for (const connection of connections) if (test(connection, at)) matching.push(connection);
    return this.#pick === undefined ? matching : this.#pick(matching);
  }
}

/**
 * Checks a filter and compiles it.
 *
 * @param name how the errors call it
 * @throws {TypeError} ERR_LASTCALL_OPTION when it is empty, unknown, has an undefined value or one of the wrong type
 * @throws {RangeError} ERR_LASTCALL_OPTION for a value out of its range, such as a CIDR range that is none
 */
export function compileFilter(filter: ConnectionFilter, name = 'filter'): CompiledFilter {
  if (filter === 'all') return new CompiledFilter([], undefined);
  if (typeof filter === 'function') return new CompiledFilter([strict(name, filter)], undefined);
  if (typeof filter !== 'object' || filter === null)
    throw optionTypeError(name, "'all', an object of conditions or a predicate", filter);
  const given = optionsObject(name, filter, CONDITIONS);
  if (Object.keys(given).length === 0) {
    throw optionTypeError(name, `'all' or at least one of ${CONDITIONS.join(', ')}`, filter);
  }
  const tests: Test[] = [];
  // In the table's order: what is cheap is asked first, and `where` last.
  for (const condition of CONDITIONS) {
    if (!Object.hasOwn(given, condition)) continue;
    const value = given[condition];
    const path = `${name}.${condition}`;
    if (condition === 'sample') checkSample(path, value);
    else tests.push(TESTS[condition](path, value));
  }
  return new CompiledFilter(tests, filter.sample);
}

const TESTS: Readonly<Record<Exclude<keyof ConnectionConditions, 'sample'>, (path: string, value: unknown) => Test>> = {
  protocol(path, value) {
    const wanted = oneOf(path, value, "'http/1.1' or 'h2'", (one) => one === 'http/1.1' || one === 'h2');
    return (connection) => wanted.has(connection.protocol);
  },
  localPort(path, value) {
    const wanted = oneOf(path, value, 'a port from 1 to 65535', isPort);
    return (connection) => wanted.has(connection.localPort);
  },
  active: (path, value) => boundsTest(path, value, 'count', (connection) => connection.active),
  served: (path, value) => boundsTest(path, value, 'count', (connection) => connection.served),
  age: (path, value) => boundsTest(path, value, 'duration', (connection, at) => at - connection.openedAt),
  idle: (path, value) =>
    boundsTest(path, value, 'duration', (connection, at) => (connection.active > 0 ? 0 : at - connection.lastActiveAt)),
  servername(path, value) {
    const wanted = lowerCase(oneOf(path, value, 'a host name', isName));
    return ({ servername }) => servername !== undefined && wanted.has(servername.toLowerCase());
  },
  tags(path, value) {
    if (typeof value !== 'object' || value === null || Object.keys(value).length === 0) {
      throw optionTypeError(path, 'an object with at least one tag', value);
    }
    const wanted = Object.entries(value).map(([tag, values]) => ({
      tag,
      values: oneOf(`${path}.${tag}`, values, 'a string', isString),
    }));
    const [only] = wanted;
    if (only !== undefined && wanted.length === 1) {
      const { tag, values } = only;
      return (connection) => values.has(tagsOf(connection).get(tag));
    }
    return (connection) => {
      const tags = tagsOf(connection);
      for (const { tag, values } of wanted) if (!values.has(tags.get(tag))) return false;
      return true;
    };
  },
  authority(path, value) {
    const wanted = [...lowerCase(oneOf(path, value, 'a host name', isName))];
    return ({ authorities }) => authorities !== undefined && wanted.some((name) => authorities.has(name));
  },
  remoteAddress(path, value) {
    const wanted = new AddressSet(path, [...oneOf(path, value, 'an IP address or CIDR range', isString)]);
    return (connection) => wanted.has(connection.remoteAddress);
  },
  where(path, value) {
    if (typeof value !== 'function') throw optionTypeError(path, 'a function', value);
    return strict(path, value as (connection: Connection) => unknown);
  },
};

const CONDITIONS = [...(Object.keys(TESTS) as (keyof typeof TESTS)[]), 'sample'] as const;

/** An async predicate's promise, or a tag's value, would be true for connections that nobody meant. */
function strict(path: string, predicate: (connection: Connection) => unknown): Test {
  return (connection) => {
    const matches = predicate(connection);
    if (typeof matches !== 'boolean') throw optionTypeError(path, 'a predicate that returns a boolean', matches);
    return matches;
  };
}

const isString = (value: unknown): value is string => typeof value === 'string';
const isName = (value: unknown): value is string => isString(value) && value !== '';
const isPort = (value: unknown): boolean => Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 65_535;

/** The values of which one must hold. It may be asked for what a connection doesn't have. */
function oneOf<T>(
  path: string,
  value: unknown,
  expected: string,
  valid: ((one: unknown) => one is T) | ((one: unknown) => boolean),
): ReadonlySet<T | undefined> & ReadonlySet<T> {
  const values: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (values.length === 0) throw optionTypeError(path, `${expected}, or several`, value);
  for (const one of values) if (!valid(one)) throw optionTypeError(path, expected, one);
  return new Set(values as readonly T[]) as ReadonlySet<T | undefined> & ReadonlySet<T>;
}

function lowerCase(names: Iterable<string>): ReadonlySet<string> {
  return new Set([...names].map((name) => name.toLowerCase()));
}

const BOUNDS = ['over', 'atLeast', 'under', 'atMost'] as const;

/** A count may be given as a number; no duration is ever exactly that long. */
function boundsTest(
  path: string,
  value: unknown,
  what: 'count' | 'duration',
  measure: (connection: Candidate, at: number) => number,
): Test {
  if (what === 'count' && typeof value === 'number') {
    const wanted = bound(path, value);
    return (connection, at) => measure(connection, at) === wanted;
  }
  const given = optionsObject(path, value ?? null, BOUNDS);
  if (Object.keys(given).length === 0) throw optionTypeError(path, `at least one of ${BOUNDS.join(', ')}`, value);
  const limit = (key: (typeof BOUNDS)[number], otherwise: number): number =>
    Object.hasOwn(given, key) ? bound(`${path}.${key}`, given[key]) : otherwise;
  const over = limit('over', -Infinity);
  const atLeast = limit('atLeast', -Infinity);
  const under = limit('under', Infinity);
  const atMost = limit('atMost', Infinity);
  return (connection, at) => {
    const measured = measure(connection, at);
    return measured > over && measured >= atLeast && measured < under && measured <= atMost;
  };
}

function bound(path: string, value: unknown): number {
  if (typeof value !== 'number' || Number.isNaN(value)) throw optionTypeError(path, 'a number', value);
  if (value < 0 || value === Infinity) throw optionRangeError(path, 'at least 0 and finite', value);
  return value;
}

const MAX_SEED = 2 ** 32 - 1;

function checkSample(path: string, value: unknown): void {
  const given = optionsObject(path, value ?? null, ['fraction', 'count', 'order', 'seed']);
  const { fraction, count, order, seed } = given;
  if (Object.hasOwn(given, 'fraction') === Object.hasOwn(given, 'count')) {
    throw optionTypeError(path, 'given either fraction or count', value);
  }
  if (Object.hasOwn(given, 'fraction')) {
    if (typeof fraction !== 'number' || Number.isNaN(fraction))
      throw optionTypeError(`${path}.fraction`, 'a number', fraction);
    if (fraction <= 0 || fraction > 1) throw optionRangeError(`${path}.fraction`, 'more than 0, at most 1', fraction);
  } else {
    if (typeof count !== 'number') throw optionTypeError(`${path}.count`, 'a number', count);
    if (!Number.isSafeInteger(count) || count < 1)
      throw optionRangeError(`${path}.count`, 'a whole number of at least 1', count);
  }
  if (Object.hasOwn(given, 'order') && order !== 'oldest' && order !== 'random') {
    throw optionTypeError(`${path}.order`, "'oldest' or 'random'", order);
  }
  if (!Object.hasOwn(given, 'seed')) return;
  if (order !== 'random') throw optionTypeError(`${path}.seed`, "given with order 'random' only", seed);
  if (typeof seed !== 'number') throw optionTypeError(`${path}.seed`, 'a number', seed);
  if (!Number.isInteger(seed) || seed < 0 || seed > MAX_SEED)
    throw optionRangeError(`${path}.seed`, 'a whole number from 0 to 2^32 - 1', seed);
}

/** 10 % of 30 must be 3, whatever 30 × 0.1 is in binary. */
const ROUNDING = 1e-9;

function sampler({ fraction, count, order, seed }: Sample): <C extends Connection>(matching: C[]) => C[] {
  return (matching) => {
    const size = fraction === undefined ? (count ?? 0) : Math.max(1, Math.ceil(matching.length * fraction - ROUNDING));
    if (size >= matching.length) return matching;
    if (order !== 'random') return matching.slice(0, size);
    // Each id gets its own number between 0 and 2^32; the lowest are picked, and stay in their order.
    const start = scramble(seed ?? Math.random() * MAX_SEED);
    const numbers = new Uint32Array(matching.map(({ id }) => scramble(id ^ start)));
    const highest = numbers.toSorted()[size - 1] ?? 0;
    return matching.filter((_, index) => (numbers[index] ?? 0) <= highest);
  };
}

/** A permutation of the 32-bit numbers that leaves no trace of their order. */
function scramble(value: number): number {
  let mixed = Math.imul((value >>> 0) ^ 0x9e3779b9, 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
