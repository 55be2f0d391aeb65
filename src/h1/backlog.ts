/**
 * Stops reading from a client that pipelines more requests than wait for their turn. node:http reads on whenever a
 * handler reads its request or an answer has gone out, so holding has to be repeated each time. Tells when reading goes on.
 */
import { Socket } from 'node:net';

/** Who waits for what isn't read at the moment. */
export interface Reader {
  /** Reading goes on after it was stopped. */
  readsOn(): void;
}

export class Backlog {
  readonly #socket: Socket;
  readonly #reader: Reader;
  #held = false;
  #watching = false;

  /** @param reader is told when reading goes on, if it was held or somebody else was seen to have stopped it */
  constructor(socket: Socket, reader: Reader) {
    this.#socket = socket;
    this.#reader = reader;
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
    this.watch();
    return true;
  }

  /** Reading has been stopped, here or by node:http. */
  watch(): void {
    if (this.#watching) return;
    this.#watching = true;
    // 'resume' comes before the first read.
    this.#socket.on('resume', () => {
      if (this.#held) this.#socket.pause();
      else if (!this.#socket.isPaused()) this.#reader.readsOn();
    });
  }

  release(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#socket.resume();
  }

  /**
   * The connection is no longer HTTP: what comes next waits in the socket for the application. Reading that was stopped,
   * here or by node:http behind an answer that nobody reads, is begun by hand: the listener that would do so has gone
   * with the parser, and the stream believes that it is reading.
   */
  letGo(): void {
    this.#held = false;
    if (this.#socket instanceof Socket) this.#socket._read(0);
  }
}
