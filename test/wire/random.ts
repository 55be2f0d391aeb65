/**
 * Seeded randomness, so that a run that failed can be repeated from the seed that it printed.
 */

/** A generator of numbers in [0, 1); the same seed gives the same sequence (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** uniform in [0, 1) */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** uniform in [low, high) */
  between(low: number, high: number): number {
    return low + this.next() * (high - low);
  }

  /** a whole number in [0, count) */
  below(count: number): number {
    return Math.floor(this.next() * count);
  }

  /** exponentially distributed with the given mean */
  exponential(mean: number): number {
    return -mean * Math.log(1 - this.next());
  }

  /** true with the given probability */
  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** a generator whose sequence depends on this one's state and on nothing that is drawn later */
  fork(): Random {
    return new Random(Math.floor(this.next() * 2 ** 32));
  }
}

/** How long a client thinks between two requests: drawn anew each time, in ms. */
export type ThinkTime =
  | { readonly kind: 'fixed'; readonly ms: number }
  | { readonly kind: 'uniform'; readonly minMs: number; readonly maxMs: number }
  | { readonly kind: 'exponential'; readonly meanMs: number };

/** Draws one think time in ms. */
export function drawThinkTime(think: ThinkTime, random: Random): number {
  switch (think.kind) {
    case 'fixed':
      return think.ms;
    case 'uniform':
      return random.between(think.minMs, think.maxMs);
    case 'exponential':
      return random.exponential(think.meanMs);
  }
}
