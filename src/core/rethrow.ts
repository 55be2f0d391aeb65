/** An exception of a listener's, where our own state is in between. */

/** Throws where nobody's state is in between: a listener's exception is the process's, not ours. */
export function rethrow(error: unknown): void {
  process.nextTick(() => {
    throw error;
  });
}
