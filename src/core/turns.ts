/**
 * What waits for a later turn of the event loop because this one has had enough of it: the rest of what a client has
 * sent, more of a large answer. In every turn a slice of it is done, first come, first served, for all connections
 * together: a hundred that each have little left to do don't make a long turn.
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
