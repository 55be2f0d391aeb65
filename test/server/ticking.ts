/**
 * A process that has a full garbage collection while it idles, and says what process.nextTick costs then, in ns of CPU:
 * with lastcall in it, or with the argument `bare` without.
 */
export {};

const TICKS = 200_000;

function nothing(): void {}

/** Turns with ten ticks each, as servers have them. */
async function tick(times: number): Promise<void> {
  for (let left = times; left > 0; left -= 10) {
    for (let i = 0; i < 10; i++) process.nextTick(nothing);
    await new Promise(setImmediate);
  }
}

if (process.argv[2] !== 'bare') await import('../../src/index.js');
await tick(30);
// Behind a turn's ticks: none is left.
await new Promise<void>((resolve) => {
  setImmediate(() => {
    globalThis.gc?.();
    resolve();
  });
});
await tick(TICKS);
const before = process.cpuUsage();
await tick(TICKS);
const { user, system } = process.cpuUsage(before);
console.log(Math.round(((user + system) * 1000) / TICKS));
