/**
 * The soaked process: a TLS and a cleartext server with recycling, whose connections it drains at random, and what can
 * be known of it afterwards. Started with IPC and --expose-gc; ends with its parent, or by itself after a shutdown.
 */
import type { AddressInfo } from 'node:net';
import { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import * as v8 from 'node:v8';
import { LiveConnection } from '../../../src/core/connection.js';
import {
  type Connection,
  createServer,
  type DrainOptions,
  type DrainReport,
  gracefulShutdown,
  type Server,
  type ServerOptions,
} from '../../../src/index.js';
import { Random } from '../../../test/wire/random.js';
import { ownCpuTime } from '../cpu.js';
import { SoakApp } from './app.js';
import type { FromSoak, Kind, SoakConfig, SoakStatus, ToSoak } from './messages.js';

/** Shorter than in production, so that each of them rings often. */
const LIMITS = {
  keepAlive: { advertise: 3_000, hold: 20_000 },
  recycle: { maxAge: 20_000, maxRequests: 500, maxIdle: 8_000, jitter: 0.3 },
  handshakeTimeout: 3_000,
  h1: { headersTimeout: 3_000, bodyTimeout: 5_000 },
  h2: { prefaceTimeout: 3_000, headersTimeout: 3_000, bodyTimeout: 5_000, sendTimeout: 5_000 },
} satisfies ServerOptions;

/** What loses nothing on a connection that is used at least every few seconds. */
const GENTLE: readonly DrainOptions[] = [
  {},
  {},
  { reason: 'rebalancing' },
  { timeout: 15_000 },
  { settle: 1_000 },
  { linger: 5_000 },
  { timeout: Number.POSITIVE_INFINITY },
];

/** What may cut, or lets go of a client that is stalled for a moment itself: for clients that don't count. */
const ROUGH: readonly DrainOptions[] = [
  ...GENTLE,
  { linger: 500 },
  { linger: 300, lingerMax: 1_000 },
  { timeout: 0 },
  { timeout: 30 },
  { timeout: 200, linger: 0 },
  { idleWait: 0 },
  { idleWait: 50 },
  { settle: 0 },
];

/** Every so many drains are a wave over all good clients. */
const WAVE_EVERY = 200;
const MAX_FAULTS = 20;

const Timeout = setTimeout(() => {}, 0).constructor as new () => object;

let calm = false;
let stalls = 0;
let opened = 0;
let lostInDrains = 0;
let app: SoakApp;
const servers: Server[] = [];
const faults: string[] = [];
const escaped: string[] = [];
const warnings: string[] = [];
const drains: Record<Kind, Record<string, number>> = { good: {}, foreign: {}, faulty: {}, undrained: {}, unknown: {} };

process.on('uncaughtException', (error) => escaped.push(error.stack ?? String(error)));
process.on('unhandledRejection', (error) => escaped.push(`rejection: ${String(error)}`));
process.on('warning', ({ name, message }) => {
  if (name !== 'ExperimentalWarning') warnings.push(`${name}: ${message}`);
});
process.on('disconnect', () => {
  if (!calm) process.exit(0);
});
process.on('message', (message: ToSoak) => {
  handle(message).catch((error: unknown) => send({ type: 'failed', message: String(error) }));
});

async function handle(message: ToSoak): Promise<void> {
  switch (message.type) {
    case 'start': {
      const [tlsPort, cleartextPort] = await start(message.config);
      send({ type: 'listening', tlsPort, cleartextPort });
      return;
    }
    case 'status':
      send({ type: 'status', call: message.call, status: status(message.census) });
      return;
    case 'stall': {
      stalls++;
      const until = performance.now() + message.ms;
      while (performance.now() < until);
      return;
    }
    case 'calm':
      calm = true;
      return;
    case 'shutdown':
      await Promise.all(servers.map((server) => server.shutdown()));
      process.disconnect();
  }
}

async function start(config: SoakConfig): Promise<[number, number]> {
  const { key, cert } = config;
  app = new SoakApp(config.broken === 'drops' ? 200 : Number.POSITIVE_INFINITY, fault);
  for (const options of [{ key, cert }, { cleartext: true }]) {
    const server = createServer({ ...options, ...LIMITS }, app.listener);
    server.on('upgrade', app.upgrade);
    // What a peer breaks is no fault of ours; without listeners it would be printed.
    server.on('handlerError', (error: unknown) => fault(`a handler failed: ${String(error)}`));
    server.connections.on('open', (connection) => {
      opened++;
      if (config.broken === 'leaks') process.on('SIGUSR2', () => void connection.tags);
      watch(connection);
    });
    servers.push(server);
  }
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve) => {
          server.listen({ port: 0, host: '127.0.0.1', backlog: 1_024 }, () =>
            resolve((server.address() as AddressInfo).port),
          );
        }),
    ),
  );
  drainAtRandom(config);
  return [ports[0] ?? 0, ports[1] ?? 0];
}

