/**
 * CPU per request, by many interleaved rounds: in each, every server serves the same load in random order, and a second
 * process of the first peer runs along as the A/A control.
 */
import { Random } from '../../test/wire/random.js';
import { ServerChild } from './child.js';
import { cpuBetween } from './cpu.js';
import { type H2LoadOptions, h2load } from './h2load.js';
import { type Bar, bar, type Cell, type Totals } from './results.js';
import type { ServerKind } from './servers/messages.js';
import { bootstrapMedian, type Estimate, median, pairedRatio, sum, verdictAtMost } from './stats.js';

export interface SpeedCase {
  readonly name: string;
  readonly path: string;
  readonly load: H2LoadOptions;
}

export interface SpeedPlan {
  readonly subject: ServerKind;
  /** the first one is measured twice, as its own control */
  readonly peers: readonly ServerKind[];
  readonly rounds: number;
  readonly seed: number;
  readonly life: ProcessLife;
}

/** Of each process: processes differ by how they were compiled and where their memory lies, so that there are several. */
export interface ProcessLife {
  /** Loads of 8,000 requests on 50 connections each that it serves before all else. */
  readonly warmUp: number;
  /** It is measured in so many rounds, then there is a new one. */
  readonly rounds: number;
}

/** In its first seconds under load: V8 is still compiling, above all what runs once a connection. */
export const YOUNG: ProcessLife = { warmUp: 0, rounds: 8 };

/**
 * As it is for the rest of its life. By `--trace-opt`, V8 compiles for some 35 loads, 1,750 connections: from the third
 * on it spends 5 % of the CPU on it with lastcall and 3 % with node:https, then less than 1 %.
 */
export const STEADY: ProcessLife = { warmUp: 40, rounds: 10 };

/** One value a round. */
export interface SpeedResult {
  readonly name: string;
  /** of each measurement */
  readonly requests: number;
  /** of CPU per request */
  readonly micros: ReadonlyMap<ServerKind | 'control', readonly number[]>;
  /** requests per second, client and server sharing the machine: shown, never judged */
  readonly rates: ReadonlyMap<ServerKind | 'control', readonly number[]>;
}

export class NoH2load extends Error {
  override readonly name = 'NoH2load';
  constructor() {
    super('h2load is not installed (Debian: nghttp2-client); it makes the load');
  }
}

/** @throws {NoH2load} when there is nothing to make the load with */
export async function measureSpeed(plan: SpeedPlan, one: SpeedCase): Promise<SpeedResult> {
  const random = new Random(plan.seed);
  const micros = new Map<ServerKind | 'control', number[]>();
  const rates = new Map<ServerKind | 'control', number[]>();
  for (let done = 0; done < plan.rounds; done += plan.life.rounds) {
    const servers = await startAll(plan);
    try {
      // In turns: one that idled meanwhile would have a full garbage collection then, and be another than the others.
      for (let run = 0; run < plan.life.warmUp; run += 1) {
        for (const server of servers.values()) await costOf(server, warmUp(one));
      }
      for (let run = 0; run < 2; run += 1) {
        for (const server of servers.values()) await costOf(server, one);
      }
      for (let round = done; round < Math.min(plan.rounds, done + plan.life.rounds); round += 1) {
        for (const [kind, server] of shuffled([...servers], random)) {
          const cost = await costOf(server, one);
          micros.set(kind, [...(micros.get(kind) ?? []), cost.micros]);
          rates.set(kind, [...(rates.get(kind) ?? []), cost.rate]);
        }
      }
    } finally {
      for (const server of servers.values()) await server.stop();
    }
  }
  return { name: one.name, requests: one.load.requests, micros, rates };
}

function warmUp({ name, path, load }: SpeedCase): SpeedCase {
  return { name: `${name}, warming up`, path, load: { ...load, requests: 8_000, connections: 50 } };
}

async function startAll(plan: SpeedPlan): Promise<Map<ServerKind | 'control', ServerChild>> {
  const servers = new Map<ServerKind | 'control', ServerChild>();
  for (const kind of [plan.subject, ...plan.peers]) servers.set(kind, await ServerChild.start({ kind }));
  const [first] = plan.peers;
  if (first !== undefined) servers.set('control', await ServerChild.start({ kind: first }));
  return servers;
}

