/**
 * Lingering close (RFC 9112 §9.6): half-close, read and discard until the peer's FIN, or until it has been silent for
 * long enough. Closing with unread bytes would make the kernel send a RST, which destroys what the peer has not read yet.
 */
import type { Socket } from 'node:net';
import { Alarm, now } from './timing.js';

/** How often within the allowed silence the socket is asked whether bytes came. */
const CHECKS_PER_SILENCE = 4;

/** Our FIN needs a moment even when nothing more is waited for, in ms. */
const SHORTEST_LOOK = 5;

export interface LingerLimits {
  /** ms of the peer's silence. */
  readonly linger: number;
  /** ms in all. */
  readonly lingerMax: number;
}

/**
 * Ends our side of the socket, at once. It is over when all our bytes are with the kernel and the peer has ended its
 * side too, or been silent for `linger` ms since; or when `lingerMax` is over. The socket must be flowing; destroying it
 * is the caller's.
 */
export class LingeringClose {
  readonly over: Promise<void>;
  readonly #socket: Socket;
  readonly #readOn: () => boolean;
  readonly #alarm = new Alarm(() => this.#listen());
  #resolve: () => void = () => {};
  #linger: number;
  #until: number;
  #bytesRead: number;
  #silentSince = now();

  /** @param readOn called when the peer has been silent for too long: true if the socket wasn't flowing, and is again */
  constructor(socket: Socket, { linger, lingerMax }: LingerLimits, readOn = (): boolean => false) {
    this.#socket = socket;
    this.#readOn = readOn;
    this.#linger = linger;
    this.#until = this.#silentSince + lingerMax;
    this.#bytesRead = socket.bytesRead;
    this.over = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    socket.on('end', this.#look);
    socket.on('finish', this.#look);
    socket.on('close', this.#end);
    this.#wait();
    if (!socket.writableEnded && !socket.destroyed) socket.end();
    this.#look();
  }

  /** Shorter limits win; silence that has passed counts. */
  tighten({ linger, lingerMax }: LingerLimits): void {
    this.#linger = Math.min(this.#linger, linger);
    this.#until = Math.min(this.#until, now() + lingerMax);
    if (this.#alarm.at !== Infinity) this.#wait();
  }

  #listen(): void {
    const { bytesRead, writableFinished } = this.#socket;
    if (bytesRead !== this.#bytesRead || !writableFinished) {
      this.#bytesRead = bytesRead;
      this.#silentSince = now();
    }
    if (now() >= this.#silentSince + this.#linger && this.#readOn()) this.#silentSince = now();
    if (now() >= Math.min(this.#silentSince + this.#linger, this.#until)) this.#end();
    else this.#wait();
  }

  #wait(): void {
    const at = now();
    const look = Math.min(this.#silentSince + this.#linger, at + this.#linger / CHECKS_PER_SILENCE);
    this.#alarm.set(Math.min(this.#until, Math.max(look, at + SHORTEST_LOOK)));
  }

  readonly #look = (): void => {
    const { destroyed, readableEnded, writableFinished } = this.#socket;
    if (destroyed || (readableEnded && writableFinished)) this.#end();
  };

  readonly #end = (): void => {
    const socket = this.#socket;
    this.#alarm.clear();
    socket.off('end', this.#look);
    socket.off('finish', this.#look);
    socket.off('close', this.#end);
    this.#resolve();
  };
}

/** A lingering close whose limits stay as they are: resolves when it is over. */
export function lingeringClose(socket: Socket, limits: LingerLimits): Promise<void> {
  return new LingeringClose(socket, limits).over;
}
