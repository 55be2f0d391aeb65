/**
 * How much of large answers one turn of the event loop writes, for all connections together. Encrypting them and handing
 * them to the kernel is done then and there, for as long as there is room: one client with a fast network, or a few that
 * don't read at all, would keep everyone else waiting for tens of milliseconds.
 */
import { AsyncResource } from 'node:async_hooks';

/** A quarter of a millisecond of TLS: bytes after which no other large write begins in this turn. */
const PER_TURN = 262_144;

/** Whose writes go on is nobody's request. */
const neutral = new AsyncResource('LASTCALLWRITES');

let left = PER_TURN;
let turnComes = false;
/** First come, first served. */
let waiting: (() => void)[] = [];

/** Whether this turn may write more of large answers. */
export function hasRoomForLarge(): boolean {
  return left > 0;
}

/** This turn has written so many bytes of one. */
export function wroteOfLarge(bytes: number): void {
  left -= bytes;
  awaitTurn();
}

/** Calls back in a later turn, when there is room: once, and in nobody's async context. */
export function whenRoomForLarge(goOn: () => void): void {
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
  left = PER_TURN;
  const before = waiting;
  waiting = [];
  let next = 0;
  try {
    while (left > 0 && next < before.length) before[next++]?.();
  } finally {
    if (next < before.length) waiting = before.slice(next).concat(waiting);
    if (waiting.length > 0) awaitTurn();
  }
}
