/**
 * `npm run test:versions [-- MAJOR …]`: the suite on other versions of Node (22, 24 and 26 when none is named), each
 * installed from npm into node_modules/.cache. A line of counts for each, and their sum on the last line.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { prepare, root } from './prepare.mjs';
import { countsLine, runSuite } from './suite.mjs';

const majors = process.argv.length > 2 ? process.argv.slice(2) : ['22', '24', '26'];
const unknown = majors.find((major) => !/^\d+$/.test(major));
if (unknown !== undefined) {
  console.error(`${JSON.stringify(unknown)} is no major version of Node\nUsage: npm run test:versions [-- MAJOR …]`);
  process.exit(2);
}
const packageName = `node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;

/** The node program of a major version; installed when it isn't there. */
function nodeOf(major) {
  const folder = join(root, 'node_modules/.cache/nodes', major);
  const program = join(folder, 'node_modules', packageName, 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
  if (!existsSync(program)) {
    mkdirSync(folder, { recursive: true });
    const quiet = ['--no-audit', '--no-fund', '--no-package-lock', '--ignore-scripts', '--loglevel=error'];
    const args = ['install', '--prefix', folder, ...quiet, `${packageName}@^${major}`];
    spawnSync('npm', args, { cwd: folder, stdio: ['ignore', 2, 2], shell: process.platform === 'win32' });
  }
  if (!existsSync(program)) throw new Error(`cannot install Node ${major} (npm package ${packageName})`);
  return program;
}

prepare();
const total = { passed: 0, failed: 0, skipped: 0 };
const lines = [];
for (const major of majors) {
  const node = nodeOf(major);
  const version = spawnSync(node, ['--version'], { encoding: 'utf8' }).stdout.trim();
  process.stdout.write(`\nNode ${version}\n`);
  const result = await runSuite(node);
  for (const key of Object.keys(total)) total[key] += result[key];
  if (result.code !== 0) process.exitCode = 1;
  lines.push(`Node ${version}: ${countsLine(result)}`);
}
process.stdout.write(`\n${lines.join('\n')}\n${countsLine(total)}\n`);
