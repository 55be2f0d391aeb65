/**
 * Idle HTTP/1.1 connections: clients that honour `Keep-Alive: timeout`, clients that ignore it at random, and clients
 * that strike just when the server's own patience ends.
 */
import { setMaxListeners } from 'node:events';
import { runH1Client } from '../../test/wire/h1-runner.js';
import { Random, type ThinkTime } from '../../test/wire/random.js';
import { Relay } from '../../test/wire/relay.js';
import { ServerChild } from './child.js';
import { type ClientContext, type ClientCounts, type DrainTally, runDrains } from './drains.js';
import { h1Exchanges, type Mix } from './exchanges.js';
import { type Bar, bar, type Cell } from './results.js';
import type { ReportSummary } from './servers/messages.js';
import { poissonInterval, sum } from './stats.js';

const MIX: Mix = { serviceMs: 2, uploads: 0.1, early: 0.1, large: 0, uploadPauseMs: 0 };

/** What one scenario came to. */
export interface IdleCell {
  readonly scenario: string;
  readonly drains: number;
  readonly sent: number;
  readonly lost: number;
  /** `unserved` as the reports add up */
  readonly reported: number;
  /** lost requests that the documented formula expects; undefined where none may be lost */
  readonly expected: number | undefined;
  readonly stuck: number;
  readonly faults: readonly string[];
}

export interface IdlePlan {
  /** connections per scenario */
  readonly connections: number;
  readonly short: boolean;
  readonly seed: number;
}

/** `linger`'s default, which an idle connection's wait leaves room for, ms. */
const LINGER_MS = 2_000;

export async function lossIdle(plan: IdlePlan, onCell: (cell: IdleCell) => void): Promise<IdleCell[]> {
  const cells: IdleCell[] = [];
  const add = (cell: IdleCell): void => {
    cells.push(cell);
    onCell(cell);
  };
  add(await honouring(plan));
  for (const timeoutMs of plan.short ? [3_000] : [5_000, 30_000]) {
    for (const meanMs of plan.short ? [500, 2_000] : [500, 2_000, 10_000]) add(await ignoring(plan, meanMs, timeoutMs));
  }
  add(await striking(plan));
  return cells;
}

/** Clients that stop reusing a connection once it was idle for as long as the server advertised. */
async function honouring(plan: IdlePlan): Promise<IdleCell> {
  const think: ThinkTime = { kind: 'exponential', meanMs: 700 };
  const tally = await drainRun(plan, {
    rttMs: 50,
    keepAlive: { advertise: 1_000, hold: 3_000 },
    drainWithinMs: 1_500,
    drainOptions: {},
    think,
    honourHint: true,
  });
  return cellOf('honour the hint of 1 s', tally, undefined);
}

/** Clients that ignore the hint and think for exponentially distributed times. */
async function ignoring(plan: IdlePlan, meanMs: number, timeoutMs: number): Promise<IdleCell> {
  const rttMs = 200;
  const tally = await drainRun(plan, {
    rttMs,
    keepAlive: { advertise: 1_000, hold: 620_000 },
    drainWithinMs: 1_000,
    drainOptions: { timeout: timeoutMs },
    think: { kind: 'exponential', meanMs },
    honourHint: false,
  });
  // No request came while the connection waited for one, and one is on the wire when it stops waiting.
  const waited = Math.exp(-(timeoutMs - LINGER_MS) / meanMs);
  const crossing = 1 - Math.exp(-rttMs / meanMs);
  return cellOf(
    `ignore it: mean ${meanMs / 1000} s, timeout ${timeoutMs / 1000} s`,
    tally,
    tally.drains * waited * crossing,
  );
}

interface DrainRunOptions {
  readonly rttMs: number;
  readonly keepAlive: { readonly advertise: number; readonly hold: number };
  readonly drainWithinMs: number;
  readonly drainOptions: object;
  readonly think: ThinkTime;
  readonly honourHint: boolean;
}

async function drainRun(plan: IdlePlan, options: DrainRunOptions): Promise<DrainTally> {
  const server = await ServerChild.start({ kind: 'lastcall', keepAlive: options.keepAlive });
  const relay = await Relay.open({ port: server.port, delayMs: options.rttMs / 2 });
  const tally = await runDrains({
    server,
    relay,
    drains: plan.connections,
    concurrency: plan.connections,
    drainWithinMs: options.drainWithinMs,
    drainOptions: options.drainOptions,
    seed: plan.seed,
    client: (context) => client(context, options.think, options.honourHint),
  });
  await relay.close();
  await server.stop();
  return tally;
}

