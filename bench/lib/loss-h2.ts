/**
 * The HTTP/2 loss bench: clients with 1, 4 and 32 streams in flight, uploads among them, through the relay at several
 * round trips; lastcall beside node:http2's two usual ways to close a session.
 */
import { runH2Client } from '../../test/wire/h2-runner.js';
import { Random } from '../../test/wire/random.js';
import { Relay } from '../../test/wire/relay.js';
import { ServerChild } from './child.js';
import { type ClientContext, type ClientCounts, runDrains } from './drains.js';
import { h2Exchanges, type Mix } from './exchanges.js';
import { commonBars, type LossCell, type LossPlan } from './loss-h1.js';
import { type Bar, bar } from './results.js';
import { percentile, sum } from './stats.js';

/** Longest service time and longest pause in an upload, ms. */
const SERVICE_MS = 20;
const UPLOAD_PAUSE_MS = 20;

/** A client that sees nothing happen for this long gives the connection up, and what is open counts as lost. */
const STALL_MS = 8_000;

const MIX: Mix = { serviceMs: SERVICE_MS, uploads: 0.15, early: 0.1, large: 0.05, uploadPauseMs: UPLOAD_PAUSE_MS };

/** Streams in flight over all connections: what two cores carry without their own queueing showing in the times. */
const STREAMS_AT_A_TIME = (rttMs: number): number => (rttMs < 5 ? 24 : Math.min(160, 40 + rttMs));

export async function lossH2(plan: LossPlan, onCell: (cell: LossCell) => void): Promise<LossCell[]> {
  const cells: LossCell[] = [];
  for (const rttMs of plan.rtts) {
    for (const inFlight of plan.streams) {
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
          drains: isSubject ? plan.drains : plan.peerDrains,
          concurrency: Math.max(4, Math.round(STREAMS_AT_A_TIME(rttMs) / inFlight)),
          drainWithinMs: 2 * rttMs + 40,
          seed: plan.seed + rttMs * 100 + inFlight,
          client: (context) => client(context, inFlight, rttMs),
        });
        await relay.close();
        await server.stop();
        const cell = { server: kind, rttMs, inFlight, tally };
        cells.push(cell);
        onCell(cell);
      }
    }
  }
  return cells;
}

async function client(context: ClientContext, inFlight: number, rttMs: number): Promise<ClientCounts> {
  const random = new Random(context.seed);
  let localPort = 0;
  const result = await runH2Client({
    port: context.port,
    seed: context.seed,
    stop: context.stop,
    inFlight,
    stallTimeoutMs: STALL_MS,
    exchange: h2Exchanges(MIX),
    // One in five has a writer apart from its reader, and one in five closes by itself as soon as it can.
    ...(random.chance(0.2) && { lateStreamMs: 3 }),
    closesWhenDone: random.chance(0.2),
    onConnected: (connected) => {
      localPort = connected.transport.localPort;
    },
    onAnswer: () => context.warm(localPort),
  });
  const { wrong, streamResets, unserved } = result;
  return {
    ...result,
    lost: wrong + streamResets + unserved,
    localPort,
    longestOpenMs: Math.max(0, result.longestOpenMs - rttMs),
  };
}

export function barsH2(cells: readonly LossCell[], plan: LossPlan): Bar[] {
  const subject = plan.servers[0] ?? '';
  const mine = cells.filter(({ server }) => server === subject);
  const ours = mine.map(({ tally }) => tally);
  const drains = sum(ours.map((tally) => tally.drains));
  const lost = sum(ours.map((tally) => tally.lost));
  const refused = sum(ours.map((tally) => tally.refused - tally.refusedLate));
  const violations = sum(ours.map((tally) => tally.violations.length));
  const bars = [
    bar(
      `${subject}: lost requests in ${drains.toLocaleString('en')} drains (at most 0)`,
      lost,
      lost === 0 && drains > 0,
    ),
    bar(`${subject}: refused requests of clients that had not read GOAWAY (at most 0)`, refused, refused === 0),
    bar(`${subject}: breaches of RFC 9113 seen by the clients (at most 0)`, violations, violations === 0),
    ...commonBars(subject, ours, plan),
  ];
  for (const { server, rttMs, inFlight, tally } of cells) {
    const where = `${rttMs} ms round trip, ${inFlight} streams`;
    if (server === 'lastcall') {
      if (!plan.judgesTimes) continue;
      const p50 = percentile(tally.overheadMs, 50);
      const limit = rttMs + Math.max(10, rttMs / 4) + 10;
      const what = `${where}: p50 until the last response is out, less the longest open request (at most ${limit} ms)`;
      bars.push(bar(what, `${p50.toFixed(1)} ms`, p50 <= limit));
    } else if (rttMs >= 10 && inFlight >= 4) {
      const perThousand = ((tally.lost + tally.refused) / Math.max(1, tally.drains)) * 1000;
      bars.push(
        bar(`${where}: ${server} serves thousands less per 1,000 drains`, perThousand.toFixed(0), perThousand >= 1000),
      );
    }
  }
  return bars;
}
