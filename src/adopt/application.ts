/**
 * How requests of an adopted server reach its own listeners: as events of that server, as if nobody stood between. What
 * a listener throws or rejects goes where it went before.
 */
import { AsyncResource } from 'node:async_hooks';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { LiveConnection } from '../core/connection.js';
import { REQUEST_RESOURCE, type RequestEvent, type RequestHost } from '../core/host.js';
import { beginHandling, endHandling } from '../core/self-wait.js';

/** Emits an event of the server to its listeners, past whoever follows its events. */
export type Emit = (event: string, ...args: unknown[]) => boolean;

export class OwnApplication implements RequestHost {
  readonly #emit: Emit;
  readonly #count: (event: string) => number;

  constructor(emit: Emit, listenerCount: (event: string) => number) {
    this.#emit = emit;
    this.#count = listenerCount;
  }

  deliver(connection: LiveConnection, event: RequestEvent, req: IncomingMessage, res: ServerResponse): void {
    this.handle(connection, event, req, res);
  }

  /** Emits what is a handler's business: a drain that it begins of its own connection is noticed. */
  handle(connection: LiveConnection, event: string, ...args: unknown[]): boolean {
    const outer = beginHandling(connection);
    try {
      return this.#emit(event, ...args);
    } finally {
      endHandling(outer);
    }
  }

  upgrade(
    connection: LiveConnection,
    event: 'upgrade' | 'connect',
    req: IncomingMessage,
    stream: Duplex,
    head: Buffer,
  ): boolean {
    return new AsyncResource(REQUEST_RESOURCE).runInAsyncScope(this.handle, this, connection, event, req, stream, head);
  }

  clientError(_connection: LiveConnection, error: Error & { code?: string }, stream: Duplex): boolean {
    return this.#emit('clientError', error, stream);
  }

  listensFor(event: string): boolean {
    return this.#count(event) > 0;
  }
}
