/**
 * `npm run bench:h1`: what a request over HTTP/1.1 costs with lastcall around node:http, beside plain node:https.
 */
import { argumentsOrExit } from './lib/arguments.js';
import { type Bar, bar, reportAndExit } from './lib/results.js';
import {
  measureSpeed,
  NoH2load,
  ratioBar,
  type SpeedPlan,
  type SpeedResult,
  STEADY,
  speedRow,
  speedTotals,
  YOUNG,
} from './lib/speed.js';

const args = argumentsOrExit({
  command: 'npm run bench:h1 --',
  summary: 'CPU per HTTP/1.1 request of lastcall and of node:https, in interleaved pairs.',
  options: {
    pairs: { kind: 'number', fallback: 80, min: 2, max: 1_000, help: 'interleaved pairs' },
    requests: { kind: 'number', fallback: 8_000, min: 100, max: 1_000_000, help: 'per measurement' },
    seed: { kind: 'number', fallback: 1, min: 0, max: 2 ** 31, help: 'of the order of measurements' },
  },
});

const steady: SpeedPlan = {
  subject: 'lastcall',
  peers: ['plain node:https'],
  rounds: args.pairs,
  seed: args.seed,
  life: STEADY,
};
const young: SpeedPlan = { ...steady, life: YOUNG };

/** A connection costs more than a request: how much that is of each depends on how many it carries. */
const FEW = { name: `small GETs, ${args.requests / 50} on a connection`, requests: args.requests, connections: 50 };
const MANY = { name: 'small GETs, 1,280 on a connection', requests: 64_000, connections: 50 };
const SHORT_LIVED = { name: 'small GETs, 2 on a connection', requests: 400, connections: 200 };
const FIRST = { ...FEW, name: `${FEW.name}, in a process's first seconds` };

const results: SpeedResult[] = [];

async function measured(plan: SpeedPlan, { name, requests, connections }: typeof FEW): Promise<Bar> {
  const load = { requests, connections, streams: 1, h1: true };
  const result = await measureSpeed(plan, { name, path: '/small/0/0', load });
  results.push(result);
  // An interval wider than ± 3 % says nothing about a limit of 3 %.
  return ratioBar(result, plan, 'plain node:https', 1.03, 0.03);
}

const judged: Bar[] = [];
const shown: Bar[] = [];
try {
  for (const one of [FEW, MANY]) judged.push(await measured(steady, one));
  shown.push(await measured(steady, SHORT_LIVED), await measured(young, FIRST));
} catch (error) {
  if (!(error instanceof NoH2load)) throw error;
  console.error(error.message);
  process.exit(1);
}

reportAndExit({
  name: 'h1',
  title: 'HTTP/1.1 over TLS: CPU per request',
  arguments: args,
  totals: speedTotals(results, steady),
  rows: results.map(speedRow),
  bars: [...judged, bar('pairs (at least 40)', args.pairs, args.pairs >= 40)],
  notes: shown.map(({ what, measured }) => `no bar: ${what.replace(' (at most 1.03)', '')}: ${measured}`),
  details: results.map(({ name, micros }) => ({ name, micros: Object.fromEntries(micros) })),
});
