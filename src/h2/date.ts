/**
 * The value of `date` (RFC 9110 §6.6.1): asked of the clock once for all answers of a turn of the event loop, formatted
 * once a second.
 */

let date = '';
let second = 0;
let isFresh = false;

/** The time of this turn. */
export function httpDate(): string {
  if (isFresh) return date;
  isFresh = true;
  const current = Math.floor(Date.now() / 1_000);
  if (current !== second) {
    second = current;
    date = new Date(current * 1_000).toUTCString();
  }
  return date;
}

/** What is answered from now on is of a later turn. */
export function turnIsOver(): void {
  isFresh = false;
}
