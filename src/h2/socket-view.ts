/**
 * What `req.socket` and `res.socket` are: the facts of the connection's socket (addresses, TLS) on an object of the
 * request's own. Destroying it resets this stream only; the bytes of the connection belong to the session, so writing,
 * reading, pausing and ending are refused.
 */
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { claimSocket, type LiveConnection } from '../core/connection.js';

/** What stands behind a view: a request's stream, or the connection as a whole. */
export interface Viewed {
  readonly socket: Socket;
  readonly connection: LiveConnection;
  /** Bytes that wait to be sent. */
  readonly queuedBytes: number;
  /** The application has ended it, and what waits is sent before it is over: `sent` of the view follows. */
  readonly endsByItself: boolean;
  /** Ends what is viewed; `close` of the view follows. */
  destroyed(error: Error | undefined): void;
  /** The view was given a time without traffic after which it emits `'timeout'`, or 0. */
  timeoutChanged(view: SocketView): void;
}

/** As many bytes as a response may queue before write() says to wait. */
export const VIEW_HIGH_WATER_MARK = 65_536;

function refused(what: string): Error & { code: string } {
  const error = new Error(`${what}: the socket of an HTTP/2 connection belongs to all of its streams`);
  return Object.assign(error, { code: 'ERR_LASTCALL_H2_SOCKET' });
}

export interface SocketView extends EventEmitter {}

/** A socket as one request sees it. An EventEmitter, but for the constructor: hardly any view ever has a listener. */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: its prototype is EventEmitter's, see below
export class SocketView {
  readonly #viewed: Viewed;
  destroyed = false;
  /** ms without traffic after which `'timeout'` is emitted; 0: never. */
  timeout = 0;
  /** It is to be destroyed once what was ended is sent. */
  #leavesSoon = false;
  #isClosed = false;

  constructor(viewed: Viewed) {
    this.#viewed = viewed;
    claimSocket(this, viewed.connection);
  }

