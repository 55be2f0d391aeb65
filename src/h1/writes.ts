/**
 * How answers reach the socket: joined. node:http writes an answer in two or three parts, the last of them empty, and
 * under TLS Node gets memory for a vector of them twice: some 3 % of what a small answer costs.
 */
import { Socket } from 'node:net';

/** Up to here, copying is cheaper than a vector; and it is one TLS record. */
const JOIN_BELOW = 16_384;

/** What was written, with the encoding that it was written with: `'buffer'` for bytes. */
type Chunk = { readonly chunk: Buffer | string; readonly encoding: BufferEncoding | 'buffer' };
type Done = (error?: Error | null) => void;
type Writev = (this: Vector, chunks: readonly Chunk[], done: Done) => void;
type Vector = {
  _write(chunk: Buffer | string, encoding: BufferEncoding | 'buffer', done: Done): void;
  _writev: Writev;
};

const { _writev: writev } = Socket.prototype as unknown as Vector;

/** In the place of a socket's _writev(), which the stream calls with all that was written since it was corked. */
function writeJoined(this: Vector, chunks: readonly Chunk[], done: Done): void {
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
  if (size > JOIN_BELOW && filled > 1) writev.call(this, chunks, done);
  else if (only === undefined || filled > 1) this._write(joined(chunks, size), 'buffer', done);
  else this._write(only.chunk, only.encoding, done);
}

/** How many bytes a chunk makes; too many to join, where only decoding it would tell. */
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

/** Joins what is written to a socket in one go, as long as it is little. */
export function joinSmallWrites(socket: Socket): void {
  const vector = socket as unknown as Vector;
  // A duplex that isn't Node's own socket has ways of its own, or none.
  if (vector._writev === writev) vector._writev = writeJoined;
}
