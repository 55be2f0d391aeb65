/**
 * Connection over node:http2's own sessions, for servers that already run on them. It can't announce a shutdown: after
 * any GOAWAY its session silently ignores new streams, so requests that are on the wire when a drain begins are lost,
 * and nobody can count them. What it can do: answer every request that had arrived. How it learns of the sessions and
 * streams of a server is adopt/'s.
 */
import type { IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import { claimSocket, connectionOfSocket, type LiveConnection } from '../core/connection.js';
import type { DrainTerms, Driver } from '../core/driver.js';
import { LingeringClose } from '../core/linger.js';
import { now } from '../core/timing.js';
import { streamsOf } from '../http-internals.js';

interface OpenStream {
  readonly method: string;
  readonly path: string;
  readonly startedAt: number;
}

/** Where a session keeps its driver. */
const kDriver = Symbol('lastcall.builtin');
type OwnedSession = ServerHttp2Session & { [kDriver]?: BuiltinH2Connection };

/** The driver of a session; `undefined` if it has none yet. */
export function builtinOf(session: ServerHttp2Session): BuiltinH2Connection | undefined {
  return (session as OwnedSession)[kDriver];
}

/** HTTP/2 begins on a connection; streams that are open already are followed from now on. */
export function attachBuiltin(connection: LiveConnection, session: ServerHttp2Session): BuiltinH2Connection {
  const driver = new BuiltinH2Connection(connection, session);
  (session as OwnedSession)[kDriver] = driver;
  claimSocket(session, connection);
  connection.attach(driver);
  for (const stream of streamsOf(session)) driver.received(stream, {});
  return driver;
}

export class BuiltinH2Connection implements Driver {
  readonly protocol = 'h2';
  readonly rtt = undefined;
  readonly smoothedRtt = undefined;
  readonly #connection: LiveConnection;
  readonly #session: ServerHttp2Session;
  readonly #open = new Set<OpenStream>();
  #terms: DrainTerms | undefined;
  #closing: LingeringClose | undefined;

  constructor(connection: LiveConnection, session: ServerHttp2Session) {
    this.#connection = connection;
    this.#session = session;
  }

  /**
   * A stream has become a request.
   *
   * @param headers of a stream that was open before its session was known, nobody knows them any more
   */
  received(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    // Once the session is gone, a stream's own way to it throws.
    if (connectionOfSocket(stream) !== undefined) return;
    claimSocket(stream, this.#connection);
    const { ':method': method = '', ':path': path = '', ':authority': authority, host } = headers;
    const open = { method: String(method), path: String(path), startedAt: now() };
    this.#open.add(open);
    this.#connection.began(authority ?? host);
    let { writableFinished: finished } = stream;
    stream.once('finish', () => {
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
    this.#closing?.tighten(terms);
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
    if (this.#terms === undefined) return;
    this.#closing ??= new LingeringClose(this.#connection.socket, this.#terms);
    await this.#closing.over;
  }

  async cut(): Promise<void> {}

  closed(): void {
    for (const { method, path, startedAt } of this.#open) this.#connection.aborted(method, path, startedAt);
    this.#open.clear();
  }
}
