/**
 * Brings a clone into a state in which everything runs: installs what package-lock.json asks for, builds dist/ from
 * src/, for one process at a time. Does nothing, quickly, when nothing is missing or stale. Plain Node, no dependencies: it
 * runs before they exist.
 *
 * Alone: `node scripts/prepare.mjs [--build]`, where --build builds in any case.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));

const BUILT = join(root, 'node_modules/.cache/lastcall/built');
const ENTRY = join(root, 'dist/cli/main.js');
/** Holds the process that installs or builds: `npm start` and `npm test` may be run at the same time. */
const LOCK = join(root, '.preparing');

/** Installs and builds what is missing or stale; exits with one line on stderr when that isn't possible. */
export function prepare({ build = false } = {}) {
  checkNode();
  if (installed() && !build && built(hashOfSources())) return;
  lock();
  try {
    if (!installed()) install();
    const sources = hashOfSources();
    if (build || !built(sources)) compile(sources);
  } finally {
    unlock();
  }
}

function built(sources) {
  return existsSync(ENTRY) && readIfThere(BUILT) === sources;
}

function compile(sources) {
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  rmSync(BUILT, { force: true });
  say('building');
  run(
    process.execPath,
    [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json'],
    'the build failed',
  );
  mkdirSync(join(BUILT, '..'), { recursive: true });
  writeFileSync(BUILT, sources);
}

/** Waits until no other process installs or builds here. */
function lock() {
  for (let waits = false; ; ) {
    try {
      writeFileSync(LOCK, `${process.pid}\n`, { flag: 'wx' });
      return;
    } catch (error) {
      // Windows says so of a file that somebody has open.
      const isHeld = error.code === 'EEXIST' || (process.platform === 'win32' && error.code !== 'ENOENT');
      if (!isHeld) fail(error.message);
    }
    const pid = holder();
    if (pid !== undefined && isGone(pid)) {
      breakLock(pid);
      continue;
    }
    if (!waits) say(`process ${pid ?? ''} installs or builds here: waiting for it. If there is none, remove ${LOCK}`);
    waits = true;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
  }
}

function unlock() {
  if (holder() === process.pid) rmSync(LOCK, { force: true });
}

/** The process that holds the lock; `undefined`: nobody, or whoever takes it has yet to say so. */
function holder() {
  return Number(readIfThere(LOCK) ?? 0) || undefined;
}

function isGone(pid) {
  // Of an earlier container, whose processes had the same numbers.
  if (pid === process.pid) return true;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return error.code === 'ESRCH';
  }
}

/** Of those who find that its holder is gone one breaks it; whoever has taken it since keeps it. */
function breakLock(pid) {
  const broken = `${LOCK}.${process.pid}`;
  try {
    renameSync(LOCK, broken);
  } catch {
    return;
  }
  if (Number(readFileSync(broken, 'utf8')) === pid) rmSync(broken);
  else renameSync(broken, LOCK);
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19))
    fail(`Node 20.19 or newer is needed, this is ${process.versions.node}`);
}

/** Whether node_modules holds what package-lock.json names, as npm's own record of the installation tells. */
function installed() {
  const record = readIfThere(join(root, 'node_modules/.package-lock.json'));
  if (record === undefined) return false;
  let present;
  try {
    present = JSON.parse(record).packages;
  } catch {
    return false;
  }
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(wanted).every(([path, { version, optional, peer }]) => {
    if (path === '') return true;
    if (present[path] === undefined) return optional === true || peer === true;
    return present[path].version === version;
  });
}

function install() {
  say('installing dependencies (npm ci)');
  const args = ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'];
  const npm = process.env.npm_execpath;
  const message = 'npm ci failed';
  if (npm?.endsWith('.js')) run(process.execPath, [npm, ...args], message);
  else run('npm', args, message, { shell: process.platform === 'win32' });
}

/** Of names and contents: times say little after a checkout. */
function hashOfSources() {
  const hash = createHash('sha256');
  const files = readdirSync(join(root, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
  for (const file of [...files.sort(), join(root, 'tsconfig.json'), join(root, 'tsconfig.build.json')]) {
    hash
      .update(`${relative(root, file)}\0`)
      .update(readFileSync(file))
      .update('\0');
  }
  return hash.digest('hex');
}

/** What they print goes to stderr, so that stdout stays the program's own. */
function run(command, args, message, options = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2], ...options });
  if (status !== 0) fail(error === undefined ? message : `${message}: ${error.message}`);
}

function readIfThere(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function say(message) {
  process.stderr.write(`lastcall: ${message}\n`);
}

function fail(message) {
  say(message);
  unlock();
  process.exit(1);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) prepare({ build: process.argv.includes('--build') });
