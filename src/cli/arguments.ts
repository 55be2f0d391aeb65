/**
 * The command line of `lastcall`: which command it names, and what `serve` may say. What `list` and `drain` may say is
 * operator-arguments.ts's; doing it is left to serve.ts and operate.ts.
 */
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { SHUTDOWN_TIMEOUT } from '../stop.js';
import { CliError, firstLine } from './error.js';
import { type DrainArguments, drainArguments, type ListArguments, listArguments } from './operator-arguments.js';
import { timeOf } from './time.js';
import { USAGE } from './usage.js';

export interface ServeArguments {
  /** Path of the module to serve; `undefined`: the built-in app. */
  readonly app: string | undefined;
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** Paths of PEM files; `undefined`: a self-signed certificate. */
  readonly tls: { readonly key: string; readonly cert: string } | undefined;
  /** Port of the operator endpoint, 0: any free one; `undefined`: none. */
  readonly operator: number | undefined;
  /** ms from a signal to the end of the process. */
  readonly timeout: number;
  /** ms between SIGTERM and the drain; `undefined`: the default for such a timeout. */
  readonly delay: number | undefined;
}

export type Command =
  | { readonly name: 'help'; readonly text: string }
  | { readonly name: 'version' }
  | { readonly name: 'serve'; readonly arguments: ServeArguments }
  | { readonly name: 'list'; readonly arguments: ListArguments }
  | { readonly name: 'drain'; readonly arguments: DrainArguments };

const GENERAL = {
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean', short: 'v' },
} as const;

const SERVE = {
  ...GENERAL,
  port: { type: 'string' },
  host: { type: 'string' },
  key: { type: 'string' },
  cert: { type: 'string' },
  operator: { type: 'string' },
  timeout: { type: 'string' },
  delay: { type: 'string' },
} as const;

const OPERATE = { ...GENERAL, operator: { type: 'string' }, json: { type: 'boolean' } } as const;

const DRAIN = {
  ...OPERATE,
  spread: { type: 'string' },
  concurrency: { type: 'string' },
  follow: { type: 'boolean' },
  timeout: { type: 'string' },
  'idle-wait': { type: 'string' },
  settle: { type: 'string' },
  linger: { type: 'string' },
  'linger-max': { type: 'string' },
  reason: { type: 'string' },
  'no-wait': { type: 'boolean' },
} as const;

/**
 * Reads the arguments after the program's name.
 *
 * @throws {CliError} when they make no sense
 * @throws {FilterSyntaxError} when a filter doesn't
 */
export function parseCommand(args: readonly string[]): Command {
  const [command, ...rest] = args;
  switch (command) {
    case 'serve': {
      const { values, positionals } = parse(command, rest, SERVE);
      return asked(command, values) ?? { name: command, arguments: serveArguments(values, positionals) };
    }
    case 'list': {
      const { values, positionals } = parse(command, rest, OPERATE);
      return asked(command, values) ?? { name: command, arguments: listArguments(values, positionals) };
    }
    case 'drain': {
      const { values, positionals } = parse(command, rest, DRAIN);
      return asked(command, values) ?? { name: command, arguments: drainArguments(values, positionals) };
    }
    default: {
      const { values, positionals } = parse(undefined, args, GENERAL);
      const [unknown] = positionals;
      if (unknown !== undefined)
        throw new CliError(`unknown command '${unknown}' (there are serve, list and drain; see lastcall --help)`);
      return asked('general', values) ?? { name: 'help', text: USAGE.general };
    }
  }
}

/** What was asked instead of doing it. */
function asked(about: keyof typeof USAGE, values: { help?: boolean; version?: boolean }): Command | undefined {
  if (values.help) return { name: 'help', text: USAGE[about] };
  return values.version ? { name: 'version' } : undefined;
}

function parse<Options extends NonNullable<ParseArgsConfig['options']>>(
  command: string | undefined,
  args: readonly string[],
  options: Options,
) {
  const help = `see ${command === undefined ? 'lastcall --help' : `lastcall ${command} --help`}`;
  try {
    const parsed = parseArgs({ args: [...args], allowPositionals: true, options, tokens: true });
    const given = parsed.tokens.flatMap((token) => (token.kind === 'option' ? token.name : []));
    const twice = given.find((name, index) => given.indexOf(name) < index);
    if (twice !== undefined) throw new CliError(`--${twice} is given twice (${help})`);
    return parsed;
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    if (code === undefined || !code.startsWith('ERR_PARSE_ARGS')) throw error;
    throw new CliError(`${sentence(message)} (${help})`);
  }
}

/** parseArgs explains at length; its first sentence says what is wrong. */
function sentence(message: string): string {
  const first = firstLine(message).split(/\.(?:\s|$)/, 1)[0] ?? message;
  return first.charAt(0).toLowerCase() + first.slice(1);
}

function serveArguments(
  values: { readonly [option in keyof Omit<typeof SERVE, keyof typeof GENERAL>]?: string | undefined },
  [app, ...rest]: readonly string[],
): ServeArguments {
  if (rest.length > 0) throw new CliError(`serve takes one app, got ${rest.length + 1}`);
  // A server would take it for: all of the machine's addresses.
  if (values.host?.trim() === '') throw new CliError('--host must be a name or an address, got nothing');
  const timeout = values.timeout === undefined ? SHUTDOWN_TIMEOUT : timeoutOf(values.timeout);
  return {
    app,
    host: values.host ?? '127.0.0.1',
    port: portOf('--port', values.port ?? '8443'),
    tls: tlsFiles(values.key, values.cert),
    operator: values.operator === 'off' ? undefined : portOf('--operator', values.operator ?? '8400', ' or off'),
    timeout,
    delay: values.delay === undefined ? undefined : delayOf(values.delay, timeout),
  };
}

function portOf(option: string, text: string, orElse = ''): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!(port <= 65_535)) throw new CliError(`${option} must be a port from 0 to 65535${orElse}, got '${text}'`);
  return port;
}

/** What a delay leaves to the drains, and a shutdown takes at least, in ms. */
const MIN_DRAIN = 1_000;

function timeoutOf(text: string): number {
  const timeout = timeOf('--timeout', text);
  if (timeout < MIN_DRAIN) throw new CliError(`--timeout must be at least ${MIN_DRAIN} ms, got '${text}'`);
  return timeout;
}

function delayOf(text: string, timeout: number): number {
  const delay = timeOf('--delay', text);
  const most = timeout - MIN_DRAIN;
  if (delay === Infinity || delay > most) {
    throw new CliError(
      `--delay must be from 0 to ${most} ms, as a shutdown takes at most ${timeout} with its drains (--timeout), got '${text}'`,
    );
  }
  return delay;
}

function tlsFiles(key: string | undefined, cert: string | undefined): ServeArguments['tls'] {
  if (key === undefined && cert === undefined) return undefined;
  if (key === undefined) throw new CliError('--cert needs --key');
  if (cert === undefined) throw new CliError('--key needs --cert');
  return { key, cert };
}
