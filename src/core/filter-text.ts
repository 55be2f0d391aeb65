/**
 * Filters as an operator types them, `tag.tenant=acme age>1h proto=h2`: parsed once to the conditions of filter.ts.
 * An error points at the character.
 */
import { AddressSet } from './cidr.js';
import { DURATION_FORM, parseDuration } from './duration-text.js';
import type { Bounds, ConnectionConditions, ConnectionFilter, Sample } from './filter.js';

/** A filter that can't be parsed. */
export class FilterSyntaxError extends SyntaxError {
  override readonly name = 'FilterSyntaxError';
  readonly code = 'ERR_LASTCALL_FILTER';
  /** What was parsed. */
  readonly text: string;
  /** The index in `text` of the character that is wrong; its length when something is missing at the end. */
  readonly position: number;

  constructor(problem: string, text: string, position: number) {
    super(`filter: ${problem} at character ${position + 1}`);
    this.text = text;
    this.position = position;
  }

  /** The filter with a `^` under the character, for a terminal: two lines. */
  get excerpt(): string {
    return `${this.text.replace(/\p{Cc}/gu, ' ')}\n${' '.repeat(this.position)}^`;
  }
}

/** A value, and where it stands. */
interface Value {
  readonly text: string;
  readonly position: number;
}

interface Condition {
  /** `tag.tenant`, `age` */
  readonly field: Value;
  readonly operator: Operator;
  readonly operatorPosition: number;
  readonly values: readonly Value[];
}

const OPERATORS = ['>=', '<=', '>', '<', '='] as const;
type Operator = (typeof OPERATORS)[number];

const BOUND_OF: Readonly<Record<Exclude<Operator, '='>, keyof Bounds>> = {
  '>': 'over',
  '>=': 'atLeast',
  '<': 'under',
  '<=': 'atMost',
};

type Draft = { -readonly [Key in keyof ConnectionConditions]: ConnectionConditions[Key] };

/**
 * Parses a filter's textual form: conditions separated by spaces, all of which must hold, or `all`.
 *
 * | condition | selects connections |
 * |---|---|
 * | `proto=h2`, `proto=h1` | of this protocol |
 * | `tag.NAME=VALUE` | that carry this tag |
 * | `addr=10.0.0.0/8` | from this address or CIDR range |
 * | `sni=example.com` | whose TLS handshake named this host |
 * | `authority=example.com` | on which a request named this host |
 * | `port=8443` | to this local port |
 * | `age>1h`, `idle>=90s` | open, without a request, for so long (`>`, `>=`, `<`, `<=`; both bounds may be given) |
 * | `served<100`, `active=0` | with so many requests answered, in flight |
 * | `sample=10%`, `sample=50` | a part of the rest, oldest first; `10%:random`, `50:random:SEED` |
 *
 * After `=`, several values may be given with commas between them, of which one must hold; a value with spaces, commas
 * or quotes goes in double quotes, with `\"` and `\\` inside.
 *
 * @throws {FilterSyntaxError} ERR_LASTCALL_FILTER, pointing at the character
 */
export function parseFilter(text: string): ConnectionFilter {
  const conditions = new Scanner(text).conditions();
  if (conditions === 'all') return 'all';
  const draft: Draft = {};
  for (const condition of conditions) {
    const fail = (problem: string, { position }: { position: number } = condition.field): never => {
      throw new FilterSyntaxError(problem, text, position);
    };
    const { field } = condition;
    if (field.text.startsWith('tag.')) putTag(draft, condition, fail);
    else {
      const put = Object.hasOwn(FIELDS, field.text) ? FIELDS[field.text] : undefined;
      if (put === undefined) return fail(`unknown field "${field.text}" (known: ${KNOWN_FIELDS})`);
      put(draft, condition, fail);
    }
  }
  return draft;
}

type Fail = (problem: string, at?: { position: number }) => never;
type Put = (draft: Draft, condition: Condition, fail: Fail) => void;

