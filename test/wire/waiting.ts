/**
 * Waiting for something to become true that only changes when bytes, the end of a connection or a call come in:
 * by looking again at those moments, never by polling. And its opposite, a stall.
 */

/** Nothing of this thread runs for so long: timers come due, and bytes wait in the kernel. It sleeps, and costs no CPU. */
export function stall(ms: number): void {
  if (ms > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
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
