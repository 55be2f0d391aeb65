/**
 * Which response fields are worth a place in the encoder's dynamic table, and which must never get one (RFC 7541
 * §7.1). What is learnt about a name while it is used is the encoder table's.
 */
import { STATIC_NAME_INDEX, STATIC_NAMES, STATIC_VALUES } from './static-table.js';

/**
 * - `repeats`: indexed at first sight, until it turns out to vary
 * - `varies`: indexed only when the same value comes twice in a row
 * - `literal`: never indexed by us, but others may
 * - `sensitive`: a never-indexed literal, which binds every hop after us (RFC 7541 §6.2.3)
 */
export type Indexing = 'repeats' | 'varies' | 'literal' | 'sensitive';

/** What is known of a name before it was ever used. */
export interface NameTraits {
  readonly indexing: Indexing;
  /** Below this length the value is `sensitive`, whatever `indexing` says: short values can be guessed (§7.1.3). */
  readonly sensitiveBelow: number;
  /** Index of the name's first entry in the static table, 0 if it has none. */
  readonly staticIndex: number;
  /** The values of its entries in the static table, from `staticIndex` on; empty if they have none. */
  readonly staticValues: readonly string[];
}

/** The length below which cookies count as guessable; nghttp2 and others draw the line at the same place. */
const SHORT_COOKIE = 20;

/** Names that are a new value in nearly every message. */
const VARYING = [
  ':path',
  'age',
  'content-length',
  'content-range',
  'etag',
  'expires',
  'if-modified-since',
  'if-none-match',
  'last-modified',
  'location',
  'x-request-id',
];

function traits(name: string): NameTraits {
  const staticIndex = STATIC_NAME_INDEX.get(name) ?? 0;
  const staticValues: string[] = [];
  for (let i = staticIndex; i > 0 && STATIC_NAMES[i] === name && STATIC_VALUES[i] !== ''; i++) {
    staticValues.push(STATIC_VALUES[i] as string);
  }
  let indexing: Indexing = 'repeats';
  let sensitiveBelow = 0;
  if (VARYING.includes(name)) indexing = 'varies';
  if (name === 'authorization' || name === 'proxy-authorization') indexing = 'sensitive';
  if (name === 'cookie' || name === 'set-cookie') {
    sensitiveBelow = SHORT_COOKIE;
    if (name === 'set-cookie') indexing = 'literal';
  }
  return { indexing, sensitiveBelow, staticIndex, staticValues };
}

const KNOWN: ReadonlyMap<string, NameTraits> = new Map(
  [...STATIC_NAME_INDEX.keys(), ...VARYING].map((name): [string, NameTraits] => [name, traits(name)]),
);

const UNKNOWN: NameTraits = traits('');

/** The traits of a field name in lower case. */
export function traitsOf(name: string): NameTraits {
  return KNOWN.get(name) ?? UNKNOWN;
}
