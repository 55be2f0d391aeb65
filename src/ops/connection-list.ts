/**
 * The list of connections, as text or as JSON, in pieces: there may be tens of thousands of them, and between two pieces
 * the event loop turns. What a row says is text.ts's.
 */
import { type Connection, tagsOf } from '../core/connection.js';
import { epochNow } from '../core/timing.js';
import { CONNECTION_HEAD, connectionRow, tableLine, widen } from './text.js';

/** How many connections one turn of the event loop has: a few ms of work. */
const SLICE = 500;

/** What comes in pieces: only the form that is asked for is made. */
export interface Listing {
  pieces(wantsJson: boolean): AsyncIterable<string>;
}

/** @param after follows the text */
export function listing(connections: readonly Connection[], after = ''): Listing {
  return { pieces: (wantsJson) => (wantsJson ? asJson(connections) : asText(connections, after)) };
}

async function* asText(connections: readonly Connection[], after: string): AsyncGenerator<string> {
  if (connections.length === 0) {
    yield `no connections\n${after}`;
    return;
  }
  const rows: (readonly string[])[] = [CONNECTION_HEAD];
  const widths: number[] = [];
  widen(widths, CONNECTION_HEAD);
  for await (const slice of slices(connections)) {
    const at = epochNow();
    for (const connection of slice) {
      const row = connectionRow(connection, at);
      widen(widths, row);
      rows.push(row);
    }
  }
  for await (const slice of slices(rows)) yield slice.map((row) => tableLine(row, widths)).join('');
  yield after;
}

/** As JSON.stringify writes it with an indent of 2. */
async function* asJson(connections: readonly Connection[]): AsyncGenerator<string> {
  yield '{\n  "connections": [';
  let separator = '\n';
  for await (const slice of slices(connections)) {
    let piece = '';
    for (const connection of slice) {
      piece += `${separator}    ${JSON.stringify(connectionJson(connection), null, 2).replaceAll('\n', '\n    ')}`;
      separator = ',\n';
    }
    yield piece;
  }
  yield connections.length === 0 ? ']\n}\n' : '\n  ]\n}\n';
}

async function* slices<T>(all: readonly T[]): AsyncGenerator<readonly T[]> {
  for (let from = 0; from < all.length; from += SLICE) {
    if (from > 0) await new Promise((resolve) => setImmediate(resolve));
    yield all.slice(from, from + SLICE);
  }
}

export function connectionJson(conn: Connection) {
  const { id, protocol = null, secure, state, remoteAddress, remotePort, localAddress, localPort, servername } = conn;
  const { openedAt, lastActiveAt, active, served } = conn;
  const peer = { remoteAddress, remotePort, localAddress, localPort, servername };
  return {
    id,
    protocol,
    secure,
    state,
    ...peer,
    openedAt,
    lastActiveAt,
    active,
    served,
    // In JavaScript they may be anything, also what JSON can't say.
    tags: Object.fromEntries([...tagsOf(conn)].map(([name, value]) => [name, String(value)])),
  };
}
