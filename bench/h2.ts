/**
 * `npm run bench:h2`: what requests over HTTP/2 cost with lastcall's engine, beside node:http2 by both of its APIs and
 * the floor; and what an idle connection weighs.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { argumentsOrExit } from './lib/arguments.js';
import { idleMemory } from './lib/memory.js';
import { type Bar, reportAndExit } from './lib/results.js';
import type { ServerKind } from './lib/servers/messages.js';
import {
  differenceBar,
  inWords,
  measureSpeed,
  NoH2load,
  rateRow,
  ratioBar,
  type SpeedCase,
  type SpeedPlan,
  type SpeedResult,
  speedRow,
  speedTotals,
  YOUNG,
} from './lib/speed.js';
import { type Estimate, median, pairedRatio, verdictAtMost } from './lib/stats.js';

const CASES = ['20x10', '50x1', 'json', 'responses', 'uploads', 'memory'] as const;

const args = argumentsOrExit({
  command: 'npm run bench:h2 --',
  summary: 'CPU per HTTP/2 request and memory per idle connection, lastcall beside node:http2, in interleaved pairs.',
  options: {
    pairs: { kind: 'number', fallback: 40, min: 2, max: 1_000, help: 'interleaved pairs per case' },
    cases: { kind: 'choices', choices: CASES, fallback: CASES, help: 'what to measure' },
    'idle-connections': { kind: 'number', fallback: 2_000, min: 10, max: 10_000, help: 'for the memory' },
    seed: { kind: 'number', fallback: 1, min: 0, max: 2 ** 31, help: 'of the order of measurements' },
  },
});

const COMPAT: ServerKind = 'node:http2 close()';
const STREAMS: ServerKind = 'node:http2 streams';
const MIB = 1024 * 1024;
const MEMORY_REPETITIONS = 5;
const directory = mkdtempSync(join(tmpdir(), 'lastcall-bench-'));
const upload = join(directory, 'upload');
writeFileSync(upload, Buffer.alloc(MIB));

/** What a call of an API brings along: 20 fields, of which most are the same every time, and a kilobyte of JSON. */
const JSON_FIELDS = [
  'content-type: application/json',
  'accept: application/json',
  'accept-encoding: gzip, br',
  'accept-language: en-GB,en;q=0.8',
  'authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N',
  'cache-control: no-cache',
  'cookie: session=3f6c1b0e8d; theme=dark',
  'forwarded: for=192.0.2.60;proto=https;by=203.0.113.43',
  'origin: https://app.example.com',
  'referer: https://app.example.com/orders/new',
  'traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  'tracestate: vendor=1',
  'x-api-version: 2026-11-01',
  'x-client-id: web',
  'x-feature-flags: a,b,c',
  'x-forwarded-for: 192.0.2.60',
  'x-forwarded-proto: https',
  'x-idempotency-key: 7d1c3a52-0f2c-4ab1-9a52-3a1f6a7c8b90',
  'x-request-id: 01JD7Y3T9W0000000000000000',
  'x-tenant: acme',
];
const call = join(directory, 'call.json');
const item = (n: number): object => ({ id: n, name: `item ${n}`, price: n * 1.25, tags: ['a', 'b'] });
writeFileSync(call, JSON.stringify({ items: Array.from({ length: 18 }, (_, n) => item(n)) }));
process.once('exit', () => rmSync(directory, { recursive: true, force: true }));

const plan = (peers: readonly ServerKind[]): SpeedPlan => ({
  subject: 'lastcall',
  peers,
  rounds: args.pairs,
  seed: args.seed,
  life: YOUNG,
});
const small = plan([COMPAT, STREAMS, 'floor']);
/** The floor opens no windows: it takes no bodies. */
const bodies = plan([COMPAT, STREAMS]);
const large = plan([COMPAT]);
const results: SpeedResult[] = [];
const bars: Bar[] = [];
const rows: Record<string, string | number | undefined>[] = [];

async function measure(
  name: (typeof CASES)[number],
  of: SpeedPlan,
  one: SpeedCase,
  barsOf: (result: SpeedResult) => Bar[],
): Promise<void> {
  if (!args.cases.includes(name)) return;
  const result = await measureSpeed(of, one);
  results.push(result);
  bars.push(...barsOf(result));
  console.log(`measured: ${one.name}`);
}

try {
  await measure(
    '20x10',
    small,
    { name: 'small GETs, 20 × 10', path: '/small/0/0', load: { requests: 20_000, connections: 20, streams: 10 } },
    (result) => [ratioBar(result, small, COMPAT, 0.25), ratioBar(result, small, STREAMS, 0.4)],
  );
  await measure(
    '50x1',
    small,
    { name: 'small GETs, 50 × 1', path: '/small/0/0', load: { requests: 6_000, connections: 50, streams: 1 } },
    (result) => [differenceBar(result, small, 'floor', 12)],
  );
  await measure(
    'json',
    bodies,
    {
      name: 'JSON POSTs with 20 fields, 20 × 10',
      path: '/upload/0/0',
      load: { requests: 10_000, connections: 20, streams: 10, headers: JSON_FIELDS, upload: call },
    },
    () => [],
  );
  await measure(
    'responses',
    large,
    { name: '1 MiB responses', path: `/large/0/${MIB}`, load: { requests: 150, connections: 4, streams: 4 } },
    (result) => [ratioBar(result, large, COMPAT, 1)],
  );
  await measure(
    'uploads',
    large,
    { name: '1 MiB uploads', path: '/upload/0/0', load: { requests: 150, connections: 4, streams: 4, upload } },
    (result) => [ratioBar(result, large, COMPAT, 1)],
  );
} catch (error) {
  if (!(error instanceof NoH2load)) throw error;
  console.error(error.message);
  process.exit(1);
}
if (args.cases.includes('memory')) {
  const memory = await idleMemory(['lastcall', COMPAT], args['idle-connections'], MEMORY_REPETITIONS);
  const kib = (kind: ServerKind | 'control'): number => median(memory.get(kind) ?? []) / 1024;
  rows.push({
    'idle connection': 'KiB resident',
    lastcall: kib('lastcall'),
    [COMPAT]: kib(COMPAT),
    control: kib('control'),
  });
  const ratioTo = (kind: ServerKind | 'control'): Estimate =>
    pairedRatio((memory.get(kind) ?? []).map((bytes, i) => [bytes, memory.get(COMPAT)?.[i] ?? Number.NaN]));
  const ratio = ratioTo('lastcall');
  const control = ratioTo('control');
  bars.push({
    what: `memory per idle connection, lastcall / ${COMPAT} (at most 0.75)`,
    measured: `${inWords(ratio)}; control ${inWords(control)}`,
    verdict: verdictAtMost(ratio, 0.75, control),
  });
}

reportAndExit({
  name: 'h2',
  title: 'HTTP/2 over TLS: CPU per request, memory per idle connection',
  arguments: args,
  totals: speedTotals(results, small),
  rows: results.map(speedRow),
  moreRows: [...results.map(rateRow), ...rows],
  bars,
  details: results.map(({ name, micros, rates }) => ({
    name,
    micros: Object.fromEntries(micros),
    rates: Object.fromEntries(rates),
  })),
});
