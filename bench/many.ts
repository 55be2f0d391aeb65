/**
 * `npm run bench:many`: thousands of idle connections, selected and drained at once or over a time, while the event
 * loop of their server is watched. Opening the connections is not measured.
 */
import { availableParallelism } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { argumentsOrExit } from './lib/arguments.js';
import { busyTimeOfMachine } from './lib/cpu.js';
import { BREAKAGES, type Breakage, type DrainResult, type SelectResult } from './lib/many/messages.js';
import { Crowd, connectionsThatFit, FIRST_ADDRESS, type Population } from './lib/many/processes.js';
import { type Bar, bar, reportAndExit } from './lib/results.js';

const CASES = ['at-once', 'spread', 'idle-wait', 'shutdown'] as const;

const args = argumentsOrExit({
  command: 'npm run bench:many --',
  summary: 'Drains thousands of idle connections of both protocols and watches the event loop meanwhile.',
  options: {
    short: { kind: 'flag', help: '200 and 1,000 connections, and no bars on time, for CI' },
    h2: { kind: 'number', fallback: 2_000, min: 1, max: 50_000, help: 'HTTP/2 connections that are drained at once' },
    connections: {
      kind: 'number',
      fallback: 20_000,
      min: 10,
      max: 50_000,
      help: 'of both protocols, for the other cases',
    },
    spread: { kind: 'number', fallback: 5_000, min: 0, max: 600_000, help: 'ms over which drains begin' },
    cases: { kind: 'choices', choices: CASES, fallback: CASES, help: 'what to measure' },
    cleartext: { kind: 'flag', help: 'without TLS' },
    control: { kind: 'choice', choices: BREAKAGES, fallback: undefined, help: 'a broken server: the run must fail' },
    profile: { kind: 'flag', help: 'the server leaves a .cpuprofile' },
  },
});

/** What a case has to keep to, in ms. */
interface Limits {
  readonly duration: number;
  readonly stall: number;
}

const SELECT_LIMIT = 20;

/** Longer than set-up's own garbage and timers take. */
const REST_MS = 2_000;

/** A server that never finishes shall not cost the default timeout. */
const timeout = args.control === 'never-finishes' ? { timeout: args.spread + 3_000 } : {};

const h2Count = args.short ? Math.min(200, args.h2) : args.h2;
const wanted = args.short ? Math.min(1_000, args.connections) : args.connections;
const spread = args.short ? Math.min(1_000, args.spread) : args.spread;
const connections = connectionsThatFit(wanted);
const both = { h1: Math.floor(connections / 2), h2: Math.ceil(connections / 2), cleartext: args.cleartext };
const breakage: Breakage | undefined = BREAKAGES.find((name) => name === args.control);

const bars: Bar[] = [];
const rows: Record<string, string | number>[] = [];
const selectRows: Record<string, string | number>[] = [];
const notes: string[] = [];
let lost = 0;
let drained = 0;

async function crowdOf(population: Population): Promise<Crowd> {
  const crowd = await Crowd.open(population, breakage, args.profile ? ['--cpu-prof', '--cpu-prof-interval=500'] : []);
  await delay(args.short ? 0 : REST_MS);
  return crowd;
}

/** Opens, drains all, and judges; `limits` hold unless the run is a short one. */
async function measure(
  name: string,
  population: Population,
  how: 'drain' | 'shutdown',
  options: object,
  limits?: Limits,
  first?: (crowd: Crowd) => Promise<void>,
): Promise<void> {
  const crowd = await crowdOf(population);
  try {
    const { connections: open, rss } = await crowd.serverCounts();
    await first?.(crowd);
    const before = await crowd.clientCounts();
    const busyBefore = busyTimeOfMachine();
    const result = await crowd.drain(how, { ...timeout, ...options });
    const busyMs = ((busyTimeOfMachine() ?? 0) - (busyBefore ?? 0)) / 1_000;
    // Their sockets may close a moment after the server's.
    await delay(500);
    const clients = await crowd.clientCounts();
    const clientsCpuMs = clients.cpuMs - before.cpuMs;
    judge(name, population, result, limits);
    const ended = `${clients.ended} ended, ${clients.open} open, ${clients.failed} failed, ${clients.unannounced} unannounced`;
    const ok = clients.ended === population.h1 + population.h2 && clients.failed === 0 && clients.unannounced === 0;
    bars.push(
      bar(`${name}: every client was told, and saw FIN`, ok ? clients.ended : `${ended} (${clients.firstFailure})`, ok),
    );
    lost += clients.failed + clients.open;
    drained += result.connections;
    const { duration, p50, p99, loopDelay, intervalGap, cpuMs } = result;
    rows.push({
      case: name,
      h1: population.h1,
      h2: population.h2,
      drained: result.outcomes.drained ?? 0,
      'all ms': Math.round(duration),
      'one p50 ms': p50,
      'one p99 ms': p99,
      'loop delay ms': loopDelay,
      'interval gap ms': intervalGap,
      'CPU µs each': (cpuMs * 1_000) / Math.max(1, open),
      'of its client': (clientsCpuMs * 1_000) / Math.max(1, open),
      "others' CPU %": Math.max(0, ((busyMs - cpuMs - clientsCpuMs) / duration / availableParallelism()) * 100),
      'KiB each': rss / 1_024 / Math.max(1, open),
    });
    console.log(`measured: ${name}`);
  } finally {
    await crowd.close();
  }
}

