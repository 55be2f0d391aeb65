/**
 * The process of a server that is shut down, as its parent sees it.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { certificate } from '../../../test/wire/certificate.js';
import { compiledServer } from '../compile.js';
import type { FromShutdownServer, ShutdownConfig } from './messages.js';

const START_TIMEOUT_MS = 20_000;

/** How a process ended. */
export interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
  /** ms from SIGTERM */
  readonly afterMs: number;
}

export class ShutdownChild {
  readonly #process: ChildProcess;
  readonly port: number;
  readonly exited: Promise<Exit>;
  #terminatedAt = performance.now();

  private constructor(child: ChildProcess, port: number) {
    this.#process = child;
    this.port = port;
    this.exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve({ code, signal, afterMs: performance.now() - this.#terminatedAt }));
    });
  }

  /** Rejects when the server doesn't listen in time. */
  static async start(config: Omit<ShutdownConfig, 'key' | 'cert'>): Promise<ShutdownChild> {
    const { key, cert } = await certificate();
    const child = fork(compiledServer('bench/lib/shutdown/server.ts'), {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const port = await new Promise<number>((resolve, reject) => {
      const fail = (why: string): void => {
        clearTimeout(timer);
        child.kill('SIGKILL');
        reject(new Error(`the server ${config.kind} did not start: ${why}`));
      };
      const timer = setTimeout(() => fail(`not listening after ${START_TIMEOUT_MS} ms`), START_TIMEOUT_MS);
      child.once('exit', (code, signal) => fail(signal ?? `exit code ${code}`));
      child.once('message', (message: FromShutdownServer) => {
        clearTimeout(timer);
        child.removeAllListeners('exit');
        if (message.type === 'failed') fail(message.message);
        else resolve(message.port);
      });
      child.send({ ...config, key, cert } satisfies ShutdownConfig);
    });
    return new ShutdownChild(child, port);
  }

  terminate(): void {
    this.#terminatedAt = performance.now();
    this.#process.kill('SIGTERM');
  }

  kill(): void {
    this.#process.kill('SIGKILL');
  }
}
