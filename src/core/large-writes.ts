/**
 * How much of large answers one turn of the event loop writes, for all connections together. Encrypting them and handing
 * them to the kernel is done then and there, for as long as there is room: one client with a fast network, or a few that
 * don't read at all, would keep everyone else waiting for tens of milliseconds.
 */
import { AsyncResource } from 'node:async_hooks';
import { inLaterTurn } from './turns.js';

/** A quarter of a millisecond of TLS: bytes after which no other large write begins in this turn. */
const PER_TURN = 262_144;

/** The turn is nobody's request. */
const neutral = new AsyncResource('LASTCALLWRITES');

let left = PER_TURN;
let turnComes = false;

/** Whether this turn may write more of large answers. */
export function hasRoomForLarge(): boolean {
  return left > 0;
}

/** This turn has written so many bytes of one. */
export function wroteOfLarge(bytes: number): void {
  left -= bytes;
  if (turnComes) return;
  turnComes = true;
  neutral.runInAsyncScope(setImmediate, undefined, turn);
}

function turn(): void {
  turnComes = false;
  left = PER_TURN;
}

/** Calls back in a later turn, when there is room: once, and in nobody's async context. */
export function whenRoomForLarge(goOn: () => void): void {
  inLaterTurn(() => {
    if (hasRoomForLarge()) goOn();
    else whenRoomForLarge(goOn);
  });
}
