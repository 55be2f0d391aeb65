/**
 * `npm run bench:clients`: real HTTP/2 clients while their connections are drained every 200 ms, by lastcall and by a
 * minimal reference server side by side. Fails when the frames show lastcall in the wrong, or when a client reports
 * errors with lastcall that it doesn't report with the reference.
 */
import { argumentsOrExit } from './lib/arguments.js';
import { type ClientRun, REAL_CLIENTS, runRealClient } from './lib/real-clients.js';
import { type Bar, bar, type Cell, report } from './lib/results.js';
import { poissonInterval, sum } from './lib/stats.js';

const NAMES = REAL_CLIENTS.map(({ name }) => name);

/** How much more often than with the reference a client may fail and still be said to fail at a similar rate. */
const SIMILAR = 1.5;

const args = argumentsOrExit({
  command: 'npm run bench:clients --',
  summary: 'Runs real HTTP/2 clients in a loop while their connections are drained again and again.',
  options: {
    seconds: { kind: 'number', fallback: 60, min: 1, max: 3_600, help: 'per client' },
    short: { kind: 'flag', help: '5 seconds per client: a check of correctness for CI' },
    client: { kind: 'choices', choices: NAMES, fallback: NAMES, help: 'which' },
    'at-a-time': { kind: 'number', fallback: 8, min: 1, max: 100, help: 'requests in flight' },
    every: { kind: 'number', fallback: 200, min: 20, max: 10_000, help: 'ms from drain to drain' },
    rtt: { kind: 'number', fallback: 0, min: 0, max: 1_000, help: 'round trip, ms' },
  },
});

const plan = {
  seconds: args.short ? 5 : args.seconds,
  atATime: args['at-a-time'],
  drainEveryMs: args.every,
  serviceMs: 20,
  rttMs: args.rtt,
};

const runs: ClientRun[] = [];
for (const client of REAL_CLIENTS.filter(({ name }) => args.client.includes(name))) {
  runs.push(...(await runRealClient(client, plan)));
  console.log(`${client.name}: done`);
}

const lastcall = runs.filter(({ server }) => server === 'lastcall');
report({
  name: `clients${args.short ? '-short' : ''}`,
  title: `HTTP/2 clients, ${plan.atATime} requests at a time, drained every ${plan.drainEveryMs} ms`,
  arguments: args,
  totals: {
    sent: sum(lastcall.map(({ sent }) => sent)),
    answered: sum(lastcall.map(({ answered }) => answered)),
    refused: sum(lastcall.map(({ judgement }) => judgement.above)),
    lost: sum(lastcall.map(({ judgement }) => judgement.unanswered)),
    resets: 0,
  },
  rows: runs.map(rowOf),
  bars: runs.flatMap(barsOf),
  details: runs,
  notes: runs.flatMap(({ client, server, errors }) =>
    Object.entries(errors).map(([text, count]) => `${client}, ${server}: ${count} × ${text}`),
  ),
});

function errorsOf({ errors }: ClientRun): number {
  return sum(Object.values(errors));
}

function rowOf(run: ClientRun): Record<string, Cell> {
  const { streams, unanswered, above, cancelled, left } = run.judgement;
  return {
    client: run.client,
    server: run.server,
    drains: run.drains,
    requests: run.sent,
    answered: run.answered,
    errors: errorsOf(run),
    'errors/1,000 drains': (errorsOf(run) / Math.max(1, run.drains)) * 1_000,
    streams,
    unanswered,
    'above last id': above,
    'reset by client': cancelled,
    'left by client': left,
  };
}

function barsOf(run: ClientRun): Bar[] {
  const { client, server, judgement, drains } = run;
  const { unanswered, breaches } = judgement;
  const wrong = unanswered + breaches.length;
  const bars = [
    bar(
      `${client}, ${server}: streams unanswered at or below the final last-stream-id, and breaches (at most 0)`,
      breaches.length === 0 ? unanswered : `${unanswered}; ${breaches.slice(0, 3).join('; ')}`,
      wrong === 0 && drains > 0,
    ),
  ];
  if (server === 'lastcall') bars.push(errorsBar(run, wrong === 0));
  return bars;
}

/**
 * The client's errors are its own only if it fails at a similar rate with the reference, and the server was right. Both
 * runs last as long and begin drains at the same pace, so their totals compare; drains are a bad measure, since some
 * clients open many connections and use few.
 */
function errorsBar(run: ClientRun, serverWasRight: boolean): Bar {
  const { client } = run;
  const errors = errorsOf(run);
  const reference = runs.find((other) => other.client === client && other.server === 'reference');
  const expected = reference === undefined ? 0 : errorsOf(reference);
  // One drain can fail all open requests at once: the 99.9 % interval is of groups of them.
  const most =
    expected === 0 ? 0 : Math.max(SIMILAR * expected, plan.atATime * poissonInterval(expected / plan.atATime).high);
  return bar(
    `${client}: errors that reach the caller (0; or about as many as with the reference, ${expected}: at most ${Math.round(most)})`,
    errors,
    errors === 0 || (serverWasRight && errors <= most),
  );
}
