/**
 * `npm run bench:h2`: what requests over HTTP/2 cost with lastcall's engine, beside node:http2 by both of its APIs and
 * the floor; and what an idle connection weighs.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { argumentsOrExit } from './lib/arguments.js';
import { idleMemory } from './lib/memory.js';
import { type Bar, bar, reportAndExit } from './lib/results.js';
import type { ServerKind } from './lib/servers/messages.js';
import {
  differenceBar,
  measureSpeed,
  NoH2load,
  ratioBar,
  type SpeedCase,
  type SpeedPlan,
  type SpeedResult,
  speedRow,
  speedTotals,
} from './lib/speed.js';
import { median } from './lib/stats.js';

const CASES = ['20x10', '50x1', 'responses', 'uploads', 'memory'] as const;

const args = argumentsOrExit({
  command: 'npm run bench:h2 --',
  summary: 'CPU per HTTP/2 request and memory per idle connection, lastcall beside node:http2, in interleaved pairs.',
  options: {
    pairs: { kind: 'number', fallback: 40, min: 2, max: 1_000, help: 'interleaved pairs per case' },
    cases: { kind: 'choices', choices: CASES, fallback: CASES, help: 'what to measure' },
    'idle-connections': { kind: 'number', fallback: 500, min: 10, max: 10_000, help: 'for the memory' },
    seed: { kind: 'number', fallback: 1, min: 0, max: 2 ** 31, help: 'of the order of measurements' },
  },
});

const COMPAT: ServerKind = 'node:http2 close()';
const STREAMS: ServerKind = 'node:http2 streams';
const MIB = 1024 * 1024;
const directory = mkdtempSync(join(tmpdir(), 'lastcall-bench-'));
const upload = join(directory, 'upload');
writeFileSync(upload, Buffer.alloc(MIB));
process.once('exit', () => rmSync(directory, { recursive: true, force: true }));

const plan = (peers: readonly ServerKind[]): SpeedPlan => ({
  subject: 'lastcall',
  peers,
  rounds: args.pairs,
  seed: args.seed,
});
const small = plan([COMPAT, STREAMS, 'floor']);
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
  const memory = await idleMemory(['lastcall', COMPAT], args['idle-connections'], 5);
  const kib = (kind: ServerKind): number => median(memory.get(kind) ?? []) / 1024;
  const ratio = kib('lastcall') / kib(COMPAT);
  rows.push({ 'idle connection': 'KiB resident', lastcall: kib('lastcall'), [COMPAT]: kib(COMPAT) });
  bars.push(bar(`memory per idle connection, lastcall / ${COMPAT} (at most 0.75)`, ratio.toFixed(2), ratio <= 0.75));
}

reportAndExit({
  name: 'h2',
  title: 'HTTP/2 over TLS: CPU per request, memory per idle connection',
  arguments: args,
  totals: speedTotals(results, small),
  rows: results.map(speedRow),
  moreRows: rows,
  bars,
  details: results.map(({ name, micros }) => ({ name, micros: Object.fromEntries(micros) })),
});
