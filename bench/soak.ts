/**
 * `npm run soak`: a process with a TLS and a cleartext server under mixed load for as long as you like, while its
 * connections are drained at random, some clients attack or break, and its event loop stalls now and then. Clients that
 * behave well must not lose a request, memory must not grow, and nothing may be left at the end.
 */
import { setMaxListeners } from 'node:events';
import { certificate } from '../test/wire/certificate.js';
import { Random } from '../test/wire/random.js';
import { argumentsOrExit } from './lib/arguments.js';
import { cpuBetween, ownCpuTime } from './lib/cpu.js';
import { type Bar, bar, type Cell, reportAndExit } from './lib/results.js';
import { SoakChild } from './lib/soak/child.js';
import { type Field, h1Client, h2Client, listener, pause, uploader } from './lib/soak/clients.js';
import { type Attacked, attack, breakSockets } from './lib/soak/hostile.js';
import type { SoakStatus } from './lib/soak/messages.js';
import { curl, h2loadBursts, nodeHttp2, undici, webSocket } from './lib/soak/programs.js';
import { type ClientTally, Tallies } from './lib/soak/tally.js';
import { growthOf, type Sample, verdictOnGrowth } from './lib/trend.js';

const args = argumentsOrExit({
  command: 'npm run soak --',
  summary: 'Runs mixed clients, drains, attacks and faults against one process, and counts what is lost or left.',
  options: {
    minutes: { kind: 'number', fallback: 30, min: 0.2, max: 10_080, help: 'of load' },
    seed: { kind: 'number', fallback: 1, min: 0, max: 2 ** 31, help: 'of all random choices' },
    control: { kind: 'flag', help: 'the server breaks off one request in 200: the run must fail' },
    'control-leak': { kind: 'flag', help: 'the server leaks a listener per connection: the run must fail' },
  },
});

/** Growth that no leak of something per connection hides behind; a young process still warms up. */
const TOLERANCE = args.minutes < 5 ? 4 * 2 ** 20 : 2 ** 20;
/** Resident memory moves by what the allocator keeps: as a part of its mean. */
const RSS_TOLERANCE = 0.03;
/** Until then a process still takes from the system what its heap will need: its resident memory tells nothing. */
const RSS_MINUTES = 5;
const SAMPLE_MS = Math.max(1_000, (args.minutes * 60_000) / 400);
const STALL_EVERY_MS = Math.min(20_000, args.minutes * 10_000);
/** Of each server's recycling, and of Node's clock for the Date field: not one per connection. */
const COMMON_TIMERS = 4;
/** After the last client has stopped, connections may linger for this long. */
const LEFT_MS = 40_000;

const broken = args.control ? 'drops' : args['control-leak'] ? 'leaks' : 'none';
const random = new Random(args.seed);
const server = await SoakChild.start({
  ...(await certificate()),
  seed: random.below(2 ** 32),
  broken,
  drainEveryMs: 150,
});
const before = await server.status(true);
const stop = new AbortController();
setMaxListeners(0, stop.signal);
const tallies = new Tallies();
const field: Field = { tlsPort: server.tlsPort, cleartextPort: server.cleartextPort, stop: stop.signal, tallies };
const attacked: Attacked = {};
const brokenSockets = { count: 0 };

/** So many of a kind, which share a line of the table. */
function several(
  name: string,
  trust: ClientTally['trust'],
  count: number,
  run: (tally: ClientTally, random: Random) => Promise<void>,
): Promise<void>[] {
  const tally = tallies.add(name, trust);
  return Array.from({ length: count }, () => run(tally, random.fork()));
}

