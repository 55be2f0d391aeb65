/**
 * The open streams of a connection by identifier. A Map would do, were it not for its cost when streams come and go
 * one at a time: it rebuilds its table every few of them, which was a fifth of the core's time for small requests.
 */

import type { Stream } from './stream.js';

const SMALLEST = 16;

/** An open-addressed table: odd identifiers, in practice consecutive, fall into slots of their own. */
export class Streams {
  size = 0;
  #slots: (Stream | undefined)[] = [];
  #mask = -1;

  get(id: number): Stream | undefined {
    for (let at = (id >>> 1) & this.#mask; ; at = (at + 1) & this.#mask) {
      const stream = this.#slots[at];
      if (stream === undefined || stream.id === id) return stream;
    }
  }

  has(id: number): boolean {
    return this.get(id) !== undefined;
  }

  /** All of them, in no order, as they are at the time of the call. */
  values(): Stream[] {
    return this.#slots.filter((stream) => stream !== undefined);
  }

  /** Adds a stream that isn't in the table. */
  add(stream: Stream): void {
    // at most half full, so that there is always an empty slot to end a search
    if (this.size * 2 >= this.#slots.length) this.#grow();
    this.size++;
    this.#put(stream);
  }

  /** False: there was none. */
  delete(id: number): boolean {
    const mask = this.#mask;
    const slots = this.#slots;
    let hole = (id >>> 1) & mask;
    for (let found = slots[hole]; found?.id !== id; found = slots[hole]) {
      if (found === undefined) return false;
      hole = (hole + 1) & mask;
    }
    this.size--;
    slots[hole] = undefined;
    // what had moved on because of this one moves back
    for (let at = (hole + 1) & mask; ; at = (at + 1) & mask) {
      const stream = slots[at];
      if (stream === undefined) return true;
      const home = (stream.id >>> 1) & mask;
      if (((at - home) & mask) >= ((at - hole) & mask)) {
        slots[hole] = stream;
        slots[at] = undefined;
        hole = at;
      }
    }
  }

  #put(stream: Stream): void {
    let at = (stream.id >>> 1) & this.#mask;
    while (this.#slots[at] !== undefined) at = (at + 1) & this.#mask;
    this.#slots[at] = stream;
  }

  #grow(): void {
    const streams = this.values();
    const length = Math.max(SMALLEST, this.#slots.length * 2);
    this.#slots = new Array<Stream | undefined>(length).fill(undefined);
    this.#mask = length - 1;
    for (const stream of streams) this.#put(stream);
  }
}
