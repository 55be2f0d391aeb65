/**
 * How answers reach the socket: small ones joined, large ones in slices, as far as this turn has room for them.
 * node:http writes an answer in two or three parts, the last of them empty, and under TLS Node gets memory for a vector
 * of them twice: some 3 % of what a small answer costs. What comes in one piece, however large, TLS encrypts in one go:
 * 8 MB keep everyone else waiting for some 10 ms, and are in memory once more until the client has read them.
 */
import { AsyncResource } from 'node:async_hooks';
import { Socket } from 'node:net';
import { largeWrites, MOST_SMALL, sliceFor, writeLarge } from '../core/large-writes.js';
import { rethrow } from '../core/rethrow.js';

/** What was written, with the encoding that it was written with: `'buffer'` for bytes. */
type Chunk = { readonly chunk: Buffer | string; readonly encoding: BufferEncoding | 'buffer' };
type Done = (error?: Error | null) => void;
type Writev = (this: Vector, chunks: readonly Chunk[], done: Done) => void;
/** On a socket: its last write that went in slices. */
const kSliced = Symbol('lastcall.sliced');
type Vector = {
  [kSliced]?: SlicedWrite;
  readonly destroyed: boolean;
  destroy(error: Error): unknown;
  _write(chunk: Buffer | string, encoding: BufferEncoding | 'buffer', done: Done): void;
  _writev: Writev;
};

const { _write: write, _writev: writev } = Socket.prototype as unknown as Vector;

/**
 * Tells of a write, whatever whoever wrote makes of it. TLS over a socket that is closed already fails its writes in the
 * middle of closing, where an exception would end that and be lost, and 'close' would never come. And Node destroys a
 * socket whose write has failed after it has told of it, unless it is told in vain.
 */
function toldApart(vector: Vector, done: Done): Done {
  return (error) => {
    if (vector.destroyed) {
      try {
        done(error);
      } catch (thrown) {
        rethrow(thrown);
      }
      return;
    }
    try {
      done(error);
    } finally {
      // Behind Node's own tick.
      if (error) process.nextTick(() => vector.destroy(error));
    }
  };
}

/** In the place of a socket's _writev(), which the stream calls with all that was written since it was corked. */
function writeJoined(this: Vector, chunks: readonly Chunk[], whenDone: Done): void {
  const done = toldApart(this, whenDone);
  let size = 0;
  let filled = 0;
  let only: Chunk | undefined;
  for (const one of chunks) {
    const bytes = bytesOf(one);
    if (bytes === 0) continue;
    size += bytes;
    filled++;
    only = one;
  }
  if (!Number.isFinite(size)) writev.call(this, chunks, done);
  else if (size > MOST_SMALL) new SlicedWrite(this, chunks, done).begin();
  else if (only !== undefined && filled === 1) write.call(this, only.chunk, plainest(only, size), done);
  else write.call(this, joined(chunks, size), 'buffer', done);
}

/** In the place of a socket's _write(): a chunk that is large goes in slices, each when the one before has gone. */
function writeSliced(this: Vector, chunk: Buffer | string, encoding: BufferEncoding | 'buffer', whenDone: Done): void {
  const done = toldApart(this, whenDone);
  if (chunk.length <= MOST_SMALL) write.call(this, chunk, encoding, done);
  else new SlicedWrite(this, [{ chunk, encoding }], done).begin();
}

/** Chunks that go together: at most `slice` bytes, large ones cut up. */
function groupsOf(chunks: readonly Chunk[], slice: number): Chunk[][] {
  const groups: Chunk[][] = [];
  let group: Chunk[] = [];
  let size = 0;
  for (const one of chunks) {
    const bytes = bytesOf(one);
    if (bytes === 0) continue;
    if (size + bytes > slice && group.length > 0) {
      groups.push(group);
      group = [];
      size = 0;
    }
    if (bytes <= slice) {
      group.push(one);
      size += bytes;
      continue;
    }
    const whole = typeof one.chunk === 'string' ? Buffer.from(one.chunk, one.encoding as BufferEncoding) : one.chunk;
    for (let at = 0; at < whole.length; at += slice) {
      groups.push([{ chunk: whole.subarray(at, at + slice), encoding: 'buffer' }]);
    }
  }
  if (group.length > 0) groups.push(group);
  return groups;
}

