/**
 * `npm run bench:shutdown`: what clients lose when the process of their server gets SIGTERM under load, lastcall beside
 * the usual libraries and bare `server.close()`, all with the same delay before.
 */
import { argumentsOrExit } from './lib/arguments.js';
import { type Bar, bar, type Cell, reportAndExit } from './lib/results.js';
import { isOurs, SHUTDOWN_KINDS, type ShutdownKind, spokenBy } from './lib/shutdown/messages.js';
import { type Counted, nobody, runShutdown, type ShutdownPlan, type ShutdownRun } from './lib/shutdown/run.js';
import { median, sum } from './lib/stats.js';

/** What CI runs: lastcall, and a library that is known to lose. */
const SHORT_KINDS: readonly ShutdownKind[] = ['lastcall', 'adopted https', 'http-terminator'];

/** New connections a run that were routed and answered: fewer when the clients' machine is too busy to make them in time. */
const MIN_SERVED = 50;

const args = argumentsOrExit({
  command: 'npm run bench:shutdown --',
  summary: 'Counts the requests that clients lose when their server gets SIGTERM, and how long it takes to exit.',
  options: {
    runs: { kind: 'number', fallback: 0, min: 0, max: 1_000, help: 'shutdowns of each server (0: 20; short: 2)' },
    servers: { kind: 'choices', choices: SHUTDOWN_KINDS, fallback: [], help: 'which ones (default: all)' },
    short: { kind: 'flag', help: 'few servers, few runs: for CI' },
    rtt: { kind: 'number', fallback: 20, min: 0, max: 1_000, help: 'round trip, ms' },
    delay: {
      kind: 'number',
      fallback: 2_000,
      min: 0,
      max: 20_000,
      help: 'ms that each goes on as usual after SIGTERM',
    },
    grace: { kind: 'number', fallback: 10_000, min: 2_000, max: 60_000, help: 'ms after SIGTERM until SIGKILL' },
    arrivals: { kind: 'number', fallback: 200, min: 1, max: 2_000, help: 'new connections per second' },
    stall: { kind: 'number', fallback: 500, min: 0, max: 1_400, help: 'stalls of the server loop, ms' },
    control: { kind: 'flag', help: 'lastcall drops one request in 50: the run must fail' },
    seed: { kind: 'number', fallback: 1, min: 0, max: 2 ** 31, help: 'of all random choices' },
  },
});
if (args.delay > args.grace - 1_000) {
  console.error(`--delay must be a second shorter than --grace (${args.grace}), not ${args.delay}`);
  process.exit(2);
}

const runs = args.runs || (args.short || args.control ? 2 : 20);
const kinds = args.control ? (['lastcall'] as const) : chosen();
const plan: ShutdownPlan = {
  rttMs: args.rtt,
  delayMs: args.delay,
  graceMs: args.grace,
  arrivals: args.arrivals,
  stallMs: args.stall,
  h1Clients: 16,
  h2Clients: 4,
  dropEvery: args.control ? 50 : undefined,
};

const results = new Map<ShutdownKind, ShutdownRun[]>(kinds.map((kind) => [kind, []]));
// In turns, so that what else the machine does falls on all of them.
for (let run = 0; run < runs; run += 1) {
  for (const [kind, done] of results) {
    done.push(await runShutdown(kind, plan, args.seed + run));
    const { lost } = added(done.slice(-1));
    console.log(
      `run ${run + 1} of ${runs}, ${kind}: ${lost} lost, exit after ${done.at(-1)?.exit.afterMs.toFixed(0)} ms`,
    );
  }
}

reportAndExit({
  name: `shutdown${args.control ? '-control' : ''}${args.short ? '-short' : ''}`,
  title: `Requests lost when a server gets SIGTERM under load, over ${runs} runs each`,
  arguments: args,
  totals: added(results.get('lastcall') ?? []),
  rows: [...results].map(([kind, done]) => row(kind, done)),
  moreRows: [...results].map(([kind, done]) => arrivalsRow(kind, done)),
  bars: bars(),
  details: Object.fromEntries(results),
  notes: [...results].flatMap(([kind, done]) =>
    isOurs(kind) && added(done).lost > 0
      ? done.flatMap(({ faults }) => faults.map((fault) => `${kind}: ${fault}`))
      : [],
  ),
});

