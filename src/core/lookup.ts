/**
 * From what a handler holds (a request, a response, a socket, an HTTP/2 session) to its connection.
 */
import { type Connection, connectionOfSocket, type LiveConnection } from './connection.js';

/**
 * The connection that a request, response, socket or `Http2Session` belongs to; `undefined` for anything that isn't
 * ours (a mock, an injected request).
 */
export function connectionOf(thing: object): Connection | undefined {
  return liveConnectionOf(thing);
}

/** `connectionOf` for whoever drives the connection. */
export function liveConnectionOf(thing: unknown): LiveConnection | undefined {
  return connectionOfSocket(thing) ?? connectionOfMessage(thing) ?? connectionOfMessage(member(thing, 'req'));
}

/** A request whose body is read no further (by pipeline() or for await) has no socket left, but still its client. */
function connectionOfMessage(message: unknown): LiveConnection | undefined {
  return connectionOfSocket(member(message, 'socket')) ?? connectionOfSocket(member(message, 'client'));
}

function member(thing: unknown, name: string): unknown {
  return typeof thing === 'object' && thing !== null ? (thing as Record<string, unknown>)[name] : undefined;
}

/**
 * Aborts when a drain of the connection begins: finish soon (end an event stream, close a WebSocket). It never means
 * "cancel": don't pass it to `fetch`. For a request that comes while its connection is drained it is aborted already, for
 * what isn't ours it never aborts. It is the connection's: who listens for a request should stop when that is over.
 *
 * ```ts
 * import { addAbortListener } from 'node:events';
 *
 * const listening = addAbortListener(drainSignal(req), () => res.end('retry: 1000\n\n'));
 * res.on('close', () => listening[Symbol.dispose]());
 * ```
 */
export function drainSignal(thing: object): AbortSignal {
  return connectionOf(thing)?.drainSignal ?? new AbortController().signal;
}
