/**
 * A request that takes the connection out of HTTP (`Upgrade`, CONNECT), from its head until the application has the
 * socket. It waits until the requests before it have been answered.
 */
import { AsyncResource } from 'node:async_hooks';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

export class Upgrade {
  readonly req: IncomingMessage;
  /** When its first byte came, on the `now()` clock. */
  readonly startedAt: number;
  /** Hands the connection over. */
  turn: () => void;
  readonly #stream: Duplex;

  /** @param stream what is handed over: the socket, or what stands for it until the request's body is complete */
  constructor(req: IncomingMessage, stream: Duplex, startedAt: number, handOver: () => void) {
    this.req = req;
    this.#stream = stream;
    this.startedAt = startedAt;
    this.turn = handOver;
  }

  /** Nobody gets it: what comes on it is discarded. */
  drop(): void {
    this.#stream.resume();
  }

  /** Answers before it are still to be written. */
  waitFor(socket: Socket, answering: () => ServerResponse | undefined): void {
    const stop = forwardDrain(socket, answering);
    const handOver = AsyncResource.bind(this.turn);
    this.turn = () => {
      stop();
      handOver();
    };
  }
}

/**
 * With the request that upgrades node:http has let go of the socket: what it did for the answers that are still to be
 * written is done here.
 *
 * @param answering the response that is being written
 * @returns ends it
 */
export function forwardDrain(socket: Socket, answering: () => ServerResponse | undefined): () => void {
  const onDrain = (): void => {
    answering()?.emit('drain');
  };
  socket.on('drain', onDrain);
  return () => {
    socket.off('drain', onDrain);
  };
}
