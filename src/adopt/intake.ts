/**
 * Which connections an adopted server has, and who drives each: those that come from now on, those whose parser or
 * session the server can name, and those that show themselves later.
 */
import type { ServerHttp2Session } from 'node:http2';
import { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { connectionOfSocket, LiveConnection } from '../core/connection.js';
import type { Recycler } from '../core/recycle.js';
import type { Registry } from '../core/registry.js';
import type { DrainOptions } from '../core/shutdown.js';
import { attachParsed, canJoin, joinParsed, reportResponses } from '../h1/adopted.js';
import { type H1Context, h1ConnectionOf } from '../h1/connection.js';
import { attachBuiltin, type BuiltinH2Connection, builtinOf } from '../h2/builtin.js';
import { closeIfSilent } from '../handshake.js';
import {
  isParsed,
  keepsAlive,
  type ParsedSocket,
  parsedSocketsOf,
  sessionsOf,
  socketUnder,
} from '../http-internals.js';
import { rawSocketOf } from '../socket-internals.js';
import { type AdoptableServer, isTls } from './options.js';

/** As on lastcall's own server: ms without a byte until TCP asks whether the peer is still there. */
const KEEP_ALIVE_DELAY = 60_000;

export class Intake {
  readonly #server: AdoptableServer;
  readonly #connections: Registry;
  readonly #h1: H1Context;
  readonly #drain: DrainOptions;
  readonly #recycler: Recycler<LiveConnection> | undefined;

  constructor(
    server: AdoptableServer,
    connections: Registry,
    h1: H1Context,
    drain: DrainOptions,
    recycler: Recycler<LiveConnection> | undefined,
  ) {
    this.#server = server;
    this.#connections = connections;
    this.#h1 = h1;
    this.#drain = drain;
    this.#recycler = recycler;
    reportResponses(server);
  }

  /** Joins what is open already. */
  joinAll(): void {
    for (const parsed of parsedSocketsOf(this.#server)) this.#join(parsed);
    for (const session of sessionsOf(this.#server)) this.session(session);
  }

  /** The server has accepted a socket, and is about to do something with it. */
  accepted(raw: unknown): void {
    if (!(raw instanceof Socket) || connectionOfSocket(raw) !== undefined) return;
    const connection = this.#add(raw);
    if (isTls(this.#server) && connection.driver === undefined) closeIfSilent(connection, raw);
  }

  /** A TLS handshake is done. */
  secured(socket: unknown): void {
    if (socket instanceof TLSSocket) this.#connectionOn(socket);
  }

  /** The server has taken a socket: it may have put a parser on it. */
  taken(socket: unknown): void {
    if (!(socket instanceof Socket) || !isParsed(socket) || h1ConnectionOf(socket) !== undefined) return;
    // A server of node:http2 sets its class of responses anew with every connection.
    reportResponses(this.#server);
    const connection = connectionOfSocket(socket);
    // One that was upgraded, or a tunnel, is the application's, also if it has Node parse HTTP on it once more.
    if (connection !== undefined && connection.driver === undefined) attachParsed(connection, socket, this.#h1);
  }

  /** The driver of a session; `undefined` for one whose socket isn't a socket, or is gone. */
  session(session: ServerHttp2Session): BuiltinH2Connection | undefined {
    const known = builtinOf(session);
    if (known !== undefined || session.destroyed) return known;
    const connection = this.#connectionOn(socketUnder(session));
    return connection && attachBuiltin(connection, session);
  }

  /** The connection of the socket that its protocol is on, registered if need be. */
  #connectionOn(socket: Socket): LiveConnection | undefined {
    const known = connectionOfSocket(socket);
    if (known !== undefined || !(socket instanceof Socket) || socket.destroyed) return known;
    if (!(socket instanceof TLSSocket)) return this.#add(socket);
    const raw = rawSocketOf(socket);
    if (!(raw instanceof Socket)) return undefined;
    const connection = connectionOfSocket(raw) ?? this.#add(raw);
    connection.secured(socket);
    return connection;
  }

  #add(raw: Socket): LiveConnection {
    const connection = new LiveConnection(raw, isTls(this.#server));
    connection.drainDefaults = this.#drain;
    connection.observer = this.#recycler?.watch(connection);
    // Half-open as its connections are now, a client that has gone looks like one that waits for its answer.
    if (!keepsAlive(this.#server)) raw.setKeepAlive(true, KEEP_ALIVE_DELAY);
    this.#connections.add(connection);
    return connection;
  }

  #join(parsed: ParsedSocket): void {
    const { socket } = parsed;
    if (socket.destroyed || h1ConnectionOf(socket) !== undefined || !canJoin(parsed, () => this.#rejoin(socket)))
      return;
    const connection = this.#connectionOn(socket);
    if (connection !== undefined) joinParsed(connection, parsed, this.#h1);
  }

  #rejoin(socket: Socket): void {
    const parsed = parsedSocketsOf(this.#server).find((one) => one.socket === socket);
    if (parsed !== undefined) this.#join(parsed);
  }
}
