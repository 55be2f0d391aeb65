/**
 * Tells HTTP/2 with prior knowledge from HTTP/1.1 on a cleartext connection, by the connection preface (RFC 9113 §3.4).
 * It decides at the first byte that differs: the shortest HTTP/1.0 request is shorter than the preface. What says
 * nothing for too long is HTTP/1.1's to close: its driver counts a request that crosses the close.
 */
import type { Socket } from 'node:net';
import type { LiveConnection, Protocol } from './core/connection.js';
import { silentUntil } from './core/driver.js';
import { Alarm, now } from './core/timing.js';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** How long a preface that has begun may take, in ms. */
const PREFACE_TIMEOUT = 10_000;

/**
 * Waits for the first bytes of a connection and calls back with its protocol; the bytes are on the socket again then.
 *
 * @param hold ms that a connection may say nothing; `found` is told when that is why it is called
 */
export function sniffProtocol(
  connection: LiveConnection,
  socket: Socket,
  hold: number,
  found: (protocol: Protocol, silentTooLong: boolean) => void,
): void {
  let head: Buffer = Buffer.alloc(0);

  const done = (): void => {
    alarm.clear();
    connection.beforeProtocol = undefined;
    socket.off('data', read);
    socket.off('end', ended);
    socket.off('close', done);
  };
  const decide = (protocol: Protocol): void => {
    done();
    socket.pause();
    if (head.length > 0) socket.unshift(head);
    found(protocol, head.length === 0);
  };
  /** Silent until its time was up, or a client that stopped in the middle of what may have been the preface. */
  const alarm = new Alarm(() => decide('http/1.1'));
  const read = (chunk: Buffer): void => {
    head = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
    const length = Math.min(head.length, PREFACE.length);
    if (PREFACE.compare(head, 0, length, 0, length) !== 0) decide('http/1.1');
    else if (length === PREFACE.length) decide('h2');
    else if (head === chunk) alarm.set(now() + PREFACE_TIMEOUT);
  };
  const ended = (): void => {
    done();
    socket.destroy();
  };

  alarm.set(now() + hold);
  connection.beforeProtocol = (terms) => {
    if (head.length === 0) alarm.atMost(silentUntil(terms));
  };
  socket.on('data', read);
  socket.resume();
  socket.on('end', ended);
  socket.on('close', done);
}
