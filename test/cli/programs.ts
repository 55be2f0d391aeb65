/** Programs that a test needs beside Node: without one a test skips and says so; in CI it fails. */
import { spawnSync } from 'node:child_process';
import type { Context } from 'mocha';

/** To be called first in a test or hook: `needs(this, 'curl')`. */
export function needs(context: Context, program: string, args: readonly string[] = ['--version']): void {
  if (spawnSync(program, args, { stdio: 'ignore' }).error === undefined) return;
  if (process.env.CI === 'true') throw new Error(`${program} is not installed`);
  process.stderr.write(`      skipped: ${program} is not installed\n`);
  context.skip();
}
