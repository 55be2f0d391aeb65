/**
 * Lingering close (RFC 9112 §9.6): half-close, read and discard until the peer's FIN, or until it has been silent for
 * long enough. Closing with unread bytes would make the kernel send a RST, which destroys what the peer has not read yet.
 */
import type { Socket } from 'node:net';
import { Alarm, now } from './timing.js';

/** How often within the allowed silence the socket is asked whether bytes came. */
const CHECKS_PER_SILENCE = 4;

export interface LingerLimits {
  /** ms of the peer's silence. */
  readonly linger: number;
  /** ms in all. */
  readonly lingerMax: number;
}

/**
 * Ends our side of the socket and resolves once the peer has ended its side, has been silent for `linger` ms since our
 * last byte went out, or `lingerMax` is over. The socket must be flowing; destroying it is the caller's.
 */
export function lingeringClose(socket: Socket, { linger, lingerMax }: LingerLimits): Promise<void> {
  return new Promise((resolve) => {
    const until = now() + lingerMax;
    let bytesRead = socket.bytesRead;
    let waitingToBeWritten = socket.writableLength;
    let silentSince = now();
    const alarm = new Alarm(() => {
      // Progress of the peer's reading counts like its own bytes: the kernel takes our answer long before the peer does.
      if (socket.bytesRead !== bytesRead || socket.writableLength !== waitingToBeWritten) {
        bytesRead = socket.bytesRead;
        waitingToBeWritten = socket.writableLength;
        silentSince = now();
      }
      if (now() >= Math.min(silentSince + linger, until)) done();
      else wait();
    });
    const wait = (): void => {
      const next = Math.min(silentSince + linger, until, now() + linger / CHECKS_PER_SILENCE);
      alarm.set(Math.max(next, now()));
    };
    const done = (): void => {
      alarm.clear();
      socket.off('end', done);
      socket.off('close', done);
      resolve();
    };
    if (socket.destroyed || socket.readableEnded) {
      if (!socket.writableEnded) socket.end();
      if (socket.destroyed || socket.writableFinished) return resolve();
      socket.once('finish', done);
    }
    socket.once('end', done);
    socket.once('close', done);
    if (!socket.writableEnded) socket.end();
    wait();
  });
}