const FIELDS: Readonly<Record<string, Put>> = {
  proto: listField('protocol', ({ text }, fail) => {
    if (text === 'h2') return 'h2';
    return text === 'h1' || text === 'http/1.1' ? 'http/1.1' : fail(`proto is h1 or h2, not "${text}"`);
  }),
  addr: listField('remoteAddress', ({ text }, fail) => {
    try {
      new AddressSet('addr', [text]);
    } catch (error) {
      fail((error as Error).message.replace(/^option /, ''));
    }
    return text;
  }),
  sni: listField('servername', hostName),
  authority: listField('authority', hostName),
  port: listField('localPort', ({ text }, fail) => {
    const port = wholeNumber(text);
    return port !== undefined && port >= 1 && port <= 65_535 ? port : fail(`port is 1 to 65535, not "${text}"`);
  }),
  age: durationField('age'),
  idle: durationField('idle'),
  served: countField('served'),
  active: countField('active'),
  sample(draft, condition, fail) {
    onlyOnce(draft.sample, condition, fail);
    draft.sample = parseSample(single(condition, fail), fail);
  },
};

const KNOWN_FIELDS = ['proto', 'tag.NAME', ...Object.keys(FIELDS).filter((name) => name !== 'proto')].join(', ');

function onlyOnce(before: unknown, { field }: Condition, fail: Fail): void {
  if (before !== undefined) fail(`${field.text} is given twice`);
}

function needsEquals({ field, operator, operatorPosition }: Condition, fail: Fail): void {
  if (operator !== '=') fail(`${field.text} takes =, not ${operator}`, { position: operatorPosition });
}

/** The only value. */
function single({ field, operator, operatorPosition, values }: Condition, fail: Fail): Value {
  const [value, second] = values;
  if (second !== undefined) return fail(`${field.text} takes one value`, second);
  return value ?? fail(`${field.text}${operator} has no value`, { position: operatorPosition });
}

/** One value stays one; the conditions read better. */
function oneOrMany<T>(values: readonly T[]): T | readonly T[] {
  return values.length === 1 ? (values[0] as T) : values;
}

type ListKey = 'protocol' | 'remoteAddress' | 'servername' | 'authority' | 'localPort';
type ElementOf<Key extends ListKey> = Extract<NonNullable<ConnectionConditions[Key]>, string | number>;

function listField<Key extends ListKey>(key: Key, parse: (value: Value, fail: Fail) => ElementOf<Key>): Put {
  return (draft, condition, fail) => {
    onlyOnce(draft[key], condition, fail);
    needsEquals(condition, fail);
    const values = condition.values.map((value) => parse(value, (problem) => fail(problem, value)));
    draft[key] = oneOrMany(values) as Draft[Key];
  };
}

function hostName({ text }: Value, fail: Fail): string {
  return text === '' ? fail('a host name is empty') : text;
}

function putTag(draft: Draft, condition: Condition, fail: Fail): void {
  const { field, values } = condition;
  const tag = field.text.slice('tag.'.length);
  if (tag === '') fail('tag. lacks the name of a tag');
  const { tags = {} } = draft;
  // A tag may be called __proto__: hence no assignment, and no look-up beyond its own.
  onlyOnce(Object.hasOwn(tags, tag) || undefined, condition, fail);
  needsEquals(condition, fail);
  draft.tags = Object.fromEntries([...Object.entries(tags), [tag, oneOrMany(values.map((value) => value.text))]]);
}

function durationField(key: 'age' | 'idle'): Put {
  return (draft, condition, fail) => {
    const { field, operator, operatorPosition } = condition;
    if (operator === '=') return fail(`${field.text} takes >, >=, < or <=, not =`, { position: operatorPosition });
    const value = single(condition, fail);
    const ms = parseDuration(value.text) ?? fail(`${field.text} takes ${DURATION_FORM}, not "${value.text}"`, value);
    draft[key] = withBound(draft[key], operator, ms, condition, fail);
  };
}

function countField(key: 'served' | 'active'): Put {
  return (draft, condition, fail) => {
    const { field, operator } = condition;
    const value = single(condition, fail);
    const count = wholeNumber(value.text) ?? fail(`${field.text} takes a whole number, not "${value.text}"`, value);
    const before = draft[key];
    if (operator === '=' || typeof before === 'number') {
      onlyOnce(before, condition, fail);
      draft[key] = count;
    } else draft[key] = withBound(before, operator, count, condition, fail);
  };
}

