import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect } from 'chai';

/** What a program in a process of its own says. */
async function numberFrom(file: string, flag: string, ...args: string[]): Promise<number> {
  const path = fileURLToPath(new URL(file, import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [flag, '--import', 'tsx', path, ...args]);
  return Number.parseInt(stdout, 10);
}

/** ns of CPU that a tick costs in a process that has idled. */
const costOfTick = (...args: string[]): Promise<number> => numberFrom('./ticking.ts', '--expose-gc', ...args);

it('process: ticks cost less in one that has idled where lastcall is in it', async function () {
  // What is held is exactly of a tick's shape there; of later versions some need it in part, some not.
  if (Number.parseInt(process.versions.node, 10) !== 20) this.skip();
  this.timeout(30_000);
  const ours: number[] = [];
  const bare: number[] = [];
  for (let run = 0; run < 3; run++) {
    ours.push(await costOfTick());
    bare.push(await costOfTick('bare'));
  }
  // The best of each, since the machine does other things: 0.4.
  expect(Math.min(...ours) / Math.min(...bare)).to.be.below(0.7);
});

it('process: Node follows no callbacks because of lastcall', async function () {
  this.timeout(10_000);
  expect(await numberFrom('./following.ts', '--expose-internals')).to.equal(0);
});
