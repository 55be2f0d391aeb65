/**
 * Command-line arguments of the benches: declared once, checked, and printed by `--help`.
 */
import { parseArgs } from 'node:util';

/** One option of a bench. */
export type ArgumentSpec =
  | { readonly kind: 'flag'; readonly help: string }
  | {
      readonly kind: 'number';
      readonly help: string;
      readonly fallback: number;
      readonly min: number;
      readonly max: number;
    }
  | {
      readonly kind: 'numbers';
      readonly help: string;
      readonly fallback: readonly number[];
      readonly min: number;
      readonly max: number;
    }
  | {
      readonly kind: 'choice';
      readonly help: string;
      readonly fallback: string | undefined;
      readonly choices: readonly string[];
    }
  | {
      readonly kind: 'choices';
      readonly help: string;
      readonly fallback: readonly string[];
      readonly choices: readonly string[];
    };

type ValueOf<S extends ArgumentSpec> = S extends { kind: 'flag' }
  ? boolean
  : S extends { kind: 'number' }
    ? number
    : S extends { kind: 'numbers' }
      ? readonly number[]
      : S extends { kind: 'choice'; fallback: string }
        ? string
        : S extends { kind: 'choices' }
          ? readonly string[]
          : string | undefined;

export type Arguments<S extends Readonly<Record<string, ArgumentSpec>>> = { readonly [K in keyof S]: ValueOf<S[K]> };

/** What the user typed can't be run. */
export class ArgumentError extends Error {
  override readonly name = 'ArgumentError';
}

export interface Usage<S extends Readonly<Record<string, ArgumentSpec>>> {
  /** e.g. `npm run bench:loss --` */
  readonly command: string;
  readonly summary: string;
  readonly options: S;
}

/**
 * The arguments of this process. `--help` prints the usage and exits 0; anything that can't be run prints one line and
 * exits 2.
 */
export function argumentsOrExit<const S extends Readonly<Record<string, ArgumentSpec>>>(usage: Usage<S>): Arguments<S> {
  try {
    const parsed = parseArguments(usage, process.argv.slice(2));
    if (parsed !== 'help') return parsed;
    console.log(helpText(usage));
    process.exit(0);
  } catch (error) {
    if (!(error instanceof ArgumentError)) throw error;
    console.error(`${error.message}\nTry ${usage.command} --help`);
    process.exit(2);
  }
}

/** @throws {ArgumentError} naming the argument and what it may be */
export function parseArguments<const S extends Readonly<Record<string, ArgumentSpec>>>(
  usage: Usage<S>,
  argv: readonly string[],
): Arguments<S> | 'help' {
  const options: Record<string, { type: 'boolean' | 'string' }> = { help: { type: 'boolean' } };
  for (const [name, spec] of Object.entries(usage.options)) {
    options[name] = { type: spec.kind === 'flag' ? 'boolean' : 'string' };
  }
  let values: Record<string, unknown>;
  try {
    ({ values } = parseArgs({ args: [...argv], options, strict: true, allowPositionals: false }));
  } catch (error) {
    throw new ArgumentError(error instanceof Error ? (error.message.split('. ')[0] ?? error.message) : String(error));
  }
  if (values.help === true) return 'help';
  const parsed = Object.entries(usage.options).map(([name, spec]) => [name, read(name, spec, values[name])]);
  return Object.fromEntries(parsed) as Arguments<S>;
}

function read(name: string, spec: ArgumentSpec, given: unknown): unknown {
  if (spec.kind === 'flag') return given === true;
  if (typeof given !== 'string') return spec.fallback;
  switch (spec.kind) {
    case 'number':
      return readNumber(name, spec, given);
    case 'numbers':
      return given.split(',').map((part) => readNumber(name, spec, part));
    case 'choice':
      return readChoice(name, spec.choices, given);
    case 'choices':
      return given.split(',').map((part) => readChoice(name, spec.choices, part));
  }
}

function readNumber(name: string, { min, max }: { min: number; max: number }, text: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (!(value >= min && value <= max)) {
    throw new ArgumentError(`--${name} must be a number from ${min} to ${max}, not ${JSON.stringify(text)}`);
  }
  return value;
}

function readChoice(name: string, choices: readonly string[], text: string): string {
  if (!choices.includes(text)) {
    throw new ArgumentError(`--${name} must be one of ${choices.join(', ')}, not ${JSON.stringify(text)}`);
  }
  return text;
}

export function helpText<S extends Readonly<Record<string, ArgumentSpec>>>(usage: Usage<S>): string {
  const rows = Object.entries(usage.options).map(([name, spec]) => [
    `--${name}${placeholder(spec)}`,
    `${spec.help}${fallback(spec)}`,
  ]);
  rows.push(['--help', 'this text']);
  const width = Math.max(...rows.map(([left]) => left?.length ?? 0));
  const lines = rows.map(([left, right]) => `  ${(left ?? '').padEnd(width)}  ${right}`);
  return `${usage.summary}\n\nUsage: ${usage.command} [options]\n\n${lines.join('\n')}`;
}

function placeholder(spec: ArgumentSpec): string {
  switch (spec.kind) {
    case 'flag':
      return '';
    case 'number':
      return ' N';
    case 'numbers':
      return ' N,N,…';
    case 'choice':
      return ` ${spec.choices.join('|')}`;
    case 'choices':
      return ' A,B,…';
  }
}

function fallback(spec: ArgumentSpec): string {
  if (spec.kind === 'flag' || spec.fallback === undefined) return '';
  const choices = spec.kind === 'choices' ? `of ${spec.choices.join(', ')}; ` : '';
  return ` (${choices}default ${String(spec.fallback)})`;
}