/** Counts the connection's drain, whoever begins it. */
function watch(connection: Connection): void {
  connection.drainSignal.addEventListener(
    'abort',
    () => {
      // It is aborted by the end of a connection, too.
      if (connection.state === 'closed') return;
      void gracefulShutdown(connection, { timeout: Number.POSITIVE_INFINITY }).then((report) =>
        count(connection, report),
      );
    },
    { once: true },
  );
}

function kindOf(connection: Connection): Kind {
  return (connection.tags.get('kind') as Kind | undefined) ?? 'unknown';
}

function count(connection: Connection, report: DrainReport): void {
  const kind = kindOf(connection);
  drains[kind][report.outcome] = (drains[kind][report.outcome] ?? 0) + 1;
  if (report.outcome === 'drained' || !(kind === 'good' || (kind === 'foreign' && report.outcome !== 'peer'))) return;
  lostInDrains += report.aborted + report.unserved;
  fault(`a drain of a ${kind} client's connection: ${JSON.stringify(report)}`);
}

function drainAtRandom({ seed, drainEveryMs }: SoakConfig): void {
  const random = new Random(seed);
  let begun = 0;
  const next = (): void => {
    if (calm) return;
    setTimeout(next, random.exponential(drainEveryMs));
    if (++begun % WAVE_EVERY === 0) {
      for (const server of servers) {
        void server.drain({ tags: { kind: 'good' } }, { spread: 2_000, concurrency: 4, reason: 'wave' });
      }
      return;
    }
    const live = servers.flatMap((server) => [...server.connections]);
    const connection = live[random.below(live.length)];
    if (connection === undefined || kindOf(connection) === 'undrained') return;
    const choice = kindOf(connection) === 'faulty' ? ROUGH : GENTLE;
    void gracefulShutdown(connection, choice[random.below(choice.length)]);
  };
  next();
}

function status(census: boolean): SoakStatus {
  globalThis.gc?.();
  const { heapUsed, rss, external } = process.memoryUsage();
  const resources: Record<string, number> = {};
  for (const name of process.getActiveResourcesInfo()) resources[name] = (resources[name] ?? 0) + 1;
  return {
    cpu: ownCpuTime(),
    heapUsed,
    rss,
    external,
    opened,
    connections: servers.reduce((sum, { connections }) => sum + connections.size, 0),
    requests: app.requests,
    drains,
    lostInDrains,
    faults,
    escaped,
    warnings,
    resources,
    objects: census ? liveObjects() : {},
    stalls,
  };
}

function liveObjects(): Record<string, number> {
  const { queryObjects } = v8 as typeof v8 & { queryObjects?: (type: object, options: object) => number };
  if (queryObjects === undefined) return {};
  const count = (type: object): number => queryObjects(type, { format: 'count' });
  return {
    connections: count(LiveConnection),
    'TLS sockets': count(TLSSocket),
    // Standard output, IPC, and TLS sockets are among them.
    sockets: count(Socket),
    timers: count(Timeout),
  };
}

function fault(what: string): void {
  if (faults.length < MAX_FAULTS) faults.push(what);
}

function send(message: FromSoak): void {
  process.send?.(message);
}
