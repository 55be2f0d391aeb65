/**
 * What a mere duplex, handed to a server in the place of a socket, lacks of one: the count of what was received, by which a
 * client that sends is told from one that is silent.
 */
import type { Socket } from 'node:net';

type Push = Socket['push'];

/** Has a duplex count in `bytesRead` what comes from now on, and what waits in it. A socket does by itself. */
export function countReceived(socket: Socket): void {
  if (typeof socket.bytesRead === 'number') return;
  let received = socket.readableLength;
  const push: Push = socket.push;
  const counting: Push = (chunk: unknown, encoding) => {
    if (typeof chunk === 'string') received += Buffer.byteLength(chunk, encoding);
    else if (chunk instanceof Uint8Array) received += chunk.length;
    return push.call(socket, chunk, encoding);
  };
  socket.push = counting;
  Object.defineProperty(socket, 'bytesRead', { get: () => received, configurable: true, enumerable: true });
}
