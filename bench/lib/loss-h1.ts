/**
 * The HTTP/1.1 loss bench: busy clients through the relay at several round trips, lastcall and a
 * node:https server that it has adopted beside node:https.
 */
import { runH1Client } from '../../test/wire/h1-runner.js';
import { Relay } from '../../test/wire/relay.js';
import { ServerChild } from './child.js';
import { type ClientContext, type ClientCounts, type DrainTally, finishedMs, outcomesOf, runDrains } from './drains.js';
import { h1Exchanges, type Mix } from './exchanges.js';
import { type Bar, bar, type Cell } from './results.js';
import type { ServerKind } from './servers/messages.js';
import { percentile, sum } from './stats.js';

export interface LossPlan {
  /** round trips, ms */
  readonly rtts: readonly number[];
  /** h2: streams in flight */
  readonly streams: readonly number[];
  /** per round trip (and number of streams) and server */
  readonly drains: number;
  readonly peerDrains: number;
  readonly servers: readonly ServerKind[];
  readonly seed: number;
  /** whether the times of drains are judged: not where other work shares the machine */
  readonly judgesTimes: boolean;
  /** the first server drops one request in so many: the control that must fail */
  readonly dropEvery: number | undefined;
}

/** One server at one round trip. */
export interface LossCell {
  readonly server: ServerKind;
  readonly rttMs: number;
  readonly inFlight: number;
  readonly tally: DrainTally;
}

/** Whether a server must lose nothing; a peer must lose something. */
function isJudged(kind: ServerKind, plan: LossPlan): boolean {
  return kind === plan.servers[0] || kind === 'lastcall' || kind === 'adopted https';
}

/** Longest service time of the busy mix, ms. */
export const SERVICE_MS = 10;

const MIX: Mix = { serviceMs: SERVICE_MS, uploads: 0.15, early: 0.15, large: 0.1, uploadPauseMs: 0 };

/** Connections at a time: what two cores carry without their own queueing showing in the times. */
const CONCURRENCY_BY_RTT = (rttMs: number): number => (rttMs < 5 ? 16 : Math.min(120, 32 + rttMs));

export async function lossH1(plan: LossPlan, onCell: (cell: LossCell) => void): Promise<LossCell[]> {
  const cells: LossCell[] = [];
  for (const rttMs of plan.rtts) {
    for (const kind of plan.servers) {
      const isSubject = kind === plan.servers[0];
      const server = await ServerChild.start({
        kind,
        ...(isSubject && plan.dropEvery !== undefined && { dropEvery: plan.dropEvery }),
      });
      const relay = await Relay.open({ port: server.port, delayMs: rttMs / 2 });
      const tally = await runDrains({
        server,
        relay,
        drains: isJudged(kind, plan) ? plan.drains : plan.peerDrains,
        concurrency: CONCURRENCY_BY_RTT(rttMs),
        drainWithinMs: 4 * rttMs + 40,
        seed: plan.seed + rttMs,
        client: (context) => client(context, rttMs),
      });
      await relay.close();
      await server.stop();
      const cell = { server: kind, rttMs, inFlight: 1, tally };
      cells.push(cell);
      onCell(cell);
    }
  }
  return cells;
}

async function client(context: ClientContext, rttMs: number): Promise<ClientCounts> {
  let localPort = 0;
  const result = await runH1Client({
    port: context.port,
    seed: context.seed,
    stop: context.stop,
    exchange: h1Exchanges(MIX),
    think: { kind: 'uniform', minMs: 0, maxMs: 2 * rttMs },
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

/** The conditions on lastcall's cells and, so that they mean something, on node:https's. */
export function barsH1(cells: readonly LossCell[], plan: LossPlan): Bar[] {
  const judged = plan.servers.filter((kind) => isJudged(kind, plan));
  const bars = judged.flatMap((kind) => judgedBars(kind, cells, plan));
  for (const { server, rttMs, tally } of cells) {
    // Without a delay there is hardly a moment in which a request can cross a FIN.
    if (judged.includes(server) || rttMs < 10) continue;
    const perThousand = (tally.lost / Math.max(1, tally.drains)) * 1000;
    bars.push(
      bar(
        `${rttMs} ms round trip: ${server} loses hundreds per 1,000 drains beside it`,
        perThousand.toFixed(0),
        perThousand >= 100,
      ),
    );
  }
  return bars;
}

function judgedBars(kind: ServerKind, cells: readonly LossCell[], plan: LossPlan): Bar[] {
  const own = cells.filter(({ server }) => server === kind);
  const ours = own.map(({ tally }) => tally);
  const drains = sum(ours.map((tally) => tally.drains));
  const lost = sum(ours.map((tally) => tally.lost));
  const bars = [
    bar(`${kind}: lost requests in ${drains.toLocaleString('en')} drains (at most 0)`, lost, lost === 0 && drains > 0),
    ...commonBars(kind, ours, plan),
  ];
  const reports = ours.flatMap((tally) => tally.reports);
  if (reports.length === 0) return bars;
  const reported = sum(reports.map((report) => report.unserved + report.aborted));
  bars.push(
    bar(
      `${kind}: unserved and aborted in the reports = lost as the clients counted`,
      `${reported} = ${lost}`,
      reported === lost,
    ),
  );
  for (const { rttMs, tally } of plan.judgesTimes ? own : []) {
    const p50 = percentile(tally.reports.map(finishedMs), 50);
    // The client's think time is rtt on average; a response takes one more round trip and the service time.
    const limit = rttMs + (rttMs + SERVICE_MS) + 5;
    bars.push(
      bar(
        `${kind}, ${rttMs} ms round trip: p50 until the last response is out (at most ${limit} ms)`,
        `${p50.toFixed(1)} ms`,
        p50 <= limit,
      ),
    );
  }
  return bars;
}

/** What holds for both protocols. */
export function commonBars(subject: string, ours: readonly DrainTally[], plan: LossPlan): Bar[] {
  const resets = sum(ours.map((tally) => tally.resetsInDrained));
  const stuck = sum(ours.map((tally) => tally.stuck + tally.unconnected + (tally.death === undefined ? 0 : 1)));
  const short = ours.filter((tally) => tally.drains < plan.drains).length;
  return [
    bar(`${subject}: clients that saw a reset in a drain that ended 'drained' (at most 0)`, resets, resets === 0),
    bar(`${subject}: stuck drains, failed connects, dead servers (at most 0)`, stuck, stuck === 0),
    bar(`${subject}: cells with fewer drains than planned (at most 0)`, short, short === 0),
  ];
}

/** One line of the table. */
export function rowOf({ server, rttMs, inFlight, tally }: LossCell): Record<string, Cell> {
  const finished = tally.reports.map(finishedMs);
  const outcomes = outcomesOf(tally.reports);
  return {
    server,
    'rtt ms': rttMs,
    streams: inFlight,
    drains: tally.drains,
    sent: tally.sent,
    answered: tally.answered,
    refused: tally.refused,
    lost: tally.lost,
    'not served /1,000': ((tally.lost + tally.refused) / Math.max(1, tally.drains)) * 1000,
    resets: tally.resets,
    'after FIN': tally.lateResets,
    'last response p50': finished.length === 0 ? undefined : percentile(finished, 50),
    'closed p50': percentile(tally.closedMs, 50),
    'closed p99': percentile(tally.closedMs, 99),
    outcomes:
      tally.reports.length === 0
        ? ''
        : Object.entries(outcomes)
            .map(([name, count]) => `${name} ${count}`)
            .join(', '),
    died: tally.death ?? '',
  };
}
