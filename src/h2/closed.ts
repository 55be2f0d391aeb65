/**
 * What is remembered of closed streams, so that a frame that comes late is told from a frame that is an error
 * (RFC 9113 §5.1, "closed"). Bounded: what is forgotten is taken for closed by END_STREAM.
 */

/** More than a peer that keeps the concurrency limit can have in flight within any round trip. */
const MAX_RESET = 1_000;
/** Ranges of identifiers; ordinary clients never skip one. */
const MAX_SKIPPED = 32;

export class ClosedStreams {
  /** In order of insertion. */
  #reset: Set<number> | undefined = undefined;
  /** First, last, first, last… */
  #skipped: number[] | undefined = undefined;

  /** We have sent RST_STREAM while the peer could still send: what it sends on this stream is ignored. */
  addReset(streamId: number): void {
    this.#reset ??= new Set();
    this.#reset.add(streamId);
    if (this.#reset.size > MAX_RESET) {
      for (const oldest of this.#reset) {
        this.#reset.delete(oldest);
        break;
      }
    }
  }

  /** Late frames of this stream are to be ignored. */
  wasReset(streamId: number): boolean {
    return this.#reset?.has(streamId) === true;
  }

  /** The peer has ended its side of a stream that we had reset: anything more is an error. */
  forgetReset(streamId: number): void {
    this.#reset?.delete(streamId);
  }

  /** The identifiers from `first` to `last` were passed over: those streams are closed without having been open. (RFC 9113 §5.1.1) */
  addSkipped(first: number, last: number): void {
    this.#skipped ??= [];
    if (this.#skipped.length >= MAX_SKIPPED * 2) this.#skipped.splice(0, 2);
    this.#skipped.push(first, last);
  }

  wasSkipped(streamId: number): boolean {
    const skipped = this.#skipped;
    if (skipped === undefined) return false;
    for (let i = 0; i < skipped.length; i += 2) {
      if (streamId >= (skipped[i] as number) && streamId <= (skipped[i + 1] as number)) return true;
    }
    return false;
  }
}
