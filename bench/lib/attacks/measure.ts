/**
 * One attack against one server in its own process: quiet and attacked phases in turns, with the well-behaved client
 * asking through all of them. What the server spends on that client is known from the quiet phases.
 */
import { readFileSync } from 'node:fs';
import { type Attack, patience } from '../../../test/attacks/attack.js';
import { ServerChild } from '../child.js';
import { type CpuTime, cpuBetween, cpuTimeOf } from '../cpu.js';
import type { ServerKind } from '../servers/messages.js';
import { type Estimate, pooledRatio, sum, type Verdict, verdictAtMost } from '../stats.js';
import { Attacker, type Report } from './attacker.js';
import { type Answers, Innocent, noAnswers } from './innocent.js';
import { Nginx } from './nginx.js';

/**
 * Which server is attacked and asked; `'elsewhere'`: another process of lastcall is attacked than is asked, and what the
 * others feel is what the machine makes of it, whatever the server does.
 */
export type Subject = Extract<ServerKind, 'lastcall' | 'node:http2 close()'> | 'nginx' | 'elsewhere';

export interface Plan {
  /** quiet and attacked phases, in turns; one quiet more */
  readonly phases: number;
  /** where what the others feel can't be told from noise after those: as many more, and again, up to so many in all */
  readonly mostPhases: number;
  /** of a phase, in ms */
  readonly duration: number;
  /** octets a second that the attacker sends */
  readonly rate: number;
  /** ms that the first connection goes on at most (default: what the attack needs against us) */
  readonly most?: number;
}

/** p99 of the others under attack, over their quiet p99. */
export const MOST_LATENCY = 2;

/** In a quiet phase before the first, everything gets compiled; for memory alone it is enough that all was used once. */
const WARM_UP = { measured: 4_000, once: 1_000 };
/**
 * Attacked and quiet phases before those that count: what is compiled under attack, the heap that grows for it, and what
 * is made of both in the quiet that follows are no measure. With one of each, the first quiet phase that counted was
 * slower than the others by a fifth, which flattered all that was compared with it.
 */
const UNCOUNTED = 3;
/** Between phases: what the last one left behind is over. */
const SETTLE = 400;
const SAMPLE = 50;

export interface Measured {
  /** why the server's process is gone, if it is */
  readonly death: string | undefined;
  /** of the attacker's process */
  readonly crashes: number;
  readonly sent: number;
  readonly connections: number;
  /** how one connection ended that sent as fast as it could */
  readonly ending: string;
  /** and the many that came after it, by how often */
  readonly endings: Readonly<Record<string, number>>;
  /** µs of CPU over what the quiet phases cost */
  readonly cpu: number;
  /** of one core, while under attack */
  readonly cores: number;
  /** octets that the process grew at most, over what it was before the attack */
  readonly growth: number;
  /** while the first connection lasted */
  readonly first: Answers;
  readonly quiet: Answers;
  readonly attacked: Answers;
  /** p99 of the attacked phases over that of the quiet ones before each */
  readonly ratio: Estimate;
  /** the same of quiet phases over those before each */
  readonly control: Estimate;
}

/** A server in a process of its own. */
interface Running {
  readonly pid: number;
  readonly port: number;
  /** why it is gone, if it is */
  readonly death: string | undefined;
  stop(): Promise<void>;
}

/** What both forms of a run stand on. */
interface Scene {
  /** whom the well-behaved client asks */
  readonly server: Running;
  readonly attackedPort: number;
  readonly attacker: Attacker;
  readonly innocent: Innocent;
  readonly memory: Memory;
}

async function onScene(
  subject: Subject,
  attack: Attack,
  warmUp: number,
  act: (scene: Scene) => Promise<Measured>,
): Promise<Measured> {
  const server = await start(subject, attack);
  let attacked = server;
  const attacker = new Attacker();
  const memory = new Memory(server.pid);
  try {
    if (subject === 'elsewhere') attacked = await start(subject, attack);
    const innocent = await Innocent.connect(server.port, subject !== 'node:http2 close()');
    await innocent.run(warmUp, noAnswers());
    await innocent.settled();
    memory.rest();
    return await act({ server, attackedPort: attacked.port, attacker, innocent, memory });
  } finally {
    memory.stop();
    attacker.stop();
    await Promise.all([server.stop(), attacked.stop()]);
  }
}

function start(subject: Subject, { server: limits }: Attack): Promise<Running> {
  if (subject === 'nginx') return Nginx.start(limits);
  return ServerChild.start({ kind: subject === 'elsewhere' ? 'lastcall' : subject, ...(limits && { limits }) });
}

/** One connection of the attack, as fast as it goes. */
async function oneConnection(
  { server, attackedPort, attacker, innocent }: Scene,
  attack: Attack,
  most = Infinity,
): Promise<[Phase, Report]> {
  const answers = noAnswers();
  const before = cpuOf(server);
  const at = performance.now();
  let over = false;
  const report = attacker
    .attack({ name: attack.name, port: attackedPort, rate: 1, duration: Math.min(most, patience(attack)), once: true })
    .finally(() => {
      over = true;
    });
  while (!over) await innocent.run(50, answers);
  await innocent.settled();
  return [{ answers, cpu: cpuSince(server, before), ms: performance.now() - at }, await report];
}

