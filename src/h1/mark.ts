/**
 * Marks a response head with `Connection: close`, whatever path writes it and whatever the handler set itself: its own
 * `Connection: keep-alive` is overruled, its other connection options stay (RFC 9110 §7.6.1).
 */
import type { ServerResponse } from 'node:http';
import { rawHeaderNames, storeHeader } from '../node-internals.js';

/** Formats a head that says `Connection: close`. */
export function storeHeaderWithClose(res: ServerResponse, firstLine: string, headers: unknown): void {
  res.shouldKeepAlive = false;
  storeHeader(res, firstLine, withClose(fieldsOf(res, headers)));
}

/** The three forms in which a head's fields reach Node's formatter, as one: name, value, name, value. */
function fieldsOf(res: ServerResponse, headers: unknown): unknown[] {
  if (Array.isArray(headers)) return Array.isArray(headers[0]) ? headers.flat(1) : headers;
  const stored = rawHeaderNames(res);
  if (stored.length > 0) return stored.flatMap((name) => [name, res.getHeader(name)]);
  return typeof headers === 'object' && headers !== null ? Object.entries(headers).flat(1) : [];
}

function withClose(fields: readonly unknown[]): unknown[] {
  const kept: unknown[] = [];
  const options: string[] = [];
  for (let i = 0; i < fields.length; i += 2) {
    const name = String(fields[i]).toLowerCase();
    if (name === 'connection') options.push(...connectionOptions(fields[i + 1]));
    else if (name !== 'keep-alive') kept.push(fields[i], fields[i + 1]);
  }
  kept.push('Connection', [...options, 'close'].join(', '));
  return kept;
}

function connectionOptions(value: unknown): string[] {
  return String(value)
    .split(',')
    .map((option) => option.trim())
    .filter((option) => option !== '' && !/^(?:close|keep-alive)$/i.test(option));
}
