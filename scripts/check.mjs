/**
 * `npm run check`: what CI does, on this Node: format and lint, types, build, tests. All of it runs even when a part
 * fails; the last line says which did.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { prepare, root } from './prepare.mjs';

prepare({ build: true });

const bin = (path) => join(root, 'node_modules', path);
const parts = {
  'format and lint': [bin('@biomejs/biome/bin/biome'), 'ci', '.'],
  types: [bin('typescript/bin/tsc'), '--noEmit'],
  tests: [join(root, 'scripts/test.mjs')],
};

const failed = Object.entries(parts)
  .filter(([name, args]) => {
    process.stdout.write(`\n== ${name}\n`);
    return spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' }).status !== 0;
  })
  .map(([name]) => name);

process.stdout.write(failed.length === 0 ? '\nall good\n' : `\nfailed: ${failed.join(', ')}\n`);
process.exitCode = failed.length === 0 ? 0 : 1;
