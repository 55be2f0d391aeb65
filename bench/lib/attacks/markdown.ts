/**
 * The tables of SECURITY.md, from what was measured.
 */
import type { Attack } from '../../../test/attacks/attack.js';
import type { Measured } from './measure.js';

const MIB = 1_048_576;
const PROTOCOLS = { h2: 'HTTP/2', h1: 'HTTP/1.1', tls: 'Before any protocol' } as const;

export interface Compared {
  readonly attack: Attack;
  readonly ours: Measured;
  readonly theirs: Measured | undefined;
}

export function tables(compared: readonly Compared[]): string {
  const lines: string[] = [];
  for (const [protocol, title] of Object.entries(PROTOCOLS)) {
    const rows = compared.filter(({ attack }) => attack.protocol === protocol);
    if (rows.length === 0) continue;
    lines.push(`**${title}**`, '');
    lines.push('| attack | who does it | ns an octet | ms a connection | MiB | p99 × (95 %) |');
    lines.push('|---|---|--:|--:|--:|--:|');
    for (const { attack, ours } of rows) {
      const { cpu, connections, growth, ratio } = ours;
      const figures = [
        perOctet(ours),
        (cpu / 1_000 / Math.max(1, connections)).toFixed(1),
        String(Math.round(growth / MIB)),
        `${ratio.median.toFixed(1)} (${ratio.low.toFixed(1)} to ${ratio.high.toFixed(1)})`,
      ];
      lines.push(`| ${attack.title} | ${attack.sees} | ${figures.join(' | ')} |`);
    }
    lines.push('');
  }
  const beside = compared.filter(({ theirs }) => theirs !== undefined);
  if (beside.length === 0) return lines.join('\n');
  lines.push('**Beside node:http2**', '');
  lines.push(
    '| attack | how one connection ends there | ns an octet there, here | MiB there, here |',
    '|---|---|--:|--:|',
  );
  for (const { attack, ours, theirs } of beside) {
    if (theirs === undefined) continue;
    const ending = theirs.death === undefined ? theirs.ending.replaceAll(/ "[^"]*"/g, '') : 'the process ended';
    const memory = `${Math.round(theirs.growth / MIB)}, ${Math.round(ours.growth / MIB)}`;
    lines.push(`| ${attack.title} | ${ending} | ${perOctet(theirs)}, ${perOctet(ours)} | ${memory} |`);
  }
  lines.push('');
  return lines.join('\n');
}

/** Of attacks that send next to nothing, CPU per octet says nothing. */
function perOctet({ sent, cpu }: Measured): string {
  return sent < 10_000 ? '–' : Math.round((cpu * 1_000) / sent).toLocaleString('en');
}
