/**
 * The server's end of a simulated TCP connection: a Duplex with the members of a net.Socket that the server uses, and
 * with libuv's habits: what it reads in one poll, when a write completes, when 'close' comes.
 */
import { Duplex } from 'node:stream';
import type { Pollable } from './loop.js';
import type { Tcp } from './tcp.js';

type Done = (error?: Error | null) => void;

/** How many reads libuv does for one socket in one poll. */
const READS_PER_POLL = 32;

function transportError(code: string, call: string): Error {
  return Object.assign(new Error(`${call} ${code}`), { code, syscall: call });
}

/** The server's end: what the server takes for a net.Socket. */
export class SimSocket extends Duplex implements Pollable {
  readonly remoteAddress = '127.0.0.1';
  readonly remoteFamily = 'IPv4';
  readonly remotePort: number;
  readonly localAddress = '127.0.0.1';
  readonly localPort = 443;
  bytesRead = 0;
  bytesWritten = 0;
  marked = false;
  /** Bytes that the server gave to write(). */
  given = 0;
  /** Sees what the server writes. */
  onWrite: (bytes: Buffer) => void = () => {};
  /** When the server decided to half-close, on the loop's clock. */
  endedAt: number | undefined;
  readonly #tcp: Tcp;
  #reading = false;
  #pending: Buffer[] = [];
  #written: Done | undefined;
  #shutDown: Done | undefined;

  constructor(tcp: Tcp, remotePort: number) {
    super({ highWaterMark: 65_536 });
    this.#tcp = tcp;
    this.remotePort = remotePort;
  }

  setNoDelay(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  setTimeout(): this {
    return this;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', this.destroy);
  }
  resetAndDestroy(): this {
    this.#tcp.serverResets();
    return this.destroy() as this;
  }

  override _read(): void {
    this.#reading = true;
    if (this.#tcp.readable) this.#tcp.loop.mark(this);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    this.#begin([chunk], done);
  }

  override _writev(chunks: { chunk: Buffer; encoding: BufferEncoding }[], done: Done): void {
    this.#begin(
      chunks.map(({ chunk, encoding }) => (typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk)),
      done,
    );
  }

  #begin(buffers: Buffer[], done: Done): void {
    for (const buffer of buffers) {
      this.given += buffer.length;
      this.onWrite(buffer);
    }
    this.#pending = buffers;
    if (this.#tcp.resetAtServer) done(transportError('EPIPE', 'write'));
    else if (this.#proceed()) done();
    else this.#written = done;
  }

  /** Gives the kernel what it takes. True: that was all. */
  #proceed(): boolean {
    const { toClient, loop } = this.#tcp;
    for (let first = this.#pending[0]; first !== undefined; first = this.#pending[0]) {
      const taken = toClient.send(first);
      this.bytesWritten += taken;
      if (taken < first.length) {
        this.#pending[0] = first.subarray(taken);
        toClient.wait(() => loop.mark(this));
        return false;
      }
      this.#pending.shift();
    }
    return true;
  }

  override end(...args: unknown[]): this {
    this.endedAt ??= this.#tcp.loop.time;
    return super.end(...(args as []));
  }

  override _final(done: Done): void {
    this.#shutDown = done;
    this.#tcp.loop.mark(this);
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#tcp.serverCloses();
    this.#tcp.loop.closing(() => done(error));
  }

  /** The kernel reports: reads first, as libuv does, then writes. */
  poll(): void {
    const tcp = this.#tcp;
    for (let reads = 0; this.#reading && !this.destroyed && reads < READS_PER_POLL; reads++) {
      const bytes = tcp.serverReads(reads + 1 === READS_PER_POLL);
      if (bytes === undefined) break;
      this.bytesRead += bytes.length;
      tcp.loop.call(() => {
        if (!this.push(bytes)) this.#reading = false;
      });
    }
    if (this.#reading && !this.destroyed && !tcp.readable) {
      if (tcp.resetAtServer) tcp.loop.call(() => this.destroy(transportError('ECONNRESET', 'read')));
      else if (tcp.takeFin()) tcp.loop.call(() => this.push(null));
    }
    if (this.destroyed) return;
    if (this.#written !== undefined) this.#goOn(this.#written);
    else if (this.#shutDown !== undefined) {
      const done = this.#shutDown;
      this.#shutDown = undefined;
      tcp.serverFinishes();
      tcp.loop.call(() => done());
    }
    if (this.#reading && tcp.readable && !this.destroyed) tcp.loop.mark(this);
  }

  #goOn(done: Done): void {
    if (this.#tcp.resetAtServer) {
      this.#written = undefined;
      this.#tcp.loop.call(() => done(transportError('EPIPE', 'write')));
    } else if (this.#proceed()) {
      this.#written = undefined;
      this.#tcp.loop.call(() => done());
    }
  }
}
