/**
 * `npm run bench:loss -- --proto h1|h2`: what clients that never retry lose when their connections are drained, lastcall
 * beside node's own servers, through a relay that makes the round trip.
 */
import { argumentsOrExit } from './lib/arguments.js';
import { barsH1, type LossCell, type LossPlan, lossH1, rowOf } from './lib/loss-h1.js';
import { barsH2, lossH2 } from './lib/loss-h2.js';
import { barsIdle, type IdleCell, idleRow, lossIdle } from './lib/loss-idle.js';
import { type Bar, bar, type Cell, reportAndExit, type Totals, table } from './lib/results.js';
import type { ServerKind } from './lib/servers/messages.js';
import { sum } from './lib/stats.js';
import { drawTimeline } from './lib/timeline-run.js';

const args = argumentsOrExit({
  command: 'npm run bench:loss --',
  summary: 'Counts the requests that clients lose when their connections are drained, one drain per connection.',
  options: {
    proto: { kind: 'choice', choices: ['h1', 'h2'], fallback: 'h1', help: 'the protocol' },
    short: { kind: 'flag', help: 'few drains and no long round trips: a check of correctness for CI, not of speed' },
    rtt: { kind: 'numbers', fallback: [0, 10, 50, 200], min: 0, max: 2_000, help: 'round trips, ms' },
    streams: { kind: 'numbers', fallback: [1, 4, 32], min: 1, max: 100, help: 'h2: streams in flight' },
    drains: {
      kind: 'number',
      fallback: 0,
      min: 0,
      max: 100_000,
      help: 'of lastcall per round trip and number of streams (0: 1,300 for h1, 430 for h2; short: 60 and 20)',
    },
    'peer-drains': { kind: 'number', fallback: 0, min: 0, max: 100_000, help: 'of each peer (0: a third of those)' },
    'no-peers': { kind: 'flag', help: 'lastcall alone' },
    idle: {
      kind: 'number',
      fallback: 300,
      min: 0,
      max: 5_000,
      help: 'h1: connections in each scenario with idle clients (short: at most 60; 0: leave them out)',
    },
    control: { kind: 'flag', help: 'lastcall drops one request in 50: the run must fail' },
    seed: { kind: 'number', fallback: 1, min: 0, max: 2 ** 31, help: 'of all random choices' },
  },
});

const isH1 = args.proto === 'h1';
const usual = isH1 ? (args.short ? 60 : 1_300) : args.short ? 20 : 430;
const drains = args.drains || usual;
const peers: readonly ServerKind[] = isH1
  ? ['adopted https', 'node:https']
  : ['node:http2 close()', 'node:http2 two GOAWAYs'];
const plan: LossPlan = {
  rtts: args.short ? args.rtt.filter((rtt) => rtt <= 50) : args.rtt,
  streams: args.streams,
  drains,
  peerDrains: args['peer-drains'] || Math.max(10, Math.round(drains / 3)),
  servers: args['no-peers'] || args.control ? ['lastcall'] : ['lastcall', ...peers],
  seed: args.seed,
  judgesTimes: !args.short,
  dropEvery: args.control ? 50 : undefined,
};

const onCell = (cell: LossCell): void => {
  console.log(
    table([rowOf(cell)])
      .split('\n')
      .at(-1),
  );
};
const cells = isH1 ? await lossH1(plan, onCell) : await lossH2(plan, onCell);
const idle: readonly IdleCell[] =
  isH1 && args.idle > 0 && !args.control
    ? await lossIdle(
        { connections: args.short ? Math.min(60, args.idle) : args.idle, short: args.short, seed: args.seed },
        (cell) =>
          console.log(
            table([idleRow(cell)])
              .split('\n')
              .at(-1),
          ),
      )
    : [];
const timeline = await drawTimeline(isH1 ? 'h1' : 'h2');
const suffix = `${args.control ? '-control' : ''}${args.short ? '-short' : ''}`;

reportAndExit({
  name: `loss-${args.proto}${suffix}`,
  title: `Requests lost by clients that never retry, ${isH1 ? 'HTTP/1.1' : 'HTTP/2'} over TLS, one drain per connection`,
  arguments: args,
  totals: totalsOf(cells.filter(({ server }) => server === 'lastcall')),
  rows: cells.map((cell): Record<string, Cell> => rowOf(cell)),
  moreRows: idle.map(idleRow),
  bars: [...(isH1 ? barsH1(cells, plan) : barsH2(cells, plan)), ...barsIdle(idle), ...enoughDrains()],
  details: cells.map(({ server, rttMs, inFlight, tally }) => ({
    server,
    rttMs,
    inFlight,
    undrained: tally.undrained,
    stuck: tally.stuck,
    unconnected: tally.unconnected,
    faults: tally.faults,
    violations: tally.violations,
    loopDelayP99Ms: tally.loopDelayP99,
    died: tally.death,
  })),
  notes: [
    ...cells.flatMap(({ server, rttMs, tally }) =>
      server === 'lastcall' ? tally.faults.map((fault) => `${server}, ${rttMs} ms: ${fault}`) : [],
    ),
    `timeline of one drain: ${timeline}`,
  ],
});

/** A run of a few drains proves little, and says so, unless that is what was asked for. */
function enoughDrains(): Bar[] {
  if (args.short || args.control) return [];
  const all = sum(cells.map(({ server, tally }) => (server === 'lastcall' ? tally.drains : 0)));
  return [bar('drains in all (at least 5,000)', all, all >= 5_000)];
}

function totalsOf(of: readonly LossCell[]): Totals {
  const total = (pick: (cell: LossCell) => number): number => sum(of.map(pick));
  return {
    sent: total(({ tally }) => tally.sent),
    answered: total(({ tally }) => tally.answered),
    refused: total(({ tally }) => tally.refused),
    lost: total(({ tally }) => tally.lost),
    resets: total(({ tally }) => tally.resets),
  };
}
