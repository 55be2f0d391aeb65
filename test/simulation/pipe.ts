/**
 * One direction of a simulated TCP connection: delay, jitter, segments of any size, and a bounded number of bytes on
 * their way. What a FIN or a reset means is tcp.ts's.
 */
import type { Random } from '../wire/random.js';
import type { Loop } from './loop.js';

/** What a network is like. */
export interface Network {
  /** ms one way */
  readonly delay: number;
  /** ms that a segment may take longer */
  readonly jitter: number;
  /** how many bytes may be on their way to the client before the server's writes wait */
  readonly towardsClient: number;
  /** how many bytes may be on their way to the server before the client's wait */
  readonly towardsServer: number;
  /** probability that a write arrives in several segments */
  readonly split: number;
  /** whether the server's kernel drops what it holds when a reset arrives */
  readonly resetDropsUnread: boolean;
}

/** Bytes on their way in one direction, bounded by a window that opens again as they are read. */
export class Pipe {
  readonly #loop: Loop;
  readonly #random: Random;
  readonly #network: Network;
  readonly #capacity: number;
  readonly #arrive: (bytes: Buffer) => void;
  #outstanding = 0;
  #lastArrival = 0;
  readonly #opening: { readonly at: number; readonly bytes: number }[] = [];
  /** The time of the next event that looks whether a blocked sender may go on. */
  #wakingAt = Infinity;
  /** Its sender waits for room. */
  blocked: (() => void) | undefined;
  everBlocked = false;

  constructor(loop: Loop, random: Random, network: Network, capacity: number, arrive: (bytes: Buffer) => void) {
    this.#loop = loop;
    this.#random = random;
    this.#network = network;
    this.#capacity = capacity;
    this.#arrive = arrive;
  }

  get room(): number {
    const { time } = this.#loop;
    while (this.#opening[0] !== undefined && this.#opening[0].at <= time) {
      this.#outstanding -= this.#opening.shift()?.bytes ?? 0;
    }
    return this.#capacity - this.#outstanding;
  }

  /** Takes as many of the bytes as there is room for; returns how many. */
  send(bytes: Buffer): number {
    const taken = Math.min(bytes.length, Math.max(0, this.room));
    if (taken === 0) return 0;
    this.#outstanding += taken;
    let at = 0;
    if (taken > 1 && this.#random.chance(this.#network.split)) {
      for (let pieces = 1 + this.#random.below(3); pieces > 0 && at < taken - 1; pieces--) {
        const length = 1 + this.#random.below(Math.min(taken - at - 1, this.#random.chance(0.5) ? 12 : taken));
        this.#segment(bytes.subarray(at, at + length));
        at += length;
      }
    }
    this.#segment(at === 0 && taken === bytes.length ? bytes : bytes.subarray(at, taken));
    return taken;
  }

  #segment(bytes: Buffer): void {
    this.#inOrder(() => this.#arrive(bytes));
  }

  /** Something that arrives after everything sent before it. */
  #inOrder(happen: () => void): void {
    const { delay, jitter } = this.#network;
    this.#lastArrival = Math.max(this.#lastArrival, this.#loop.time + delay + this.#random.next() * jitter);
    this.#loop.at(this.#lastArrival, happen);
  }

  fin(happen: () => void): void {
    this.#inOrder(happen);
  }

  /** A reset doesn't wait for what is still to be sent. */
  reset(happen: () => void): void {
    this.#loop.after(this.#network.delay, happen);
  }

  /** The receiver has read so many bytes: the sender learns of the room one way later. */
  read(bytes: number): void {
    this.#opening.push({ at: this.#loop.time + this.#network.delay, bytes });
    if (this.blocked !== undefined) this.#wake();
  }

  /** Calls back when there is room. */
  wait(callback: () => void): void {
    this.everBlocked = true;
    this.blocked = callback;
    this.#wake();
  }

  #wake(): void {
    const at = this.#opening[0]?.at;
    if (at === undefined || at >= this.#wakingAt) return;
    this.#wakingAt = at;
    this.#loop.at(at, () => {
      this.#wakingAt = Infinity;
      const { blocked } = this;
      if (blocked === undefined) return;
      if (this.room > 0) {
        this.blocked = undefined;
        blocked();
      } else {
        this.#wake();
      }
    });
  }
}
