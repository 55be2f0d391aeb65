/** Connections, reports and summaries as plain text for a terminal. */
import { type Connection, tagsOf } from '../core/connection.js';
import type { LimitCounts } from '../core/limits.js';
import type { DrainReport, DrainSummary, RequestCounts } from '../core/report.js';
import { epochNow } from '../core/timing.js';
import type { DrainProgress } from '../core/waves.js';

/** A duration for people: `8 ms`, `1.2 s`, `3 min 20 s`, `5 h 2 min`. */
export function formatDuration(ms: number): string {
  if (!Number.isFinite(ms)) return 'for ever';
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 9_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

/** `1 request`, `2 requests`. */
export function formatCount(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** What a client sent must not move the terminal's cursor: control characters become `?`. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '?');
}

export const CONNECTION_HEAD = ['ID', 'PROTOCOL', 'STATE', 'PEER', 'AGE', 'IDLE', 'ACTIVE', 'SERVED', 'TAGS'] as const;

/** @param at ms since the epoch */
export function connectionRow(conn: Connection, at: number): string[] {
  return [
    String(conn.id),
    conn.protocol ?? '-',
    conn.state,
    peerOf(conn),
    formatDuration(at - conn.openedAt),
    conn.active > 0 ? '-' : formatDuration(at - conn.lastActiveAt),
    String(conn.active),
    String(conn.served),
    printable([...tagsOf(conn)].map(([name, value]) => `${name}=${String(value)}`).join(' ')) || '-',
  ];
}

export function formatConnection(connection: Connection): string {
  return table([CONNECTION_HEAD, connectionRow(connection, epochNow())]);
}

function peerOf({ remoteAddress, remotePort }: Connection): string {
  if (remoteAddress === undefined) return '-';
  return remoteAddress.includes(':') ? `[${remoteAddress}]:${remotePort}` : `${remoteAddress}:${remotePort}`;
}

function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) widen(widths, row);
  return rows.map((row) => tableLine(row, widths)).join('');
}

/** Makes room for a row. */
export function widen(widths: number[], row: readonly string[]): void {
  for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
}

export function tableLine(row: readonly string[], widths: readonly number[]): string {
  const cells = row.map((cell, column) => cell.padEnd(widths[column] ?? 0));
  return `${cells.join('  ').trimEnd()}\n`;
}

/** How far the drains of several connections are, in a line. */
export function formatProgress({ total, draining, outcomes, waiting, gone }: DrainProgress): string {
  const over = Object.values(outcomes).reduce((sum, count) => sum + count, 0);
  const left = gone > 0 ? `, ${gone} gone by themselves` : '';
  return `${over} of ${formatCount(total, 'connection')} done, ${draining} draining, ${waiting} waiting${left}\n`;
}

/** Limits that have fired, a line each. */
export function formatLimits(limits: Readonly<LimitCounts> | undefined): string {
  if (limits === undefined) return 'an adopted server counts no limits\n';
  const fired = Object.entries(limits).filter(([, count]) => count > 0);
  if (fired.length === 0) return 'no limit has fired\n';
  return table([['LIMIT', 'FIRED'], ...fired.map(([limit, count]) => [limit, String(count)])]);
}

/** One drain, in a paragraph. */
export function formatReport(report: DrainReport): string {
  const { id, protocol, outcome, duration, phases, rtt } = report;
  const steps = Object.entries(phases).map(([phase, ms]) => `${phase} ${formatDuration(ms)}`);
  if (rtt !== undefined) steps.push(`round trip ${formatDuration(rtt)}`);
  const cut = report.cut.map(
    ({ method, path, ageMs }) => `  cut: ${printable(`${method} ${path}`)}, ${formatDuration(ageMs)} old\n`,
  );
  return (
    `connection ${id} (${protocol ?? 'no protocol yet'}): ${outcome} in ${formatDuration(duration)}\n` +
    `  requests: ${formatCounts(report)}\n` +
    `  phases: ${steps.join(', ')}\n` +
    cut.join('')
  );
}

/** What became of the requests; only what is not zero. */
function formatCounts(counts: Readonly<RequestCounts>): string {
  const { served, cancelled, malformed, refused, aborted, unserved } = counts;
  const named = Object.entries({ served, cancelled, malformed, refused, aborted, unserved }).filter(
    ([, count]) => count > 0,
  );
  return named.length === 0 ? 'none' : named.map(([name, count]) => `${count} ${name}`).join(', ');
}

/** What a drain of several connections came to; reports of what went wrong below it. */
export function formatSummary(summary: DrainSummary): string {
  const { connections, outcomes, left, gone, duration, notDrained } = summary;
  if (connections + left + gone === 0) return 'no connections to drain\n';
  const others = Object.entries(outcomes).filter(([outcome, count]) => outcome !== 'drained' && count > 0);
  const also = Object.entries({ 'left alone': left, 'gone by themselves': gone }).filter(([, count]) => count > 0);
  const but = [...others, ...also].map(([what, count]) => `, ${count} ${what}`).join('');
  return (
    `${outcomes.drained} of ${formatCount(connections, 'connection')} drained${but}, in ${formatDuration(duration)}; ` +
    `requests: ${formatCounts(summary)}\n${notDrained.map(formatReport).join('')}`
  );
}