function chosen(): readonly ShutdownKind[] {
  if (args.servers.length > 0) return SHUTDOWN_KINDS.filter((kind) => args.servers.includes(kind));
  return args.short ? SHORT_KINDS : SHUTDOWN_KINDS;
}

/** Loops and new connections together. */
function added(of: readonly ShutdownRun[]): Counted {
  return total(of.flatMap(({ loops, arrivals }) => [loops.h1, loops.h2, arrivals]));
}

function total(counts: readonly Counted[]): Counted {
  const all = nobody();
  for (const each of counts) for (const key of Object.keys(all) as (keyof Counted)[]) all[key] += each[key];
  return all;
}

function row(kind: ShutdownKind, done: readonly ShutdownRun[]): Record<string, Cell> {
  const h1 = total(done.map(({ loops }) => loops.h1));
  const h2 = total(done.map(({ loops }) => loops.h2));
  const exits = done.map(({ exit }) => exit.afterMs);
  const speaks = spokenBy(kind);
  return {
    server: kind,
    runs: done.length,
    'h1 sent': speaks.includes('h1') ? h1.sent : undefined,
    'h1 lost': speaks.includes('h1') ? h1.lost : undefined,
    'h2 sent': speaks.includes('h2') ? h2.sent : undefined,
    'h2 lost': speaks.includes('h2') ? h2.lost : undefined,
    'h2 refused': speaks.includes('h2') ? h2.refused : undefined,
    resets: h1.resets + h2.resets,
    'lost a run': (h1.lost + h2.lost) / done.length,
    'exit p50 ms': Math.round(median(exits)),
    'exit max ms': Math.round(Math.max(...exits)),
    killed: done.filter(({ exit }) => exit.signal === 'SIGKILL').length,
    'exit codes': [...new Set(done.map(({ exit }) => exit.code ?? exit.signal))].join(', '),
  };
}

function arrivalsRow(kind: ShutdownKind, done: readonly ShutdownRun[]): Record<string, Cell> {
  const { connections, answered, refused, lost, resets } = total(done.map(({ arrivals }) => arrivals));
  const connectsRefused = sum(done.map((run) => run.connectsRefused));
  return {
    'new connections': kind,
    made: connections,
    skipped: sum(done.map((run) => run.skipped)),
    answered,
    refused,
    'lost or reset': lost,
    resets,
    'nothing listened any more': connectsRefused,
    'routed elsewhere': sum(done.map((run) => run.routedElsewhere)),
  };
}

function bars(): Bar[] {
  const made: Bar[] = [];
  for (const [kind, done] of results) {
    if (!isOurs(kind)) continue;
    const { lost, resets, sent } = added(done);
    const served = total(done.map(({ arrivals }) => arrivals)).answered;
    made.push(
      bar(`${kind}: lost of ${sent.toLocaleString('en')} requests (at most 0)`, lost, lost === 0 && sent > 0),
      bar(`${kind}: connections reset (at most 0)`, resets, resets === 0),
      bar(
        `${kind}: new connections served (at least ${MIN_SERVED * runs}: the bench keeps up)`,
        served,
        served >= MIN_SERVED * runs,
      ),
      bar(
        `${kind}: runs that exited with 0 before SIGKILL (all ${runs})`,
        done.filter(({ exit }) => exit.code === 0).length,
        done.every(({ exit }) => exit.code === 0),
      ),
    );
  }
  const peers = [...results].filter(([kind]) => !isOurs(kind));
  if (peers.length > 0) {
    const losing = peers.filter(([, done]) => added(done).lost > 0).length;
    made.push(bar('other servers that lose requests beside it (at least 1: the bench sees loss)', losing, losing > 0));
  }
  return made;
}
