/**
 * What the application gets of a body: a copy, because the buffer that it was received in is used again.
 */

/** Below, copies are no weight. */
const LARGE = 4_096;

/** A slot of eight octets for so many outside. */
const OCTETS_PER_SLOT = 32;

/** The last large copy's. */
export let ballast: unknown[] | undefined;

/**
 * V8 looks through its young generation, which is cheap, when that is full; but memory outside that hangs on young
 * objects doesn't fill it: it counts for the heap as a whole, and has all of that looked through, which isn't cheap (on
 * Node 26, with a small heap, it took 40 % of an upload's CPU time). So a large copy takes room in the young generation.
 */
export function copyOf(bytes: Buffer): Buffer {
  if (bytes.length >= LARGE) ballast = new Array(Math.floor(bytes.length / OCTETS_PER_SLOT));
  // Not of Node's pool: who keeps a little of a body shall not keep what others were sent.
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  copy.set(bytes);
  return copy;
}
