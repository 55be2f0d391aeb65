/**
 * How answers reach the socket: joined. node:http writes an answer in two or three parts, the last of them empty, and
 * under TLS Node gets memory for a vector of them twice, which costs more than encrypting a small answer.
 */
import type { Socket } from 'node:net';

/** Up to here, copying is cheaper than a vector; and it is one TLS record. */
const JOIN_BELOW = 16_384;

/** `'buffer'` goes with bytes, and must: Node aborts the process when a socket's _write() gets it wrong. */
type Encoding = BufferEncoding | 'buffer';

type Chunk =
  | { readonly chunk: string; readonly encoding: BufferEncoding }
  | { readonly chunk: Buffer; readonly encoding: 'buffer' };
type Done = (error?: Error | null) => void;
type Vector = { _write(chunk: unknown, encoding: Encoding, done: Done): void; _writev?: Writev };
type Writev = (this: Vector, chunks: readonly Chunk[], done: Done) => void;

const NONE: Chunk = { chunk: '', encoding: 'latin1' };

/** In the place of a socket's _writev(), which the stream calls with all that was written since it was corked. */
function writeJoined(this: Vector, chunks: readonly Chunk[], done: Done): void {
  let size = 0;
  let filled = 0;
  let last: Chunk = NONE;
  for (const one of chunks) {
    if (one.chunk.length === 0) continue;
    size += bytesOf(one);
    filled++;
    last = one;
  }
  if (filled <= 1) this._write(last.chunk, last.encoding, done);
  else if (size <= JOIN_BELOW) this._write(joined(chunks, size), 'buffer', done);
  else (Object.getPrototypeOf(this) as Required<Vector>)._writev.call(this, chunks, done);
}

function bytesOf(one: Chunk): number {
  return one.encoding === 'buffer' ? one.chunk.length : Buffer.byteLength(one.chunk, one.encoding);
}

function joined(chunks: readonly Chunk[], size: number): Buffer {
  const bytes = Buffer.allocUnsafe(size);
  let at = 0;
  for (const { chunk, encoding } of chunks) {
    if (encoding === 'buffer') {
      bytes.set(chunk, at);
      at += chunk.length;
    } else at += bytes.write(chunk, at, encoding);
  }
  return bytes;
}

/** Joins what is written to a socket in one go, as long as it is little. */
export function joinSmallWrites(socket: Socket): void {
  const vector = socket as unknown as Vector;
  // A duplex that isn't Node's own socket may not take vectors.
  if (typeof vector._writev === 'function') vector._writev = writeJoined;
}