  get #socket(): TLSSocket {
    return this.#viewed.socket as TLSSocket;
  }

  // Addresses, and how much went over the connection

  get remoteAddress(): string | undefined {
    return this.#viewed.connection.remoteAddress;
  }
  get remotePort(): number | undefined {
    return this.#viewed.connection.remotePort;
  }
  get remoteFamily(): string | undefined {
    return this.#socket.remoteFamily;
  }
  get localAddress(): string | undefined {
    return this.#viewed.connection.localAddress;
  }
  get localPort(): number | undefined {
    return this.#viewed.connection.localPort;
  }
  get localFamily(): string | undefined {
    return this.#socket.localFamily;
  }
  address(): ReturnType<Socket['address']> {
    return this.#socket.address();
  }
  get bytesRead(): number {
    return this.#socket.bytesRead;
  }
  get bytesWritten(): number {
    return this.#socket.bytesWritten;
  }

  // TLS; `undefined` on a cleartext connection, as on a net.Socket

  get encrypted(): true | undefined {
    return this.#socket.encrypted;
  }
  get authorized(): boolean {
    return this.#socket.authorized;
  }
  get authorizationError(): Error {
    return this.#socket.authorizationError;
  }
  get alpnProtocol(): string | false | null {
    return this.#socket.alpnProtocol;
  }
  get servername(): string | false | undefined {
    return this.#viewed.connection.servername;
  }
  getPeerCertificate(detailed?: boolean): ReturnType<TLSSocket['getPeerCertificate']> {
    return this.#socket.getPeerCertificate(detailed);
  }
  getPeerX509Certificate(): ReturnType<TLSSocket['getPeerX509Certificate']> {
    return this.#socket.getPeerX509Certificate();
  }
  getCertificate(): ReturnType<TLSSocket['getCertificate']> {
    return this.#socket.getCertificate();
  }
  getX509Certificate(): ReturnType<TLSSocket['getX509Certificate']> {
    return this.#socket.getX509Certificate();
  }
  getCipher(): ReturnType<TLSSocket['getCipher']> {
    return this.#socket.getCipher();
  }
  getProtocol(): string | null {
    return this.#socket.getProtocol();
  }
  getEphemeralKeyInfo(): ReturnType<TLSSocket['getEphemeralKeyInfo']> {
    return this.#socket.getEphemeralKeyInfo();
  }
  getFinished(): Buffer | undefined {
    return this.#socket.getFinished();
  }
  getPeerFinished(): Buffer | undefined {
    return this.#socket.getPeerFinished();
  }
  getSession(): Buffer | undefined {
    return this.#socket.getSession();
  }
  getSharedSigalgs(): string[] {
    return this.#socket.getSharedSigalgs();
  }
  getTLSTicket(): Buffer | undefined {
    return this.#socket.getTLSTicket();
  }
  isSessionReused(): boolean {
    return this.#socket.isSessionReused();
  }
  exportKeyingMaterial(length: number, label: string, context: Buffer): Buffer {
    return this.#socket.exportKeyingMaterial(length, label, context);
  }

  // The state of this view

  get readable(): boolean {
    return !this.destroyed;
  }
  get writable(): boolean {
    return !this.destroyed;
  }
  get closed(): boolean {
    return this.destroyed;
  }
  get readyState(): 'open' | 'closed' {
    return this.destroyed ? 'closed' : 'open';
  }
  get connecting(): boolean {
    return false;
  }
  get pending(): boolean {
    return false;
  }
  get writableLength(): number {
    return this.#viewed.queuedBytes;
  }
  get writableHighWaterMark(): number {
    return VIEW_HIGH_WATER_MARK;
  }
  get writableCorked(): number {
    return 0;
  }
  get readableHighWaterMark(): number {
    return VIEW_HIGH_WATER_MARK;
  }

  /** Emits `'timeout'` after `ms` without traffic of this request, once per silence; 0 turns it off. */
  setTimeout(ms: number, listener?: () => void): this {
    this.timeout = ms;
    if (listener !== undefined) {
      if (ms === 0) this.off('timeout', listener);
      else this.once('timeout', listener);
    }
    this.#viewed.timeoutChanged(this);
    return this;
  }

  /** Resets this request's stream; every other request of the connection goes on. */
  destroy(error?: Error): this {
    if (this.destroyed) return this;
    this.destroyed = true;
    this.#viewed.destroyed(error);
    return this;
  }
  /** What the application has ended is sent. */
  sent(): void {
    if (this.#leavesSoon) this.destroy();
  }

  /** What is viewed is over, however often that is said. */
  tellClosed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.emit('close', false);
  }

  /** As a socket's: what the application has ended is sent first. */
  destroySoon(): void {
    if (this.#viewed.endsByItself) this.#leavesSoon = true;
    else this.destroy();
  }
  resetAndDestroy(): this {
    return this.destroy();
  }

  // What a stream has no say in

  setNoDelay(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
  cork(): void {}
  uncork(): void {}
  resume(): this {
    return this;
  }

  // What is refused

  /** @throws ERR_LASTCALL_H2_SOCKET */
  write(): boolean {
    throw refused('write()');
  }
  /** @throws ERR_LASTCALL_H2_SOCKET */
  end(): this {
    throw refused('end()');
  }
  /** @throws ERR_LASTCALL_H2_SOCKET */
  read(): never {
    throw refused('read()');
  }
  /** @throws ERR_LASTCALL_H2_SOCKET */
  pause(): never {
    throw refused('pause()');
  }
  /** @throws ERR_LASTCALL_H2_SOCKET */
  pipe(): never {
    throw refused('pipe()');
  }
}

Object.setPrototypeOf(SocketView.prototype, EventEmitter.prototype);

/** Whoever waits for what they wrote learns that it is lost. */
function tellLost(args: readonly unknown[]): void {
  const callback = args.at(-1);
  if (typeof callback !== 'function') return;
  const error = new Error('the connection has failed, and takes nothing');
  process.nextTick(callback as (error: Error) => void, Object.assign(error, { code: 'ERR_STREAM_DESTROYED' }));
}

/**
 * The socket of a connection that has failed, as `'clientError'` gets it. Its client has been told why. Listeners write
 * an answer of HTTP/1.1, as Node's documentation has them do, and not all of them ask whether the socket is writable: what
 * they write goes nowhere. An exception would be the process's end, by a client's doing.
 */
export class FailedSocketView extends SocketView {
  override get writable(): boolean {
    return false;
  }
  override write(...args: unknown[]): boolean {
    tellLost(args);
    return false;
  }
  override end(...args: unknown[]): this {
    tellLost(args);
    return this;
  }
}