/** A write that goes in slices: one after the other, however soon the socket is done with each, as far as turns have room. */
class SlicedWrite {
  readonly #vector: Vector;
  readonly #done: Done;
  #left: readonly Chunk[][];
  #failed = false;
  /** What was written last has gone. */
  #written = true;
  #looping = false;
  /** Of whoever wrote, while it waits for a turn that has room: what comes of the write is told there. */
  #waits: AsyncResource | undefined;

  constructor(vector: Vector, chunks: readonly Chunk[], done: Done) {
    this.#vector = vector;
    this.#left = groupsOf(chunks, sliceFor(vector as unknown as Socket));
    this.#done = done;
  }

  begin(): void {
    this.#vector[kSliced] = this;
    this.#writeOn();
  }

  /** Whether all of it has gone to Node. */
  get isWhole(): boolean {
    return this.#left.length === 0 && !this.#failed;
  }

  /** What waits for a turn fails now. */
  failWaiting(): void {
    const context = this.#waits;
    if (context === undefined) return;
    this.#waits = undefined;
    this.#failed = true;
    context.runInAsyncScope(this.#done, undefined, socketClosed());
  }

  readonly #writeOn = (): void => {
    if (this.#looping) return;
    this.#looping = true;
    for (let [group] = this.#left; this.#written && group !== undefined; [group] = this.#left) {
      if (!largeWrites.hasRoom) {
        this.#looping = false;
        this.#wait();
        return;
      }
      this.#left = this.#left.slice(1);
      this.#written = false;
      this.#write(group);
    }
    this.#looping = false;
    if (this.#written) this.#done();
  };

  readonly #onWritten: Done = (error) => {
    // Node 20 calls a write complete whose socket is destroyed.
    const failure = error ?? (this.#vector.destroyed && this.#left.length > 0 ? socketClosed() : undefined);
    if (failure) {
      this.#failed = true;
      this.#done(failure);
      return;
    }
    this.#written = true;
    this.#writeOn();
  };

  #write(group: readonly Chunk[]): void {
    let size = 0;
    for (const one of group) size += bytesOf(one);
    const vector = this.#vector;
    const [one] = group;
    writeLarge(vector as unknown as Socket, size, () => {
      if (one === undefined || group.length > 1) writev.call(vector, group, this.#onWritten);
      else write.call(vector, one.chunk, plainest(one, size), this.#onWritten);
    });
  }

  #wait(): void {
    const context = new AsyncResource('LASTCALLWRITE');
    this.#waits = context;
    largeWrites.whenRoom(() => {
      if (this.#failed) return;
      this.#waits = undefined;
      context.runInAsyncScope(this.#writeOn);
    });
  }
}

/** What Node fails a write with whose socket has gone. */
function socketClosed(): Error {
  return Object.assign(new Error('Socket is closed'), { code: 'ERR_SOCKET_CLOSED' });
}

/** How many bytes a chunk makes; infinitely many where only decoding it would tell. */
function bytesOf({ chunk, encoding }: Chunk): number {
  if (typeof chunk !== 'string') return chunk.length;
  switch (encoding) {
    case 'latin1':
      return chunk.length;
    case 'utf8':
      return Buffer.byteLength(chunk);
    default:
      return Number.POSITIVE_INFINITY;
  }
}

/** The same bytes in the encoding that Node has least work with. */
function plainest({ chunk, encoding }: Chunk, bytes: number): BufferEncoding | 'buffer' {
  return encoding === 'utf8' && chunk.length === bytes ? 'latin1' : encoding;
}

function joined(chunks: readonly Chunk[], size: number): Buffer {
  const bytes = Buffer.allocUnsafe(size);
  let at = 0;
  for (const { chunk, encoding } of chunks) {
    if (typeof chunk === 'string') at += bytes.write(chunk, at, encoding as BufferEncoding);
    else {
      bytes.set(chunk, at);
      at += chunk.length;
    }
  }
  return bytes;
}

/** Whether all of what the stream has passed on to the socket has gone to Node, and not only a slice of it. */
export function isWhole(socket: Socket): boolean {
  return (socket as unknown as Vector)[kSliced]?.isWhole ?? true;
}

/** The socket is being destroyed: what waits for its turn fails now, ahead of 'close'. */
export function failWaiting(socket: Socket): void {
  (socket as unknown as Vector)[kSliced]?.failWaiting();
}

/** Joins what is written to a socket in one go when it is little, and slices it when it is much. */
export function pieceWrites(socket: Socket): void {
  const vector = socket as unknown as Vector;
  // A duplex that isn't Node's own socket has ways of its own, or none.
  if (vector._writev !== writev || vector._write !== write) return;
  vector._write = writeSliced;
  vector._writev = writeJoined;
}
