/**
 * `npm run bench:h1`: what a request over HTTP/1.1 costs with lastcall around node:http, beside plain node:https.
 */
import { argumentsOrExit } from './lib/arguments.js';
import { bar, reportAndExit } from './lib/results.js';
import {
  measureSpeed,
  NoH2load,
  ratioBar,
  type SpeedPlan,
  type SpeedResult,
  speedRow,
  speedTotals,
} from './lib/speed.js';

const args = argumentsOrExit({
  command: 'npm run bench:h1 --',
  summary: 'CPU per HTTP/1.1 request of lastcall and of node:https, in interleaved pairs.',
  options: {
    pairs: { kind: 'number', fallback: 48, min: 2, max: 1_000, help: 'interleaved pairs' },
    requests: { kind: 'number', fallback: 8_000, min: 100, max: 1_000_000, help: 'per measurement' },
    seed: { kind: 'number', fallback: 1, min: 0, max: 2 ** 31, help: 'of the order of measurements' },
  },
});

const plan: SpeedPlan = { subject: 'lastcall', peers: ['plain node:https'], rounds: args.pairs, seed: args.seed };

/** A connection costs more than a request: how much that is of each depends on how many it carries. */
const CASES = [
  { name: `small GETs, ${args.requests / 50} on a connection`, requests: args.requests, connections: 50 },
  { name: 'small GETs, 1,280 on a connection', requests: 64_000, connections: 50 },
];
const SHORT_LIVED = { name: 'small GETs, 2 on a connection', requests: 400, connections: 200 };

async function measured({ name, requests, connections }: (typeof CASES)[number]): Promise<SpeedResult> {
  const load = { requests, connections, streams: 1, h1: true };
  return measureSpeed(plan, { name, path: '/small/0/0', load });
}

const results: SpeedResult[] = [];
try {
  for (const one of [...CASES, SHORT_LIVED]) results.push(await measured(one));
} catch (error) {
  if (!(error instanceof NoH2load)) throw error;
  console.error(error.message);
  process.exit(1);
}
const judged = results.slice(0, CASES.length);
const shortLived = results.slice(CASES.length).map((result) => ratioBar(result, plan, 'plain node:https', 1.03));

reportAndExit({
  name: 'h1',
  title: 'HTTP/1.1 over TLS: CPU per request',
  arguments: args,
  totals: speedTotals(results, plan),
  rows: results.map(speedRow),
  bars: [
    ...judged.map((result) => ratioBar(result, plan, 'plain node:https', 1.03)),
    bar('pairs (at least 40)', args.pairs, args.pairs >= 40),
  ],
  notes: shortLived.map(({ what, measured }) => `no bar: ${what.replace(' (at most 1.03)', '')}: ${measured}`),
  details: results.map(({ name, micros }) => ({ name, micros: Object.fromEntries(micros) })),
});
