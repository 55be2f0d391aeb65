/**
 * What the application gets of a body: a copy, because the buffer that it was received in is used again.
 */

/** From this size on what a copy weighs is worth a thought. */
const LARGE = 8_192;

/** A slot of eight octets for so many outside. */
const OCTETS_PER_SLOT = 32;

/** Since V8 12 (Node 22) memory outside counts for the heap as a whole. */
const outsideCounts = Number.parseInt(process.versions.node, 10) >= 22;

/** The last large copy's. Exported, or V8 would see that nobody reads it. */
export let ballast: unknown[] | undefined;

/**
 * V8 looks through its young generation, which is cheap, when that is full; memory outside that hangs on young objects
 * doesn't fill it, but has the whole heap looked through, again and again. So a large copy takes room in the young
 * generation, too: with Node 26, `npm run bench:h2 -- --cases uploads` then costs half as much.
 */
export function copyOf(bytes: Buffer): Buffer {
  if (outsideCounts && bytes.length >= LARGE) ballast = new Array(Math.floor(bytes.length / OCTETS_PER_SLOT));
  // Not of Node's pool: who keeps a little of a body shall not keep what others were sent.
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  copy.set(bytes);
  return copy;
}
