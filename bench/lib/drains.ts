/**
 * Thousands of drains, one per connection: clients come through a delaying relay, each connection is drained at a
 * random moment of its life, and what the clients counted is added up beside what the server reported.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Random } from '../../test/wire/random.js';
import type { Relay } from '../../test/wire/relay.js';
import type { ServerChild } from './child.js';
import type { Drained, ReportSummary } from './servers/messages.js';

/** What one client counted on its one connection. */
export interface ClientCounts {
  readonly sent: number;
  readonly answered: number;
  readonly refused: number;
  /** of the refused: streams that a late writer opened after its reader had read GOAWAY */
  readonly refusedLate: number;
  /** h2: the longest time in the server of a request that was open when GOAWAY was read, ms */
  readonly longestOpenMs: number;
  /** neither answered as expected nor refused */
  readonly lost: number;
  readonly reset: boolean;
  /** how the connection ended for the client */
  readonly ending: string;
  readonly localPort: number;
  readonly firstFault: string | undefined;
  readonly violations: readonly string[];
}

/** A client's ways to be told of and to tell its moments. */
export interface ClientContext {
  readonly port: number;
  readonly seed: number;
  /** to be called with the client's first answer; further calls do nothing */
  readonly warm: (localPort: number) => void;
  /** aborted when no drain will come any more: the client is to finish by itself */
  readonly stop: AbortSignal;
}

export interface DrainRun {
  readonly server: ServerChild;
  readonly relay: Relay;
  readonly drains: number;
  /** connections at a time */
  readonly concurrency: number;
  /** the drain begins this long after the first answer, at most (uniform), ms */
  readonly drainWithinMs: number;
  readonly drainOptions?: object;
  readonly seed: number;
  readonly client: (context: ClientContext) => Promise<ClientCounts>;
}

export interface DrainTally {
  drains: number;
  sent: number;
  answered: number;
  refused: number;
  refusedLate: number;
  lost: number;
  /** connections on which the client saw a reset: ECONNRESET or EPIPE, or one that came before the server's FIN */
  resets: number;
  /** connections on which a reset answered what the client sent after it had read the server's FIN: its goodbye */
  lateResets: number;
  /** those of them whose drain was reported as `'drained'` */
  resetsInDrained: number;
  /** connections that ended before their drain was commanded, or were unknown to the server by then */
  undrained: number;
  /** drains that the server never reported as ended */
  stuck: number;
  /** connections that could not be made */
  unconnected: number;
  readonly closedMs: number[];
  /** ms until the last response was out, less the longest open request: what the drain itself took */
  readonly overheadMs: number[];
  readonly reports: ReportSummary[];
  /** up to ten descriptions of what went wrong */
  readonly faults: string[];
  /** what the server did against the RFC, as far as a client can see it */
  readonly violations: string[];
  /** why the server's process ended, if it did */
  death: string | undefined;
  /** 99th percentile of this process's event-loop delay, ms: how far its own clock can be trusted */
  loopDelayP99: number;
}

const MAX_FAULTS = 10;
/** A drain's default deadline and linger, and some. */
const STUCK_MS = 65_000;
/** Longest life of one connection: the longest wait for a drain, and some. */
const CONNECTION_LIMIT_MS = 90_000;
/** No new connection after this long: a server that stalls must not hold the bench for hours. */
const RUN_LIMIT_MS = 240_000;

/** Runs until `drains` connections were drained, the server died, twice as many were made, or the time is up. */
export async function runDrains(run: DrainRun): Promise<DrainTally> {
  const tally = newTally();
  const random = new Random(run.seed);
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  let started = 0;
  const until = performance.now() + RUN_LIMIT_MS;
  const worker = async (): Promise<void> => {
    while (tally.drains + tally.undrained < 2 * run.drains && started < run.drains + tally.undrained) {
      if (run.server.death !== undefined || performance.now() > until) return;
      started += 1;
      await oneConnection(run, random.fork(), tally);
    }
  };
  await Promise.all(Array.from({ length: run.concurrency }, worker));
  delay.disable();
  tally.loopDelayP99 = delay.percentile(99) / 1e6;
  tally.death = run.server.death;
  return tally;
}

