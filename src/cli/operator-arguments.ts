/** What `lastcall list` and `lastcall drain` may say, as the requests to the operator endpoint that they come to. */
import { parseFilter } from '../core/filter-text.js';
import { CliError } from './error.js';
import { timeOf } from './time.js';

export interface ListArguments {
  /** Of the operator endpoint. */
  readonly url: URL;
  readonly filter: string | undefined;
  readonly json: boolean;
}

export interface DrainArguments {
  readonly url: URL;
  /** One connection, or those that a filter names. */
  readonly what: { readonly id: string } | { readonly filter: string };
  /** How, in the words of the operator endpoint. */
  readonly query: URLSearchParams;
  readonly wait: boolean;
  readonly json: boolean;
}

type Values = { readonly [option: string]: string | boolean | undefined };

/** The endpoint's word for each option. */
const DURATIONS = {
  timeout: 'timeout',
  'idle-wait': 'idleWait',
  settle: 'settle',
  linger: 'linger',
  'linger-max': 'lingerMax',
  spread: 'spread',
} as const;

/** Options that one connection has no use for. */
const OF_WAVES = ['spread', 'concurrency', 'follow'];

/** Where `lastcall serve` has its operator endpoint. */
const DEFAULT_PORT = '8400';

/**
 * @throws {CliError} when they make no sense
 * @throws {FilterSyntaxError} when the filter doesn't
 */
export function listArguments(values: Values, words: readonly string[]): ListArguments {
  const filter = words.length === 0 ? undefined : words.join(' ');
  if (filter !== undefined) parseFilter(filter);
  return { url: endpoint(values.operator), filter, json: values.json === true };
}

/**
 * @throws {CliError} when they make no sense
 * @throws {FilterSyntaxError} when the filter doesn't
 */
export function drainArguments(values: Values, words: readonly string[]): DrainArguments {
  const [first] = words;
  if (first === undefined) throw new CliError('say what to drain: the id of a connection, a filter, or all');
  const text = words.join(' ');
  const isId = /^\d+$/.test(text);
  if (!isId) parseFilter(text);
  const query = new URLSearchParams();
  for (const [option, name] of Object.entries(DURATIONS)) {
    const value = values[option];
    // As the endpoint takes it too, but a typo is told before anything is asked.
    if (typeof value === 'string') query.set(name, String(timeOf(`--${option}`, value)));
  }
  if (typeof values.concurrency === 'string') query.set('concurrency', count('--concurrency', values.concurrency));
  if (values.follow === true) query.set('follow', '1');
  if (typeof values.reason === 'string') query.set('reason', values.reason);
  const ofWaves = OF_WAVES.find((option) => isId && values[option] !== undefined);
  if (ofWaves !== undefined) throw new CliError(`--${ofWaves} is for several connections, and ${text} is one`);
  const what = isId ? { id: text } : { filter: text };
  const wait = values['no-wait'] !== true;
  return { url: endpoint(values.operator), what, query, wait, json: values.json === true };
}

function count(option: string, text: string): string {
  if (!/^[1-9]\d{0,9}$/.test(text)) throw new CliError(`${option} must be a whole number from 1, got '${text}'`);
  return text;
}

function endpoint(given: string | boolean | undefined): URL {
  const text = typeof given === 'string' ? given : DEFAULT_PORT;
  if (/^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65_535) return new URL(`http://127.0.0.1:${text}`);
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'http:') {
    throw new CliError(`--operator must be a port from 1 to 65535 or an http URL, got '${text}'`);
  }
  return url;
}
