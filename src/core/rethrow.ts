/** How a listener's exception becomes the process's, where our own state is in between. */
import type { EventEmitter } from 'node:events';

/** Throws where nobody's state is in between. */
export function rethrow(error: unknown): void {
  process.nextTick(() => {
    throw error;
  });
}

/**
 * Emits an event whose listeners must keep neither each other nor us from what comes next.
 *
 * @returns whether anybody listens
 */
export function emitApart(emitter: EventEmitter, event: string, ...args: unknown[]): boolean {
  const listeners = emitter.rawListeners(event);
  for (const listener of listeners) {
    try {
      Reflect.apply(listener, emitter, args);
    } catch (error) {
      rethrow(error);
    }
  }
  return listeners.length > 0;
}
