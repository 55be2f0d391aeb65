/** Runs the test suite on one Node and tells what came of it. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { root } from './prepare.mjs';

/**
 * @param {string} node the node program to run it with
 * @param {string[]} args further arguments for mocha
 * @returns counts and mocha's exit code; a run that broke before it could count is one failure
 */
export function runSuite(node, args = []) {
  const folder = mkdtempSync(join(tmpdir(), 'lastcall-suite-'));
  const file = join(folder, 'counts.json');
  const mocha = join(root, 'node_modules/mocha/bin/mocha.js');
  const strict = process.env.CI === 'true' ? ['--forbid-only'] : [];
  const { status } = spawnSync(
    node,
    [mocha, '--reporter', './scripts/reporter.mjs', '--fail-zero', ...strict, ...args],
    {
      cwd: root,
      stdio: 'inherit',
      env: {
        ...process.env,
        LASTCALL_TEST_COUNTS: file,
        PATH: `${dirname(node)}${delimiter}${process.env.PATH ?? ''}`,
      },
    },
  );
  let counts = { passed: 0, failed: 1, skipped: 0 };
  try {
    counts = JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    process.stderr.write('lastcall: the test run broke before it could count\n');
  }
  rmSync(folder, { recursive: true });
  return { ...counts, code: status ?? 1 };
}

/** `N passed, N failed`, and how many were skipped, if any. */
export function countsLine({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}
