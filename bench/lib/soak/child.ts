/**
 * The soaked process as the soak sees it: started, asked, stalled and shut down over IPC.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { compiledServer } from '../compile.js';
import type { FromSoak, SoakConfig, SoakStatus, ToSoak } from './messages.js';

/** After its shutdown nothing may keep the process alive for longer, ms. */
const EXIT_MS = 5_000;

export class SoakChild {
  readonly #process: ChildProcess;
  readonly #calls = new Map<number, (status: SoakStatus | undefined) => void>();
  #lastCall = 0;
  /** a signal or an exit code; undefined while it runs */
  death: string | undefined;
  readonly tlsPort: number;
  readonly cleartextPort: number;

  private constructor(child: ChildProcess, tlsPort: number, cleartextPort: number) {
    this.#process = child;
    this.tlsPort = tlsPort;
    this.cleartextPort = cleartextPort;
    child.on('message', (message: FromSoak) => {
      if (message.type === 'failed') console.error(`server: ${message.message}`);
      if (message.type !== 'status') return;
      this.#calls.get(message.call)?.(message.status);
      this.#calls.delete(message.call);
    });
    child.once('exit', (code, signal) => {
      this.death = signal ?? `exit code ${code}`;
      for (const resolve of this.#calls.values()) resolve(undefined);
      this.#calls.clear();
    });
  }

  /** Rejects when the process ends before it listens. */
  static async start(config: SoakConfig): Promise<SoakChild> {
    const child = fork(compiledServer('bench/lib/soak/server.ts'), {
      execArgv: ['--expose-gc'],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const listening = new Promise<FromSoak>((resolve, reject) => {
      child.once('message', resolve);
      child.once('exit', (code, signal) => reject(new Error(`the server did not start: ${signal ?? code}`)));
    });
    child.send({ type: 'start', config } satisfies ToSoak);
    const message = await listening;
    if (message.type !== 'listening') throw new Error(`the server did not start: ${JSON.stringify(message)}`);
    return new SoakChild(child, message.tlsPort, message.cleartextPort);
  }

  /** undefined once the process is gone */
  status(census = false): Promise<SoakStatus | undefined> {
    if (this.death !== undefined) return Promise.resolve(undefined);
    this.#lastCall += 1;
    const call = this.#lastCall;
    return new Promise((resolve) => {
      this.#calls.set(call, resolve);
      this.#send({ type: 'status', call, census });
    });
  }

  stall(ms: number): void {
    this.#send({ type: 'stall', ms });
  }

  calm(): void {
    this.#send({ type: 'calm' });
  }

  /** Shuts the servers down; whether the process then ended by itself, in time. */
  async shutdown(): Promise<boolean> {
    if (this.death !== undefined) return false;
    const gone = new Promise((resolve) => this.#process.once('exit', resolve));
    const disconnected = new Promise((resolve) => this.#process.once('disconnect', resolve));
    this.#send({ type: 'shutdown' });
    await Promise.race([disconnected, gone, delay(30_000)]);
    const ended = await Promise.race([gone.then(() => true), delay(EXIT_MS).then(() => false)]);
    if (!ended) this.#process.kill('SIGKILL');
    return ended && this.death === 'exit code 0';
  }

  #send(message: ToSoak): void {
    if (this.death === undefined && this.#process.connected) this.#process.send(message, () => {});
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
