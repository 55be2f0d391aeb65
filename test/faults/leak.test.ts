import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';

/** The short form of `npm run faults`. */
describe('the heap', () => {
  const run = (...args: string[]): Promise<{ code: number; output: string }> =>
    new Promise((resolve) => {
      const script = fileURLToPath(new URL('leak.ts', import.meta.url));
      execFile(process.execPath, ['--expose-gc', '--import', 'tsx', script, ...args], (error, stdout) => {
        resolve({ code: error === null ? 0 : Number(error.code), output: stdout });
      });
    });

  it('after 5,000 connections is what it was after 1,000', async function () {
    this.timeout(60_000);
    const { code, output } = await run('--connections', '5000');
    expect(code, output).to.equal(0);
  });

  it('that holds on to connections is noticed', async function () {
    this.timeout(60_000);
    const { code, output } = await run('--connections', '1500', '--leak');
    expect(output).to.match(/^FAILED .* 1500 connections reachable/);
    expect(code).to.equal(1);
  });
});
