/**
 * Alarms whose time has come, on their way to a turn of the event loop that has polled since. Thousands may be due at
 * once: they ring in order, each with all that follows from it, for a slice of a turn, and the loop polls in between.
 * When an alarm is due is timing.ts's.
 */
import { AsyncResource } from 'node:async_hooks';

/** ms of a turn after which no further alarm rings in it. */
const SLICE = 2;

/** ms since the poll after which it is old: what has come meanwhile is polled first, once. */
const FRESH = 10;

/** How many ring in one turn at most. Each has an immediate of its own, so that what it resolves is part of the slice. */
const PER_TURN = 256;

/** An alarm is nobody's request: it must not ring in the async context of whoever set it, or one before it. */
const neutral = new AsyncResource('LASTCALLALARM');

/** An alarm that is about to ring. */
export interface Ringer {
  ring: (() => void) | undefined;
}

let queue: Ringer[] = [];
/** Where in the queue the next one is. */
let first = 0;
/** How many in the queue are still to ring. */
let waiting = 0;
/** Those of this turn, or, once all have run, of the next. */
let immediates: NodeJS.Immediate[] = [];
/** How many of them have run. */
let ran = 0;
/** When this turn's slice is over. */
let until = Infinity;
/** When the first of them was scheduled, before the poll: so long after it the poll may be old. */
let scheduledAt = 0;
/** The loop has polled once more already, because the turn was slow. */
let polledAgain = false;

/** To be called in a timer: rings after the poll that follows, in that turn of the loop or a later one. */
export function ringAfterPoll(ring: () => void): Ringer {
  const ringer = { ring };
  queue.push(ringer);
  waiting++;
  if (immediates.length < PER_TURN) schedule();
  return ringer;
}

/** It doesn't ring after all. */
export function withdraw(ringer: Ringer): void {
  if (ringer.ring === undefined) return;
  ringer.ring = undefined;
  waiting--;
  if (waiting === 0) rest();
}

function schedule(): void {
  if (immediates.length === 0) scheduledAt = performance.now();
  immediates.push(neutral.runInAsyncScope(setImmediate, undefined, turn));
}

/** Nothing waits: nothing is left behind either. */
function rest(): void {
  clearFrom(ran);
  queue = [];
  first = 0;
  polledAgain = false;
}

/** No more rings in this turn. */
function clearFrom(index: number): void {
  for (let i = index; i < immediates.length; i++) clearImmediate(immediates[i]);
  immediates = [];
  ran = 0;
}

function turn(): void {
  const at = performance.now();
  if (ran === 0) {
    // Whatever stood between the poll and us took its time. Where every turn does, that is as fresh as it gets.
    if (at - scheduledAt > FRESH && !polledAgain) {
      polledAgain = true;
      clearFrom(1);
      goOnInNextTurn();
      return;
    }
    polledAgain = false;
    until = at + SLICE;
  }
  ran++;
  try {
    if (at < until) ringNext();
  } finally {
    if (waiting === 0) rest();
    else if (ran === immediates.length) goOnInNextTurn();
  }
}

function ringNext(): void {
  while (first < queue.length) {
    const ringer = queue[first++];
    const ring = ringer?.ring;
    if (ringer === undefined || ring === undefined) continue;
    ringer.ring = undefined;
    waiting--;
    ring();
    return;
  }
}

function goOnInNextTurn(): void {
  queue = queue.slice(first);
  first = 0;
  immediates = [];
  ran = 0;
  for (let count = Math.min(waiting, PER_TURN); count > 0; count--) schedule();
}
