/**
 * What a drain tells afterwards: the counters, the report of one connection and the summary of many.
 */
import type { Protocol } from './connection.js';

/** How a request that reached us ended; every request is in exactly one. */
export interface RequestCounts {
  /** Answered in full. */
  served: number;
  /** Cancelled by the client. */
  cancelled: number;
  /** Not a request that HTTP allows, or one that the client never finished sending. */
  malformed: number;
  /** h2: told that it was not processed (REFUSED_STREAM, or above the final last-stream-id); retrying is safe. */
  refused: number;
  /** Accepted, not fully answered. */
  aborted: number;
  /** h1: arrived too late, lost without a word. */
  unserved: number;
}

/** A request that was cut before its answer was complete. */
export interface CutRequest {
  readonly method: string;
  /** The request target; of a longer one the first 200 characters and `…`, likewise of a method. */
  readonly path: string;
  readonly ageMs: number;
}

/**
 * - `'drained'`: nothing was aborted and nothing arrived too late, whoever closed first.
 * - `'lossy'`: requests arrived too late to be served (h1 only).
 * - `'forced'`: the deadline or the signal aborted requests.
 * - `'peer'`: the connection failed (EOF, reset, protocol error) while a request was unanswered, or a handler did.
 */
export type DrainOutcome = 'drained' | 'lossy' | 'forced' | 'peer';

export interface DrainReport extends Readonly<RequestCounts> {
  readonly id: number;
  readonly protocol: Protocol | undefined;
  readonly outcome: DrainOutcome;
  /** Up to 16 of the requests counted in `aborted`. */
  readonly cut: readonly CutRequest[];
  /** The round trip that the drain measured, in ms (h2), or `undefined`. */
  readonly rtt: number | undefined;
  /** ms that each phase took. */
  readonly phases: {
    readonly announce: number;
    readonly settle: number;
    readonly finish: number;
    readonly linger: number;
  };
  /** ms from the call to the closed connection. */
  readonly duration: number;
}

/** What draining several connections came to. */
export interface DrainSummary extends Readonly<RequestCounts> {
  /** Connections drained. */
  readonly connections: number;
  readonly outcomes: Readonly<Record<DrainOutcome, number>>;
  /** Connections that were left alone because the signal came before their turn. */
  readonly left: number;
  /** Connections that closed by themselves before their turn. */
  readonly gone: number;
  /** ms from the call to the last closed connection. */
  readonly duration: number;
  /** How long the drains of single connections took, in ms: so many percent took at most so long; 0 without any. */
  readonly durations: { readonly p50: number; readonly p90: number; readonly p99: number; readonly max: number };
  /** The reports of the connections that did not end `'drained'`. */
  readonly notDrained: readonly DrainReport[];
}

export function noRequests(): RequestCounts {
  return { served: 0, cancelled: 0, malformed: 0, refused: 0, aborted: 0, unserved: 0 };
}

export function outcomeOf(counts: Readonly<RequestCounts>, forced: boolean): DrainOutcome {
  if (counts.aborted > 0) return forced ? 'forced' : 'peer';
  return counts.unserved > 0 ? 'lossy' : 'drained';
}

export function summarize(
  reports: readonly DrainReport[],
  duration: number,
  { left = 0, gone = 0 }: { left?: number; gone?: number } = {},
): DrainSummary {
  const counts = noRequests();
  const outcomes: Record<DrainOutcome, number> = { drained: 0, lossy: 0, forced: 0, peer: 0 };
  for (const report of reports) {
    outcomes[report.outcome]++;
    for (const key of Object.keys(counts) as (keyof RequestCounts)[]) counts[key] += report[key];
  }
  const notDrained = reports.filter((report) => report.outcome !== 'drained');
  const durations = percentiles(reports.map((report) => report.duration));
  return { ...counts, connections: reports.length, outcomes, left, gone, duration, durations, notDrained };
}

/** By nearest rank: each is a duration that really occurred. */
function percentiles(values: number[]): DrainSummary['durations'] {
  const sorted = values.sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.ceil(share * sorted.length) - 1] ?? 0;
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}