/** Its ending by one connection, its cost by many, one after the other, for as long as the attacked phases last. */
export function measure(subject: Subject, attack: Attack, plan: Plan): Promise<Measured> {
  return onScene(subject, attack, WARM_UP.measured, async (scene) => {
    const { server, attackedPort, attacker, innocent } = scene;
    const [first, ending] = await oneConnection(scene, attack, plan.most);
    await innocent.run(SETTLE, noAnswers());
    const quiet: Phase[] = [];
    const attacked: Phase[] = [];
    const reports: Report[] = [];
    const phase = async (attacking: boolean): Promise<Phase> => {
      const answers = noAnswers();
      const before = cpuOf(server);
      const at = performance.now();
      const report = attacking
        ? attacker.attack({ ...plan, name: attack.name, port: attackedPort, once: false })
        : undefined;
      await innocent.run(plan.duration, answers);
      if (report !== undefined) reports.push(await report);
      const result = { answers, cpu: cpuSince(server, before), ms: performance.now() - at };
      await innocent.run(SETTLE, noAnswers());
      return result;
    };
    for (let i = 0; i < UNCOUNTED; i++) {
      await phase(true);
      await phase(false);
    }
    reports.length = 0;
    quiet.push(await phase(false));
    let measured: Measured;
    do {
      for (let i = 0; i < plan.phases && server.death === undefined; i++) {
        attacked.push(await phase(true));
        quiet.push(await phase(false));
      }
      await innocent.settled();
      measured = result(scene, first, ending, quiet, attacked, reports);
    } while (
      server.death === undefined &&
      attacked.length + plan.phases <= plan.mostPhases &&
      latencyVerdict(measured) === 'unresolved'
    );
    innocent.close();
    return measured;
  });
}

/** One connection only: how it ends, what it fills, and whether everyone else is served. */
export function tryOnce(subject: Subject, attack: Attack): Promise<Measured> {
  return onScene(subject, attack, WARM_UP.once, async (scene) => {
    const [phase, report] = await oneConnection(scene, attack);
    scene.innocent.close();
    return result(scene, phase, report, [], [], []);
  });
}

/** Whether the others felt as little of it as they may. */
export function latencyVerdict({ ratio, control }: Measured): Verdict {
  return verdictAtMost(ratio, MOST_LATENCY, control);
}

interface Phase {
  readonly answers: Answers;
  /** µs */
  readonly cpu: number;
  readonly ms: number;
}

function result(
  { server, memory, attacker }: Scene,
  first: Phase,
  { endings }: Report,
  quiet: readonly Phase[],
  attacked: readonly Phase[],
  reports: readonly Report[],
): Measured {
  const later: Record<string, number> = {};
  for (const report of reports) {
    for (const [ending, times] of Object.entries(report.endings)) later[ending] = (later[ending] ?? 0) + times;
  }
  const perMs = sum(quiet.map(({ cpu }) => cpu)) / sum(quiet.map(({ ms }) => ms));
  const attackedMs = sum(attacked.map(({ ms }) => ms));
  const spent = sum(attacked.map(({ cpu }) => cpu)) - perMs * attackedMs;
  const latencies = (phase: Phase | undefined): readonly number[] => phase?.answers.latencies ?? [];
  return {
    death: server.death,
    crashes: attacker.crashes,
    sent: sum(reports.map(({ sent }) => sent)),
    connections: sum(reports.map(({ connections }) => connections)),
    ending: Object.keys(endings)[0] ?? 'open',
    endings: later,
    cpu: Math.max(0, spent),
    cores: spent / 1_000 / attackedMs,
    growth: memory.growth,
    first: first.answers,
    quiet: together(quiet),
    attacked: together(attacked),
    ratio: pooledRatio(
      attacked.map((phase, i) => [latencies(phase), latencies(quiet[i])] as const),
      99,
    ),
    control: pooledRatio(
      quiet.slice(1).map((phase, i) => [latencies(phase), latencies(quiet[i])] as const),
      99,
    ),
  };
}

function together(phases: readonly Phase[]): Answers {
  const all = noAnswers();
  for (const { answers } of phases) {
    all.sent += answers.sent;
    all.answered += answers.answered;
    all.lost += answers.lost;
    all.latencies.push(...answers.latencies);
  }
  return all;
}

function cpuSince(server: Running, before: CpuTime): number {
  return server.death === undefined ? cpuBetween(before, cpuOf(server)) : Number.NaN;
}

/** Of a process that may be gone. */
function cpuOf(server: Running): CpuTime {
  try {
    return cpuTimeOf(server.pid);
  } catch {
    return { user: Number.NaN, system: Number.NaN };
  }
}

/** The resident memory of a process, looked at now and then. */
class Memory {
  readonly #pid: number;
  readonly #timer: NodeJS.Timeout;
  #resting = 0;
  #peak = 0;

  constructor(pid: number) {
    this.#pid = pid;
    this.#timer = setInterval(() => {
      this.#peak = Math.max(this.#peak, this.#now());
    }, SAMPLE);
  }

  /** From here on it may not grow. */
  rest(): void {
    this.#resting = this.#now();
    this.#peak = this.#resting;
  }

  get growth(): number {
    return this.#peak - this.#resting;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #now(): number {
    try {
      const [, kib] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${this.#pid}/status`, 'latin1')) ?? [];
      return Number(kib ?? 0) * 1_024;
    } catch {
      return 0;
    }
  }
}
