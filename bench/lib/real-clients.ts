/**
 * Real HTTP/2 clients, each in a loop while its connection is drained over and over: against lastcall and, at the same
 * time, against the smallest server that drains as RFC 9113 §6.8 says. What happened is read from the frames at the
 * server's side of the wire; what the client's user saw comes from the client program (bench/clients/).
 *
 * A client program is called with `<origin> <seconds> <requests at a time> <longest service time, ms>`, asks for
 * `/small/<n>/<ms>` and every fourth time for `/upload/<n>/<ms>`, and prints `{ sent, answered, errors }` as JSON.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Connection, createServer, gracefulShutdown } from '../../src/index.js';
import { FrameLog, type Judgement } from '../../test/interop/frame-log.js';
import { goBuild, output } from '../../test/interop/programs.js';
import { ReferenceServer } from '../../test/interop/reference-server.js';
import { certificate } from '../../test/wire/certificate.js';
import { Relay } from '../../test/wire/relay.js';
import { App, bodyOf, taskOf } from './servers/app.js';

const CLIENTS = fileURLToPath(new URL('../clients/', import.meta.url));

/** How long connections that are left when the client is done may take to be drained. */
const LEFTOVER_MS = 5_000;

/** So many connections of which something is to be told are told in full. */
const TOLD_IN_FULL = 3;

export interface RealClient {
  readonly name: string;
  /** The program that is called, and its arguments before those of the loop; compiles first if need be. */
  prepare(folder: string): Promise<readonly [program: string, ...args: string[]]>;
}

const node = (name: string, file: string): RealClient => ({
  name,
  prepare: () => Promise.resolve([process.execPath, '--import', 'tsx', join(CLIENTS, file)]),
});

export const REAL_CLIENTS: readonly RealClient[] = [
  node('node:http2', 'node-http2.ts'),
  node('undici', 'undici.ts'),
  {
    name: 'go',
    prepare: async (folder) => {
      const program = join(folder, 'loop');
      await goBuild(join(CLIENTS, 'loop.go'), program);
      return [program];
    },
  },
  {
    name: 'java',
    prepare: async (folder) => {
      await output('javac', ['-d', folder, join(CLIENTS, 'Loop.java')], { timeoutMs: 120_000 });
      return ['java', '-cp', folder, 'Loop'];
    },
  },
  node('nghttp', 'nghttp.ts'),
];

export interface ClientsPlan {
  readonly seconds: number;
  readonly atATime: number;
  readonly drainEveryMs: number;
  readonly serviceMs: number;
  readonly rttMs: number;
}

/** What one client and one server did. */
export interface ClientRun {
  readonly client: string;
  readonly server: 'lastcall' | 'reference';
  /** By the client. */
  readonly sent: number;
  readonly answered: number;
  readonly errors: Readonly<Record<string, number>>;
  /** By the server's side. */
  readonly drains: number;
  readonly connections: number;
  readonly judgement: Judgement;
  /** lastcall: how its drains ended, by their reports. */
  readonly outcomes: Readonly<Record<string, number>>;
  /** The frames of connections on which the server was in the wrong. */
  readonly evidence: readonly (readonly string[])[];
}

/** A server whose connections are drained all the time. */
interface Target {
  readonly port: number;
  readonly logs: FrameLog[];
  drains: number;
  readonly outcomes: Record<string, number>;
  /** Begins to drain every connection that is in use: has brought a request, and isn't drained yet. */
  drainAll(): void;
  /** Resolves when no connection is left, or the time is over. */
  stop(): Promise<void>;
}

/** Runs one client against both servers at the same time. */
export async function runRealClient(client: RealClient, plan: ClientsPlan): Promise<ClientRun[]> {
  const folder = mkdtempSync(join(tmpdir(), 'lastcall-clients-'));
  try {
    const command = await client.prepare(folder);
    return await Promise.all([
      runAgainst(client.name, command, 'lastcall', await lastcallTarget(), plan),
      runAgainst(client.name, command, 'reference', await referenceTarget(), plan),
    ]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function runAgainst(
  client: string,
  [program, ...args]: readonly [string, ...string[]],
  server: 'lastcall' | 'reference',
  target: Target,
  plan: ClientsPlan,
): Promise<ClientRun> {
  const relay = plan.rttMs > 0 ? await Relay.open({ port: target.port, delayMs: plan.rttMs / 2 }) : undefined;
  const origin = `https://localhost:${relay?.port ?? target.port}`;
  const timer = setInterval(() => target.drainAll(), plan.drainEveryMs);
  const loop = [origin, `${plan.seconds}`, `${plan.atATime}`, `${plan.serviceMs}`];
  const timeoutMs = (plan.seconds + 60) * 1_000;
  const said = await output(program, [...args, ...loop], { timeoutMs }).finally(() => clearInterval(timer));
  await target.stop();
  await relay?.close();
  const judgements = target.logs.map((log) => log.judge());
  return {
    client,
    server,
    ...(JSON.parse(said) as { sent: number; answered: number; errors: Record<string, number> }),
    drains: target.drains,
    connections: target.logs.length,
    judgement: total(judgements),
    outcomes: target.outcomes,
    evidence: target.logs
      .filter((_, n) => (judgements[n]?.unanswered ?? 0) > 0 || (judgements[n]?.breaches.length ?? 0) > 0)
      .slice(0, TOLD_IN_FULL)
      .map(({ lines }) => lines),
  };
}

async function lastcallTarget(): Promise<Target> {
  const { key, cert } = await certificate();
  const app = new App({ kind: 'lastcall', key, cert });
  const server = createServer({ key, cert }, app.listener);
  const logs: FrameLog[] = [];
  const outcomes: Record<string, number> = {};
  server.prependListener('secureConnection', (socket: Socket) => logs.push(new FrameLog(socket)));
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const drain = async (connection: Connection): Promise<void> => {
    const { outcome } = await gracefulShutdown(connection);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  };
  const target: Target = {
    port: (server.address() as AddressInfo).port,
    logs,
    drains: 0,
    outcomes,
    drainAll: () => {
      for (const connection of server.connections) {
        if (connection.state !== 'open' || connection.served + connection.active === 0) continue;
        target.drains += 1;
        void drain(connection);
      }
    },
    stop: async () => {
      await server.shutdown({ timeout: LEFTOVER_MS });
    },
  };
  return target;
}

async function referenceTarget(): Promise<Target> {
  const logs: FrameLog[] = [];
  const server = await ReferenceServer.listen(
    await certificate(),
    async ({ path, body }) => {
      const task = taskOf(path);
      await new Promise((resolve) => setTimeout(resolve, task.amount));
      return { body: bodyOf(task, body.length) };
    },
    (socket) => logs.push(new FrameLog(socket)),
  );
  const target: Target = {
    port: server.port,
    logs,
    drains: 0,
    outcomes: {},
    drainAll: () => {
      for (const connection of server.connections) {
        if (connection.draining || !connection.used) continue;
        target.drains += 1;
        connection.drain();
      }
    },
    stop: async () => {
      for (const connection of server.connections) connection.drain();
      await server.close(LEFTOVER_MS);
    },
  };
  return target;
}

function total(judgements: readonly Judgement[]): Judgement {
  const sum = { streams: 0, answered: 0, cancelled: 0, left: 0, unanswered: 0, above: 0 };
  for (const judgement of judgements) {
    for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += judgement[key];
  }
  return { ...sum, breaches: judgements.flatMap(({ breaches }) => breaches) };
}
