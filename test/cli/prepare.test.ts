import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';

const root = fileURLToPath(new URL('../..', import.meta.url));

describe('setting up a clone', function () {
  this.timeout(60_000);
  let clone: string;

  /** Installed, and not built. */
  beforeEach(() => {
    clone = mkdtempSync(join(tmpdir(), 'lastcall-clone-'));
    for (const name of ['scripts', 'src', 'package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json'])
      cpSync(join(root, name), join(clone, name), { recursive: true });
    mkdirSync(join(clone, 'node_modules'));
    for (const name of readdirSync(join(root, 'node_modules'))) {
      if (name !== '.cache') symlinkSync(join(root, 'node_modules', name), join(clone, 'node_modules', name));
    }
  });
  afterEach(() => rmSync(clone, { recursive: true }));

  /** What it says, once it has ended well. */
  function prepare(): Promise<string> {
    const child = spawn(process.execPath, ['scripts/prepare.mjs'], { cwd: clone, stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (bytes) => {
      said += bytes;
    });
    return new Promise((resolve, reject) => {
      child.on('close', (code) => (code === 0 ? resolve(said) : reject(new Error(`exit code ${code}: ${said}`))));
    });
  }

  it('is done once by commands that are run at the same time', async () => {
    const said = await Promise.all([prepare(), prepare(), prepare()]);
    expect(said.join('').match(/building/g)).to.have.length(1);
    expect(existsSync(join(clone, 'dist/cli/main.js'))).to.equal(true);
    expect(await prepare()).to.equal('');
    expect(existsSync(join(clone, '.preparing'))).to.equal(false);
  });

  it('does not wait for one that was killed, and is done once all the same', async () => {
    // No process has that number.
    writeFileSync(join(clone, '.preparing'), '4194305\n');
    const said = await Promise.all([prepare(), prepare(), prepare()]);
    expect(said.join('').match(/building/g)).to.have.length(1);
    expect(readdirSync(clone).filter((name) => name.startsWith('.preparing'))).to.deep.equal([]);
  });
});
