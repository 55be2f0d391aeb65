/**
 * Waiting for something to become true that only changes when bytes, the end of a connection or a call come in:
 * by looking again at those moments, never by polling; or for the event loop to turn. And its opposite, a stall.
 */

/** Nothing of this thread runs for so long: timers come due, and bytes wait in the kernel. It sleeps, and costs no CPU. */
export function stall(ms: number): void {
  if (ms > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** Turns of the event loop: where client and server share it, each brings what was on its way. */
export async function turns(count = 2): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

export class Waiting {
  readonly #looks = new Set<() => void>();

  /** Whether `holds` came true within `timeoutMs`. */
  wait(holds: () => boolean, timeoutMs: number): Promise<boolean> {
    if (holds()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const settle = (result: boolean): void => {
        clearTimeout(timer);
        this.#looks.delete(look);
        resolve(result);
      };
      const timer = setTimeout(() => settle(holds()), timeoutMs);
      const look = (): void => {
        if (holds()) settle(true);
      };
      this.#looks.add(look);
    });
  }

  /** Has everyone who waits look again. */
  look(): void {
    for (const look of [...this.#looks]) look();
  }
}
