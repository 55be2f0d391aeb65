/**
 * Bytes on their way to a socket, in order. Encoders write straight into the current chunk; large bodies pass by
 * reference. When and how the bytes are written out, and how many may wait, is the connection's and the session's
 * business.
 */

/** Size of a fresh chunk. An answer to a small request takes 100 to 300 bytes of it. */
const CHUNK_SIZE = 16 * 1024;

/** From this size on, referring to a buffer is cheaper than copying it (an extra iovec against a memcpy). */
const BY_REFERENCE_FROM = 4 * 1024;

/** A remainder smaller than this isn't worth keeping for the next writer. */
const MIN_SPARE = 1024;

const EMPTY = Buffer.alloc(0);

/** How many remainders are kept, for all connections together: as many as may be answering in one turn, within 1 MiB. */
const MAX_SPARES = 64;

/**
 * The unused tails of chunks that were taken from: whoever needs room next, of whatever connection, goes on there. So
 * a connection with nothing to send holds no chunk, and a turn of small answers allocates none.
 */
const spares: Buffer[] = [];
/** Where the unused tail of each begins. */
const sparePositions: number[] = [];

/** An append-only byte queue that encoders write into without intermediate buffers. */
export class OutputBuffer {
  /** The chunk being filled; write at `pos` after {@link reserve}, and advance `pos`. */
  buf: Buffer = EMPTY;
  /** Where the next byte goes in `buf`. */
  pos = 0;
  /**
   * Where in `buf` the bytes begin that must stay in one piece, or -1. While a frame is held, {@link reserve} moves
   * its bytes along when it changes chunk (and updates this offset), so its header can be patched afterwards.
   */
  held = -1;

  /** Start, in `buf`, of the bytes that are not yet in `#sealed`. */
  #start = 0;
  #sealed: Buffer[] = [];
  #sealedSize = 0;

  /** Bytes waiting in total. */
  get size(): number {
    return this.#sealedSize + this.pos - this.#start;
  }

  /** Makes `n` contiguous bytes writable at `buf[pos]`. May replace `buf` and `pos`: read both again afterwards. */
  reserve(n: number): void {
    if (this.buf.length - this.pos < n) this.#nextChunk(n);
  }

  /** From here on bytes stay in one piece, until {@link release}: for a length that is known only at the end. */
  hold(): void {
    this.held = this.pos;
  }

  /** Ends {@link hold}. */
  release(): void {
    this.held = -1;
  }

  /** Adds bytes: from 4 KiB on by reference (the caller must not change them any more), else as a copy. */
  append(bytes: Buffer): void {
    const length = bytes.length;
    if (length < BY_REFERENCE_FROM || this.held >= 0) {
      this.reserve(length);
      this.buf.set(bytes, this.pos);
      this.pos += length;
      return;
    }
    this.#seal(this.pos);
    this.#sealed.push(bytes);
    this.#sealedSize += length;
  }

  /** Everything so far, in order; afterwards the buffer is empty. What was handed out is never written to again. */
  take(): Buffer[] {
    this.#seal(this.pos);
    const taken = this.#sealed;
    this.#sealed = [];
    this.#sealedSize = 0;
    this.held = -1;
    this.#giveBack();
    return taken;
  }

  #seal(end: number): void {
    if (end === this.#start) return;
    this.#sealed.push(this.buf.subarray(this.#start, end));
    this.#sealedSize += end - this.#start;
    this.#start = end;
  }

  #giveBack(): void {
    if (this.buf.length - this.pos >= MIN_SPARE && spares.length < MAX_SPARES) {
      spares.push(this.buf);
      sparePositions.push(this.pos);
    }
    this.buf = EMPTY;
    this.pos = 0;
    this.#start = 0;
  }

  #nextChunk(n: number): void {
    const from = this.held < 0 ? this.pos : this.held;
    const moving = this.pos - from;
    const needed = moving + n;
    let chunk = needed <= CHUNK_SIZE ? spares.pop() : undefined;
    let at = chunk === undefined ? 0 : (sparePositions.pop() as number);
    if (chunk === undefined || chunk.length - at < needed) {
      chunk = Buffer.allocUnsafeSlow(needed <= CHUNK_SIZE ? CHUNK_SIZE : needed + (moving > 0 ? needed : 0));
      at = 0;
    }
    if (moving > 0) chunk.set(this.buf.subarray(from, this.pos), at);
    this.#seal(from);
    this.buf = chunk;
    this.#start = at;
    this.pos = at + moving;
    if (this.held >= 0) this.held = at;
  }
}
