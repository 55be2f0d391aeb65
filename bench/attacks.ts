/**
 * `npm run attacks`: every attack of test/attacks against the compiled server in a process of its own, over TLS, by an
 * attacker in another: what it costs the attacker, what it costs us, how it ends, and what a well-behaved client feels.
 * Beside it, where they apply: node:http2, nginx, and what the machine itself makes of the attack.
 */
import type { Attack } from '../test/attacks/attack.js';
import { ATTACKS } from '../test/attacks/catalogue.js';
import { argumentsOrExit } from './lib/arguments.js';
import { type Answers, ASKED } from './lib/attacks/innocent.js';
import { checkInnocents } from './lib/attacks/innocents.js';
import { type Compared, tables } from './lib/attacks/markdown.js';
import {
  latencyVerdict,
  type Measured,
  MOST_LATENCY,
  measure,
  type Plan,
  type Subject,
  tryOnce,
} from './lib/attacks/measure.js';
import { breakOnPurpose } from './lib/compile.js';
import { type Bar, bar, type Cell, reportAndExit, type Totals, writeResult } from './lib/results.js';
import { percentile } from './lib/stats.js';

/** Beside ours: other servers, and ours with the attack on another process of it. */
const OTHERS = ['node:http2', 'nginx', 'elsewhere'] as const;
type Other = (typeof OTHERS)[number];
const NAMES = ATTACKS.map(({ name }) => name);
const MIB = 1_048_576;

const args = argumentsOrExit({
  command: 'npm run attacks --',
  summary: 'Attacks on the server: their cost on both sides, how they end, and the latency of others beside them.',
  options: {
    short: { kind: 'flag', help: 'each once: how it ends, memory, and everyone else answered; no speed' },
    innocent: { kind: 'flag', help: 'instead: what looks like an attack and is none is never cut' },
    only: { kind: 'choices', choices: NAMES, fallback: NAMES, help: 'some of them' },
    phases: { kind: 'number', fallback: 8, min: 2, max: 100, help: 'attacked phases of each, with quiet ones between' },
    resolve: {
      kind: 'number',
      fallback: 0,
      min: 0,
      max: 1_000,
      help: 'as many phases more, and again, up to so many in all, where the latency can’t be told from noise',
    },
    duration: { kind: 'number', fallback: 1_500, min: 200, max: 60_000, help: 'ms of a phase' },
    rate: { kind: 'number', fallback: 8, min: 0.1, max: 10_000, help: 'Mbit/s that the attacker sends' },
    growth: { kind: 'number', fallback: 128, min: 1, max: 10_000, help: 'MiB that the server may grow' },
    beside: {
      kind: 'choices',
      choices: [...OTHERS, 'nothing'],
      fallback: ['node:http2'],
      help: 'other servers under the same attacks; elsewhere: it goes to another process than the client',
    },
    control: { kind: 'flag', help: 'with the budgets switched off: has to fail' },
  },
});

/** Attacked phases of node:http2, of which nothing but cost and ending is told. */
const BUILTIN_PHASES = 2;
/** ms that one connection attacks other servers: where we refuse, they may never do. */
const OTHERS_MOST = 3_000;
/** Attacks at the same time in the short form. */
const AT_ONCE = 4;

const name = `attacks${args.innocent ? '-innocent' : ''}${args.short ? '-short' : ''}${args.control ? '-control' : ''}`;

if (args.control) {
  breakOnPurpose('src/h2/guard.js', 'return this.#budget >= 0;', 'return true;');
  breakOnPurpose('src/h2/guard.js', "return 'fail';", "return 'fine';");
}

if (args.innocent) {
  const { rows, bars, totals } = await checkInnocents(args.short);
  reportAndExit({ name, title: 'What looks like an attack and is none', arguments: args, totals, rows, bars });
}

const plan: Plan = {
  phases: args.phases,
  mostPhases: args.resolve,
  duration: args.duration,
  rate: (args.rate * 1_000_000) / 8,
};
const attacks = ATTACKS.filter((attack) => args.only.includes(attack.name));
const rows: Record<string, Cell>[] = [];
const bars: Bar[] = [];
const details: Record<string, unknown>[] = [];
const compared: Compared[] = [];
let totals: Totals = { sent: 0, answered: 0, refused: 0, lost: 0, resets: 0 };

async function onOurs(attack: Attack): Promise<Measured> {
  const ours = args.short ? await tryOnce('lastcall', attack) : await measure('lastcall', attack, plan);
  take(attack, 'lastcall', ours);
  bars.push(...barsOf(attack, ours));
  return ours;
}

async function beside(attack: Attack, other: Other): Promise<Measured | undefined> {
  const isBuiltin = other === 'node:http2';
  const subject: Subject = isBuiltin ? 'node:http2 close()' : other;
  const most = other === 'elsewhere' ? {} : { most: OTHERS_MOST };
  const phases = isBuiltin ? { phases: BUILTIN_PHASES, mostPhases: 0 } : {};
  try {
    const measured = await measure(subject, attack, { ...plan, ...most, ...phases });
    take(attack, other, measured);
    return measured;
  } catch (error) {
    rows.push({ attack: attack.name, server: other, ending: error instanceof Error ? error.message : 'failed' });
    return undefined;
  }
}

