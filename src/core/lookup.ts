/**
 * From what a handler holds (a request, a response, a socket, an HTTP/2 session) to its connection.
 */
import { type Connection, connectionOfSocket } from './connection.js';

/**
 * The connection that a request, response, socket or `Http2Session` belongs to; `undefined` for anything that isn't
 * ours (a mock, an injected request).
 */
export function connectionOf(thing: object): Connection | undefined {
  const { socket, req } = thing as { socket?: unknown; req?: { socket?: unknown } };
  return connectionOfSocket(thing) ?? connectionOfSocket(socket) ?? connectionOfSocket(req?.socket);
}

/**
 * Aborts when a drain of the connection begins: finish soon (end an event stream, close a WebSocket). It never means
 * "cancel": don't pass it to `fetch`. For what isn't ours it never aborts.
 *
 * ```ts
 * drainSignal(req).addEventListener('abort', () => res.end('retry: 1000\n\n'));
 * ```
 */
export function drainSignal(thing: object): AbortSignal {
  return connectionOf(thing)?.drainSignal ?? new AbortController().signal;
}
