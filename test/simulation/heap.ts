/**
 * A queue ordered by time, then by arrival: the order in which a simulated world happens.
 */

/** Something that happens at a time. */
export interface Timed {
  /** ms on the simulation's clock */
  readonly at: number;
  /** order among those of the same time */
  readonly order: number;
}

function before(a: Timed, b: Timed): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** A binary heap of timed things, the earliest first. */
export class TimeQueue<T extends Timed> {
  readonly #items: T[] = [];

  get size(): number {
    return this.#items.length;
  }

  /** The earliest, or `undefined`. */
  get first(): T | undefined {
    return this.#items[0];
  }

  add(item: T): void {
    const items = this.#items;
    let at = items.length;
    items.push(item);
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = items[parentAt] as T;
      if (!before(item, parent)) break;
      items[at] = parent;
      at = parentAt;
    }
    items[at] = item;
  }

  /** Takes the earliest out. */
  take(): T | undefined {
    const items = this.#items;
    const first = items[0];
    const last = items.pop();
    if (first === undefined || last === undefined || items.length === 0) return first;
    let at = 0;
    for (;;) {
      let childAt = 2 * at + 1;
      if (childAt >= items.length) break;
      let child = items[childAt] as T;
      const right = items[childAt + 1];
      if (right !== undefined && before(right, child)) {
        child = right;
        childAt++;
      }
      if (!before(child, last)) break;
      items[at] = child;
      at = childAt;
    }
    items[at] = last;
    return first;
  }
}
