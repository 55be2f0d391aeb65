/**
 * The server process of the bench of many connections: lastcall with an application that answers at once, drained on
 * command while its event loop is watched. Ends with its parent.
 */
import type { AddressInfo } from 'node:net';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { connectionOf, createServer, type Server } from '../../../src/index.js';
import { cpuBetween, ownCpuTime } from '../cpu.js';
import type { DrainResult, FromManyServer, SelectResult, ToManyServer } from './messages.js';

/** Values of the `tenant` tag: a filter by one of them selects that part of the connections. */
const TENANTS = 20;

const SELECTS = 10;

/** The broken servers are broken for one connection in so many. */
const BROKEN_EVERY = 100;
const STALL_MS = 200;

const INTERVAL_MS = 5;

let server: Server | undefined;

process.on('message', (message: ToManyServer) => {
  void handle(message);
});
process.on('disconnect', () => process.exit(0));

async function handle(message: ToManyServer): Promise<void> {
  if (message.type === 'start') {
    const made = start(message);
    server = made;
    made.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
      send({ type: 'listening', port: (made.address() as AddressInfo).port });
    });
    return;
  }
  if (server === undefined) return;
  switch (message.type) {
    case 'count':
      send({ type: 'counted', connections: server.connections.size, rss: process.memoryUsage.rss() });
      return;
    case 'select':
      send({ type: 'selected', result: select(server, message.filter) });
      return;
    case 'drain':
      send({ type: 'drained', result: await watched(server, message) });
      return;
  }
}

function start({ key, cert, cleartext, breakage }: ToManyServer & { type: 'start' }): Server {
  const made = createServer(cleartext ? { cleartext: true } : { key, cert }, (req, res) => {
    const id = connectionOf(req)?.id ?? 0;
    // Its clients have the head, which is all they wait for.
    if (breakage === 'never-finishes' && id % BROKEN_EVERY === 0) res.flushHeaders();
    else res.end('ok');
  });
  made.connections.on('open', (connection) => {
    connection.tags.set('tenant', `t${connection.id % TENANTS}`);
    if (breakage === 'stalls' && connection.id % BROKEN_EVERY === 0) stallWhenDrained(connection.drainSignal);
  });
  return made;
}

function stallWhenDrained(signal: AbortSignal): void {
  signal.addEventListener('abort', () => {
    const until = performance.now() + STALL_MS;
    while (performance.now() < until);
  });
}

function select(of: Server, filter: object): SelectResult {
  const times: number[] = [];
  let selected = 0;
  for (let i = 0; i < SELECTS; i += 1) {
    const from = performance.now();
    selected = of.connections.select(filter).length;
    times.push(performance.now() - from);
  }
  return { selected, first: times[0] ?? 0, slowest: Math.max(...times) };
}

/** Drains all, and tells how long the event loop was away at most meanwhile. */
async function watched(of: Server, { how, options }: ToManyServer & { type: 'drain' }): Promise<DrainResult> {
  const histogram = monitorEventLoopDelay({ resolution: 1 });
  let gap = 0;
  let last = performance.now();
  const interval = setInterval(() => {
    const at = performance.now();
    gap = Math.max(gap, at - last);
    last = at;
  }, INTERVAL_MS);
  histogram.enable();
  // The histogram counts from its first tick on.
  await new Promise((resolve) => setTimeout(resolve, 4 * INTERVAL_MS));
  const before = ownCpuTime();
  const summary = await (how === 'drain' ? of.drain('all', options) : of.shutdown(options));
  const cpuMs = cpuBetween(before, ownCpuTime()) / 1_000;
  // One more tick, for what the very last turn took.
  await new Promise((resolve) => setTimeout(resolve, 4 * INTERVAL_MS));
  histogram.disable();
  clearInterval(interval);
  const { connections, outcomes, duration, durations } = summary;
  const loopDelay = histogram.max / 1e6;
  return {
    connections,
    outcomes,
    duration,
    p50: durations.p50,
    p99: durations.p99,
    loopDelay,
    intervalGap: gap,
    cpuMs,
  };
}

function send(message: FromManyServer): void {
  process.send?.(message);
}
