/**
 * What the query of a request to the operator endpoint asks for. A parameter that means nothing, or that is given twice,
 * is a typo, and refused: nothing is drained then.
 */
import { parseDuration } from '../core/duration-text.js';
import type { ConnectionFilter } from '../core/filter.js';
import { parseFilter } from '../core/filter-text.js';
import { ERR_OPTION } from '../core/options.js';
import { DRAIN_OPTIONS, type DrainOptions, drainSettings } from '../core/shutdown.js';
import { type WaveOptions, waveSettings } from '../core/waves.js';

/** How an answer is given, whatever is asked. */
const FORM = ['json'];

/** How the end of a drain is waited for. */
const WAITING = ['wait', 'progress'];

/** `wait=0` doesn't; `wait=no` could mean either. */
const WAITS = ['', '0', '1'];

const DURATIONS = ['timeout', 'idleWait', 'settle', 'linger', 'lingerMax', 'spread'];
const COUNTS = ['concurrency'];
const FLAGS = ['follow'];

/** How a flag is said; without a value it is meant, too. */
const YES = ['', '1', 'true'];
const NO = ['0', 'false'];

/** The parameters of waves, */
const OF_WAVES = ['spread', 'concurrency', 'follow'];
/** and those of each single drain: an AbortSignal can't be sent. */
const OF_EACH = DRAIN_OPTIONS.filter((name) => name !== 'signal');

/** A filter, and what to call it in an answer. */
export interface NamedFilter {
  readonly text: string;
  readonly filter: ConnectionFilter;
}

/**
 * The connections that a list is limited to: all, without `filter`.
 *
 * @throws {FilterSyntaxError} ERR_LASTCALL_FILTER
 * @throws {TypeError} ERR_LASTCALL_OPTION for an unknown parameter, or one given twice
 */
export function listQuery(query: URLSearchParams): NamedFilter {
  refuseRepeated(query);
  refuseUnknown(query, ['filter']);
  refuseUnclearFlags(query);
  const text = query.get('filter') ?? 'all';
  return { text, filter: parseFilter(text) };
}

/**
 * What to drain, and how; `all` has to be said.
 *
 * @throws {FilterSyntaxError} ERR_LASTCALL_FILTER
 * @throws {TypeError} ERR_LASTCALL_OPTION for a missing filter, an unknown parameter, one given twice or of the wrong type
 * @throws {RangeError} ERR_LASTCALL_OPTION for one out of its range
 */
export function drainManyQuery(query: URLSearchParams): {
  what: NamedFilter;
  options: Omit<DrainOptions, 'signal'> & WaveOptions;
} {
  const given = valuesOf(query, ['filter', ...WAITING], [...OF_EACH, ...OF_WAVES]);
  const text = query.get('filter');
  if (text === null) {
    throw wrong('filter is missing: say what to drain, such as ?filter=tag.tenant=acme, or ?filter=all');
  }
  const what = { text, filter: parseFilter(text) };
  const waves = Object.fromEntries(Object.entries(given).filter(([name]) => OF_WAVES.includes(name)));
  const each = Object.fromEntries(Object.entries(given).filter(([name]) => !OF_WAVES.includes(name)));
  drainSettings(each);
  waveSettings(waves);
  return { what, options: given };
}

/**
 * How to drain one connection.
 *
 * @throws {TypeError} ERR_LASTCALL_OPTION for an unknown parameter, one given twice or of the wrong type
 * @throws {RangeError} ERR_LASTCALL_OPTION for one out of its range
 */
export function drainOneQuery(query: URLSearchParams): DrainOptions {
  const given = valuesOf(query, WAITING, OF_EACH);
  drainSettings(given);
  return given;
}

/** Whether a flag is set: `progress`, `json=1`. */
export function flagOf(query: URLSearchParams, name: string): boolean {
  const text = query.get(name);
  return text !== null && YES.includes(text);
}

function valuesOf(
  query: URLSearchParams,
  others: readonly string[],
  options: readonly string[],
): Record<string, unknown> {
  refuseRepeated(query);
  refuseUnknown(query, [...others, ...options]);
  refuseUnclearFlags(query);
  const wait = query.get('wait') ?? '';
  if (!WAITS.includes(wait)) throw wrong(`wait is 0 or 1, not "${wait}"`);
  const given: Record<string, unknown> = {};
  for (const [name, text] of query) {
    if (!others.includes(name) && !FORM.includes(name)) given[name] = read(name, text);
  }
  return given;
}

/** Text that means nothing stays text: the check of the option says what it takes. */
function read(name: string, text: string): unknown {
  if (DURATIONS.includes(name)) return parseDuration(text) ?? numberOf(text);
  if (COUNTS.includes(name)) return numberOf(text);
  if (FLAGS.includes(name)) return YES.includes(text) || (NO.includes(text) ? false : text);
  return text;
}

function numberOf(text: string): number | string {
  return /^-?\d+(?:\.\d+)?$|^Infinity$/.test(text) ? Number(text) : text;
}

/** Only one of the values would be looked at: two filters would select more than either names. */
function refuseRepeated(query: URLSearchParams): void {
  for (const name of query.keys()) {
    if (query.getAll(name).length > 1) throw wrong(`parameter ${name} is given twice`);
  }
}

function refuseUnknown(query: URLSearchParams, known: readonly string[]): void {
  for (const name of query.keys()) {
    if (!known.includes(name) && !FORM.includes(name)) {
      throw wrong(`unknown parameter ${name} (known: ${[...known, ...FORM].join(', ')})`);
    }
  }
}

/** Those that say how an answer is given; what a drain is asked for is checked where it is an option. */
function refuseUnclearFlags(query: URLSearchParams): void {
  for (const name of [...FORM, 'progress']) {
    const text = query.get(name);
    if (text !== null && ![...YES, ...NO].includes(text)) throw wrong(`${name} is 0 or 1, not "${text}"`);
  }
}

function wrong(message: string): TypeError {
  return Object.assign(new TypeError(message), { code: ERR_OPTION });
}