if (args.short) {
  // No speed is measured: several at once.
  const left = [...attacks];
  const next = async (): Promise<void> => {
    for (let attack = left.shift(); attack !== undefined; attack = left.shift()) await onOurs(attack);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, next));
} else {
  for (const attack of attacks) {
    const ours = await onOurs(attack);
    const others = new Map<string, Measured | undefined>();
    for (const other of OTHERS) {
      if (!args.beside.includes(other) || (other === 'node:http2' && attack.protocol !== 'h2')) continue;
      others.set(other, await beside(attack, other));
    }
    compared.push({ attack, ours, others });
  }
  writeResult(`${name}.md`, tables(compared));
}

reportAndExit({
  name,
  title: args.short
    ? 'Attacks, one connection each'
    : `Attacks at up to ${args.rate} Mbit/s, beside a client of ${ASKED} requests a second`,
  arguments: args,
  totals,
  rows,
  bars: summarized(bars),
  details,
  notes: args.short
    ? []
    : [
        'sent: by the attacker, all phases together, without TLS. CPU: over what the quiet phases cost. cores: while attacked.',
        'p99: of the well-behaved client, in ms; ×: attacked over quiet, phase by phase; A/A: quiet over quiet.',
      ],
});

function take(attack: Attack, server: string, measured: Measured): void {
  const { sent, cpu, cores, growth, ending, connections, first, quiet, attacked, ratio, control, death } = measured;
  const row: Record<string, Cell> = {
    attack: attack.name,
    server,
    conns: connections,
    'sent kB': Math.round(sent / 1_000),
  };
  if (!args.short) {
    row['CPU ns/B'] = sent === 0 ? Number.NaN : Math.round((cpu * 1_000) / sent);
    row['CPU µs/conn'] = Math.round(cpu / connections);
    row.cores = round(cores);
  }
  row.MiB = Math.round(growth / MIB);
  if (!args.short) {
    row['p99 quiet'] = round(percentile(quiet.latencies, 99));
    row.p99 = round(percentile(attacked.latencies, 99));
    row.phases = ratio.pairs;
    row['×'] = round(ratio.median);
    row['A/A'] = round(control.median);
  }
  row.lost = first.lost + quiet.lost + attacked.lost;
  row.ending = death === undefined ? shortened(ending) : `the process ended: ${death}`;
  rows.push(row);
  console.log(Object.values(row).join('  '));
  details.push({
    attack: attack.name,
    server,
    ...measured,
    first: counts(first),
    quiet: counts(quiet),
    attacked: counts(attacked),
  });
  if (server !== 'lastcall') return;
  const resets = Object.entries(measured.endings).reduce((all, [how, n]) => (how.includes('reset') ? all + n : all), 0);
  totals = {
    sent: totals.sent + first.sent + quiet.sent + attacked.sent,
    answered: totals.answered + first.answered + quiet.answered + attacked.answered,
    refused: 0,
    lost: totals.lost + first.lost + quiet.lost + attacked.lost,
    resets: totals.resets + resets,
  };
}

function barsOf(attack: Attack, measured: Measured): Bar[] {
  const { ending, growth, first, quiet, attacked, ratio, control, death } = measured;
  const lost = first.lost + quiet.lost + attacked.lost;
  const of = (what: string): string => `${attack.name}: ${what}`;
  const bars = [
    bar(of('ends as it should'), death ?? ending, death === undefined && attack.ends.test(ending)),
    bar(
      of(`memory grows by at most ${args.growth} MiB`),
      `${Math.round(growth / MIB)} MiB`,
      growth <= args.growth * MIB,
    ),
    bar(of('everyone else is answered'), `${lost} lost`, lost === 0),
  ];
  if (args.short) return bars;
  const verdict = latencyVerdict(measured);
  const measuredRatio = `${round(ratio.median)} (${round(ratio.low)} to ${round(ratio.high)}), A/A ${round(control.median)} (${round(control.low)} to ${round(control.high)})`;
  return [
    ...bars,
    { what: of(`p99 of others at most ${MOST_LATENCY} times its quiet figure`), measured: measuredRatio, verdict },
  ];
}

function counts({ sent, answered, lost }: Answers): Omit<Answers, 'latencies'> {
  return { sent, answered, lost };
}

/** Of the bars that were met, their number is enough. */
function summarized(all: readonly Bar[]): Bar[] {
  const missed = all.filter(({ verdict }) => verdict !== 'passed');
  return [
    ...missed,
    bar(
      'bars met',
      `${all.length - missed.length} of ${all.length}`,
      missed.every(({ verdict }) => verdict !== 'failed'),
    ),
  ];
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

function shortened(ending: string): string {
  return ending.length > 100 ? `${ending.slice(0, 100)}…` : ending;
}
