/**
 * Connection over node:http2's own sessions, for servers that already run on them. It can't announce a shutdown: after
 * any GOAWAY its session silently ignores new streams, so requests that are on the wire when a drain begins are lost,
 * and nobody can count them. What it can do: answer every request that had arrived.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import {
  createServer,
  type Http2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2';
import { claimSocket, connectionOfSocket, type LiveConnection } from '../core/connection.js';
import type { DrainTerms, Driver } from '../core/driver.js';
import type { RequestHost } from '../core/host.js';
import { lingeringClose } from '../core/linger.js';
import { now } from '../core/timing.js';

interface OpenStream {
  readonly method: string;
  readonly path: string;
  readonly startedAt: number;
}

export class BuiltinH2Connection implements Driver {
  readonly protocol = 'h2';
  readonly rtt = undefined;
  readonly #connection: LiveConnection;
  readonly #session: ServerHttp2Session;
  readonly #open = new Set<OpenStream>();
  #terms: DrainTerms | undefined;

  constructor(connection: LiveConnection, session: ServerHttp2Session) {
    this.#connection = connection;
    this.#session = session;
  }

  /** A stream has become a request. */
  received(req: Http2ServerRequest, res: Http2ServerResponse): void {
    const { stream } = res;
    const open = { method: req.method, path: req.url, startedAt: now() };
    this.#open.add(open);
    this.#connection.began();
    let finished = false;
    res.once('finish', () => {
      finished = true;
    });
    stream.once('close', () => {
      if (!this.#open.delete(open)) return;
      if (finished) this.#connection.ended('served');
      else if (stream.aborted && !this.#session.destroyed) this.#connection.ended('cancelled');
      else this.#connection.aborted(open.method, open.path, open.startedAt);
    });
  }

  /** GOAWAY with the last stream that was accepted; accepted streams go on. */
  announce(terms: DrainTerms): void {
    this.#terms = terms;
    if (!this.#session.closed) this.#session.close();
  }

  tighten(terms: DrainTerms): void {
    this.#terms = terms;
  }

  async settle(): Promise<void> {}

  commit(): void {}

  /** After the last stream the session ends its socket by itself; its 'close' would only come with the peer's FIN. */
  finish(): Promise<void> {
    const { socket } = this.#connection;
    return new Promise((resolve) => {
      if (socket.writableFinished) resolve();
      else socket.once('finish', resolve);
    });
  }

  async linger(): Promise<void> {
    if (this.#terms !== undefined) await lingeringClose(this.#connection.socket, this.#terms);
  }

  async cut(): Promise<void> {}

  closed(): void {
    for (const { method, path, startedAt } of this.#open) this.#connection.aborted(method, path, startedAt);
    this.#open.clear();
  }
}

/** An unlistening node:http2 server for sockets that are handed to it. */
export function createBuiltinH2Server(host: RequestHost): Http2Server {
  const server = createServer();
  const drivers = new WeakMap<ServerHttp2Session, BuiltinH2Connection>();
  server.on('session', (session) => {
    const connection = connectionOfSocket(session.socket);
    if (connection === undefined) return;
    const driver = new BuiltinH2Connection(connection, session);
    drivers.set(session, driver);
    claimSocket(session, connection);
    connection.attach(driver);
  });
  server.on('request', (req, res) => {
    const { session } = req.stream;
    const connection = connectionOfSocket(session);
    if (session === undefined || connection === undefined) return;
    drivers.get(session as ServerHttp2Session)?.received(req, res);
    // Once the session is gone, the socket of these throws.
    for (const thing of [req, res, req.stream]) claimSocket(thing, connection);
    // The compatibility classes are not http's, only shaped alike.
    host.request(connection, 'request', req as unknown as IncomingMessage, res as unknown as ServerResponse);
  });
  server.on('sessionError', (error, session) => {
    const connection = connectionOfSocket(session);
    if (connection !== undefined) host.clientError(connection, error, connection.socket);
  });
  return server;
}
