/**
 * What every bench leaves behind: an aligned table for people, bench/results/<name>.json for machines, and an exit
 * code that says whether each bar was met.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Verdict } from './stats.js';

export const RESULTS_DIRECTORY: string = fileURLToPath(new URL('../results/', import.meta.url));

/** What the clients counted, over the whole bench and for lastcall alone. */
export interface Totals {
  readonly sent: number;
  readonly answered: number;
  /** h2: the client was told that the request was not processed */
  readonly refused: number;
  /** sent, and never answered as expected (refused ones are not among them) */
  readonly lost: number;
  /** connections on which the client saw a reset */
  readonly resets: number;
}

/** One condition that the bench has to meet. */
export interface Bar {
  readonly what: string;
  readonly measured: string;
  readonly verdict: Verdict;
}

export type Cell = string | number | undefined;

export interface Results {
  /** of the file: `loss-h1`, … */
  readonly name: string;
  readonly title: string;
  readonly arguments: unknown;
  readonly totals: Totals;
  readonly rows: readonly Readonly<Record<string, Cell>>[];
  /** a second table, of other columns */
  readonly moreRows?: readonly Readonly<Record<string, Cell>>[];
  readonly bars: readonly Bar[];
  /** anything else worth keeping */
  readonly details?: unknown;
  readonly notes?: readonly string[];
}

/** A bar that is met when `ok` is true. */
export function bar(what: string, measured: string | number, ok: boolean): Bar {
  return { what, measured: String(measured), verdict: ok ? 'passed' : 'failed' };
}

/**
 * Prints, writes bench/results/<name>.json and ends the process: with 1 as soon as one bar failed.
 *
 * It exits at once because Node 20, left to end by itself after thousands of TLS sockets, now and then spins for ever in
 * `Environment::CleanupHandles`, waiting for a request that never completes.
 */
export function reportAndExit(results: Results): never {
  process.exit(report(results) ? 0 : 1);
}

/** Prints and writes; returns whether no bar failed. */
export function report(results: Results): boolean {
  console.log(`\n${results.title}\n\n${table(results.rows)}\n`);
  if (results.moreRows?.length) console.log(`${table(results.moreRows)}\n`);
  for (const { what, measured, verdict } of results.bars) {
    console.log(
      `${MARK[verdict]} ${what}: ${measured}${verdict === 'unresolved' ? ' (unresolved: inside the noise)' : ''}`,
    );
  }
  for (const note of results.notes ?? []) console.log(`  note: ${note}`);
  const verdicts = results.bars.map(({ verdict }) => verdict);
  const verdict = WORST_FIRST.find((one) => verdicts.includes(one)) ?? 'passed';
  const file = writeResult(
    `${results.name}.json`,
    JSON.stringify({ ...provenance(), verdict, ...results }, undefined, 2),
  );
  console.log(`\n${verdict.toUpperCase()}  ${file}`);
  return verdict !== 'failed';
}

const WORST_FIRST: readonly Verdict[] = ['failed', 'unresolved', 'passed'];

const MARK: Readonly<Record<Verdict, string>> = { passed: 'ok    ', failed: 'FAILED', unresolved: '?     ' };

/** Writes a file next to the results and returns its path relative to the working directory. */
export function writeResult(name: string, content: string): string {
  mkdirSync(RESULTS_DIRECTORY, { recursive: true });
  writeFileSync(`${RESULTS_DIRECTORY}${name}`, `${content}\n`);
  return `bench/results/${name}`;
}

/** Columns as wide as they need to be; numbers to the right. */
export function table(rows: readonly Readonly<Record<string, Cell>>[]): string {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const texts = rows.map((row) => columns.map((column) => cellText(row[column])));
  const widths = columns.map((column, i) => Math.max(column.length, ...texts.map((line) => line[i]?.length ?? 0)));
  const isNumeric = columns.map((column) => rows.every((row) => typeof row[column] !== 'string'));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => (isNumeric[i] ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join('  ')
      .trimEnd();
  return [line(columns), widths.map((width) => '─'.repeat(width)).join('  '), ...texts.map(line)].join('\n');
}

function cellText(cell: Cell): string {
  if (cell === undefined) return '';
  if (typeof cell === 'string') return cell;
  if (Number.isNaN(cell)) return '–';
  return Number.isInteger(cell) ? cell.toLocaleString('en') : cell.toFixed(Math.abs(cell) < 10 ? 2 : 1);
}

function provenance(): Record<string, unknown> {
  return {
    date: new Date().toISOString(),
    commit: git('rev-parse', 'HEAD'),
    modified: git('status', '--porcelain', '--untracked-files=no') !== '',
    node: process.version,
    cpu: `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown'}`,
    load: loadavg().map((value) => Math.round(value * 100) / 100),
  };
}

function git(...args: string[]): string | undefined {
  try {
    return execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return undefined;
  }
}
