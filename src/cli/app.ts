/** Loads the application that `lastcall serve APP` serves. */
import { existsSync } from 'node:fs';
import type { RequestListener } from 'node:http';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { CliError, firstLine } from './error.js';

/**
 * The default export of a module: a `(req, res)` listener.
 *
 * @throws {CliError} when there is no such file, it can't be loaded, or its default export is no function
 */
export async function loadApp(path: string): Promise<RequestListener> {
  const file = resolve(path);
  if (!existsSync(file)) throw new CliError(`cannot load ${path}: no such file`);
  let loaded: { default?: unknown };
  try {
    loaded = await import(pathToFileURL(file).href);
  } catch (error) {
    throw new CliError(`cannot load ${path}: ${describe(error)}`);
  }
  const listener = defaultOf(loaded);
  if (typeof listener === 'function') return listener as RequestListener;
  const found = listener === undefined ? 'it has no default export' : `its default export is ${kind(listener)}`;
  throw new CliError(`${path} exports no listener: ${found}, where a function (req, res) is needed`);
}

/** Of an ES module that was compiled to CommonJS, its own default export is a property of Node's. */
function defaultOf({ default: exported }: { default?: unknown }): unknown {
  if (typeof exported !== 'object' || exported === null || !('__esModule' in exported)) return exported;
  return (exported as { default?: unknown }).default;
}

/** A place in a stack, which is a URL or, in CommonJS, a path. */
const PLACE = /(?:\(|at |^)((?:file:\/\/|\/|[A-Za-z]:\\)[^()]*?:\d+)(?::\d+)?\)?$/;

/** The line that names the error and, when it can be told, where it happened. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return `it threw ${firstLine(String(error))}`;
  const lines = (error.stack ?? '').split('\n').filter((line) => !line.includes(import.meta.url));
  const where = lines.map((line) => PLACE.exec(line)?.[1]).find((place) => place !== undefined);
  return `${error.name}: ${firstLine(error.message)}${where === undefined ? '' : ` (at ${where})`}`;
}

function kind(value: unknown): string {
  if (value === null) return 'null';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}
