/**
 * The rest of a request that is answered already: nobody waits for it any more, but the next request comes behind it.
 * How long it may take is timeouts.ts's.
 */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { cutBody, discardBody, discardDestroyed, isRead } from '../http-internals.js';

export class Tail {
  readonly #socket: Socket;
  readonly #whenOver: () => void;
  #req: IncomingMessage | undefined;
  /** When the request's turn came, on the `now()` clock. */
  since = 0;

  /** @param whenOver called when it has come to its end, unless another request has come */
  constructor(socket: Socket, whenOver: () => void) {
    this.#socket = socket;
    this.#whenOver = whenOver;
  }

  /** More of it is to come. */
  get isOpen(): boolean {
    return this.#req?.complete === false;
  }

  /** An answer is complete before its request. */
  begin(req: IncomingMessage, since: number): void {
    this.#req = req;
    this.since = since;
    const over = (): void => {
      if (this.#req !== req) return;
      this.#req = undefined;
      this.#whenOver();
    };
    const discard = (): void => discardDestroyed(req, this.#socket, over);
    if (req.destroyed) {
      discard();
      return;
    }
    if (!isRead(req)) discardBody(req);
    req.once('close', () => {
      if (req.complete) over();
      else discard();
    });
  }

  /** The next request has come. */
  forget(): void {
    this.#req = undefined;
  }

  /** Whoever reads it gets no more of it. */
  discard(): void {
    if (this.#req === undefined) return;
    cutBody(this.#req);
    discardBody(this.#req);
  }
}
