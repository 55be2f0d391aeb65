/**
 * `npm run simulate`: runs schedules, one seed after the other, and says what they came to. A schedule that fails prints
 * what runs it again. `--help` names the options.
 */
import { argumentsOrExit } from '../../bench/lib/arguments.js';
import { Random } from '../wire/random.js';
import { drawSchedule } from './draw.js';
import { runH1Schedule } from './h1-schedule.js';
import { runH2Schedule } from './h2-schedule.js';
import type { Feature, Result } from './result.js';

const args = argumentsOrExit({
  command: 'npm run simulate --',
  summary:
    'Draws schedules of drains, and plays each to the server as it is, with simulated clients, networks and clock.',
  options: {
    schedules: { kind: 'number', fallback: 50_000, min: 1, max: 1e9, help: 'how many' },
    minutes: { kind: 'number', fallback: 0, min: 0, max: 10_000, help: 'instead: as many as fit; 0: no' },
    seed: { kind: 'number', fallback: 1, min: 0, max: 2 ** 32, help: 'of the first; those after it count up' },
    proto: { kind: 'choice', fallback: 'h2', choices: ['h2', 'h1'], help: 'what the clients speak' },
    bail: { kind: 'flag', help: 'stops at the first that fails' },
    trace: { kind: 'flag', help: 'prints what the clients see, line by line' },
    plan: { kind: 'flag', help: 'prints what was drawn' },
  },
});

/** What has to be in at least one of a hundred schedules. */
const REQUIRED: Readonly<Record<'h1' | 'h2', readonly Feature[]>> = {
  h2: [
    'streams between the GOAWAYs',
    'streams after the final GOAWAY',
    'requests cut by the deadline',
    'streams blocked on flow control',
    'a tunnel',
    'uploads open',
    'a crowd of requests',
    'a stalled loop',
  ],
  h1: [
    'requests while draining',
    'requests after the last answer',
    'requests cut by the deadline',
    'several requests in flight',
    'a tunnel',
    'uploads open',
    'a crowd of requests',
    'a stalled loop',
  ],
};

const REQUIRED_SHARE = 0.01;

/** What has to be in at least one of many: clients that stop, and the limits on them. */
const SELDOM: Readonly<Record<'h1' | 'h2', readonly Feature[]>> = {
  h2: ['prefaceTimeout fired', 'headersTimeout fired', 'sendTimeout fired', 'bodyTimeout fired', 'ping fired'],
  h1: ['headersTimeout fired', 'bodyTimeout fired'],
};
const MANY = 10_000;

/** Below this, a share says nothing. */
const ENOUGH_FOR_SHARES = 1_000;

/** So many failures are printed. */
const MOST_FAILURES = 20;

class Tally {
  schedules = 0;
  connections = 0;
  requests = 0;
  callbacks = 0;
  failures = 0;
  readonly features = new Map<Feature, number>();

  add(result: Result): void {
    this.schedules++;
    this.connections += result.connections;
    this.requests += result.requests;
    this.callbacks += result.callbacks;
    for (const feature of result.features) this.features.set(feature, (this.features.get(feature) ?? 0) + 1);
  }

  share(feature: Feature): number {
    return (this.features.get(feature) ?? 0) / this.schedules;
  }
}

function count(n: number): string {
  return n.toLocaleString('en');
}

function main(): void {
  const { seed } = args;
  const proto = args.proto === 'h1' ? 'h1' : 'h2';
  const until = args.minutes > 0 ? performance.now() + args.minutes * 60_000 : Infinity;
  const most = args.minutes > 0 ? Infinity : args.schedules;
  const run = proto === 'h1' ? runH1Schedule : runH2Schedule;
  const trace = args.trace ? (line: string) => console.log(line) : undefined;

  // Errors are made by the thousand, and nobody looks where.
  if (most > 1) Error.stackTraceLimit = 0;
  const mostFailures = args.bail ? 1 : MOST_FAILURES;
  const from = performance.now();
  const tally = new Tally();
  for (let i = 0; i < most && performance.now() < until && tally.failures < mostFailures; i++) {
    if (args.plan) console.dir(drawSchedule(new Random(seed + i)), { depth: 9 });
    try {
      const result = run(seed + i, trace);
      tally.add(result);
      if (result.violations.length > 0) fail(tally, proto, seed + i, result.violations);
    } catch (error) {
      fail(tally, proto, seed + i, [error instanceof Error ? (error.stack ?? error.message) : String(error)]);
      // What was thrown through Node's own queues leaves them in disorder.
      summarize(tally, proto, performance.now() - from);
      process.exit();
    }
  }
  summarize(tally, proto, performance.now() - from);
}

function fail(tally: Tally, proto: string, seed: number, violations: readonly string[]): void {
  tally.failures++;
  process.exitCode = 1;
  console.log(`schedule ${seed} fails (--proto ${proto} --seed ${seed} --schedules 1 --trace):`);
  for (const violation of violations) console.log(`  ${violation}`);
}

function summarize(tally: Tally, proto: 'h1' | 'h2', ms: number): void {
  const { schedules, connections, requests, callbacks, failures } = tally;
  console.log(
    `${proto}: ${count(schedules)} schedules, ${count(connections)} connections, ${count(requests)} requests, ` +
      `${count(callbacks)} callbacks in ${(ms / 1000).toFixed(1)} s: ${failures} failed`,
  );
  for (const feature of [...tally.features.keys()].sort()) {
    const share = tally.share(feature);
    console.log(
      `  ${count(tally.features.get(feature) ?? 0).padStart(8)}  ${(100 * share).toFixed(1).padStart(5)} %  ${feature}`,
    );
  }
  if (schedules < ENOUGH_FOR_SHARES) return;
  for (const feature of REQUIRED[proto]) {
    if (tally.share(feature) >= REQUIRED_SHARE) continue;
    process.exitCode = 1;
    console.log(`too few schedules with ${feature}: at least ${100 * REQUIRED_SHARE} % are wanted`);
  }
  for (const feature of schedules < MANY ? [] : SELDOM[proto]) {
    if (tally.features.has(feature)) continue;
    process.exitCode = 1;
    console.log(`no schedule with ${feature}`);
  }
}

// Not within the module's own evaluation, which is a microtask: those can't be run from within one.
setImmediate(main);
