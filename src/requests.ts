/**
 * How a request reaches the application: in an async context of its own, as an event of the server, with what its
 * handler throws or rejects caught and reported. The same for every protocol.
 */
import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import { channel } from 'node:diagnostics_channel';
import type { EventEmitter } from 'node:events';
import type { Server as HttpServer, IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { LiveConnection } from './core/connection.js';
import { REQUEST_RESOURCE, type RequestEvent, type RequestHost, type StreamHost } from './core/host.js';
import { emitApart } from './core/rethrow.js';
import { beginHandling, endHandling } from './core/self-wait.js';
import { forgetHead, isSilenced } from './http-internals.js';

/**
 * Whether what is entered into an AsyncLocalStorage within a resource is there when the resource is entered again: up to
 * Node 22. From Node 24 on a resource keeps what was there when it was made. To try it out would have Node follow every
 * promise and every callback from then on.
 */
const resourcesKeepWhatIsEntered = '_enable' in AsyncLocalStorage.prototype;

/** Called where a handler has begun: what it has entered holds for later events of its request, as with node:http. */
function contextForLater(context: AsyncResource): AsyncResource {
  return resourcesKeepWhatIsEntered ? context : new AsyncResource(REQUEST_RESOURCE);
}

/** What the client of a handler that failed is told. */
const REASON = 'Internal Server Error';
const BODY = `${REASON}\n`;

/** Answers 500; `false`: that failed, too (whoever hooks into heads may have been what failed before). */
function apologized(res: ServerResponse): boolean {
  try {
    for (const name of res.getHeaderNames()) res.removeHeader(name);
    const fields = { 'content-type': 'text/plain', 'content-length': BODY.length };
    // The reason phrase may be what was wrong with the answer that failed.
    res.writeHead(500, REASON, forgetHead(res) ? { ...fields, connection: 'close' } : fields).end(BODY);
    return true;
  } catch {
    return false;
  }
}

/** Gives requests to the listeners of a server. Those of HTTP/1.1 have been emitted by node:http already. */
export class Application implements RequestHost {
  readonly #server: EventEmitter;

  constructor(server: EventEmitter) {
    this.#server = server;
  }

  deliver(connection: LiveConnection, event: RequestEvent, req: IncomingMessage, res: ServerResponse): void {
    const listeners = this.#server.rawListeners(event);
    if (listeners.length === 0) {
      res.writeHead(404).end();
      return;
    }
    const outer = beginHandling(connection);
    try {
      for (const listener of listeners) {
        const result: unknown = listener.call(this.#server, req, res);
        if (isThenable(result)) {
          result.then(undefined, (error: unknown) => this.#failed(connection, error, req, res));
        }
      }
    } catch (error) {
      this.#failed(connection, error, req, res);
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
    const listeners = this.#server.rawListeners(event);
    const failed = (error: unknown): void => {
      this.#report(error, req);
      stream.destroy();
    };
    new AsyncResource(REQUEST_RESOURCE).runInAsyncScope(() => {
      const outer = beginHandling(connection);
      try {
        for (const listener of listeners) {
          const result: unknown = listener.call(this.#server, req, stream, head);
          if (isThenable(result)) result.then(undefined, failed);
        }
      } catch (error) {
        failed(error);
      } finally {
        endHandling(outer);
      }
    });
    return listeners.length > 0;
  }

  clientError(_connection: LiveConnection, error: Error & { code?: string }, stream: Duplex): boolean {
    return emitApart(this.#server, 'clientError', error, stream);
  }

  listensFor(event: string): boolean {
    return this.#server.listenerCount(event) > 0;
  }

  /** A handler failed: its client gets a 500, or an answer that is visibly cut; the process goes on. */
  #failed(connection: LiveConnection, error: unknown, req: IncomingMessage, res: ServerResponse): void {
    this.#report(error, req, res);
    // Of a request that was refused meanwhile the client has its answer.
    if (res.writableEnded || res.destroyed || isSilenced(res)) return;
    if (!res.headersSent && apologized(res)) return;
    if (connection.protocol === 'h2') {
      res.destroy(error instanceof Error ? error : new Error('the handler failed', { cause: error }));
    } else {
      // Not by force: a drain would take it for its own deadline's work.
      connection.reset();
    }
  }

  #report(error: unknown, req: IncomingMessage, res?: ServerResponse): void {
    if (emitApart(this.#server, 'handlerError', error, req, res)) return;
    const message = `lastcall: the handler of ${req.method} ${req.url} failed`;
    try {
      console.error(`${message}:`, error);
    } catch {
      // Whatever it threw has a way to be printed that throws, too.
      console.error(`${message} with what can't be printed`);
    }
  }
}

const requestStarted = channel('http.server.request.start');
const responseFinished = channel('http.server.response.finish');

/**
 * The host of requests that node:http didn't parse: they pass through the http.Server behind, and on its diagnostics
 * channels, as if it had. So tracing that hooks Node's http sees every protocol alike.
 */
export class EmittedByHttp extends Application implements StreamHost {
  readonly #events: EventEmitter;
  readonly #http: HttpServer;

  /** @param http its request listeners give what they get to `deliver` */
  constructor(server: EventEmitter, http: HttpServer) {
    super(server);
    this.#events = server;
    this.#http = http;
  }

  request(connection: LiveConnection, event: RequestEvent, req: IncomingMessage, res: ServerResponse): AsyncResource {
    // Streams decoded from one read share an execution context: without a resource of its own, what one handler puts
    // into an AsyncLocalStorage would be there for the next.
    const context = new AsyncResource(REQUEST_RESOURCE);
    return context.runInAsyncScope(this.#emit, this, context, connection, event, req, res);
  }

  #emit(
    context: AsyncResource,
    connection: LiveConnection,
    event: RequestEvent,
    req: IncomingMessage,
    res: ServerResponse,
  ): AsyncResource {
    if (requestStarted.hasSubscribers || responseFinished.hasSubscribers) {
      const message = { request: req, response: res, socket: req.socket, server: this.#http };
      requestStarted.publish(message);
      res.once('finish', () => responseFinished.publish(message));
    }
    if (this.#http.timeout > 0 && this.listensFor('timeout')) {
      res.on('timeout', () => this.#events.emit('timeout', req.socket));
    }
    if (!this.#http.emit(event, req, res)) this.deliver(connection, event, req, res);
    return contextForLater(context);
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}
