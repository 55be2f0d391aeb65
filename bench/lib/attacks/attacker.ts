/**
 * The attacker's process, and its side of the parent's: one attack by as many connections as it wants, each followed by
 * the next, at a bounded rate and only when the machine has nothing else to do, because it shares that with whom it
 * attacks.
 */
import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { constants, setPriority } from 'node:os';
import { fileURLToPath } from 'node:url';
import { type Attack, delay, Rate } from '../../../test/attacks/attack.js';
import { attackOf } from '../../../test/attacks/catalogue.js';

const DEFAULT_CONNECTIONS = 4;
const DEFAULT_PER_SECOND = 20;

/** What the attacker is to do. */
interface Order {
  readonly name: string;
  readonly port: number;
  /** ms */
  readonly duration: number;
  /** octets a second, all connections together */
  readonly rate: number;
  /** one connection, as fast as it goes, instead of one after the other */
  readonly once: boolean;
}

/** What came of it. */
export interface Report {
  readonly sent: number;
  readonly connections: number;
  /** endings by how often they came */
  readonly endings: Readonly<Record<string, number>>;
}

export class Attacker {
  #process: ChildProcess | undefined;
  /** How often its own process has crashed: Node's TLS client is not made for this. */
  crashes = 0;

  /** When the attacker crashes, another takes its place once. */
  async attack(order: Order): Promise<Report> {
    try {
      return await this.#order(order);
    } catch {
      this.crashes++;
      this.#process = undefined;
      return this.#order(order);
    }
  }

  stop(): void {
    this.#process?.kill('SIGKILL');
  }

  #order(order: Order): Promise<Report> {
    this.#process ??= fork(fileURLToPath(import.meta.url), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const attacker = this.#process;
    return new Promise((resolve, reject) => {
      const ended = (code: number | null, signal: string | null): void =>
        reject(new Error(`the attacker ended: ${signal ?? code}`));
      attacker.once('exit', ended);
      attacker.once('message', (report: Report) => {
        attacker.off('exit', ended);
        resolve(report);
      });
      attacker.send(order);
    });
  }
}

async function carryOut(attack: Attack, order: Order): Promise<Report> {
  const until = performance.now() + order.duration;
  const endings: Record<string, number> = {};
  let sent = 0;
  let connections = 0;
  const pace = new Rate(order.once ? 1e9 : order.rate);
  const opening = new Rate(attack.perSecond ?? DEFAULT_PER_SECOND);
  const one = async (): Promise<void> => {
    connections++;
    const began = performance.now();
    let ending: string;
    try {
      const outcome = await attack.run({ port: order.port, pace, until });
      sent += outcome.sent;
      ({ ending } = outcome);
    } catch (error) {
      ending = `could not connect: ${error instanceof Error ? error.message : String(error)}`;
    }
    // One that began just before the end says nothing.
    if (ending === 'open' && performance.now() - began < order.duration / 2) return;
    endings[ending] = (endings[ending] ?? 0) + 1;
  };
  if (order.once) await one();
  else {
    const again = async (): Promise<void> => {
      for (;;) {
        await opening.bytes(1);
        if (performance.now() >= until - 50) return;
        await one();
      }
    };
    const loops = Array.from({ length: attack.connections ?? DEFAULT_CONNECTIONS }, again);
    await Promise.race([Promise.all(loops), delay(order.duration + 1_500)]);
  }
  return { sent, connections, endings };
}

/** Linux lets a process of the lowest priority finish its slice before those that wake up; an idle one never. */
function yieldToAll(): void {
  setPriority(constants.priority.PRIORITY_LOW);
  try {
    execFileSync('chrt', ['--all-tasks', '--idle', '--pid', '0', `${process.pid}`], { stdio: 'ignore' });
  } catch {
    // Not Linux, then.
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.send !== undefined) {
  // Connections that the server has cut fail in many ways, at times when nobody waits for them.
  process.on('uncaughtException', () => {});
  process.on('disconnect', () => process.exit(0));
  process.on('message', (order: Order) => {
    // Where latency is measured, only what the attacker sends may cost the others time.
    if (!order.once) yieldToAll();
    void carryOut(attackOf(order.name), order).then((report) => process.send?.(report));
  });
}
