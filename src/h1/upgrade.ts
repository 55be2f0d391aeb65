/**
 * A request that takes the connection out of HTTP (`Upgrade`, CONNECT), from its head until the application has the
 * socket. It waits until the requests before it have been answered.
 */
import { AsyncResource } from 'node:async_hooks';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { LiveConnection } from '../core/connection.js';
import type { RequestHost } from '../core/host.js';
import { refusalText } from './refusal.js';

/** Whose connection it is. */
export interface UpgradeOwner {
  readonly connection: LiveConnection;
  readonly socket: Socket;
  readonly host: RequestHost;
  /** The application is about to get the socket: from now on it has what Node gives it. */
  handingOver(): void;
  /** Nothing more will be answered. */
  end(): void;
}

/** What the application gets. */
export interface Upgrading {
  readonly event: 'upgrade' | 'connect';
  readonly req: IncomingMessage;
  /** The socket, or what stands for it until the request's body is complete. */
  readonly stream: Duplex;
  readonly head: Buffer;
  /** When its first byte came, on the `now()` clock. */
  readonly startedAt: number;
}

export class Upgrade {
  readonly #owner: UpgradeOwner;
  readonly #what: Upgrading;
  #state: 'waiting' | 'handed over' | 'counted' = 'waiting';
  #turn: () => void;

  constructor(owner: UpgradeOwner, what: Upgrading) {
    this.#owner = owner;
    this.#what = what;
    this.#turn = () => this.#handOver();
  }

  /** Answers before it are still to be written. */
  waitFor(answering: () => ServerResponse | undefined): void {
    const stop = forwardDrain(this.#owner.socket, answering);
    const handOver = AsyncResource.bind(this.#turn);
    this.#turn = () => {
      stop();
      handOver();
    };
  }

  /** All that came before has been answered. */
  turn(): void {
    this.#turn();
  }

  #handOver(): void {
    const { connection, socket, host } = this.#owner;
    const { event, req, stream, head } = this.#what;
    // Who listened for an upgrade when it came may have gone while it waited.
    if (!host.listensFor(event)) {
      this.#state = 'counted';
      connection.ended('malformed');
      this.drop();
      socket.resume();
      socket.write(refusalText(501));
      this.#owner.end();
      return;
    }
    this.#state = 'handed over';
    this.#owner.handingOver();
    host.upgrade(connection, event, req, stream, head);
  }

  /** Nobody gets it: what comes on it is discarded. */
  drop(): void {
    this.#what.stream.resume();
  }

  /** An answer before it has ended the connection. */
  passedOver(): void {
    if (this.#state !== 'waiting') return;
    this.#state = 'counted';
    this.#owner.connection.ended('unserved');
    this.drop();
  }

  /** The connection is closed. */
  closed(): void {
    const { connection } = this.#owner;
    const { req, startedAt } = this.#what;
    if (this.#state === 'counted') return;
    if (this.#state === 'handed over' && !connection.destroyedHere) connection.ended('served');
    else connection.aborted(req.method ?? '', req.url ?? '', startedAt);
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