const ownCpu = ownCpuTime();
const beganAt = performance.now();
const elapsed = (): number => (performance.now() - beganAt) / 1_000;
const clients = [
  ...several('HTTP/1.1, keep-alive', 'counts', 8, (tally, drawn) => h1Client(field, tally, drawn, 150)),
  ...several('HTTP/1.1, mostly idle', 'counts', 6, (tally, drawn) => h1Client(field, tally, drawn, 2_500)),
  ...several('HTTP/1.1, a connection a request', 'counts', 3, (tally, drawn) => h1Client(field, tally, drawn, 0, 1)),
  ...several('HTTP/1.1, chunked uploads', 'counts', 2, (tally, drawn) => uploader(field, tally, drawn)),
  ...several('HTTP/2, several streams', 'counts', 8, (tally, drawn) => h2Client(field, tally, drawn, 150)),
  ...several('HTTP/2, mostly idle', 'counts', 6, (tally, drawn) => h2Client(field, tally, drawn, 4_000)),
  ...several('event streams', 'counts', 6, (tally, drawn) => listener(field, tally, drawn)),
  ...several('WebSockets (ws)', 'counts', 4, (tally, drawn) => webSocket(field, tally, drawn)),
  ...several('node:http2', 'shown', 2, (tally, drawn) => nodeHttp2(field, tally, drawn)),
  ...several('undici, HTTP/1.1', 'shown', 1, (tally, drawn) => undici(field, tally, drawn, false)),
  ...several('undici, HTTP/2', 'shown', 1, (tally, drawn) => undici(field, tally, drawn, true)),
  ...several('curl', 'shown', 1, (tally, drawn) => curl(field, tally, drawn)),
  ...several('h2load', 'shown', 1, (tally, drawn) => h2loadBursts(field, tally, drawn)),
  attack(field, random.fork(), 600, attacked),
  breakSockets(field, random.fork(), 250, brokenSockets),
];

const heap: Sample[] = [];
const rss: Sample[] = [];
let peakConnections = 0;
const sampling = (async () => {
  while (!stop.signal.aborted && server.death === undefined) {
    await pause(SAMPLE_MS, stop.signal);
    const status = await server.status();
    if (status === undefined) return;
    heap.push({ at: elapsed(), value: status.heapUsed });
    rss.push({ at: elapsed(), value: status.rss });
    peakConnections = Math.max(peakConnections, status.connections);
  }
})();
const stalling = (async () => {
  const drawn = random.fork();
  while (!stop.signal.aborted) {
    await pause(drawn.exponential(STALL_EVERY_MS), stop.signal);
    server.stall(drawn.between(200, 1_000));
  }
})();
const said = setInterval(() => {
  console.log(
    `${(elapsed() / 60).toFixed(1)} min: ${tallies.sum('sent')} requests, ${tallies.sum('lost')} lost, ` +
      `heap ${mebibytes(heap.at(-1)?.value ?? 0)} MiB`,
  );
}, 60_000);

// The load is over when its time is, or when there is nobody left to load.
const until = beganAt + args.minutes * 60_000;
while (performance.now() < until && server.death === undefined) {
  await pause(Math.min(500, until - performance.now()), stop.signal);
}
const loaded = await server.status();
const seconds = elapsed();
const clientCpu = cpuBetween(ownCpu, ownCpuTime());
stop.abort();
clearInterval(said);
await Promise.all([...clients, sampling, stalling]);
server.calm();
let after: SoakStatus | undefined;
// A connection that has just gone is in the application's timers still.
for (const from = performance.now(); performance.now() - from < LEFT_MS; ) {
  after = await server.status(true);
  if (after === undefined || (after.connections === 0 && leavesNothing(after))) break;
  await new Promise((resolve) => setTimeout(resolve, 250));
}
const endedByItself = await server.shutdown();

const half = <T>(samples: readonly T[]): readonly T[] => samples.slice(Math.floor(samples.length / 2));

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}

function growthBar(what: string, samples: readonly Sample[], tolerance: number): Bar {
  if (samples.length < 3) return bar(what, 'too few samples', false);
  const growth = growthOf(samples);
  const perMinute = (value: number): string => `${((value / growth.seconds) * (60 / 1024)).toFixed(1)}`;
  return {
    what,
    measured:
      `${perMinute(growth.growth)} KiB/min (95 %: ${perMinute(growth.low)} to ${perMinute(growth.high)}) ` +
      `at ${mebibytes(growth.mean)} MiB; ${mebibytes(growth.growth)} MiB in ${(growth.seconds / 60).toFixed(1)} min`,
    verdict: verdictOnGrowth(growth, tolerance < 1 ? tolerance * growth.mean : tolerance),
  };
}

function residentBar(judged: Bar): Bar {
  return args.minutes < RSS_MINUTES ? { ...judged, verdict: 'unresolved' } : judged;
}

/** Objects of each class that are there now and weren't before the load. */
function leftOf(status: SoakStatus | undefined): [string, number][] {
  return Object.entries(status?.objects ?? {}).map(([name, count]) => [name, count - (before?.objects[name] ?? 0)]);
}

function leavesNothing(status: SoakStatus | undefined): boolean {
  return leftOf(status).every(([name, count]) => count <= (name === 'timers' ? COMMON_TIMERS : 0));
}

