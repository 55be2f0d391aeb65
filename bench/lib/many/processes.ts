/**
 * The bench of many connections as its parent sees it: one server process, the processes of its clients, and how many
 * descriptors each may have.
 */
import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { certificate } from '../../../test/wire/certificate.js';
import { compiledServer } from '../compile.js';
import type {
  Breakage,
  ClientCounts,
  DrainResult,
  FromClients,
  FromManyServer,
  SelectResult,
  ToClients,
  ToManyServer,
} from './messages.js';

/** Connections of one client process. */
const PER_PROCESS = 5_000;

/** Descriptors that a process needs besides its connections. */
const OTHER_DESCRIPTORS = 100;

/** Each client process has an address of its own, so that ports don't run out and there are ranges to select by. */
export const FIRST_ADDRESS = 2;

/** Raises the limit of this process, which its children inherit, as far as it may; returns how many connections fit. */
export function connectionsThatFit(wanted: number): number {
  const needed = wanted + OTHER_DESCRIPTORS;
  if (descriptors() < needed) spawnSync('prlimit', ['--pid', String(process.pid), `--nofile=${needed}:${needed}`]);
  return Math.min(wanted, descriptors() - OTHER_DESCRIPTORS);
}

function descriptors(): number {
  // Node raises the soft limit to the hard one when it starts.
  const line = /^Max open files +\S+ +(\S+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1];
  return line === undefined || line === 'unlimited' ? Infinity : Number(line);
}

/** A child whose answers come in the order of what it was asked. */
class Child<To extends object, From extends { readonly type: string }> {
  readonly #process: ChildProcess;
  readonly #name: string;

  constructor(module: string, execArgv: readonly string[] = []) {
    this.#name = module;
    const stdio = ['ignore', 'inherit', 'inherit', 'ipc'] as const;
    this.#process = fork(compiledServer(module), { execArgv: [...execArgv], stdio: [...stdio] });
  }

  ask<Type extends From['type']>(message: To, answer: Type): Promise<Extract<From, { type: Type }>> {
    return new Promise((resolve, reject) => {
      const onExit = (code: number | null, signal: string | null): void =>
        reject(new Error(`${this.#name} is gone: ${signal ?? `exit code ${code}`}`));
      this.#process.once('exit', onExit);
      this.#process.once('message', (said: From) => {
        this.#process.off('exit', onExit);
        if (said.type === answer) resolve(said as Extract<From, { type: Type }>);
        else reject(new Error(`${this.#name} said ${said.type}, not ${answer}`));
      });
      this.#process.send(message);
    });
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#process.once('exit', resolve));
    // It ends with its channel.
    this.#process.disconnect();
    await gone;
  }
}

export interface Population {
  readonly h1: number;
  readonly h2: number;
  readonly cleartext: boolean;
}

/** A server with as many idle connections as asked for. */
export class Crowd {
  readonly #server: Child<ToManyServer, FromManyServer>;
  readonly #clients: readonly Child<ToClients, FromClients>[];

  private constructor(server: Child<ToManyServer, FromManyServer>, clients: readonly Child<ToClients, FromClients>[]) {
    this.#server = server;
    this.#clients = clients;
  }

  /**
   * Starts the processes and opens the connections; all have had a request answered.
   *
   * @throws {Error} when some of them couldn't be opened
   */
  static async open(
    { h1, h2, cleartext }: Population,
    breakage: Breakage | undefined,
    execArgv: readonly string[],
  ): Promise<Crowd> {
    const server = new Child<ToManyServer, FromManyServer>('bench/lib/many/server.ts', execArgv);
    const { key, cert } = await certificate();
    const { port } = await server.ask({ type: 'start', key, cert, cleartext, breakage }, 'listening');
    const count = Math.ceil((h1 + h2) / PER_PROCESS);
    const clients = Array.from(
      { length: count },
      () => new Child<ToClients, FromClients>('bench/lib/many/clients.ts', ['--max-semi-space-size=64']),
    );
    const crowd = new Crowd(server, clients);
    await Promise.all(
      clients.map((child, i) => {
        const share = (of: number): number => Math.floor((of * (i + 1)) / count) - Math.floor((of * i) / count);
        const localAddress = process.platform === 'linux' ? `127.0.0.${FIRST_ADDRESS + i}` : undefined;
        return child.ask({ type: 'open', port, cleartext, h1: share(h1), h2: share(h2), localAddress }, 'opened');
      }),
    );
    const { open, failed, firstFailure } = await crowd.clientCounts();
    if (failed > 0 || open !== h1 + h2) {
      await crowd.close();
      throw new Error(`${open} of ${h1 + h2} connections were opened, ${failed} failed: ${firstFailure}`);
    }
    return crowd;
  }

  /** Connections of the server and its resident memory in bytes. */
  async serverCounts(): Promise<{ readonly connections: number; readonly rss: number }> {
    return this.#server.ask({ type: 'count' }, 'counted');
  }

  async select(filter: object): Promise<SelectResult> {
    return (await this.#server.ask({ type: 'select', filter }, 'selected')).result;
  }

  async drain(how: 'drain' | 'shutdown', options: object): Promise<DrainResult> {
    return (await this.#server.ask({ type: 'drain', how, options }, 'drained')).result;
  }

  /** Of all clients together. */
  async clientCounts(): Promise<ClientCounts> {
    const each = await Promise.all(this.#clients.map((child) => child.ask({ type: 'count' }, 'counted')));
    const total = { open: 0, ended: 0, unannounced: 0, failed: 0, cpuMs: 0 };
    for (const { counts } of each)
      for (const key of Object.keys(total) as (keyof typeof total)[]) total[key] += counts[key];
    return {
      ...total,
      firstFailure: each.find(({ counts }) => counts.firstFailure !== undefined)?.counts.firstFailure,
    };
  }

  async close(): Promise<void> {
    // The server first: its clients' sockets would be reset by their processes' end.
    await this.#server.stop();
    await Promise.all(this.#clients.map((child) => child.stop()));
  }
}
