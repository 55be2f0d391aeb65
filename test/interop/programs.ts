/**
 * Runs the client programs: to their end, or to a time limit that kills them.
 */
import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Context } from 'mocha';
import { needs } from '../cli/programs.js';

const GO_CACHE = fileURLToPath(new URL('../../node_modules/.cache/go', import.meta.url));

/** What a program that has ended left behind. */
export interface Ended {
  /** -1: killed, by the time limit or otherwise. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: Buffer;
  readonly cwd?: string;
  /** default 30,000 */
  readonly timeoutMs?: number;
}

/** Runs a program to its end, whatever its exit code. */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: options.timeoutMs ?? 30_000,
      killSignal: 'SIGKILL',
      env: { ...process.env, ...options.env },
      ...(options.cwd !== undefined && { cwd: options.cwd }),
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.once('error', reject);
    child.once('close', (code) =>
      resolve({ code: code ?? -1, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() }),
    );
    // A program that ends without reading its input is judged by its exit code.
    child.stdin.on('error', () => {});
    child.stdin.end(options.input);
  });
}

/** Runs a program that has to succeed, and returns what it printed. */
export async function output(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(program, args, options);
  if (code !== 0) throw new Error(`${program} ${args.join(' ')}: exit code ${code}\n${stderr}${stdout}`);
  return stdout;
}

/** Compiles a program in Go. What it needs of Go's own library is compiled once for this tree, which takes longest. */
export async function goBuild(source: string, program: string): Promise<void> {
  const env = { GOFLAGS: '-mod=mod', GOPROXY: 'off', GO111MODULE: 'auto', CGO_ENABLED: '0', GOCACHE: GO_CACHE };
  await output('go', ['build', '-o', program, source], { env, timeoutMs: 180_000 });
}

/** `needs` for a program that is there but may lack something: then this call of it fails. */
export function needsToSucceed(context: Context, program: string, args: readonly string[], what: string): void {
  needs(context, program, args);
  if (spawnSync(program, args, { stdio: 'ignore' }).status === 0) return;
  if (process.env.CI === 'true') throw new Error(`${what} is not installed`);
  process.stderr.write(`      skipped: ${what} is not installed\n`);
  context.skip();
}
