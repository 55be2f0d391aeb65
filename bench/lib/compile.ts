/**
 * Compiles the measured servers, src included, to plain JavaScript: what tsx makes at load time keeps the names of
 * functions by means that put class constructors into V8's slow mode, and nobody deploys that.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { RESULTS_DIRECTORY } from './results.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const TSC = `${ROOT}node_modules/typescript/bin/tsc`;

const PREFIX = '.build-';

const compiled = new Map<string, string>();

/**
 * The path of a server child's compiled main module; compiled once per process, removed when it exits.
 *
 * @param source of the module, from the root of the repository
 * @throws {Error} with the compiler's words when it fails
 */
export function compiledServer(source = 'bench/lib/servers/main.ts'): string {
  const before = compiled.get(source);
  if (before !== undefined) return before;
  const [main = ''] = compile(source);
  compiled.set(source, main);
  return main;
}

/**
 * Compiles modules in one go, for as long as this process lives.
 *
 * @param sources from the root of the repository
 * @returns the paths of what they have become
 * @throws {Error} with the compiler's words when it fails
 */
export function compile(...sources: string[]): string[] {
  const directory = `${RESULTS_DIRECTORY}${PREFIX}${process.pid}`;
  mkdirSync(directory, { recursive: true });
  removeLeftovers();
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  const paths = sources.map((source) => `${directory}/${source.replace(/\.ts$/, '.js')}`);
  const options = ['--ignoreConfig', '--noCheck', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2023'];
  const args = [TSC, ...sources, '--outDir', directory, '--rootDir', '.', '--types', 'node', ...options];
  const { stdout, stderr } = spawnSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' });
  if (!paths.every((path) => existsSync(path))) {
    throw new Error(`the servers could not be compiled:\n${stdout}${stderr}`);
  }
  return paths;
}

/**
 * Changes a line of the compiled servers, for a control that has to fail.
 *
 * @param file below the repository's root, with the ending `.js`
 * @throws {Error} when the line isn't there exactly once
 */
export function breakOnPurpose(file: string, from: string, to: string): void {
  const path = compiledServer().replace('bench/lib/servers/main.js', file);
  const source = readFileSync(path, 'utf8');
  if (source.split(from).length !== 2) throw new Error(`${JSON.stringify(from)} is not once in ${file}`);
  writeFileSync(
    path,
    source.replace(from, () => to),
  );
}

/** What processes that were killed have left behind. */
function removeLeftovers(): void {
  for (const name of readdirSync(RESULTS_DIRECTORY)) {
    if (!name.startsWith(PREFIX) || isRunning(Number(name.slice(PREFIX.length)))) continue;
    rmSync(`${RESULTS_DIRECTORY}${name}`, { recursive: true, force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
