/** How a listener's exception becomes the process's, where our own state is in between. */
import type { EventEmitter } from 'node:events';

/** Throws where nobody's state is in between. */
export function rethrow(error: unknown): void {
  process.nextTick(() => {
    throw error;
  });
}

/**
 * Emits an event whose listeners must not keep us from what comes next.
 *
 * @returns whether anybody listens
 */
export function emitApart(emitter: EventEmitter, event: string, ...args: unknown[]): boolean {
  try {
    return emitter.emit(event, ...args);
  } catch (error) {
    rethrow(error);
    return true;
  }
}
