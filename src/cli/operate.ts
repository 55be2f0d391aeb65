/** `lastcall list` and `lastcall drain`: ask the operator endpoint of a running server, and show what it says. */
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import type { DrainReport, DrainSummary } from '../core/report.js';
import type { DrainProgress } from '../core/waves.js';
import { OPERATOR } from '../ops/operator-reply.js';
import { formatProgress, formatReport, formatSummary } from '../ops/text.js';
import { CliError, reasonOf } from './error.js';
import type { DrainArguments, ListArguments } from './operator-arguments.js';

/** The exit code when a drain has cut or lost requests, or may have: its end isn't known. */
const LOSSES = 2;

/** @throws {CliError} when the endpoint can't be asked, or refuses */
export async function list({ url, filter, json }: ListArguments): Promise<void> {
  const query = new URLSearchParams(filter === undefined ? {} : { filter });
  for await (const text of await ask(url, 'GET', '/connections', query, json)) process.stdout.write(text);
}

/**
 * Ends with an exit code that tells whether anything was lost.
 *
 * @throws {CliError} when the endpoint can't be asked, or refuses
 */
export async function drain({ url, what, query, wait, json }: DrainArguments): Promise<void> {
  if (!wait) query.set('wait', '0');
  else if ('filter' in what) query.set('progress', '1');
  if ('filter' in what) query.set('filter', what.filter);
  const path = 'id' in what ? `/connections/${what.id}/drain` : '/drain';
  const answer = await ask(url, 'POST', path, query, json || wait, wait ? 200 : 202);
  if (!wait) {
    for await (const text of answer) process.stdout.write(text);
    return;
  }
  const result = await resultOf(answer);
  if (result === undefined) throw noEndpoint(url);
  process.stdout.write(json ? `${JSON.stringify(result, null, 2)}\n` : textOf(result));
  if (result.aborted + result.unserved > 0) process.exitCode = LOSSES;
}

/**
 * The last object; those before it tell how far it is, which is shown on a terminal.
 *
 * @returns `undefined`: it is none that tells of a drain
 */
async function resultOf(answer: AsyncIterable<string>): Promise<DrainReport | DrainSummary | undefined> {
  const told = new ProgressLine();
  let text = '';
  try {
    for await (const chunk of answer) {
      text += chunk;
      text = told.take(text);
    }
  } finally {
    told.clear();
  }
  try {
    const result = JSON.parse(text) as DrainReport | DrainSummary;
    return Number.isInteger(result.aborted + result.unserved) ? result : undefined;
  } catch {
    return undefined;
  }
}

function noEndpoint(url: URL): CliError {
  return new CliError(`what answers at ${url.origin} is no operator endpoint`);
}

function brokenOff(error: unknown): CliError {
  return new CliError(`the operator endpoint has broken off, what has begun may go on: ${reasonOf(error)}`, LOSSES);
}

function cutShort(error: unknown): CliError {
  return new CliError(`the operator endpoint has broken off in the middle of its answer: ${reasonOf(error)}`);
}

/** Shows complete lines of progress in one line of the terminal, each in the place of the one before. */
class ProgressLine {
  #shown = false;

  /** Takes lines of progress off the text; returns the rest. */
  take(text: string): string {
    let rest = text;
    for (let end = rest.indexOf('\n'); rest.startsWith('{"progress":') && end !== -1; end = rest.indexOf('\n')) {
      this.#show((JSON.parse(rest.slice(0, end)) as { progress: DrainProgress }).progress);
      rest = rest.slice(end + 1);
    }
    return rest;
  }

  clear(): void {
    if (this.#shown) process.stderr.write('\r\x1b[K');
  }

  #show(progress: DrainProgress): void {
    const line = formatProgress(progress);
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line.trimEnd()}`);
    else process.stderr.write(line);
    this.#shown = process.stderr.isTTY;
  }
}

function textOf(result: DrainReport | DrainSummary): string {
  return 'outcome' in result ? formatReport(result) : formatSummary(result);
}

/**
 * An answer that says yes, in pieces.
 *
 * @param status of what says so
 */
async function ask(
  url: URL,
  method: string,
  path: string,
  query: URLSearchParams,
  json: boolean,
  status = 200,
): Promise<AsyncIterable<string>> {
  const target = new URL(path, url);
  target.search = query.toString();
  const headers = { accept: json ? 'application/json' : 'text/plain' };
  const req = request(target, { method, headers, agent: false }).end();
  let answer: IncomingMessage;
  try {
    [answer] = (await once(req, 'response')) as [IncomingMessage];
  } catch (error) {
    // It was there, and has taken the request.
    if (method === 'POST' && (error as NodeJS.ErrnoException).code === 'ECONNRESET') throw brokenOff(error);
    throw new CliError(`no operator endpoint answers at ${url.origin}: ${reasonOf(error)} (--operator PORT)`);
  }
  // A reset in the middle of the answer: whoever reads it is told.
  req.on('error', () => {});
  if (answer.headers.server !== OPERATOR) {
    answer.destroy();
    throw noEndpoint(url);
  }
  const saysYes = (answer.statusCode ?? 500) < 400;
  const pieces = piecesOf(answer, saysYes && method === 'POST' ? brokenOff : cutShort);
  if (answer.statusCode === status) return pieces;
  if (saysYes) {
    answer.destroy();
    throw noEndpoint(url);
  }
  let text = '';
  for await (const piece of pieces) text += piece;
  throw new CliError(problemOf(text));
}

/** @param broken what it throws when there is no end */
async function* piecesOf(answer: IncomingMessage, broken: (error: unknown) => CliError): AsyncGenerator<string> {
  try {
    yield* answer.setEncoding('utf8') as AsyncIterable<string>;
  } catch (error) {
    throw broken(error);
  }
}

function problemOf(text: string): string {
  try {
    return String((JSON.parse(text) as { error: unknown }).error);
  } catch {
    return text.split('\n', 1)[0] ?? text;
  }
}
