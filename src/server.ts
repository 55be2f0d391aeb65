/**
 * createServer: one net.Server accepts, an unlistening tls.Server shakes hands, and each socket goes to the driver of
 * the protocol that its client chose. What a protocol does is decided in h1/ and h2/, what a drain is in core/.
 */
import type { Server as HttpServer, IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { Server as NetServer, type Socket } from 'node:net';
import {
  createServer as createTlsServer,
  type SecureContextOptions,
  type TLSSocket,
  type Server as TlsServer,
} from 'node:tls';
import { connectionOfSocket, LiveConnection, type Protocol } from './core/connection.js';
import type { RequestEvent } from './core/host.js';
import { keepAliveSettings } from './core/keep-alive.js';
import { duration, integer } from './core/options.js';
import { type ConnectionFilter, Registry } from './core/registry.js';
import { type DrainSummary, summarize } from './core/report.js';
import { type DrainOptions, type DrainSettings, drain, drainSettings } from './core/shutdown.js';
import { now } from './core/timing.js';
import { Forwarding } from './forward.js';
import { type H1Context, h1ConnectionOf } from './h1/connection.js';
import { attachH1, createH1Server } from './h1/server.js';
import { createBuiltinH2Server } from './h2/builtin.js';
import { rawSocketOf } from './node-internals.js';
import { type ServerOptions, type ServerSettings, serverSettings } from './options.js';
import { Application } from './requests.js';
import { sniffProtocol } from './sniff.js';

/** The whole budget of a shutdown, in ms: within Kubernetes' 30 s. */
const SHUTDOWN_TIMEOUT = 25_000;

/** How long `close()` lets an idle connection bring one more request, in ms. */
const CLOSE_IDLE_WAIT = 1_000;

/** How many event-loop turns without a new connection mean that the accept queue is empty. */
const QUIET_TURNS = 2;

/** Options of `server.shutdown`: those of a drain; `timeout` is the whole budget, default 25,000 ms. */
export type ShutdownOptions = DrainOptions;

/**
 * A net.Server that behaves like an http.Server, for HTTP/1.1 and HTTP/2 on one port.
 *
 * Events beyond net.Server's: `request`, `upgrade`, `connect`, `checkContinue`, `checkExpectation`, `clientError`,
 * `secureConnection`, `tlsClientError`, `timeout` as http.Server's and https.Server's; `handlerError(error, req, res)`
 * when a handler throws or rejects (without a listener it is printed to stderr).
 */
export class Server extends NetServer {
  /** The live connections. (Node's types still declare the count that it dropped long ago: hence `& number`.) */
  override readonly connections: Registry & number = new Registry() as Registry & number;
  readonly #settings: ServerSettings;
  readonly #application: Application;
  readonly #http: HttpServer;
  readonly #tls: TlsServer | undefined;
  readonly #h1: H1Context;
  readonly #builtin;
  readonly #forwarding = new Forwarding(this);
  #shutdown: Promise<DrainSummary> | undefined;
  /** How connections that are accepted during a shutdown are drained. */
  #accepting: DrainSettings | undefined;

  constructor(settings: ServerSettings) {
    super({ allowHalfOpen: false, noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 });
    this.#settings = settings;
    this.#application = new Application(this);
    this.#http = createH1Server(settings.h1);
    this.#h1 = {
      host: this.#application,
      settings: settings.h1,
      keepAlive: settings.keepAlive,
      recycling: settings.recycling,
    };
    this.#builtin = createBuiltinH2Server(this.#application);
    this.#tls = settings.tls && this.#createTls(settings);
    this.#forwardEvents();
    this.on('connection', (socket: Socket) => this.#accept(socket));
  }

  // ── what http.Server and https.Server have ──────────────────────────────────────────────────────────────────────

  /** ms for a complete request head, from its first byte (0: no limit). */
  get headersTimeout(): number {
    return this.#settings.h1.headersTimeout;
  }
  set headersTimeout(ms: number) {
    this.#settings.h1.headersTimeout = duration('headersTimeout', ms, 0);
  }

  /** ms for a whole request (0: no limit). */
  get requestTimeout(): number {
    return this.#settings.h1.requestTimeout;
  }
  set requestTimeout(ms: number) {
    this.#settings.h1.requestTimeout = duration('requestTimeout', ms, 0);
  }

  /** What responses advertise in `Keep-Alive: timeout`, in ms: `keepAlive.advertise`. How long connections are kept is `keepAlive.hold`. */
  get keepAliveTimeout(): number {
    return this.#settings.keepAlive.advertise;
  }
  set keepAliveTimeout(ms: number) {
    const { keepAlive } = this.#settings;
    keepAlive.advertise = keepAliveSettings({ advertise: ms, hold: keepAlive.hold }).advertise;
  }

  /** Requests after which a connection is drained (0: no limit). */
  get maxRequestsPerSocket(): number {
    return this.#settings.h1.maxRequestsPerSocket;
  }
  set maxRequestsPerSocket(count: number) {
    this.#settings.h1.maxRequestsPerSocket = integer('maxRequestsPerSocket', count, 0, 0, Number.MAX_SAFE_INTEGER);
  }

  get maxHeadersCount(): number | null {
    return this.#http.maxHeadersCount;
  }
  set maxHeadersCount(count: number | null) {
    this.#http.maxHeadersCount = count;
  }

  /** ms of inactivity after which an HTTP/1.1 socket emits 'timeout' and, without a listener, is destroyed (0: never). */
  get timeout(): number {
    return this.#http.timeout;
  }
  set timeout(ms: number) {
    this.#http.timeout = duration('timeout', ms, 0);
  }

  setTimeout(ms?: number | ((socket: Socket) => void), callback?: (socket: Socket) => void): this {
    const listener = typeof ms === 'function' ? ms : callback;
    if (typeof ms === 'number') this.timeout = ms;
    if (listener !== undefined) this.on('timeout', listener);
    return this;
  }

  /** Drains the connections that have no request in flight. */
  closeIdleConnections(): void {
    const settings = this.#drainSettings({ idleWait: 0 });
    for (const connection of this.connections) {
      if (connection.active === 0 && connection instanceof LiveConnection) void drain(connection, settings);
    }
  }

  /** Destroys every connection. */
  closeAllConnections(): void {
    for (const connection of this.connections) connection.destroy();
  }

  /** New certificates for new connections; live ones keep theirs. */
  setSecureContext(options: SecureContextOptions): void {
    this.#tlsServer('setSecureContext').setSecureContext(options);
  }

  addContext(hostname: string, context: SecureContextOptions): void {
    this.#tlsServer('addContext').addContext(hostname, context);
  }

  getTicketKeys(): Buffer {
    return this.#tlsServer('getTicketKeys').getTicketKeys();
  }

  setTicketKeys(keys: Buffer): void {
    this.#tlsServer('setTicketKeys').setTicketKeys(keys);
  }

  // ── draining ────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Drains the connections that a filter names; all others go on.
   *
   * @throws {TypeError} ERR_LASTCALL_OPTION for a filter that is empty or unknown, or an option of the wrong type
   * @throws {RangeError} ERR_LASTCALL_OPTION for an option out of its range
   */
  async drain(filter: ConnectionFilter, options: DrainOptions = {}): Promise<DrainSummary> {
    return this.connections.drain(filter, this.#drainSettings(options));
  }

  /**
   * Stops accepting, drains every connection, and resolves when nothing is left; nothing keeps the process alive then.
   * Calling it again joins the shutdown under way: the shorter limits win.
   *
   * @param options.timeout ms for all of it, lingering included (default 25,000); then what is left is cut
   */
  shutdown(options: ShutdownOptions = {}): Promise<DrainSummary> {
    const settings = drainSettings(options, 'shutdown', { ...this.#settings.drain, timeout: SHUTDOWN_TIMEOUT });
    this.#accepting = settings;
    for (const connection of this.#live()) void drain(connection, settings);
    this.#shutdown ??= this.#drainEverything(settings);
    return this.#shutdown;
  }

  /** `shutdown`, with at most a second for idle connections to bring one more request. */
  override close(callback?: (error?: Error) => void): this {
    if (!this.listening) {
      super.close(callback);
      return this;
    }
    if (callback !== undefined) this.once('close', callback);
    void this.shutdown({ idleWait: Math.min(CLOSE_IDLE_WAIT, this.#settings.drain.idleWait ?? Infinity) });
    return this;
  }

  async #drainEverything(settings: DrainSettings): Promise<DrainSummary> {
    const from = now();
    const reports = this.#live().map((connection) => drain(connection, settings));
    const onOpen = (connection: unknown): void => {
      if (connection instanceof LiveConnection) reports.push(drain(connection, this.#accepting ?? settings));
    };
    this.connections.on('open', onOpen);
    await this.#emptyAcceptQueue();
    const closed = this.listening ? new Promise((resolve) => super.close(resolve)) : undefined;
    let done = 0;
    while (done < reports.length) {
      done = reports.length;
      await Promise.all(reports);
    }
    await closed;
    this.connections.off('open', onOpen);
    this.#shutdown = undefined;
    this.#accepting = undefined;
    return summarize(await Promise.all(reports), now() - from);
  }

  /** Closing a listener resets the connections that wait in its accept queue: take them in first. */
  async #emptyAcceptQueue(): Promise<void> {
    let accepted = 0;
    const count = (): void => {
      accepted++;
    };
    this.on('connection', count);
    for (let quiet = 0; quiet < QUIET_TURNS; ) {
      const before = accepted;
      await new Promise((resolve) => setImmediate(resolve));
      quiet = accepted === before ? quiet + 1 : 0;
    }
    this.off('connection', count);
  }

  #drainSettings(options: DrainOptions): DrainSettings {
    return drainSettings(options, 'drain', this.#settings.drain);
  }

  #live(): LiveConnection[] {
    return [...this.connections].filter((connection) => connection instanceof LiveConnection);
  }

  // ── a connection's way in ───────────────────────────────────────────────────────────────────────────────────────

  #accept(raw: Socket): void {
    const connection = new LiveConnection(raw, this.#tls !== undefined);
    this.connections.add(connection);
    if (this.#tls !== undefined) {
      this.#tls.emit('connection', raw);
      return;
    }
    if (!this.#settings.h2) {
      this.#begin(connection, raw, 'http/1.1');
      return;
    }
    const { linger, lingerMax } = this.#settings.recycling;
    sniffProtocol(connection, raw, { hold: this.#settings.keepAlive.hold, linger, lingerMax }, (protocol) => {
      this.#begin(connection, raw, protocol);
      raw.resume();
    });
  }

  #createTls(settings: ServerSettings): TlsServer {
    const tls = createTlsServer({ ...settings.tls, ALPNProtocols: settings.h2 ? ['h2', 'http/1.1'] : ['http/1.1'] });
    tls.on('secureConnection', (socket) => {
      const connection = connectionOfSocket(rawSocketOf(socket));
      if (connection === undefined) {
        socket.destroy();
        return;
      }
      connection.secured(socket);
      this.emit('secureConnection', socket);
      this.#begin(connection, socket, socket.alpnProtocol === 'h2' ? 'h2' : 'http/1.1');
    });
    // Node only tells; without this a stalled or failed handshake would keep its descriptor.
    tls.on('tlsClientError', (error: Error, socket: TLSSocket) => {
      const raw = rawSocketOf(socket);
      // A balancer's TCP probe connects and leaves without a byte: no error.
      if (raw === undefined || raw.bytesRead > 0) this.emit('tlsClientError', error, socket);
      socket.destroy();
    });
    for (const event of ['newSession', 'resumeSession', 'OCSPRequest', 'keylog']) this.#forwarding.add(tls, event);
    return tls;
  }

  #begin(connection: LiveConnection, socket: Socket, protocol: Protocol): void {
    if (protocol === 'h2') this.#builtin.emit('connection', socket);
    else attachH1(this.#http, connection, socket, this.#h1);
  }

  // ── events of the http.Server behind ────────────────────────────────────────────────────────────────────────────

  #forwardEvents(): void {
    const deliver = (event: RequestEvent) => (req: IncomingMessage, res: ServerResponse) =>
      h1ConnectionOf(req.socket)?.deliver(event, req, res);
    this.#http.on('request', deliver('request'));
    this.#forwarding.add(this.#http, 'checkContinue', deliver('checkContinue'));
    this.#forwarding.add(this.#http, 'checkExpectation', deliver('checkExpectation'));
    this.#forwarding.add(this.#http, 'upgrade', (req: IncomingMessage, socket: Socket, head: Buffer) =>
      h1ConnectionOf(socket)?.upgrade('upgrade', req, head),
    );
    this.#http.on('timeout', (socket: Socket) => {
      if (!this.emit('timeout', socket)) setImmediate(() => connectionOfSocket(socket)?.destroy());
    });
  }

  #tlsServer(member: string): TlsServer {
    if (this.#tls !== undefined) return this.#tls;
    throw Object.assign(new Error(`${member}: this server is cleartext`), { code: 'ERR_LASTCALL_CLEARTEXT' });
  }
}

/**
 * Creates a server; `listen()` starts it.
 *
 * ```ts
 * const server = createServer({ key, cert }, (req, res) => res.end('hello\n'));
 * server.listen(8443);
 * ```
 *
 * @throws {TypeError} ERR_LASTCALL_OPTION for an unknown option, one of the wrong type, or missing TLS material
 * @throws {RangeError} ERR_LASTCALL_OPTION for an option out of its range
 */
export function createServer(options: ServerOptions, listener?: RequestListener): Server {
  const server = new Server(serverSettings(options));
  if (listener !== undefined) server.on('request', listener);
  return server;
}
