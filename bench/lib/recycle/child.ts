/**
 * The process of that server, as the bench sees it: one question at a time.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { Certificate } from '../../../test/wire/certificate.js';
import { compiledServer } from '../compile.js';
import type { FromRecycleServer, RecycleServerConfig, RecycleStatus, Rotated, ToRecycleServer } from './messages.js';

export class RecycleChild {
  readonly #process: ChildProcess;
  readonly port: number;

  private constructor(child: ChildProcess, port: number) {
    this.#process = child;
    this.port = port;
  }

  static async start(config: RecycleServerConfig): Promise<RecycleChild> {
    const child = fork(compiledServer('bench/lib/recycle/server.ts'), {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const answer = await ask(child, { type: 'start', config });
    if (answer.type !== 'listening') throw new Error('it does not listen');
    return new RecycleChild(child, answer.port);
  }

  async rotate(certificate: Certificate, spread: number, lookAfterMs: number): Promise<Rotated> {
    const answer = await ask(this.#process, { type: 'rotate', certificate, spread, lookAfterMs });
    if (answer.type !== 'rotated') throw new Error('it did not rotate');
    return answer.rotated;
  }

  async status(): Promise<RecycleStatus> {
    const answer = await ask(this.#process, { type: 'status' });
    if (answer.type !== 'status') throw new Error('it has no status');
    return answer.status;
  }

  async stop(): Promise<void> {
    const gone = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await gone;
  }
}

/** Rejects when the server has failed or its process ends before it answers. */
function ask(child: ChildProcess, message: ToRecycleServer): Promise<FromRecycleServer> {
  return new Promise((resolve, reject) => {
    const onExit = (): void => reject(new Error('the server has ended'));
    child.once('exit', onExit);
    child.once('message', (answer: FromRecycleServer) => {
      child.off('exit', onExit);
      if (answer.type === 'failed') reject(new Error(answer.message));
      else resolve(answer);
    });
    child.send(message);
  });
}