function withBound(
  before: Bounds | undefined,
  operator: Exclude<Operator, '='>,
  value: number,
  { field }: Condition,
  fail: Fail,
): Bounds {
  const bound = BOUND_OF[operator];
  if (before?.[bound] !== undefined) fail(`${field.text}${operator} is given twice`);
  return { ...before, [bound]: value };
}

function wholeNumber(text: string): number | undefined {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(value) ? value : undefined;
}

function parseSample(value: Value, fail: Fail): Sample {
  const [size = '', order, seed, ...more] = value.text.split(':');
  const wrong = (): never =>
    fail(`sample takes a share or a count, such as 10%, 50, 10%:random or 10%:random:7, not "${value.text}"`, value);
  const picked = /^\d+(?:\.\d+)?%$/.test(size) ? share(Number(size.slice(0, -1)), value, fail) : count(size);
  if (picked === undefined || more.length > 0) return wrong();
  if (order === undefined) return picked;
  if (order !== 'random') return wrong();
  if (seed === undefined) return { ...picked, order };
  const number = wholeNumber(seed);
  if (number === undefined) return wrong();
  if (number > 2 ** 32 - 1) return fail(`the seed of a sample is at most 4294967295, not ${seed}`, value);
  return { ...picked, order, seed: number };
}

function share(percent: number, value: Value, fail: Fail): Sample {
  if (percent <= 0 || percent > 100) fail(`a sample is more than 0% and at most 100%, not "${value.text}"`, value);
  return { fraction: percent / 100 };
}

function count(text: string): Sample | undefined {
  const number = wholeNumber(text);
  return number === undefined || number === 0 ? undefined : { count: number };
}

/** Takes a filter apart into conditions, without knowing any field. */
class Scanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  conditions(): Condition[] | 'all' {
    const conditions: Condition[] = [];
    this.#skipSpace();
    if (this.#at === this.#text.length) this.#fail('it is empty ("all" stands for every connection)', 0);
    if (this.#text.trim() === 'all') return 'all';
    while (this.#at < this.#text.length) {
      conditions.push(this.#condition());
      this.#skipSpace();
    }
    return conditions;
  }

  #condition(): Condition {
    const field = { text: this.#take(/[^\s=<>,"]*/y), position: this.#at };
    field.position -= field.text.length;
    if (field.text === '') this.#fail(`a field is missing before ${JSON.stringify(this.#text[this.#at])}`);
    const operatorPosition = this.#at;
    const operator = OPERATORS.find((one) => this.#text.startsWith(one, operatorPosition));
    if (operator === undefined) {
      if (field.text === 'all') this.#fail('"all" stands alone', field.position);
      return this.#fail(`${field.text} lacks its operator (${OPERATORS.join(' ')})`);
    }
    this.#at += operator.length;
    const values = [this.#value()];
    while (this.#text[this.#at] === ',') {
      this.#at++;
      values.push(this.#value());
    }
    return { field, operator, operatorPosition, values };
  }

  #value(): Value {
    const position = this.#at;
    if (this.#text[position] === '"') return this.#quoted();
    const text = this.#take(/[^\s,"]*/y);
    if (text === '') this.#fail('a value is missing');
    if (this.#text[this.#at] === '"') this.#fail('a quoted value must be quoted from its beginning');
    return { text, position };
  }

  #quoted(): Value {
    const position = this.#at;
    const quoted = this.#take(/"(?:[^"\\]|\\["\\])*"/y);
    if (quoted === '') this.#fail('a quoted value has no end, or a backslash before neither " nor \\');
    if (/[^\s,]/.test(this.#text.charAt(this.#at))) this.#fail('a space is missing after the quoted value');
    return { text: quoted.slice(1, -1).replace(/\\(.)/g, '$1'), position };
  }

  #skipSpace(): void {
    this.#take(/\s*/y);
  }

  #take(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const [taken = ''] = pattern.exec(this.#text) ?? [];
    this.#at += taken.length;
    return taken;
  }

  #fail(problem: string, position = this.#at): never {
    throw new FilterSyntaxError(problem, this.#text, position);
  }
}