async function oneConnection(run: DrainRun, random: Random, tally: DrainTally): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  let drained: Promise<Drained | 'stuck' | undefined> | undefined;
  const stop = new AbortController();
  // A client that never gets warm must end as well.
  const limit = setTimeout(() => stop.abort(), CONNECTION_LIMIT_MS);
  const warm = (localPort: number): void => {
    timer ??= setTimeout(
      () => {
        const port = run.relay.byClientPort(localPort)?.serverSidePort ?? 0;
        drained = orStuck(run.server.drain(port, run.drainOptions));
        void drained.then((outcome) => {
          if (outcome === undefined || outcome === 'stuck') stop.abort();
        });
      },
      random.between(0, run.drainWithinMs),
    );
  };
  let counts: ClientCounts;
  try {
    counts = await run.client({ port: run.relay.port, seed: random.below(2 ** 32), warm, stop: stop.signal });
  } catch (error) {
    tally.unconnected += 1;
    tally.undrained += 1;
    fault(tally, `no connection: ${String(error)}`);
    return;
  } finally {
    clearTimeout(timer);
    clearTimeout(limit);
  }
  const outcome = await drained;
  const resetPassed = run.relay.resetClientPorts.delete(counts.localPort);
  const isLate = resetPassed && !counts.reset && counts.ending === 'fin';
  const wasReset = counts.reset || (resetPassed && !isLate);
  if (isLate) tally.lateResets += 1;
  add(tally, counts, wasReset);
  if (outcome === 'stuck') {
    tally.stuck += 1;
    fault(tally, `drain not over after ${STUCK_MS} ms`);
  } else if (outcome === undefined) tally.undrained += 1;
  else {
    tally.drains += 1;
    tally.closedMs.push(outcome.closedMs);
    if (outcome.report !== undefined) {
      tally.reports.push(outcome.report);
      tally.overheadMs.push(finishedMs(outcome.report) - counts.longestOpenMs);
    }
    if (wasReset && outcome.report?.outcome === 'drained') {
      tally.resetsInDrained += 1;
      fault(
        tally,
        `reset in a drain that ended 'drained' (client: ${counts.ending}, phases ${JSON.stringify(outcome.report.phases)})`,
      );
    }
  }
}

function add(tally: DrainTally, counts: ClientCounts, wasReset: boolean): void {
  tally.sent += counts.sent;
  tally.answered += counts.answered;
  tally.refused += counts.refused;
  tally.refusedLate += counts.refusedLate;
  tally.lost += counts.lost;
  if (wasReset) tally.resets += 1;
  if (counts.lost + counts.refused > 0 && counts.firstFault !== undefined) fault(tally, counts.firstFault);
  tally.violations.push(...counts.violations.slice(0, MAX_FAULTS - tally.violations.length));
}

function fault(tally: DrainTally, what: string): void {
  if (tally.faults.length < MAX_FAULTS) tally.faults.push(what);
}

async function orStuck(drained: Promise<Drained | undefined>): Promise<Drained | 'stuck' | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'stuck'>((resolve) => {
    timer = setTimeout(() => resolve('stuck'), STUCK_MS);
  });
  const first = await Promise.race([drained, late]);
  clearTimeout(timer);
  return first;
}

export function newTally(): DrainTally {
  return {
    drains: 0,
    sent: 0,
    answered: 0,
    refused: 0,
    refusedLate: 0,
    lost: 0,
    resets: 0,
    lateResets: 0,
    resetsInDrained: 0,
    undrained: 0,
    stuck: 0,
    unconnected: 0,
    closedMs: [],
    overheadMs: [],
    reports: [],
    faults: [],
    violations: [],
    death: undefined,
    loopDelayP99: 0,
  };
}

/** Of the reports: how often each outcome came. */
export function outcomesOf(reports: readonly ReportSummary[]): Record<string, number> {
  const outcomes: Record<string, number> = {};
  for (const { outcome } of reports) outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  return outcomes;
}

/** ms from the call until the last response had been written out: the drain without its linger. */
export function finishedMs(report: ReportSummary): number {
  return report.phases.announce + report.phases.settle + report.phases.finish;
}
