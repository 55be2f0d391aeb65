/**
 * The warning for a drain that is awaited inside a handler of the same connection: it would wait for that handler.
 * Only while the synchronous part of a handler runs is it known whose handler that is, so only then is anything said.
 */
import type { LiveConnection } from './connection.js';

/** How long the handler's request may be the only one open before the warning, in ms. */
const GRACE = 1_000;

let handling: LiveConnection | undefined;

/** A handler of this connection is about to be called; `endHandling` gets what this returns. */
export function beginHandling(connection: LiveConnection): LiveConnection | undefined {
  const outer = handling;
  handling = connection;
  return outer;
}

/** The handler has returned. */
export function endHandling(outer: LiveConnection | undefined): void {
  handling = outer;
}

/** Called when a drain begins: if a handler of the same connection began it, and all it waits for is that handler, says so. */
export function watchForSelfWait(connection: LiveConnection): void {
  if (handling !== connection) return;
  const timer = setTimeout(() => {
    if (connection.active !== 1 || connection.state === 'closed') return;
    process.emitWarning(
      `gracefulShutdown of connection ${connection.id} was called in a handler of that connection and waits for it: don't await it there`,
      { code: 'LASTCALL_SELF_WAIT' },
    );
  }, GRACE);
  timer.unref();
}