const left = leftOf(after);
const descriptors = (status: SoakStatus | undefined): number =>
  Object.entries(status?.resources ?? {}).reduce((sum, [name, count]) => sum + (/TCP|TLS/.test(name) ? count : 0), 0);
const good = after?.requests.good;
const inDrains = Object.values(after?.drains ?? {}).reduce(
  (sum, outcomes) => sum + Object.values(outcomes).reduce((all, count) => all + count, 0),
  0,
);
const idle = tallies.all.filter(({ trust, answered }) => trust === 'counts' && answered === 0);
const bars: Bar[] = [
  bar('the server lives', server.death === 'exit code 0' ? 'yes' : (server.death ?? 'yes'), after !== undefined),
  bar('well-behaved clients lose nothing (requests)', tallies.sum('lost'), tallies.sum('lost') === 0),
  bar('every answer to well-behaved clients was written out (not)', good?.broken ?? '?', good?.broken === 0),
  bar('drains of their connections lose nothing (requests)', after?.lostInDrains ?? '?', after?.lostInDrains === 0),
  bar('breaches of RFC 9113 that clients saw', tallies.violations.length, tallies.violations.length === 0),
  bar('exceptions that nobody caught', after?.escaped.length ?? '?', after?.escaped.length === 0),
  bar('process warnings', after?.warnings.length ?? '?', after?.warnings.length === 0),
  growthBar('heap after collection, second half', half(heap), TOLERANCE),
  residentBar(growthBar('resident memory, second half', half(rss), RSS_TOLERANCE)),
  bar('connections left', after?.connections ?? '?', after?.connections === 0),
  bar('descriptors left', descriptors(after) - descriptors(before), descriptors(after) === descriptors(before)),
  bar(
    'objects left on the heap',
    left.map(([name, count]) => `${count} ${name}`).join(', ') || 'not known on this Node',
    leavesNothing(after),
  ),
  bar('after its shutdown the process ends by itself', endedByItself ? 'yes' : 'no', endedByItself),
  bar(
    'every kind of client was served, connections were drained',
    `${inDrains} drains${idle.map(({ name }) => `, ${name}: none`).join('')}`,
    inDrains > 0 && idle.length === 0,
  ),
];

const rows = tallies.all.map(
  ({ name, trust, connections, sent, answered, refused, lost, resets }): Record<string, Cell> => ({
    client: name,
    connections,
    sent,
    answered,
    refused,
    lost: trust === 'counts' ? lost : `(${lost})`,
    resets,
  }),
);
const serverCpu = loaded && before ? cpuBetween(before.cpu, loaded.cpu) / 1e6 / seconds : Number.NaN;
reportAndExit({
  name: broken === 'none' ? 'soak' : `soak-control-${broken}`,
  title: `Soak: ${args.minutes} minutes, seed ${args.seed}`,
  arguments: args,
  totals: {
    sent: tallies.sum('sent'),
    answered: tallies.sum('answered'),
    refused: tallies.sum('refused'),
    lost: tallies.sum('lost'),
    resets: tallies.sum('resets'),
  },
  rows,
  moreRows: Object.entries(after?.drains ?? {}).map(([kind, outcomes]) => ({
    "drains of a client's connection": kind,
    drained: outcomes.drained ?? 0,
    lossy: outcomes.lossy ?? 0,
    forced: outcomes.forced ?? 0,
    peer: outcomes.peer ?? 0,
  })),
  bars,
  details: {
    attacked,
    brokenSockets: brokenSockets.count,
    faults: tallies.faults,
    violations: tallies.violations,
    before,
    after,
    peakConnections,
    serverCpu,
    clientCpu: clientCpu / 1e6 / seconds,
    heap,
    rss,
  },
  notes: [
    `${after?.opened ?? '?'} connections, at most ${peakConnections} at once; ${after?.stalls ?? '?'} stalls of the loop; ` +
      `${Object.values(attacked).reduce((sum, count) => sum + count, 0)} attacks; ${brokenSockets.count} clients reset or half-closed`,
    `CPU: server ${(serverCpu * 100).toFixed(0)} % of a core, clients ${((clientCpu / 1e6 / seconds) * 100).toFixed(0)} %`,
    'losses in parentheses are those of clients that others wrote: what a drain loses without their closing first counts above',
    ...[
      ...tallies.faults,
      ...tallies.violations,
      ...(after?.faults ?? []),
      ...(after?.escaped ?? []),
      ...(after?.warnings ?? []),
    ].slice(0, 12),
  ],
});
