/**
 * Where programs listen that can't be asked which port they were given.
 */
import { connect, createServer } from 'node:net';

/** ms */
const PATIENCE = 20_000;

/**
 * A port of 127.0.0.1 that nobody listens on, below those that the system gives to whoever asks for any: outgoing
 * connections have those, and one of them that goes to such a port in vain may be connected with itself.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const probe = createServer().listen(port, '127.0.0.1');
    const free = await new Promise<boolean>((resolve) => {
      probe.once('listening', () => resolve(true)).once('error', () => resolve(false));
    });
    await new Promise((resolve) => probe.close(resolve));
    if (free) return port;
  }
}

function accepts(place: number | string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(typeof place === 'number' ? { host: '127.0.0.1', port: place } : { path: place });
    socket.once('error', () => resolve(false));
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}

/**
 * Waits until somebody listens there; false if nobody does in time, or before the program that was to has ended.
 *
 * @param place a port of 127.0.0.1, or the path of a UNIX socket
 */
export async function listens(place: number | string, ended: Promise<unknown>): Promise<boolean> {
  const until = performance.now() + PATIENCE;
  let hasEnded = false;
  void ended.then(() => {
    hasEnded = true;
  });
  while (!(await accepts(place))) {
    if (hasEnded || performance.now() > until) return false;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return true;
}
