/**
 * What a peer sends of a body in small pieces while the application doesn't read: joined, so that memory goes by octets
 * and not by pieces. A piece in a readable's own buffer costs a hundred octets more than it carries, and keeps all that
 * was received with it. How many octets may come is the windows' business.
 */
import type { AsyncResource } from 'node:async_hooks';
import { Readable } from 'node:stream';

/** From this size on a piece is worth its own buffer. */
const PIECE = 8_192;

const SMALLEST = 1_024;

const proto = Readable.prototype;
const lengthOf = Object.getOwnPropertyDescriptor(proto, 'readableLength')?.get as (this: Readable) => number;

/** The small pieces that one readable has been given since the application last read from it. */
export class Crumbs {
  readonly #readable: Readable;
  readonly #wanted: () => void;
  readonly #context: AsyncResource | undefined;
  #bytes: Buffer | undefined;
  #length = 0;
  #telling = false;

  /**
   * From here on whatever reads the readable gets what is kept here, too.
   *
   * @param wanted called when a read leaves room below the high-water mark
   * @param context the application's, for 'readable'
   */
  constructor(readable: Readable, wanted: () => void, context?: AsyncResource) {
    this.#readable = readable;
    this.#wanted = wanted;
    this.#context = context;
    readable.read = (size?: number) => this.#read(size);
    readable.setEncoding = (encoding) => {
      // Node decodes what it has, and of half a character nothing would be left to tell of.
      this.release();
      return proto.setEncoding.call(readable, encoding);
    };
    Object.defineProperty(readable, 'readableLength', { get: () => this.#available, configurable: true });
  }

  /** Whether a piece that comes now is to be joined with others: what came before it has not been read. */
  static wants(readable: Readable, chunk: Buffer): boolean {
    return chunk.length < PIECE && readable.readableLength > 0;
  }

  /** Whether the application may be sent more than it has. */
  get roomLeft(): boolean {
    return this.#available < this.#readable.readableHighWaterMark;
  }

  get #available(): number {
    return lengthOf.call(this.#readable) + this.#length;
  }

  keep(chunk: Buffer): void {
    const length = this.#length + chunk.length;
    if (this.#bytes === undefined || length > this.#bytes.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(length, SMALLEST, 2 * this.#length));
      if (this.#bytes !== undefined) larger.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = larger;
    }
    this.#bytes.set(chunk, this.#length);
    this.#length = length;
    this.#tell();
  }

  /** Hands over what is kept, because what follows isn't. */
  release(): void {
    if (this.#bytes === undefined) return;
    const bytes = this.#bytes.subarray(0, this.#length);
    this.#bytes = undefined;
    this.#length = 0;
    if (this.#readable.push(bytes)) this.#wanted();
  }

  #read(size: number | undefined): unknown {
    // read(0) is Node's own way to have _read called.
    if (size !== 0) this.release();
    return proto.read.call(this.#readable, size);
  }

  /** Whoever waits for 'readable' hears of every piece, as of one that is pushed. */
  #tell(): void {
    if (this.#telling || this.#readable.listenerCount('readable') === 0) return;
    this.#telling = true;
    const tell = (): void => {
      this.#telling = false;
      if (this.#length > 0 && !this.#readable.destroyed) this.#readable.emit('readable');
    };
    if (this.#context === undefined) process.nextTick(tell);
    else this.#context.runInAsyncScope(process.nextTick, process, tell);
  }
}
