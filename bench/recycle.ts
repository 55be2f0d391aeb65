/**
 * `npm run bench:recycle`: connections that are recycled by age under load, with event streams and uploads open
 * throughout that last many times as long; then certificates rotated under load.
 */
import { X509Certificate } from 'node:crypto';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { type Certificate, makeCertificate } from '../test/wire/certificate.js';
import { Relay } from '../test/wire/relay.js';
import { argumentsOrExit } from './lib/arguments.js';
import type { Mix } from './lib/exchanges.js';
import { RecycleChild } from './lib/recycle/child.js';
import { Load, type LoadCounts } from './lib/recycle/load.js';
import { LONG_EXCHANGES, type LongCounts, repeat } from './lib/recycle/long.js';
import type { RecycleStatus, Rotated } from './lib/recycle/messages.js';
import { type Bar, bar, reportAndExit } from './lib/results.js';
import { percentile, sum } from './lib/stats.js';

const args = argumentsOrExit({
  command: 'npm run bench:recycle --',
  summary: 'Counts what clients lose while their connections are recycled by age, and while certificates are rotated.',
  options: {
    minutes: { kind: 'number', fallback: 5, min: 0.05, max: 600, help: 'of recycling' },
    age: { kind: 'number', fallback: 2_000, min: 200, max: 60_000, help: 'maximum age of a connection, ms' },
    long: { kind: 'number', fallback: 60, min: 1, max: 600, help: 'how long an event stream or an upload lasts, s' },
    rotations: { kind: 'number', fallback: 10, min: 0, max: 1_000, help: 'of the certificate' },
    rtt: { kind: 'number', fallback: 20, min: 0, max: 1_000, help: 'round trip, ms' },
    short: { kind: 'flag', help: '12 seconds, exchanges of 8, 2 rotations: for CI' },
    control: { kind: 'flag', help: 'the server drops one request in 500: the run must fail' },
    seed: { kind: 'number', fallback: 1, min: 0, max: 2 ** 31, help: 'of all random choices' },
  },
});

const recyclingMs = args.short ? 12_000 : args.minutes * 60_000;
const longMs = Math.min(recyclingMs, args.short ? 8_000 : args.long * 1_000);
const rotations = args.short ? 2 : args.rotations;
const dropEvery = args.control ? 500 : undefined;
const CLIENTS = { h1: 16, h2: 8 };

/** Longest time that the application takes to answer, ms. */
const SERVICE_MS = 200;
const MIX: Mix = { serviceMs: SERVICE_MS, uploads: 0.15, early: 0.15, large: 0.1, uploadPauseMs: 20 };

/** Share of the age by which a connection may be recycled early: the default of `recycle.jitter`. */
const JITTER = 0.1;
/** Ages are looked at in steps of a twentieth of the maximum. */
const AGE_STEP = 0.05;
/** What timers and a busy machine may add, ms. */
const SLACK_MS = 150;

/** Time over which a rotation's drains begin, ms. */
const SPREAD_MS = 2_000;
/** Round trips and timers after the longest request, ms. */
const ROTATION_SLACK_MS = 300;

const ownDelay = monitorEventLoopDelay({ resolution: 10 });
ownDelay.enable();
const recycled = await recycle();
console.log(`recycling: ${recycled.counts.connections} connections, ${recycled.counts.lost} lost`);
const rotated = await rotate();
console.log(`rotating: ${rotated.counts.connections} connections, ${rotated.counts.lost} lost`);

reportAndExit({
  name: `recycle${args.control ? '-control' : ''}${args.short ? '-short' : ''}`,
  title: `Requests lost while connections are recycled at ${args.age} ms and certificates rotated, ${args.rtt} ms round trip`,
  arguments: args,
  totals: add(recycled.counts, rotated.counts),
  rows: [
    { load: `recycling, ${(recyclingMs / 1_000).toFixed(0)} s`, ...recycled.counts },
    { load: `rotating ${rotations} times`, ...rotated.counts },
  ],
  moreRows: Object.entries(recycled.long).map(([name, { whole, cut }]) => ({
    [`exchanges of up to ${longMs / 1_000} s`]: name,
    whole,
    cut,
  })),
  bars: [...recyclingBars(), ...rotationBars()],
  details: { outcomes: recycled.status.outcomes, rotations: rotated.rotations },
  notes: [
    `the loop of the clients and the relay was late by up to ${(ownDelay.max / 1e6).toFixed(0)} ms`,
    ...recycled.faults,
    ...rotated.faults,
    ...Object.entries(recycled.long).flatMap(([name, { faults }]) => faults.map((fault) => `${name}: ${fault}`)),
  ],
});

async function recycle(): Promise<{
  counts: LoadCounts;
  faults: readonly string[];
  status: RecycleStatus;
  long: Record<string, LongCounts>;
}> {
  const child = await RecycleChild.start({ ...(await makeCertificate('first')), maxAge: args.age, dropEvery });
  const relay = await Relay.open({ port: child.port, delayMs: args.rtt / 2 });
  const load = new Load(relay.port, MIX, CLIENTS, args.seed);
  const until = performance.now() + recyclingMs;
  const long = Object.fromEntries(
    await Promise.all(
      Object.entries(LONG_EXCHANGES).map(
        async ([name, exchange]) => [name, await repeat(exchange, relay.port, longMs, until)] as const,
      ),
    ),
  );
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, until - performance.now())));
  await load.stop();
  const status = await child.status();
  await relay.close();
  await child.stop();
  return { counts: load.counts, faults: load.faults, status, long };
}

