/**
 * Stops reading from a client that pipelines more requests than wait for their turn. node:http reads on whenever a
 * handler reads its request or an answer has gone out, so holding has to be repeated each time.
 */
import type { Socket } from 'node:net';

export class Backlog {
  readonly #socket: Socket;
  #held = false;
  #watching = false;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Nothing is read. */
  get held(): boolean {
    return this.#held;
  }

  /** False: nothing was read already. */
  hold(): boolean {
    if (this.#held) return false;
    this.#held = true;
    this.#socket.pause();
    if (this.#watching) return true;
    this.#watching = true;
    // 'resume' comes before the first read.
    this.#socket.on('resume', () => {
      if (this.#held) this.#socket.pause();
    });
    return true;
  }

  release(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#socket.resume();
  }
}
