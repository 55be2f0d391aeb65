/**
 * The tables of SECURITY.md, from what was measured.
 */
import type { Attack } from '../../../test/attacks/attack.js';
import { percentile } from '../stats.js';
import type { Measured } from './measure.js';

const MIB = 1_048_576;
const PROTOCOLS = { h2: 'HTTP/2', h1: 'HTTP/1.1', tls: 'Before any protocol' } as const;

export interface Compared {
  readonly attack: Attack;
  readonly ours: Measured;
  /** what was beside ours, by its name in `--beside` */
  readonly others: ReadonlyMap<string, Measured | undefined>;
}

export function tables(compared: readonly Compared[]): string {
  const lines: string[] = [];
  for (const [protocol, title] of Object.entries(PROTOCOLS)) {
    const rows = compared.filter(({ attack }) => attack.protocol === protocol).map(costs);
    const head = '| attack | who does it | ns an octet | ms a connection | MiB | p99 × (95 %) |';
    lines.push(...table(title, head, '|---|---|--:|--:|--:|--:|', rows));
  }
  return [...lines, ...besideBuiltin(compared), ...besideNginx(compared)].join('\n');
}

function costs({ attack, ours }: Compared): string {
  const { growth, ratio } = ours;
  const figures = [
    perOctet(ours),
    perConnection(ours),
    String(Math.round(growth / MIB)),
    `${ratio.median.toFixed(1)} (${ratio.low.toFixed(1)} to ${ratio.high.toFixed(1)})`,
  ];
  return `| ${attack.title} | ${attack.sees} | ${figures.join(' | ')} |`;
}

function besideBuiltin(compared: readonly Compared[]): string[] {
  const rows = compared.flatMap(({ attack, ours, others }) => {
    const theirs = others.get('node:http2');
    if (theirs === undefined) return [];
    const memory = `${Math.round(theirs.growth / MIB)}, ${Math.round(ours.growth / MIB)}`;
    return [`| ${attack.title} | ${endingOf(theirs)} | ${perOctet(theirs)}, ${perOctet(ours)} | ${memory} |`];
  });
  const head = '| attack | how one connection ends there | ns an octet there, here | MiB there, here |';
  return table('Beside node:http2', head, '|---|---|--:|--:|', rows);
}

/** What well-behaved clients feel: of ours, of nginx, and of the same attack on another process of the machine. */
function besideNginx(compared: readonly Compared[]): string[] {
  const rows = compared.flatMap(({ attack, ours, others }) => {
    const [nginx, elsewhere] = [others.get('nginx'), others.get('elsewhere')];
    if (nginx === undefined && elsewhere === undefined) return [];
    const cells = [
      attack.title,
      nginx === undefined ? '–' : endingOf(nginx),
      `${perConnection(nginx)}, ${perConnection(ours)}`,
      `${latency(nginx)}, ${latency(ours)}`,
      ...[nginx, ours, elsewhere].map((measured) => measured?.ratio.median.toFixed(1) ?? '–'),
    ];
    return [`| ${cells.join(' | ')} |`];
  });
  const head =
    '| attack | how one connection ends at nginx | ms a connection there, here | p99 there, here | × there | × here | × elsewhere |';
  return table('Beside nginx, and beside the attack on another process', head, '|---|---|--:|--:|--:|--:|--:|', rows);
}

/** Nothing without rows. */
function table(title: string, head: string, alignment: string, rows: readonly string[]): string[] {
  return rows.length === 0 ? [] : [`**${title}**`, '', head, alignment, ...rows, ''];
}

function endingOf({ death, ending }: Measured): string {
  return death === undefined ? ending.replaceAll(/ "[^"]*"/g, '') : 'the process ended';
}

function perConnection(measured: Measured | undefined): string {
  if (measured === undefined) return '–';
  return (measured.cpu / 1_000 / Math.max(1, measured.connections)).toFixed(1);
}

/** p99 of the others under attack. */
function latency(measured: Measured | undefined): string {
  return measured === undefined ? '–' : `${percentile(measured.attacked.latencies, 99).toFixed(1)} ms`;
}

/** Of attacks that send next to nothing, CPU per octet says nothing. */
function perOctet({ sent, cpu }: Measured): string {
  return sent < 10_000 ? '–' : Math.round((cpu * 1_000) / sent).toLocaleString('en');
}
