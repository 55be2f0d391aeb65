/**
 * Compiles the measured servers, src included, to plain JavaScript: what tsx makes at load time keeps the names of
 * functions by means that put class constructors into V8's slow mode, and nobody deploys that.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { RESULTS_DIRECTORY } from './results.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const TSC = `${ROOT}node_modules/typescript/bin/tsc`;

const PREFIX = '.build-';

let compiled: string | undefined;

/**
 * The path of the server child's compiled main module; compiled once per process, removed when it exits.
 *
 * @throws {Error} with the compiler's words when it fails
 */
export function compiledServer(): string {
  if (compiled !== undefined) return compiled;
  const directory = `${RESULTS_DIRECTORY}${PREFIX}${process.pid}`;
  mkdirSync(directory, { recursive: true });
  removeLeftovers();
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  const main = `${directory}/bench/lib/servers/main.js`;
  const options = ['--ignoreConfig', '--noCheck', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2023'];
  const args = [
    TSC,
    'bench/lib/servers/main.ts',
    '--outDir',
    directory,
    '--rootDir',
    '.',
    '--types',
    'node',
    ...options,
  ];
  const { stdout, stderr } = spawnSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' });
  if (!existsSync(main)) throw new Error(`the servers could not be compiled:\n${stdout}${stderr}`);
  compiled = main;
  return main;
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
