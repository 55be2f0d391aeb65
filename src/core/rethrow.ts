/** How a listener's exception becomes the process's, where our own state is in between. */

/** Throws where nobody's state is in between. */
export function rethrow(error: unknown): void {
  process.nextTick(() => {
    throw error;
  });
}
