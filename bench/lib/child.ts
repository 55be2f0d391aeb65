/**
 * A measured server as its parent sees it: a child process that takes commands over IPC.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { certificate } from '../../test/wire/certificate.js';
import { compiledServer } from './compile.js';
import type { Drained, FromServer, ServerConfig, ServerStatus, ToServer } from './servers/messages.js';

const START_TIMEOUT_MS = 20_000;

export class ServerChild {
  readonly #process: ChildProcess;
  readonly #calls = new Map<number, (message: FromServer | undefined) => void>();
  #lastCall = 0;
  #death: string | undefined;
  /** where it listens */
  readonly port: number;

  private constructor(child: ChildProcess, port: number) {
    this.#process = child;
    this.port = port;
    child.on('message', (message: FromServer) => {
      if (message.type === 'failed') console.error(`server: ${message.message}`);
      if (!('call' in message)) return;
      this.#calls.get(message.call)?.(message);
      this.#calls.delete(message.call);
    });
    child.once('exit', (code, signal) => {
      this.#death = signal ?? `exit code ${code}`;
      for (const resolve of this.#calls.values()) resolve(undefined);
      this.#calls.clear();
    });
  }

  /** Starts a server in a process of its own; rejects when it doesn't listen in time. */
  static async start(
    config: Omit<ServerConfig, 'key' | 'cert'>,
    execArgv: readonly string[] = [],
  ): Promise<ServerChild> {
    const { key, cert } = await certificate();
    const child = fork(compiledServer(), { execArgv: [...execArgv], stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const port = await new Promise<number>((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        child.off('exit', onExit);
        child.off('message', onMessage);
      };
      const fail = (why: string): void => {
        settle();
        child.kill('SIGKILL');
        reject(new Error(`the ${config.kind} server did not start: ${why}`));
      };
      const onExit = (code: number | null, signal: string | null): void => fail(signal ?? `exit code ${code}`);
      const onMessage = (message: FromServer): void => {
        if (message.type !== 'listening') {
          fail(message.type === 'failed' ? message.message : `said ${message.type}`);
          return;
        }
        settle();
        resolve(message.port);
      };
      const timer = setTimeout(() => fail(`not listening after ${START_TIMEOUT_MS} ms`), START_TIMEOUT_MS);
      child.on('exit', onExit);
      child.on('message', onMessage);
      const start: ToServer = { type: 'start', config: { ...config, key, cert } };
      child.send(start);
    });
    return new ServerChild(child, port);
  }

  /** Why the process is gone (a signal or an exit code), or undefined while it runs. */
  get death(): string | undefined {
    return this.#death;
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** Drains the connection that comes from this port, as the server sees it; undefined if there was none. */
  async drain(remotePort: number, options: object = {}): Promise<Drained | undefined> {
    const message = await this.#call((call) => ({ type: 'drain', call, remotePort, options }));
    return message?.type === 'drained' ? message.drained : undefined;
  }

  /** Counters and CPU time so far; undefined once the process is gone. */
  async status(): Promise<ServerStatus | undefined> {
    const message = await this.#call((call) => ({ type: 'status', call }));
    return message?.type === 'status' ? message.status : undefined;
  }

  /** Ends the process; resolves when it is gone. */
  async stop(): Promise<void> {
    if (this.#death !== undefined) return;
    const gone = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.send({ type: 'stop' } satisfies ToServer, () => {});
    await gone;
  }

  #call(make: (call: number) => ToServer): Promise<FromServer | undefined> {
    if (this.#death !== undefined) return Promise.resolve(undefined);
    this.#lastCall += 1;
    const call = this.#lastCall;
    return new Promise((resolve) => {
      this.#calls.set(call, resolve);
      // A server that has crashed, as node:http2's does at some rate, may not be known to be gone yet.
      this.#process.send(make(call), (error) => {
        if (error !== null && this.#calls.delete(call)) resolve(undefined);
      });
    });
  }
}
