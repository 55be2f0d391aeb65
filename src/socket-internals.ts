/**
 * Every undocumented member of Node's sockets that lastcall touches, TLS or not, each behind a typed function, and all of
 * them probed once when this module loads. Those of node:http are http-internals.ts's.
 */
import { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { Needs, symbolOf } from './node-needs.js';

/** An object around something that reads and writes: libuv's own, or JavaScript's that Node reads like one of those. */
type SocketHandle = {
  readonly bytesWritten?: unknown;
  readonly writeQueueSize?: unknown;
  readonly reset?: unknown;
  readonly useUserBuffer?: (buffer: Buffer) => void;
  readonly getpeername?: (out: object) => number;
  readonly _parentWrap?: Socket & { readonly stream?: Socket };
};

type SocketInternals = {
  _parent?: Socket | null;
  _handle?: SocketHandle | null;
};

/** The TCP socket under a TLS socket. */
export function rawSocketOf(socket: TLSSocket): Socket | undefined {
  return (socket as unknown as SocketInternals)._parent ?? undefined;
}

/** What a TLS socket was made of: the TCP socket, or a duplex, around which Node has put a socket of its own. */
export function underTls(socket: TLSSocket): Socket | undefined {
  const { _parent, _handle } = socket as unknown as SocketInternals;
  return _parent ?? _handle?._parentWrap?.stream;
}

/**
 * Bytes of a connection that the kernel has taken so far. A single large write counts as it goes out; without the
 * handle's own numbers it would count when it is complete.
 */
export function bytesTaken(socket: Socket): number {
  const raw = (socket as unknown as SocketInternals)._parent ?? socket;
  const { bytesWritten, writeQueueSize } = (raw as unknown as SocketInternals)._handle ?? {};
  if (typeof bytesWritten === 'number' && typeof writeQueueSize === 'number') return bytesWritten - writeQueueSize;
  return raw.bytesWritten - raw.writableLength;
}

type Destroy = (this: Socket, error: Error | null, callback: (error?: Error | null) => void) => void;
type WriteQueue = { readonly bufferedRequestCount: number };

/** Who wants to know how a connection ended that its peer has reset. */
export interface ResetWatcher {
  /** @param isTaken whether the kernel had taken all that was written */
  peerReset(isTaken: boolean): void;
  /** It is being destroyed, for whatever reason. */
  destroying?(): void;
}

const destroy: Destroy = Socket.prototype._destroy;

/** Of a socket that may be reset. */
interface Watched {
  /** What is written to: itself, or TLS over it. */
  readonly socket: Socket;
  readonly watcher: ResetWatcher;
  /** Bytes that had been written to the socket, and by the kernel's count, when watching began. */
  readonly written: number;
  readonly sent: number;
}

const kReset = Symbol('lastcall.reset');
type WatchedSocket = Socket & { [kReset]?: Watched };

/**
 * Tells of the peer's reset while there is a handle to ask. A client that resets as soon as it has its answer (HAProxy,
 * over TLS) is faster than word of the write, which Node then fails.
 *
 * @param socket what is written to, TLS or not. Either layer may be the first to notice; `_destroy` is where Node lets go
 *   of its handle
 */
export function watchForReset(socket: Socket, watcher: ResetWatcher): void {
  const { _parent } = socket as unknown as SocketInternals;
  const sent = (_parent as unknown as SocketInternals | undefined)?._handle?.bytesWritten;
  const reset = { socket, watcher, written: socket.bytesWritten, sent: Number(sent ?? 0) };
  for (const layer of [socket, _parent]) {
    // A duplex that isn't Node's own socket has no kernel to ask, and an end of its own.
    if (layer?._destroy !== destroy) continue;
    (layer as WatchedSocket)[kReset] = reset;
    layer._destroy = destroyWatched;
  }
}

function destroyWatched(this: WatchedSocket, ...args: Parameters<Destroy>): void {
  const { code, syscall } = (args[0] ?? {}) as NodeJS.ErrnoException;
  const reset = this[kReset];
  if (reset !== undefined && (code === 'ECONNRESET' || code === 'EPIPE')) {
    // What is written under TLS by hand is nothing; else the write that fails has not been taken.
    const failed = syscall === 'write' && this === reset.socket;
    reset.watcher.peerReset(!failed && isTaken(reset));
  }
  if (this === reset?.socket) reset.watcher.destroying?.();
  destroy.apply(this, args);
}

function isTaken({ socket, written, sent }: Watched): boolean {
  const raw = (socket as unknown as SocketInternals)._parent ?? socket;
  const { writeQueueSize, bytesWritten } = (raw as unknown as SocketInternals)._handle ?? {};
  const { _writableState } = socket as unknown as { readonly _writableState: WriteQueue };
  if (writeQueueSize !== 0 || _writableState.bufferedRequestCount !== 0) return false;
  // What TLS holds back behind a write of its own stays there when that fails.
  return raw === socket || Number(bytesWritten) - sent >= socket.bytesWritten - written;
}

/**
 * Whether a peer that has ended did so by FIN: after a RST Linux doesn't know it any more. `false` where the kernel can't be
 * asked, or may answer otherwise.
 */
export function endedInOrder(socket: Socket): boolean {
  const { getpeername, writeQueueSize } = (socket as unknown as SocketInternals)._handle ?? {};
  if (process.platform !== 'linux' || typeof getpeername !== 'function' || writeQueueSize !== 0) return false;
  return getpeername.call((socket as unknown as SocketInternals)._handle, {}) === 0;
}

/** Closes a socket with a RST. A Unix socket or a mere duplex has none, and for the first Node throws: they just close. */
export function resetAndDestroy(socket: Socket): void {
  const { _handle } = socket as unknown as SocketInternals;
  const resets = typeof socket.resetAndDestroy === 'function' && (!_handle || typeof _handle.reset === 'function');
  if (resets) socket.resetAndDestroy();
  else socket.destroy();
}

/** Whether nothing but the kernel gives a socket its bytes, in turns of the event loop of their own. */
function isFedByKernel(socket: Socket): boolean {
  const { _handle } = socket as unknown as SocketInternals;
  const under = _handle?._parentWrap;
  if (under === undefined || under === null) return Boolean(_handle);
  return under.stream === undefined && isFedByKernel(under);
}

const UNCONNECTED = new Socket();
const kBuffer = symbolOf(UNCONNECTED, 'kBuffer');
const kBufferCallback = symbolOf(UNCONNECTED, 'kBufferCb');

/**
 * Has a socket read into a buffer, as net.connect()'s option `onread` has a client's: what comes from now on doesn't come
 * as 'data'. Many sockets may share the buffer, as what was read is there only while `onRead` is called. Nothing changes
 * for a mere duplex: it may be written to, and read, while somebody still looks at what another has read.
 */
export function readInto(socket: Socket, buffer: Buffer, onRead: (size: number) => void): void {
  const { _handle } = socket as unknown as SocketInternals;
  if (kBuffer === undefined || kBufferCallback === undefined || !isFedByKernel(socket)) return;
  if (typeof _handle?.useUserBuffer !== 'function') return;
  _handle.useUserBuffer(buffer);
  Object.assign(socket, { [kBuffer]: buffer, [kBufferCallback]: onRead });
}

function probe(): void {
  const { need, check } = new Needs();
  const duplex = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
  const tlsSocket = new TLSSocket(duplex as Socket, { isServer: true });
  need((tlsSocket as unknown as SocketInternals)._parent !== undefined, 'TLSSocket._parent');
  need(kBuffer !== undefined && kBufferCallback !== undefined, "net.Socket's buffer of its own");
  const { _handle } = tlsSocket as unknown as SocketInternals;
  need(typeof _handle?.useUserBuffer === 'function', 'TLSSocket._handle.useUserBuffer');
  need((underTls(tlsSocket) as Duplex | undefined) === duplex, 'TLSSocket._handle._parentWrap.stream');
  need(tlsSocket._destroy === destroy, "TLSSocket._destroy, net.Socket's own");
  const { _writableState } = tlsSocket as unknown as { readonly _writableState: WriteQueue };
  need(_writableState.bufferedRequestCount === 0, 'Writable._writableState.bufferedRequestCount');
  tlsSocket.destroy();
  check();
}

probe();
