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
 * Ends our side of the socket. Resolves once all our bytes are with the kernel and the peer has ended its side too, or
 * been silent for `linger` ms since; or when `lingerMax` is over. The socket must be flowing; destroying it is the
 * caller's.
 */
export function lingeringClose(socket: Socket, { linger, lingerMax }: LingerLimits): Promise<void> {
  return new Promise((resolve) => {
    const until = now() + lingerMax;
    let bytesRead = socket.bytesRead;
    let silentSince = now();
    const alarm = new Alarm(() => {
      if (socket.bytesRead !== bytesRead || !socket.writableFinished) {
        bytesRead = socket.bytesRead;
        silentSince = now();
      }
      if (now() >= Math.min(silentSince + linger, until)) done();
      else wait();
    });
    const wait = (): void => {
      const at = now();
      const look = Math.min(silentSince + linger, at + linger / CHECKS_PER_SILENCE);
      alarm.set(Math.min(until, Math.max(look, at + SHORTEST_LOOK)));
    };
    const look = (): void => {
      if (socket.destroyed || (socket.readableEnded && socket.writableFinished)) done();
    };
    const done = (): void => {
      alarm.clear();
      socket.off('end', look);
      socket.off('finish', look);
      socket.off('close', done);
      resolve();
    };
    socket.on('end', look);
    socket.on('finish', look);
    socket.on('close', done);
    wait();
    if (!socket.writableEnded && !socket.destroyed) socket.end();
    look();
  });
}