/** One run: µs of CPU per request, and requests per second. */
async function costOf(server: ServerChild, one: SpeedCase): Promise<{ micros: number; rate: number }> {
  const before = await server.status();
  const load = await h2load(`https://127.0.0.1:${server.port}${one.path}`, one.load);
  const after = await server.status();
  if (load === undefined) throw new NoH2load();
  if (before === undefined || after === undefined) throw new Error(`the server died: ${server.death}`);
  if (load.succeeded !== load.total)
    throw new Error(`${one.name}: ${load.total - load.succeeded} of ${load.total} requests failed`);
  return { micros: cpuBetween(before.cpu, after.cpu) / load.succeeded, rate: load.requestsPerSecond };
}

function shuffled<T>(items: T[], random: Random): T[] {
  for (let i = items.length - 1; i > 0; i -= 1) {
    const j = random.below(i + 1);
    const [a, b] = [items[i], items[j]];
    if (a === undefined || b === undefined) continue;
    items[i] = b;
    items[j] = a;
  }
  return items;
}

function pairsOf(result: SpeedResult, ours: ServerKind | 'control', theirs: ServerKind): (readonly [number, number])[] {
  const a = result.micros.get(ours) ?? [];
  const b = result.micros.get(theirs) ?? [];
  return a.flatMap((value, i) => {
    const other = b[i];
    return other === undefined ? [] : [[value, other] as const];
  });
}

/**
 * A bar on the ratio subject/peer, judged against the A/A control.
 *
 * @param widest beyond ± this much of an interval nothing is judged
 */
export function ratioBar(
  result: SpeedResult,
  plan: SpeedPlan,
  peer: ServerKind,
  limit: number,
  widest = Number.POSITIVE_INFINITY,
): Bar {
  const ratio = pairedRatio(pairsOf(result, plan.subject, peer), plan.life.rounds);
  const control = controlOf(result, plan);
  return {
    what: `${result.name}: CPU per request, ${plan.subject} / ${peer} (at most ${limit})`,
    measured: `${inWords(ratio)}; control ${inWords(control)}`,
    verdict: ratio.high - ratio.low > 2 * widest ? 'unresolved' : verdictAtMost(ratio, limit, control),
  };
}

/** A bar on the difference subject − peer, in µs. */
export function differenceBar(result: SpeedResult, plan: SpeedPlan, peer: ServerKind, limitMicros: number): Bar {
  const differences = pairsOf(result, plan.subject, peer).map(([ours, theirs]) => ours - theirs);
  const difference = bootstrapMedian(differences, plan.life.rounds);
  const isClear = difference.high <= limitMicros || difference.low > limitMicros;
  const what = `${result.name}: µs per request above ${peer} (at most ${limitMicros})`;
  if (!isClear) return { what, measured: inWords(difference), verdict: 'unresolved' };
  return bar(what, inWords(difference), difference.median <= limitMicros);
}

export function controlOf(result: SpeedResult, plan: SpeedPlan): Estimate {
  const [first] = plan.peers;
  return first === undefined
    ? { median: 1, low: 1, high: 1, pairs: 0 }
    : pairedRatio(pairsOf(result, 'control', first), plan.life.rounds);
}

/** A ratio or a difference with its interval. */
export function inWords({ median: middle, low, high, pairs }: Estimate): string {
  return `${middle.toFixed(3)} (95 %: ${low.toFixed(3)} to ${high.toFixed(3)}, ${pairs} pairs)`;
}

/** The subject's requests, all answered: a run in which one was not throws. */
export function speedTotals(results: readonly SpeedResult[], plan: SpeedPlan): Totals {
  const requests = sum(results.map(({ requests: each, micros }) => each * (micros.get(plan.subject)?.length ?? 0)));
  return { sent: requests, answered: requests, refused: 0, lost: 0, resets: 0 };
}

/** One line of the table per case: median µs of each server. */
export function speedRow(result: SpeedResult): Record<string, Cell> {
  const row: Record<string, Cell> = { 'µs of CPU per request': result.name };
  for (const [kind, values] of result.micros) row[kind] = Math.round(median(values) * 10) / 10;
  return row;
}

/** The same of what each served in a second. */
export function rateRow(result: SpeedResult): Record<string, Cell> {
  const row: Record<string, Cell> = { 'requests per second': result.name };
  for (const [kind, values] of result.rates) row[kind] = Math.round(median(values));
  return row;
}
