/**
 * `npm run bench:load`: full load by autocannon while connections are drained one after another; loss is counted by
 * clients of our own that never retry, and by the server. Then h2load, without drains.
 */
import { setMaxListeners } from 'node:events';
import autocannon from 'autocannon';
import { runH1Client } from '../test/wire/h1-runner.js';
import { Random } from '../test/wire/random.js';
import { argumentsOrExit } from './lib/arguments.js';
import { ServerChild } from './lib/child.js';
import { newTally, outcomesOf } from './lib/drains.js';
import { h1Exchanges, type Mix } from './lib/exchanges.js';
import { h2load } from './lib/h2load.js';
import { type Bar, bar, reportAndExit } from './lib/results.js';
import type { ServerStatus } from './lib/servers/messages.js';
import { sum } from './lib/stats.js';

const args = argumentsOrExit({
  command: 'npm run bench:load --',
  summary: 'Loads one server with autocannon and h2load while connections are drained, and counts what clients lose.',
  options: {
    short: { kind: 'flag', help: '5 s and 2,000 h2load requests, for CI' },
    seconds: { kind: 'number', fallback: 20, min: 1, max: 3_600, help: 'of load by autocannon' },
    connections: { kind: 'number', fallback: 50, min: 1, max: 1_000, help: 'of autocannon' },
    clients: { kind: 'number', fallback: 10, min: 1, max: 200, help: 'of our own, that count' },
    control: { kind: 'flag', help: 'the server drops one request in 50: the run must fail' },
    seed: { kind: 'number', fallback: 1, min: 0, max: 2 ** 31, help: 'of all random choices' },
  },
});

const MIX: Mix = { serviceMs: 5, uploads: 0.15, early: 0.15, large: 0.1, uploadPauseMs: 0 };
const DRAIN_EVERY_MS = 1_000;

const seconds = args.short ? Math.min(5, args.seconds) : args.seconds;
const random = new Random(args.seed);
const server = await ServerChild.start({ kind: 'lastcall', ...(args.control && { dropEvery: 50 }) });
const origin = `https://127.0.0.1:${server.port}`;
const tally = newTally();
/** drains of autocannon's connections */
const theirs = newTally();
const stop = new AbortController();
setMaxListeners(0, stop.signal);
const ourPorts = new Set<number>();

/** One of our clients: a new connection whenever the server has closed the one before. */
async function client(seed: Random): Promise<void> {
  while (!stop.signal.aborted && server.death === undefined) {
    let localPort = 0;
    const result = await runH1Client({
      port: server.port,
      seed: seed.below(2 ** 32),
      exchange: h1Exchanges(MIX),
      think: { kind: 'uniform', minMs: 0, maxMs: 20 },
      stop: stop.signal,
      onConnected: ({ transport }) => {
        localPort = transport.localPort;
        ourPorts.add(localPort);
      },
    });
    ourPorts.delete(localPort);
    tally.sent += result.sent;
    tally.answered += result.answered;
    tally.lost += result.wrong + result.unserved;
    if (result.reset) tally.resets += 1;
    if (result.firstFault !== undefined && tally.faults.length < 10) tally.faults.push(result.firstFault);
  }
}

/** Drains one connection of all, and one of ours, so that those who count see drains too. */
async function drainSome(): Promise<void> {
  const status = await server.status();
  const pick = (ports: readonly number[]): number | undefined => ports[random.below(Math.max(1, ports.length))];
  const chosen = new Set([pick(status?.ports ?? []), pick([...ourPorts])]);
  await Promise.all(
    [...chosen].map(async (port) => {
      const isOurs = port !== undefined && ourPorts.has(port);
      const drained = port === undefined ? undefined : await server.drain(port);
      if (drained === undefined) return;
      tally.drains += 1;
      tally.closedMs.push(drained.closedMs);
      if (drained.report !== undefined) (isOurs ? tally : theirs).reports.push(drained.report);
    }),
  );
}

const clients = Promise.all(Array.from({ length: args.clients }, () => client(random.fork())));
const pending = new Set<Promise<void>>();
const drainer = setInterval(() => {
  const drain = drainSome().finally(() => pending.delete(drain));
  pending.add(drain);
}, DRAIN_EVERY_MS);
const load = autocannon({ url: `${origin}/small/0/0`, connections: args.connections, duration: seconds });
// The server's counters are read before autocannon cuts its own connections off.
const before = new Promise<ServerStatus | undefined>((resolve) => {
  setTimeout(
    () => {
      clearInterval(drainer);
      void Promise.all(pending).then(() => server.status().then(resolve));
    },
    seconds * 1000 - 400,
  );
});
const status = await before;
const loaded = await load;
stop.abort();
await clients;

const h2Requests = args.short ? 2_000 : 50_000;
const h2 = await h2load(`${origin}/small/0/0`, { requests: h2Requests, connections: 10, streams: 10 });
await server.stop();

const inReports = sum(tally.reports.map((each) => each.aborted + each.unserved));
const bars: Bar[] = [
  bar(
    'lost, as our own clients counted (at most 0)',
    `${tally.lost} of ${tally.sent.toLocaleString('en')}`,
    tally.lost === 0 && tally.sent > 0,
  ),
  bar(
    'answers cut off, as the server counted under load (at most 0)',
    status?.broken ?? 'no answer',
    status?.broken === 0,
  ),
  bar("aborted and unserved in the reports on our clients' connections (at most 0)", inReports, inReports === 0),
  bar('resets seen by our clients (at most 0)', tally.resets, tally.resets === 0),
  bar(`drains (at least ${Math.floor(seconds / 2)})`, tally.drains, tally.drains >= Math.floor(seconds / 2)),
];
if (h2 !== undefined)
  bars.push(bar('h2load: failed requests (at most 0)', h2.total - h2.succeeded, h2.succeeded === h2.total));
else if (process.env.CI) bars.push(bar('h2load is installed', 'no', false));

reportAndExit({
  name: `load${args.control ? '-control' : ''}${args.short ? '-short' : ''}`,
  title: `Load on one port for ${seconds} s, connections drained meanwhile`,
  arguments: args,
  totals: { sent: tally.sent, answered: tally.answered, refused: 0, lost: tally.lost, resets: tally.resets },
  rows: [
    {
      client: 'our own, HTTP/1.1, never retrying',
      connections: args.clients,
      requests: tally.sent,
      answered: tally.answered,
      lost: tally.lost,
      drains: tally.drains,
    },
    {
      client: 'autocannon, HTTP/1.1 (load only)',
      connections: args.connections,
      requests: loaded.requests.sent,
      answered: loaded['2xx'],
      'per second': loaded.requests.average,
    },
    ...(h2 === undefined
      ? []
      : [
          {
            client: 'h2load, HTTP/2, no drains',
            connections: 10,
            requests: h2.total,
            answered: h2.succeeded,
            lost: h2.failed,
            'per second': h2.requestsPerSecond,
          },
        ]),
  ],
  bars,
  details: {
    outcomes: outcomesOf(tally.reports),
    autocannonOutcomes: outcomesOf(theirs.reports),
    faults: tally.faults,
    server: { ...status, trace: undefined, ports: undefined },
    died: server.death,
  },
  notes: [
    ...tally.faults,
    'autocannon reconnects silently, does not count an answer that comes with `close`, and sends another request after it:',
    `  its ${theirs.reports.length} drained connections brought ${sum(theirs.reports.map((each) => each.unserved))} requests after their \`close\` (unserved in the reports)`,
    ...(h2 === undefined ? ['h2load is not installed: HTTP/2 was not loaded'] : []),
  ],
});
