/**
 * What waits for a later turn of the event loop because this one has had enough of it: the rest of what a client has
 * sent, more of a large answer, a handshake. In every turn a slice of it is done, first come, first served, for all
 * connections together: a hundred that each have little left to do don't make a long turn.
 */
import { AsyncResource } from 'node:async_hooks';
import { now } from './timing.js';

/** ms of a turn after which no other work that has waited begins in it. */
const SLICE = 0.5;

/** What waits is nobody's request. */
const neutral = new AsyncResource('LASTCALLTURN');

let waiting: (() => void)[] = [];
let turnComes = false;

/** Calls back in a later turn: once, and in nobody's async context. */
export function inLaterTurn(goOn: () => void): void {
  waiting.push(goOn);
  awaitTurn();
}

function awaitTurn(): void {
  if (turnComes) return;
  turnComes = true;
  neutral.runInAsyncScope(setImmediate, undefined, turn);
}

/** The loop has polled: what others have asked for meanwhile has been seen to. */
function turn(): void {
  turnComes = false;
  const all = waiting;
  waiting = [];
  const until = now() + SLICE;
  let next = 0;
  try {
    do all[next++]?.();
    while (next < all.length && now() < until);
  } finally {
    if (next < all.length) waiting = all.slice(next).concat(waiting);
    if (waiting.length > 0) awaitTurn();
  }
}

/** The part of a turn that one kind of work may take, for all connections together. */
export class Share {
  readonly #perTurn: number;
  #left: number;
  #turnComes = false;

  /** @param perTurn ms after which no other work of this kind begins in a turn */
  constructor(perTurn: number) {
    this.#perTurn = perTurn;
    this.#left = perTurn;
  }

  /** Whether work may begin in this turn. */
  get hasRoom(): boolean {
    return this.#left > 0;
  }

  /** So many ms of this turn have gone. */
  spent(ms: number): void {
    this.#left -= ms;
    if (this.#turnComes) return;
    this.#turnComes = true;
    neutral.runInAsyncScope(setImmediate, undefined, () => {
      this.#turnComes = false;
      this.#left = this.#perTurn;
    });
  }

  /** Calls back in a later turn that has room: once, and in nobody's async context. */
  whenRoom(goOn: () => void): void {
    inLaterTurn(() => {
      if (this.hasRoom) goOn();
      else this.whenRoom(goOn);
    });
  }

  /** Does the work now or when there is room for it, and counts the time that it takes. */
  do(work: () => void): void {
    if (!this.hasRoom) {
      this.whenRoom(() => this.do(work));
      return;
    }
    const at = now();
    try {
      work();
    } finally {
      this.spent(now() - at);
    }
  }
}

/** A MB takes a ms at least: so much TLS encrypts. */
const BYTES_PER_MS = 1_048_576;

/**
 * What a turn writes of large answers. Encrypting them and handing them to the kernel is done then and there, for as long
 * as there is room: one client with a fast network, or a few that don't read at all, would keep everyone else waiting for
 * tens of milliseconds.
 */
export const largeWrites = new Share(0.25);

/** Large writes have taken this turn since `at`, on the `now()` clock. */
export function wroteLarge(bytes: number, at: number): void {
  largeWrites.spent(Math.max(bytes / BYTES_PER_MS, now() - at));
}
