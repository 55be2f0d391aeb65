/**
 * Checks of option values, with one kind of error for all of them: it has a stable `code` and names the option, the
 * limit and what was given. What each option means belongs to the module that takes it.
 */

/** The `code` of every error about an option's type or range. */
export const ERR_OPTION = 'ERR_LASTCALL_OPTION';

function coded<E extends Error>(error: E): E & { code: string } {
  return Object.assign(error, { code: ERR_OPTION });
}

export function optionTypeError(name: string, expected: string, value: unknown): TypeError {
  return coded(new TypeError(`option ${name} must be ${expected}, got ${describe(value)}`));
}

export function optionRangeError(name: string, expected: string, value: unknown): RangeError {
  return coded(new RangeError(`option ${name} must be ${expected}, got ${describe(value)}`));
}

function describe(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'an array' : 'an object';
  return String(value);
}

/** A duration in ms: a number of at least `min` (default 0), `Infinity` only where it is allowed. */
export function duration(
  name: string,
  value: unknown,
  fallback: number,
  { min = 0, infinite = false }: { min?: number; infinite?: boolean } = {},
): number {
  if (value === undefined) return fallback;
  if (typeof value !== 'number' || Number.isNaN(value)) throw optionTypeError(name, 'a number of milliseconds', value);
  if (value < min || (value === Infinity && !infinite)) {
    throw optionRangeError(name, `at least ${min} ms${infinite ? ' (Infinity is allowed)' : ' and finite'}`, value);
  }
  return value;
}

/** A whole number from `min` to `max`. */
export function integer(name: string, value: unknown, fallback: number, min: number, max: number): number {
  if (value === undefined) return fallback;
  if (typeof value !== 'number') throw optionTypeError(name, 'a number', value);
  if (!Number.isInteger(value) || value < min || value > max) {
    throw optionRangeError(
      name,
      `a whole number from ${min.toLocaleString('en')} to ${max.toLocaleString('en')}`,
      value,
    );
  }
  return value;
}

export function flag(name: string, value: unknown, fallback: boolean): boolean {
  if (value === undefined) return fallback;
  if (typeof value !== 'boolean') throw optionTypeError(name, 'a boolean', value);
  return value;
}

/** As {@link optionsObject}, without what is `undefined`: that isn't given, and must not take a default's place. */
export function givenOptions(name: string, value: unknown, known: readonly string[]): Record<string, unknown> {
  const options = Object.entries(optionsObject(name, value, known));
  return Object.fromEntries(options.filter(([, given]) => given !== undefined));
}

/** An options object: `undefined` is an empty one, and a key that nobody reads is a typo and throws. */
export function optionsObject(name: string, value: unknown, known: readonly string[]): Record<string, unknown> {
  if (value === undefined) return {};
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw optionTypeError(name, 'an object', value);
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) {
      throw coded(new TypeError(`unknown option ${name}.${key} (known: ${known.join(', ')})`));
    }
  }
  return value as Record<string, unknown>;
}