function judge(name: string, { h1, h2 }: Population, result: DrainResult, limits: Limits | undefined): void {
  const outcomes = Object.entries(result.outcomes).filter(([, count]) => count > 0);
  const all = result.outcomes.drained === h1 + h2 && result.connections === h1 + h2;
  const told = outcomes.map(([outcome, count]) => `${count} ${outcome}`).join(', ');
  bars.push(bar(`${name}: every connection 'drained'`, told, all));
  if (limits === undefined || args.short) return;
  const { duration, loopDelay, intervalGap } = result;
  const stall = Math.max(loopDelay, intervalGap);
  if (limits.duration < Infinity) {
    const within = duration <= limits.duration;
    bars.push(bar(`${name}: all in at most ${limits.duration} ms`, `${Math.round(duration)} ms`, within));
  }
  bars.push(
    bar(`${name}: event loop never away for ${limits.stall} ms`, `${stall.toFixed(1)} ms`, stall < limits.stall),
  );
}

async function select(crowd: Crowd): Promise<void> {
  const filters: [string, object][] = [
    ['tag', { tags: { tenant: 't3' } }],
    ['CIDR', { remoteAddress: `127.0.0.${FIRST_ADDRESS}/32` }],
    ['CIDR, all', { remoteAddress: '127.0.0.0/8' }],
  ];
  for (const [name, filter] of filters) {
    const { selected, first, slowest }: SelectResult = await crowd.select(filter);
    selectRows.push({ select: name, of: connections, selected, 'first ms': first, 'slowest ms': slowest });
    bars.push(bar(`select by ${name} finds some`, selected, selected > 0));
    if (args.short) continue;
    bars.push(bar(`select by ${name} in under ${SELECT_LIMIT} ms`, `${slowest.toFixed(1)} ms`, slowest < SELECT_LIMIT));
  }
}

if (connections < wanted) notes.push(`${wanted} connections don't fit: the descriptor limit allows ${connections}`);

const wants = (name: (typeof CASES)[number]): boolean => args.cases.includes(name);
if (wants('at-once')) {
  const population = { h1: 0, h2: h2Count, cleartext: args.cleartext };
  await measure(`${h2Count} h2 at once`, population, 'drain', {}, { duration: 2_000, stall: 100 });
}
if (wants('spread')) {
  const limits = { duration: spread + 2_000, stall: 50 };
  await measure(`spread ${spread}, idleWait 0`, both, 'drain', { spread, idleWait: 0 }, limits, select);
}
if (wants('idle-wait')) {
  // Idle h1 connections wait for one more request for as long as the timeout lets them.
  const shorter = args.short ? { timeout: 4_000 } : {};
  await measure(`spread ${spread}, idleWait default`, both, 'drain', { spread, ...shorter });
}
if (wants('shutdown')) {
  await measure('shutdown, idleWait 0', both, 'shutdown', { idleWait: 0 }, { duration: Infinity, stall: 100 });
}

reportAndExit({
  name: `many${args.cleartext ? '-cleartext' : ''}${args.control === undefined ? '' : `-control-${args.control}`}`,
  title: `${connections.toLocaleString('en')} idle connections, ${args.cleartext ? 'in cleartext' : 'over TLS'}`,
  arguments: args,
  totals: { sent: drained, answered: drained, refused: 0, lost, resets: lost },
  rows,
  moreRows: selectRows,
  bars,
  notes,
});
