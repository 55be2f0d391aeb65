/**
 * The seam between the core and the protocols: what a protocol does in each phase of a drain. The core decides when a
 * phase begins and when time is up; a driver knows its wire.
 */
import type { Protocol } from './connection.js';
import { now } from './timing.js';

/** What a drain was asked for, as far as the wire is concerned. Joining a drain may shorten it while it runs. */
export interface DrainTerms {
  /** h2: the longest wait for the PING's answer and the rest of a head, in ms from when the PING was written out. */
  readonly settle: number;
  /** h1: how long an idle connection may still bring one request, in ms; `undefined`: until `hold` runs out. */
  readonly idleWait: number | undefined;
  /** When what is left will be cut, on the `now()` clock; `Infinity`: never. */
  readonly deadline: number;
  /** h1: when a connection without a request is closed at the latest, so that time is left to linger. */
  readonly idleDeadline: number;
  /** ms of the peer's silence after our FIN. */
  readonly linger: number;
  /** ms that lingering may take in all. */
  readonly lingerMax: number;
  /** GOAWAY debug data. */
  readonly reason: string;
}

/** How long a connection that has brought no request yet may be silent, on the `now()` clock, if a drain begins now. */
export function silentUntil({ idleWait = Infinity, idleDeadline }: DrainTerms): number {
  return Math.min(now() + idleWait, idleDeadline);
}

/**
 * One protocol on one connection.
 *
 * The phases come in order, each at most once. A phase that returns a promise resolves when its condition holds; the
 * core stops waiting by itself when the connection closes. A driver reports every request to its connection (`began`,
 * `ended`), so that the counters of a drain are right whoever closes first.
 */
export interface Driver {
  readonly protocol: Protocol;
  /** The round trip that a drain has measured, in ms. */
  readonly rtt: number | undefined;
  /** The smoothed estimate of all that were measured, in ms. */
  readonly smoothedRtt: number | undefined;
  /** Tells the peer that the connection is about to end, as early as the protocol lets us. */
  announce(terms: DrainTerms): void;
  /** The terms of the drain under way became tighter. */
  tighten(terms: DrainTerms): void;
  /** Until nothing that was sent before the peer heard us can still be on its way. */
  settle(): Promise<void>;
  /** Fixes the last request that will be served. */
  commit(): void;
  /** Until every accepted request has been answered and flushed. */
  finish(): Promise<void>;
  /** Half-closes and discards until the peer's FIN. */
  linger(): Promise<void>;
  /** Time is up: aborts what is open. The core destroys the connection when this resolves, or 250 ms later. */
  cut(): Promise<void>;
  /** The socket is gone: every request that is still open ends now, as `aborted` if the application has it. */
  closed(): void;
}