/** Clients that ignore the hint and send their next request just about when `hold` runs out: nobody commands a drain. */
async function striking(plan: IdlePlan): Promise<IdleCell> {
  const rttMs = 50;
  const holdMs = 2_000;
  const server = await ServerChild.start({
    kind: 'lastcall',
    keepAlive: { advertise: 1_000, hold: holdMs },
    reportOwnDrains: true,
  });
  const relay = await Relay.open({ port: server.port, delayMs: rttMs / 2 });
  const random = new Random(plan.seed);
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  const limit = setTimeout(() => stop.abort(), 60_000);
  const think: ThinkTime = { kind: 'uniform', minMs: holdMs - 3 * rttMs, maxMs: holdMs + rttMs };
  const runs = Array.from({ length: plan.connections }, () =>
    client({ port: relay.port, seed: random.below(2 ** 32), warm: () => {}, stop: stop.signal }, think, false),
  );
  const counts = await Promise.all(runs);
  clearTimeout(limit);
  const reports = await reportsWhenIdle(server);
  await relay.close();
  await server.stop();
  return {
    scenario: `strike around hold (${holdMs / 1000} s)`,
    drains: reports.length,
    sent: sum(counts.map(({ sent }) => sent)),
    lost: sum(counts.map(({ lost }) => lost)),
    reported: sum(reports.map(({ unserved }) => unserved)),
    expected: undefined,
    stuck: 0,
    faults: counts.flatMap(({ firstFault }) => firstFault ?? []).slice(0, 3),
  };
}

/** The server's own drains, once all of its connections have lingered to their end. */
async function reportsWhenIdle(server: ServerChild): Promise<readonly ReportSummary[]> {
  for (let tries = 0; tries < 60; tries += 1) {
    const status = await server.status();
    if (status === undefined || status.ports.length === 0) return status?.ownDrains ?? [];
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return (await server.status())?.ownDrains ?? [];
}

async function client(context: ClientContext, think: ThinkTime, honourHint: boolean): Promise<ClientCounts> {
  let localPort = 0;
  const result = await runH1Client({
    port: context.port,
    seed: context.seed,
    stop: context.stop,
    exchange: h1Exchanges(MIX),
    think,
    honourHint,
    connectTimeoutMs: 30_000,
    onConnected: (connected) => {
      localPort = connected.transport.localPort;
    },
    onAnswer: () => context.warm(localPort),
  });
  const { sent, answered, wrong, unserved, reset, ending, firstFault } = result;
  return {
    sent,
    answered,
    refused: 0,
    refusedLate: 0,
    longestOpenMs: 0,
    lost: wrong + unserved,
    reset,
    ending,
    localPort,
    firstFault,
    violations: [],
  };
}

function cellOf(scenario: string, tally: DrainTally, expected: number | undefined): IdleCell {
  return {
    scenario,
    drains: tally.drains,
    sent: tally.sent,
    lost: tally.lost,
    reported: sum(tally.reports.map((each) => each.unserved + each.aborted)),
    expected,
    stuck: tally.stuck + tally.unconnected,
    faults: tally.faults.slice(0, 3),
  };
}

export function barsIdle(cells: readonly IdleCell[]): Bar[] {
  return cells.flatMap((cell) => {
    const { scenario, lost, reported, expected, stuck } = cell;
    const bars = [
      bar(`idle clients that ${scenario}: lost = unserved in the reports`, `${lost} = ${reported}`, lost === reported),
    ];
    if (stuck > 0)
      bars.push(bar(`idle clients that ${scenario}: stuck drains or failed connects (at most 0)`, stuck, false));
    if (scenario.startsWith('honour'))
      bars.push(bar(`idle clients that ${scenario}: lost (at most 0)`, lost, lost === 0));
    else if (expected !== undefined) {
      const { high } = poissonInterval(expected);
      bars.push(
        bar(
          `idle clients that ${scenario}: lost (the formula says ${expected.toFixed(1)}; at most ${high})`,
          lost,
          lost <= high,
        ),
      );
    } else bars.push(bar(`idle clients that ${scenario}: some were lost, or it says nothing`, lost, lost > 0));
    return bars;
  });
}

export function idleRow({ scenario, drains, sent, lost, reported, expected }: IdleCell): Record<string, Cell> {
  return { 'idle clients that …': scenario, drains, sent, lost, 'in the reports': reported, 'formula says': expected };
}
