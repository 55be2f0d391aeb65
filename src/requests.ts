/**
 * How a request reaches the application: in an async context of its own, as an event of the server, with what its
 * handler throws or rejects caught and reported. The same for every protocol.
 */
import { AsyncResource } from 'node:async_hooks';
import type { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { LiveConnection } from './core/connection.js';
import type { RequestEvent, RequestHost } from './core/host.js';
import { beginHandling, endHandling } from './core/self-wait.js';

/** Gives requests to the listeners of a server. */
export class Application implements RequestHost {
  readonly #server: EventEmitter;

  constructor(server: EventEmitter) {
    this.#server = server;
  }

  request(connection: LiveConnection, event: RequestEvent, req: IncomingMessage, res: ServerResponse): void {
    // Streams decoded from one read share an execution context: without a resource of its own, what one handler puts
    // into an AsyncLocalStorage would be there for the next.
    const context = new AsyncResource('LASTCALLREQUEST');
    try {
      context.runInAsyncScope(this.#call, this, connection, event, req, res);
    } catch (error) {
      this.#failed(connection, error, req, res);
    }
  }

  #call(connection: LiveConnection, event: RequestEvent, req: IncomingMessage, res: ServerResponse): void {
    const listeners = this.#server.rawListeners(event);
    if (listeners.length === 0) {
      res.writeHead(404).end();
      return;
    }
    const outer = beginHandling(connection);
    try {
      for (const listener of listeners) {
        const result: unknown = listener.call(this.#server, req, res);
        if (isThenable(result)) result.then(undefined, (error: unknown) => this.#failed(connection, error, req, res));
      }
    } finally {
      endHandling(outer);
    }
  }

  upgrade(
    _connection: LiveConnection,
    event: 'upgrade' | 'connect',
    req: IncomingMessage,
    stream: Duplex,
    head: Buffer,
  ): boolean {
    return new AsyncResource('LASTCALLREQUEST').runInAsyncScope(() => this.#server.emit(event, req, stream, head));
  }

  clientError(_connection: LiveConnection, error: Error & { code?: string }, stream: Duplex): boolean {
    return this.#server.emit('clientError', error, stream);
  }

  listensFor(event: string): boolean {
    return this.#server.listenerCount(event) > 0;
  }

  /** A handler failed: its client gets a 500, or an answer that is visibly cut; the process goes on. */
  #failed(connection: LiveConnection, error: unknown, req: IncomingMessage, res: ServerResponse): void {
    if (!this.#server.emit('handlerError', error, req, res)) {
      console.error(`lastcall: the handler of ${req.method} ${req.url} failed:`, error);
    }
    if (res.writableEnded || res.destroyed) return;
    if (!res.headersSent) {
      for (const name of res.getHeaderNames()) res.removeHeader(name);
      res.writeHead(500, { 'content-type': 'text/plain' }).end('Internal Server Error\n');
    } else if (connection.protocol === 'h2') {
      res.destroy(error instanceof Error ? error : new Error(String(error)));
    } else {
      connection.destroy();
    }
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}
