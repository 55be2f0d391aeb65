/** Runs the test suite on one Node and tells what came of it. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { root } from './prepare.mjs';

/**
 * How long a run may take to end after its last test, in ms. Node 20 now and then spins for ever in its own clean-up
 * (CleanupHandles) after thousands of TLS sockets; what keeps a process alive is tested in processes of its own.
 */
const EXIT_GRACE = 15_000;

/**
 * @param {string} node the node program to run it with
 * @param {string[]} args further arguments for mocha
 * @returns counts and mocha's exit code; a run that broke before it could count is one failure
 */
export async function runSuite(node, args = []) {
  const folder = mkdtempSync(join(tmpdir(), 'lastcall-suite-'));
  const file = join(folder, 'counts.json');
  const mocha = join(root, 'node_modules/mocha/bin/mocha.js');
  const strict = process.env.CI === 'true' ? ['--forbid-only'] : [];
  // Tests wait more than they compute: three processes for each core, which take one file after the other.
  const parallel = ['--parallel', '--jobs', String(3 * availableParallelism())];
  const options = ['--reporter', './scripts/reporter.mjs', '--fail-zero', ...parallel, ...strict, ...args];
  const child = spawn(node, [mocha, ...options], {
    cwd: root,
    stdio: 'inherit',
    detached: process.platform !== 'win32',
    env: {
      ...process.env,
      LASTCALL_TEST_COUNTS: file,
      PATH: `${dirname(node)}${delimiter}${process.env.PATH ?? ''}`,
    },
  });
  const kill = (signal) => (process.platform === 'win32' ? child.kill(signal) : process.kill(-child.pid, signal));
  let countedAt;
  const forward = { SIGINT: () => kill('SIGINT'), SIGTERM: () => kill('SIGTERM') };
  for (const [signal, listener] of Object.entries(forward)) process.once(signal, listener);
  const watch = setInterval(() => {
    if (countedAt === undefined && existsSync(file)) countedAt = Date.now();
    if (countedAt !== undefined && Date.now() - countedAt > EXIT_GRACE) kill('SIGKILL');
  }, 500);
  const exitCode = await new Promise((resolve) => child.once('exit', resolve));
  clearInterval(watch);
  for (const [signal, listener] of Object.entries(forward)) process.off(signal, listener);
  let counts = { passed: 0, failed: 1, skipped: 0 };
  try {
    counts = JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    process.stderr.write('lastcall: the test run broke before it could count\n');
  }
  rmSync(folder, { recursive: true });
  // Killed after its last test: what the tests said counts.
  const code = exitCode ?? (countedAt !== undefined && counts.failed === 0 ? 0 : 1);
  return { ...counts, code };
}

/** `N passed, N failed`, and how many were skipped, if any. */
export function countsLine({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}
