/** The command line of `lastcall`: what it may say, and what that means. Doing it is left to serve.ts. */
import { parseArgs } from 'node:util';
import { CliError, firstLine } from './error.js';

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
}

export type Command =
  | { readonly name: 'help' }
  | { readonly name: 'version' }
  | { readonly name: 'serve'; readonly arguments: ServeArguments };

export const USAGE = `usage: lastcall serve [APP] [options]

Serves HTTP/1.1 and HTTP/2 on one TLS port. APP is a module whose default export
is a (req, res) listener, such as an Express app; without it, a demo.

options:
  --port PORT       port to listen on (default 8443; 0: any free one)
  --host HOST       address to listen on (default 127.0.0.1; 0.0.0.0: all)
  --key FILE        private key, PEM; without it and --cert, a self-signed
  --cert FILE       certificate chain, PEM; made at start, kept in memory
  --operator PORT   port of the operator endpoint on 127.0.0.1: list and drain
                    connections (default 8400; 0: any free one; off: none)
  --help            this text
  --version         the version

Ctrl-C or SIGTERM: no new connections, every open one is drained, exit.
A second one cuts what is left.
`;

/**
 * Reads the arguments after the program's name.
 *
 * @throws {CliError} when they make no sense
 */
export function parseCommand(args: readonly string[]): Command {
  const { values, positionals } = parse(args);
  if (values.help) return { name: 'help' };
  if (values.version) return { name: 'version' };
  const [command, app, ...rest] = positionals;
  if (command === undefined) return { name: 'help' };
  if (command !== 'serve') throw new CliError(`unknown command '${command}' (there is: serve; see lastcall --help)`);
  if (rest.length > 0) throw new CliError(`serve takes one app, got ${rest.length + 1}`);
  return {
    name: 'serve',
    arguments: {
      app,
      host: values.host ?? '127.0.0.1',
      port: portOf('--port', values.port ?? '8443'),
      tls: tlsFiles(values.key, values.cert),
      operator: values.operator === 'off' ? undefined : portOf('--operator', values.operator ?? '8400', ' or off'),
    },
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        port: { type: 'string' },
        host: { type: 'string' },
        key: { type: 'string' },
        cert: { type: 'string' },
        operator: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
        version: { type: 'boolean', short: 'v' },
      },
    });
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    if (code === undefined || !code.startsWith('ERR_PARSE_ARGS')) throw error;
    throw new CliError(`${sentence(message)} (see lastcall --help)`);
  }
}

/** parseArgs explains at length; its first sentence says what is wrong. */
function sentence(message: string): string {
  const first = firstLine(message).split(/\.(?:\s|$)/, 1)[0] ?? message;
  return first.charAt(0).toLowerCase() + first.slice(1);
}

function portOf(option: string, text: string, orElse = ''): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!(port <= 65_535)) throw new CliError(`${option} must be a port from 0 to 65535${orElse}, got '${text}'`);
  return port;
}

function tlsFiles(key: string | undefined, cert: string | undefined): ServeArguments['tls'] {
  if (key === undefined && cert === undefined) return undefined;
  if (key === undefined) throw new CliError('--cert needs --key');
  if (cert === undefined) throw new CliError('--key needs --cert');
  return { key, cert };
}
