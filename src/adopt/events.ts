/**
 * Stands before the events of an adopted server: what concerns a connection goes to its driver first, everything else,
 * and what the driver lets through, to the server's listeners. For Node's own code, and for the application, the server
 * is the same object with the same listeners.
 */
import { IncomingMessage, type ServerResponse } from 'node:http';
import {
  Http2ServerRequest,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { claimSocket, connectionOfSocket } from '../core/connection.js';
import type { RequestEvent } from '../core/host.js';
import { type H1Connection, h1ConnectionOf } from '../h1/connection.js';
import type { Emit, OwnApplication } from './application.js';
import type { Intake } from './intake.js';
import { type AdoptableServer, limitsOf } from './options.js';

/** What Node 20 adds to `keepAliveTimeout`, in ms; later ones tell by a property. */
const KEEP_ALIVE_BUFFER = 1_000;

/** Puts `route` in the place of the server's `emit`. */
export function interceptEvents(server: AdoptableServer, route: Emit): void {
  Object.defineProperty(server, 'emit', { value: route, writable: true, configurable: true, enumerable: false });
}

export class EventRouter {
  readonly #server: AdoptableServer;
  readonly #emit: Emit;
  readonly #intake: Intake;
  readonly #application: OwnApplication;

  /** @param emit the server's own */
  constructor(server: AdoptableServer, emit: Emit, intake: Intake, application: OwnApplication) {
    this.#server = server;
    this.#emit = emit;
    this.#intake = intake;
    this.#application = application;
  }

  readonly route: Emit = (event, ...args) => {
    switch (event) {
      case 'connection':
        this.#intake.accepted(args[0]);
        return this.#thenTaken(event, args);
      case 'secureConnection':
        this.#intake.secured(args[0]);
        return this.#thenTaken(event, args);
      case 'session':
        this.#intake.session(args[0] as ServerHttp2Session);
        return this.#emit(event, ...args);
      case 'stream':
        return this.#stream(event, args);
      case 'request':
      case 'checkContinue':
      case 'checkExpectation':
        return this.#request(event, args);
      case 'upgrade':
      case 'connect':
        return this.#upgrade(event, args);
      case 'clientError':
        return this.#clientError(event, args);
      case 'timeout':
        return this.#timeout(event, args);
      default:
        return this.#emit(event, ...args);
    }
  };

  #thenTaken(event: string, args: unknown[]): boolean {
    const heard = this.#emit(event, ...args);
    this.#intake.taken(args[0]);
    return heard;
  }

  #stream(event: string, args: unknown[]): boolean {
    const [stream, headers] = args as [ServerHttp2Stream, IncomingHttpHeaders];
    const { session } = stream;
    if (session !== undefined) this.#intake.session(session as ServerHttp2Session)?.received(stream, headers);
    const connection = connectionOfSocket(stream);
    return connection === undefined ? this.#emit(event, ...args) : this.#application.handle(connection, event, ...args);
  }

  #request(event: RequestEvent, args: unknown[]): boolean {
    const [req, res] = args as [IncomingMessage, ServerResponse];
    const driver = req instanceof IncomingMessage ? this.#driverOn(req.socket) : undefined;
    if (driver?.deliver(event, res) === true) return true;
    if ((req as unknown) instanceof Http2ServerRequest) {
      const connection = connectionOfSocket((req as unknown as Http2ServerRequest).stream);
      // Once the session is gone, the socket of these throws.
      if (connection !== undefined) for (const thing of [req, res]) claimSocket(thing, connection);
    }
    return this.#emit(event, ...args);
  }

  #upgrade(event: 'upgrade' | 'connect', args: unknown[]): boolean {
    const [req, stream, head] = args as [IncomingMessage, Duplex, Buffer];
    const driver = req instanceof IncomingMessage ? this.#driverOn(req.socket) : undefined;
    if (driver === undefined) return this.#emit(event, ...args);
    driver.upgrade(event, req, stream, head);
    return true;
  }

  #clientError(event: string, args: unknown[]): boolean {
    const [error, socket] = args as [Error & { code?: string }, unknown];
    const driver = this.#driverOn(socket);
    if (driver === undefined) return this.#emit(event, ...args);
    // Node looks every 30 s, and in a timer; the driver keeps the same times itself.
    if (error.code !== 'ERR_HTTP_REQUEST_TIMEOUT') driver.clientError(error);
    return true;
  }

  #timeout(event: string, args: unknown[]): boolean {
    const [socket] = args as [Socket];
    const driver = this.#driverOn(socket);
    if (driver === undefined) return this.#emit(event, ...args);
    if (!this.#isKeepAlive(socket)) driver.inactive(() => this.#emit(event, ...args));
    return true;
  }

  /**
   * Whether this is the timer that Node sets when an answer is complete, to destroy the socket when it rings. How long
   * idle connections are kept is `keepAlive.hold`'s; a `server.timeout` that is longer goes on.
   */
  #isKeepAlive(socket: Socket): boolean {
    const { keepAliveTimeout = 0, keepAliveTimeoutBuffer = KEEP_ALIVE_BUFFER, timeout = 0 } = limitsOf(this.#server);
    const waited = socket.timeout ?? 0;
    if (keepAliveTimeout === 0 || connectionOfSocket(socket)?.active !== 0) return false;
    if (waited !== keepAliveTimeout && waited !== keepAliveTimeout + keepAliveTimeoutBuffer) return false;
    if (timeout > 0) socket.setTimeout(Math.max(1, timeout - waited));
    return true;
  }

  /** The driver of a connection of this server: another may pass on what its own have brought. */
  #driverOn(socket: unknown): H1Connection | undefined {
    const driver = typeof socket === 'object' && socket !== null ? h1ConnectionOf(socket as Socket) : undefined;
    return driver?.host === this.#application ? driver : undefined;
  }
}
