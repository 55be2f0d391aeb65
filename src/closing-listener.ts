/**
 * A listener that is being closed, from the call until it and its sockets are closed. As with node:http, the server may
 * listen anew before that: it is a server for new connections then, unless it has been stopped again meanwhile.
 */
import type { Server as NetServer } from 'node:net';

export class ClosingListener {
  /** Resolves when it and its sockets are closed, or the server listens anew. */
  readonly over: Promise<void>;
  readonly #server: NetServer;
  readonly #close: () => void;
  #isStoppedAgain = false;

  /**
   * @param close net.Server's own
   * @param onOver called ahead of the server's other listeners: what they do may be to listen, or to stop it
   */
  constructor(server: NetServer, close: () => void, onOver: () => void) {
    this.#server = server;
    this.#close = close;
    this.over = new Promise((resolve) => {
      const over = (): void => {
        server.off('close', over).off('listening', onListening);
        onOver();
        resolve();
      };
      const onListening = (): void => {
        if (this.#isStoppedAgain) close();
        else over();
      };
      server.prependListener('close', over).prependListener('listening', onListening);
    });
    close();
  }

  /** The server is stopped again: what it is about to listen on is closed, too. */
  stopAgain(): void {
    this.#isStoppedAgain = true;
    if (this.#server.listening) this.#close();
  }
}
