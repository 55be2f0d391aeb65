/**
 * Which limits of the server may fire for a client, by what it does and what its network is like. None may for one that
 * keeps to the rules and is fast enough.
 */
import { LIMITS, type Limit, type LimitCounts } from '../../src/core/limits.js';
import type { ConnectionPlan, SchedulePlan } from './plan.js';
import type { Tcp } from './tcp.js';

/** What is asked of a client. */
export interface Suspect {
  readonly plan: ConnectionPlan;
  readonly tcp: Tcp;
  /** It has ended the connection itself, or broken it. */
  readonly left: boolean;
  /** It has closed its side before the server did: over HTTP/1.1 maybe in the middle of a request. */
  readonly closedBeforeFin: boolean;
  /** The most requests that it had open at once. */
  readonly peakOpen: number;
}

/** So many requests at once aren't read, or parsed, in one turn of the event loop. */
export const CROWD = 64;

/** The limits on clients that stop: each has to fire now and then. */
export const STALLS = ['prefaceTimeout', 'headersTimeout', 'sendTimeout', 'bodyTimeout', 'ping'] as const;

/** ms beyond what a network takes, for a client to be fast. */
const MARGIN = 30;

/** Giving windows of so little back by halves is a flood of WINDOW_UPDATE. */
const TINY_WINDOW = 1_000;

/** How long it takes a client that is asked something, or has been waited for, to be heard: ms, as its plan has it. */
export function roundTripOf(plan: ConnectionPlan): number {
  const { delay, jitter } = plan.network;
  const pauses = [...plan.readPauses, ...plan.requests.flatMap(({ headPause }) => headPause ?? [])];
  return 2 * (delay + jitter) + plan.readDelay + pauses.reduce((sum, { ms }) => sum + ms, 0);
}

/** A limit has cut answers, or the connection. */
export function hasCut(counts: LimitCounts): boolean {
  const { prefaceTimeout, headersTimeout, sendTimeout, ping, floods } = counts;
  return prefaceTimeout + headersTimeout + sendTimeout + ping + floods > 0;
}

export function* limitViolations(counts: LimitCounts, suspect: Suspect, schedule: SchedulePlan): Iterable<string> {
  for (const limit of LIMITS) {
    if (counts[limit] > 0 && !mayFire(limit, suspect, schedule)) yield `${limit} fired for a client that is innocent`;
  }
}

function mayFire(limit: Limit, suspect: Suspect, schedule: SchedulePlan): boolean {
  const { plan, tcp, left, closedBeforeFin, peakOpen } = suspect;
  const { requests } = plan;
  const isSlow = left || tcp.toClient.everBlocked || tcp.toServer.everBlocked;
  const heard = roundTripOf(plan) + plan.prefaceDelay + MARGIN;
  switch (limit) {
    case 'malformed':
      return left || closedBeforeFin || requests.some(({ malformed }) => malformed);
    case 'maxConcurrentStreams':
      return peakOpen > schedule.maxConcurrentStreams;
    case 'protocolErrors':
      return left;
    case 'pipelining':
      return plan.pipelines;
    case 'prefaceTimeout':
      return isSlow || schedule.prefaceTimeout < heard;
    case 'headersTimeout':
      return isSlow || schedule.times.headersTimeout < heard;
    case 'bodyTimeout': {
      const stalls = requests.some(({ bodyStallsAt, bodySize }) => bodyStallsAt < bodySize);
      // A WINDOW_UPDATE may wait for its turn, in a crowd, and the loop stand still before that.
      const late = longest(requests, ({ bodyPause }) => bodyPause) + longest(schedule.stalls, ({ ms }) => ms);
      return isSlow || stalls || schedule.times.bodyTimeout < heard + late;
    }
    case 'sendTimeout':
      return isSlow || plan.windowsFrom > 0 || schedule.times.sendTimeout < heard + plan.windowDelay;
    case 'ping':
      return isSlow || (schedule.ping?.timeout ?? Infinity) < heard + plan.pingAckDelay;
    case 'floods':
      return plan.initialWindow > 0 && plan.initialWindow < TINY_WINDOW;
    default:
      return false;
  }
}

function longest<T>(all: readonly T[], of: (one: T) => number): number {
  return all.reduce((most, one) => Math.max(most, of(one)), 0);
}