async function rotate(): Promise<{
  counts: LoadCounts;
  faults: readonly string[];
  rotations: readonly Rotated[];
  shownOld: number;
}> {
  const first = await makeCertificate('first');
  const child = await RecycleChild.start({ ...first, maxAge: undefined, dropEvery });
  const relay = await Relay.open({ port: child.port, delayMs: args.rtt / 2 });
  const load = new Load(relay.port, MIX, CLIENTS, args.seed);
  const done: Rotated[] = [];
  let shownOld = 0;
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  for (let i = 0; i < rotations; i += 1) {
    const renewed = await makeCertificate(`renewal ${i}`);
    const began = performance.now();
    const already = load.shown.length;
    done.push(await child.rotate(renewed, SPREAD_MS, SPREAD_MS + SERVICE_MS + ROTATION_SLACK_MS));
    // A connection that was made once the server had surely been told.
    const later = load.shown.slice(already).filter(({ at }) => at > began + ROTATION_SLACK_MS);
    shownOld += later.filter(({ fingerprint }) => fingerprint !== fingerprintOf(renewed)).length;
  }
  await load.stop();
  await relay.close();
  await child.stop();
  return { counts: load.counts, faults: load.faults, rotations: done, shownOld };
}

function fingerprintOf({ cert }: Certificate): string {
  return new X509Certificate(cert).fingerprint256;
}

function recyclingBars(): Bar[] {
  const { counts, status, long } = recycled;
  const { ages, outcomes, aborted, unserved, loopDelayMs } = status;
  const youngest = args.age * (1 - JITTER);
  const oldest = args.age * (1 + AGE_STEP) + SLACK_MS;
  const cut = sum(Object.values(long).map((each) => each.cut));
  const whole = sum(Object.values(long).map((each) => each.whole));
  const other = sum(Object.entries(outcomes).map(([outcome, count]) => (outcome === 'drained' ? 0 : count)));
  const min = percentile(ages, 0);
  const p99 = percentile(ages, 99);
  const expected = (CLIENTS.h1 + CLIENTS.h2) * Math.floor(recyclingMs / (2 * args.age));
  return [
    bar(`recycling: lost of ${counts.sent.toLocaleString('en')} requests (at most 0)`, counts.lost, counts.lost === 0),
    bar('recycling: requests refused (at most 0)', counts.refused, counts.refused === 0),
    bar('recycling: connections reset (at most 0)', counts.resets, counts.resets === 0),
    bar(
      `exchanges of up to ${longMs / 1_000} s that were cut (at most 0 of ${whole + cut})`,
      cut,
      cut === 0 && whole > 0,
    ),
    bar(
      'drains by age that did not end "drained", requests aborted or unserved (at most 0)',
      `${other}, ${aborted}, ${unserved}`,
      other + aborted + unserved === 0,
    ),
    bar(`connections recycled (at least ${expected})`, ages.length, ages.length >= expected),
    bar(`youngest recycled connection (at least ${youngest} ms)`, `${min.toFixed(0)} ms`, min >= youngest - 1),
    {
      what: `99 % of them were younger than ${oldest} ms (its loop was late by up to ${loopDelayMs.toFixed(0)} ms)`,
      measured: `${p99.toFixed(0)} ms`,
      // What a starved process does late is not the schedule's fault, but proves nothing for it either.
      verdict: p99 <= oldest ? 'passed' : p99 <= oldest + loopDelayMs ? 'unresolved' : 'failed',
    },
  ];
}

function rotationBars(): Bar[] {
  if (rotations === 0) return [];
  const { counts, rotations: done, shownOld } = rotated;
  const stale = sum(done.map((each) => each.stale));
  const notDrained = sum(done.map(({ connections, outcomes }) => connections - (outcomes.drained ?? 0)));
  const longest = SPREAD_MS + SERVICE_MS + ROTATION_SLACK_MS;
  return [
    bar(`rotating: lost of ${counts.sent.toLocaleString('en')} requests (at most 0)`, counts.lost, counts.lost === 0),
    bar(
      'rotating: requests refused, connections reset (at most 0)',
      counts.refused + counts.resets,
      counts.refused + counts.resets === 0,
    ),
    bar(`live connections on an older certificate after ${longest} ms (at most 0)`, stale, stale === 0),
    bar('new connections that were shown an older certificate (at most 0)', shownOld, shownOld === 0),
    bar('drained connections that did not end "drained" (at most 0)', notDrained, notDrained === 0),
    bar(
      'connections drained by rotations (at least one for each)',
      sum(done.map(({ connections }) => connections)),
      done.every(({ connections }) => connections > 0),
    ),
  ];
}

function add(a: LoadCounts, b: LoadCounts): LoadCounts {
  const all = { ...a };
  for (const key of Object.keys(all) as (keyof LoadCounts)[]) all[key] += b[key];
  return all;
}
