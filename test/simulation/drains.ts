/**
 * The drains of one simulated connection as its schedule has them, and what must be true of every report whatever the
 * protocol and the peer: phases, deadline, counters.
 */
import type { LiveConnection } from '../../src/core/connection.js';
import type { DrainReport, RequestCounts } from '../../src/core/report.js';
import { gracefulShutdown } from '../../src/core/shutdown.js';
import type { Loop } from './loop.js';
import type { DrainPlan } from './plan.js';

/** What a forced cut may take to flush, by contract. */
const CUT_FLUSH = 250;

/** ms that rounding to whole milliseconds and callbacks may add. */
const SLACK = 12;

export class Drains {
  readonly #loop: Loop;
  readonly #connection: LiveConnection;
  readonly #before: RequestCounts;
  readonly #recycleTimeout: number;
  #calls = 0;
  /** When the drain began, on the loop's clock. */
  beganAt = Infinity;
  /** When the drain has to be over, on the loop's clock. */
  #deadline = Infinity;
  /** When it may be over, as recycling may have begun it. */
  #mayBeCutAt = Infinity;
  /** The shortest limits that any call gave, */
  settle = Infinity;
  lingerMax = Infinity;
  /** and what the one gave that began the drain, if one did. */
  firstSettle = Infinity;
  /** ms that a client may be silent while it lingers, at least. */
  patience = Infinity;
  /** When the wait for the PING's answer runs out, if the PING goes out at once. */
  settledBy = Infinity;
  /** It lingers, and nobody drains it. */
  #closesByItself = false;
  #reports = new Set<DrainReport>();
  #resolved = 0;
  #resolvedAt = 0;

  /** Something may be noted of the connection when its drain begins. */
  onBegin: () => void = () => {};

  /** @param recycleTimeout ms that a drain may take which nobody called for */
  constructor(loop: Loop, connection: LiveConnection, recycleTimeout = Infinity) {
    this.#loop = loop;
    this.#connection = connection;
    this.#recycleTimeout = recycleTimeout;
    this.#before = { ...connection.counts };
    connection.drainSignal.addEventListener('abort', () => this.#began());
  }

  /** A drain has begun, whoever called for it. */
  #began(): void {
    if (this.beganAt !== Infinity || this.#connection.state === 'closed') return;
    this.#closesByItself = this.#connection.state === 'lingering';
    this.#begin();
    if (this.#calls === 0) this.#mayBeCutAt = this.beganAt + this.#recycleTimeout;
    this.onBegin();
  }

  #begin(): void {
    this.beganAt = this.#loop.time;
    Object.assign(this.#before, this.#connection.counts);
  }

  get begun(): boolean {
    return this.beganAt !== Infinity;
  }

  /** Its report; `undefined` if nobody asked for one. */
  get report(): DrainReport | undefined {
    const [report] = this.#reports;
    return report;
  }

  /** Every call has been answered. */
  get over(): boolean {
    return this.#resolved === this.#calls;
  }

  /** The deadline has cut the drain short, or would have. */
  get pastDeadline(): boolean {
    return this.#resolvedAt >= Math.min(this.#deadline, this.#mayBeCutAt) - SLACK;
  }

  call(plan: Partial<DrainPlan>): void {
    const {
      timeout = 30_000,
      settle = 5_000,
      idleWait,
      linger = 2_000,
      lingerMax = 30_000,
      signalAt = Infinity,
    } = plan;
    const loop = this.#loop;
    this.#calls++;
    if (this.#connection.state !== 'closed') {
      if (this.#closesByItself) this.#begin();
      this.#closesByItself = false;
      this.#deadline = Math.min(this.#deadline, loop.time + timeout);
      if (!this.begun) this.firstSettle = Math.min(this.firstSettle, settle);
      this.settle = Math.min(this.settle, settle);
      this.settledBy = Math.min(this.settledBy, Math.max(loop.time, Math.min(loop.time, this.beganAt) + settle));
      this.patience = Math.min(this.patience, linger, lingerMax);
      // of a linger under way it counts from now
      if (this.#connection.state !== 'lingering') this.lingerMax = Math.min(this.lingerMax, lingerMax);
    }
    let signal: AbortSignal | undefined;
    if (signalAt !== Infinity) {
      const controller = new AbortController();
      signal = controller.signal;
      loop.applicationTimer(Math.max(1, signalAt - loop.time), () => {
        if (this.#connection.state !== 'closed') this.#deadline = Math.min(this.#deadline, loop.time);
        controller.abort();
      });
    }
    const options = {
      timeout,
      settle,
      linger,
      lingerMax,
      reason: 'simulated',
      ...(idleWait !== undefined && { idleWait }),
      ...(signal && { signal }),
    };
    void gracefulShutdown(this.#connection, options).then((report) => {
      this.#resolved++;
      this.#resolvedAt = loop.time;
      this.#reports.add(report);
    });
  }

  /** What is wrong with the report. */
  *violations(): Iterable<string> {
    if (!this.over) yield `a drain has not resolved`;
    if (this.#reports.size > 1) {
      // a call for a connection that is closed has a report of its own, with nothing in it
      let counting = 0;
      for (const { served, refused, aborted } of this.#reports) if (served + refused + aborted > 0) counting++;
      if (counting > 1) yield `calls of one drain got ${counting} different reports`;
    }
    const { report } = this;
    // It had closed before anybody drained it.
    if (report === undefined || !this.begun || this.#closesByItself) return;
    yield* this.#countViolations(report);
    yield* this.#timeViolations(report);
  }

  *#countViolations(report: DrainReport): Iterable<string> {
    const { counts } = this.#connection;
    for (const key of Object.keys(counts) as (keyof RequestCounts)[]) {
      const during = counts[key] - this.#before[key];
      if (report[key] !== during)
        yield `the report has ${report[key]} ${key}, the connection ${during} during the drain`;
    }
    const { outcome, aborted, unserved, cut } = report;
    if ((outcome === 'forced' || outcome === 'peer') !== aborted > 0)
      yield `outcome ${outcome} with ${aborted} aborted`;
    if ((outcome === 'lossy') !== (unserved > 0 && aborted === 0)) yield `outcome ${outcome} with ${unserved} unserved`;
    if (cut.length !== Math.min(16, aborted)) yield `${cut.length} cut requests described, ${aborted} aborted`;
  }

  *#timeViolations(report: DrainReport): Iterable<string> {
    const { announce, settle, finish, linger } = report.phases;
    const { stalledFor } = this.#loop;
    const walked = announce + settle + finish;
    for (const [name, ms] of Object.entries(report.phases)) if (!(ms >= 0)) yield `phase ${name} took ${ms} ms`;
    const spare = report.duration - walked - linger;
    if (spare < -0.001) yield `the phases take ${-spare} ms more than the whole`;
    if (report.rtt !== undefined && report.rtt < 0) yield `a round trip of ${report.rtt} ms`;
    const allowed = this.#deadline - this.beganAt + CUT_FLUSH + SLACK + stalledFor;
    if (walked > allowed) yield `it took ${walked} ms to finish, ${allowed} were allowed`;
    if (linger === 0 && report.duration > allowed) yield `it took ${report.duration} ms, ${allowed} were allowed`;
    const lingering = this.lingerMax + SLACK + stalledFor;
    if (linger > lingering) yield `it lingered for ${linger} ms, ${lingering} were allowed`;
  }
}
