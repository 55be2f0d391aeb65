/**
 * createServer: a net.Server that has what http.Server and https.Server have, and drains. It accepts; each socket finds
 * its protocol in handshake.ts and goes to that protocol's driver, and its requests come back through requests.ts.
 */
import { randomBytes } from 'node:crypto';
import type { Server as HttpServer, IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { Server as NetServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { SecureContextOptions, Server as TlsServer } from 'node:tls';
import { ClosingListener } from './closing-listener.js';
import { LiveConnection, type Protocol } from './core/connection.js';
import { Crowd } from './core/crowd.js';
import { countReceived } from './core/duplex.js';
import type { ConnectionFilter } from './core/filter.js';
import type { RequestEvent } from './core/host.js';
import { keepAliveSettings } from './core/keep-alive.js';
import { type LimitCounts, noLimits } from './core/limits.js';
import { liveConnectionOf } from './core/lookup.js';
import { duration, integer, optionsObject } from './core/options.js';
import { Recycler } from './core/recycle.js';
import { Registry } from './core/registry.js';
import type { DrainSummary } from './core/report.js';
import { emitApart } from './core/rethrow.js';
import { DRAIN_OPTIONS, type DrainOptions, type DrainSettings, drainSettings } from './core/shutdown.js';
import { WAVE_OPTIONS, type WaveOptions, type WaveSettings, waveSettings } from './core/waves.js';
import { Forwarding } from './forward.js';
import { type H1Context, h1ConnectionOf } from './h1/connection.js';
import { attachH1, createH1Server } from './h1/server.js';
import { attachH2, type H2Context } from './h2/connection.js';
import { Handshakes } from './handshake.js';
import {
  renewedContext,
  type ServerOptions,
  type ServerSettings,
  serverSettings,
  tlsMaterialError,
} from './options.js';
import { Application, EmittedByHttp } from './requests.js';
import { drainIdle, drainOf, type ShutdownOptions, Stop, shutdownSettings } from './stop.js';
import { keepTicksCheap } from './tick-shape.js';

keepTicksCheap();

/** How long `close()` lets an idle connection bring one more request, in ms. */
const CLOSE_IDLE_WAIT = 1_000;

/** Whoever was trusted before these changed must not come back by resuming a session. */
const TRUST_OPTIONS = ['ca', 'crl'] as const;

/** Bytes of a server's session ticket keys, as Node has it. */
const TICKET_KEYS = 48;

/** Options of `server.drain`: what each drain is like, and when it begins. `signal` stops the waves; it cuts nothing. */
export type DrainManyOptions = Omit<DrainOptions, 'signal'> & WaveOptions;

/** Options of `server.rotate`: how the connections with the old certificate are drained. */
export type RotateOptions = Omit<DrainManyOptions, 'follow'>;

/**
 * A net.Server that behaves like an http.Server, for HTTP/1.1 and HTTP/2 on one port.
 *
 * Events beyond net.Server's: `request`, `upgrade`, `connect`, `checkContinue`, `checkExpectation`, `clientError`,
 * `secureConnection`, `tlsClientError`, `timeout` as http.Server's and https.Server's (`clientError` of an HTTP/2
 * connection: its client has been told, the socket isn't writable, and what is written to it goes nowhere);
 * `handlerError(error, req, res)` when a handler throws or rejects, `res` undefined for `upgrade` and `connect` (without
 * a listener it is printed to stderr);
 * `proxyError(error, socket)` when a connection that must begin with a PROXY header doesn't: a `ProxyProtocolError`, and
 * the balancer's socket, which is closed next; `stopping` when a shutdown begins.
 */
export class Server extends NetServer {
  /** The live connections. (Node's types still declare the count that it dropped long ago: hence `& number`.) */
  override readonly connections: Registry & number = new Registry() as Registry & number;
  /** How often each limit has fired since the server was made, for exporters: counters that only grow. */
  readonly limits: Readonly<LimitCounts> = noLimits();
  readonly #settings: ServerSettings;
  readonly #application: Application;
  readonly #http: HttpServer;
  readonly #handshakes: Handshakes;
  readonly #h1: H1Context;
  readonly #h2: H2Context | undefined;
  readonly #forwarding = new Forwarding(this);
  readonly #recycler: Recycler<LiveConnection> | undefined;
  /** Drained without waiting for one more request: they have had the time that their clients were promised. */
  readonly #crowd = new Crowd((connection) => drainOf(connection, { ...this.#settings.recycling, idleWait: 0 }));
  /** The shutdown under way, */
  #stop: Stop | undefined;
  /** and its listener, once it is being closed. */
  #closing: ClosingListener | undefined;

  constructor(settings: ServerSettings) {
    super({ allowHalfOpen: false, noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 });
    this.#settings = settings;
    this.#recycler = settings.recycle && new Recycler<LiveConnection>(settings.recycle, drainOf);
    this.#application = new Application(this);
    this.#http = createH1Server(settings.h1);
    this.#h1 = {
      host: this.#application,
      settings: settings.h1,
      keepAlive: settings.keepAlive,
      recycling: settings.recycling,
      inactivity: this.#http,
    };
    this.#h2 = settings.h2 && { ...this.#h1, host: new EmittedByHttp(this, this.#http), settings: settings.h2 };
    this.#handshakes = new Handshakes(settings, this, this.#forwarding, (connection, socket, protocol) =>
      this.#begin(connection, socket, protocol),
    );
    this.#receiveFromHttp();
    this.on('connection', (socket: Socket) => this.#accept(socket));
    // Those that filled it may not have been idle for long enough then.
    this.on('drop', () => this.#makeRoom());
  }

  // ── what http.Server and https.Server have ──────────────────────────────────────────────────────────────────────

  /** ms for a complete request head, from its first byte (0: no limit). */
  get headersTimeout(): number {
    return this.#settings.h1.headersTimeout;
  }
  set headersTimeout(ms: number) {
    const { h1, h2 } = this.#settings;
    h1.headersTimeout = duration('headersTimeout', ms, 0);
    if (h2 !== undefined) h2.headersTimeout = h1.headersTimeout;
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

  /**
   * How much longer than their clients are told idle connections are kept at least, in ms: what `keepAlive.hold` has beyond
   * `keepAlive.advertise`. To set it never shortens `hold`.
   */
  get keepAliveTimeoutBuffer(): number {
    const { advertise, hold } = this.#settings.keepAlive;
    return hold - advertise;
  }
  set keepAliveTimeoutBuffer(ms: number) {
    const { keepAlive } = this.#settings;
    keepAlive.hold = Math.max(keepAlive.hold, keepAlive.advertise + duration('keepAliveTimeoutBuffer', ms, 0));
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

  /**
   * ms of inactivity after which an HTTP/1.1 socket or an HTTP/2 stream of a new connection is closed, unless somebody
   * listens for 'timeout' (0: never). Live HTTP/1.1 connections have it from their next answer on.
   */
  get timeout(): number {
    return this.#http.timeout;
  }
  set timeout(ms: number) {
    this.#http.timeout = duration('timeout', ms, 0);
    if (this.#settings.h2 !== undefined) this.#settings.h2.timeout = ms;
  }

  setTimeout(ms?: number | ((socket: Socket) => void), callback?: (socket: Socket) => void): this {
    const listener = typeof ms === 'function' ? ms : callback;
    if (typeof ms === 'number') this.timeout = ms;
    if (listener !== undefined) this.on('timeout', listener);
    return this;
  }

  /** Drains the connections that have no request in flight. */
  closeIdleConnections(): void {
    drainIdle(this.connections.live(), this.#drainSettings({}));
  }

  /** Destroys every connection. */
  closeAllConnections(): void {
    for (const connection of this.connections) connection.destroy();
  }

  /**
   * New certificates for new connections; live ones keep theirs. Session tickets stay valid, unless `ca`, `crl` or
   * `ticketKeys` are given. Other TLS options that aren't given stay as they were.
   *
   * @param options those of `tls.createSecureContext`; what else `createServer` was given can't be changed
   * @throws {TypeError} ERR_LASTCALL_OPTION when an option is none of those, or the key or the certificate can't be used;
   *   then the old ones stay
   */
  setSecureContext(options: SecureContextOptions): void {
    this.#renewContext('setSecureContext', this.#tlsServer('setSecureContext'), options);
  }

  #renewContext(name: string, tls: TlsServer, options: SecureContextOptions): void {
    const renewed = renewedContext(this.#settings.tls ?? {}, options, name);
    // Node makes new ones for each context, or takes those that the first context was given.
    const isTrustNew = TRUST_OPTIONS.some((option) => options[option] !== undefined);
    const keys = options.ticketKeys ?? (isTrustNew ? randomBytes(TICKET_KEYS) : tls.getTicketKeys());
    try {
      tls.setSecureContext({ ...renewed, ticketKeys: keys });
    } catch (error) {
      throw tlsMaterialError(error);
    }
    this.#settings.tls = renewed;
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
  drain(filter: ConnectionFilter, options: DrainManyOptions = {}): Promise<DrainSummary> {
    const [each, waves] = this.#drainManySettings('drain', options, WAVE_OPTIONS);
    return this.connections.drain(filter, each, waves);
  }

  /**
   * New certificates for new connections, then a drain of every connection that is older. Session tickets stay valid,
   * unless `ca`, `crl` or `ticketKeys` are given. Other TLS options that aren't given stay as they were; contexts of
   * `addContext` do, too.
   *
   * @param tlsOptions as for `setSecureContext`
   * @param options as for `drain`
   * @returns what became of the older connections
   * @throws {TypeError} ERR_LASTCALL_OPTION when the key, the certificate or an option can't be used; nothing changes then
   * @throws {RangeError} ERR_LASTCALL_OPTION for an option out of its range; nothing changes then
   */
  rotate(tlsOptions: SecureContextOptions, options: RotateOptions = {}): Promise<DrainSummary> {
    const tls = this.#tlsServer('rotate');
    const [each, waves] = this.#drainManySettings(
      'rotate',
      options,
      WAVE_OPTIONS.filter((name) => name !== 'follow'),
    );
    this.#renewContext('rotate', tls, tlsOptions);
    return this.connections.drain('all', each, waves);
  }

  /** Whether new connections are wanted: it listens, and no shutdown has begun. For a balancer's health check. */
  get ready(): boolean {
    return this.listening && this.#stop === undefined;
  }

  /**
   * Stops the server, and resolves when nothing is left; nothing keeps the process alive then. If it listens anew
   * meanwhile, with `listen()`, new connections are served, and it resolves when the older ones are closed.
   *
   * `ready` is false at once. For `delay`, all goes on as usual. Then every connection is drained; what waits to be
   * accepted is taken in and served before the listener is closed. Calling it again joins the shutdown under way: the
   * shorter limits win.
   *
   * @param options.timeout ms for all of it, `delay` and lingering included (default 25,000); then what is left is cut
   * @param options.delay ms until the drains begin (default 0)
   * @throws {TypeError} ERR_LASTCALL_OPTION when an option is unknown or of the wrong type
   * @throws {RangeError} ERR_LASTCALL_OPTION when an option is out of its range
   */
  shutdown(options: ShutdownOptions = {}): Promise<DrainSummary> {
    const settings = shutdownSettings(options, this.#settings.drain);
    if (this.#stop !== undefined) {
      const joined = this.#stop.join(settings);
      this.#closing?.stopAgain();
      return joined;
    }
    // Nobody sends anybody to a server that doesn't listen.
    const delay = this.listening ? settings.delay : 0;
    const stop = new Stop(this.connections, { ...settings, delay }, () => this.#closeListener());
    this.#stop = stop;
    stop.run();
    emitApart(this, 'stopping');
    return stop.done;
  }

  /**
   * `shutdown`, with at most a second for idle connections to bring one more request. Like node:http's it waits for
   * answers as long as they take; a `shutdown` with a timeout joins it, and cuts them then.
   */
  override close(callback?: (error?: Error) => void): this {
    if (!this.listening && this.#stop === undefined) {
      super.close(callback);
      return this;
    }
    if (callback !== undefined) this.once('close', callback);
    void this.shutdown({
      timeout: Infinity,
      idleWait: Math.min(CLOSE_IDLE_WAIT, this.#settings.drain.idleWait ?? Infinity),
    });
    return this;
  }

  #closeListener(): Promise<void> {
    this.#closing = new ClosingListener(
      this,
      () => super.close(),
      () => {
        this.#stop = undefined;
        this.#closing = undefined;
      },
    );
    return this.#closing.over;
  }

  #drainSettings(options: DrainOptions, name = 'drain'): DrainSettings {
    return drainSettings(options, name, this.#settings.drain);
  }

  /** What each drain is like, and when it begins. */
  #drainManySettings(
    name: string,
    options: DrainManyOptions,
    known: readonly (keyof WaveOptions)[],
  ): [each: DrainSettings, waves: WaveSettings] {
    optionsObject(name, options, [...DRAIN_OPTIONS, ...known]);
    const each = Object.entries(options).filter(([key]) => !(known as readonly string[]).includes(key));
    return [this.#drainSettings(Object.fromEntries(each), name), waveSettings(options, name)];
  }

  // ── a connection's way in, and its requests' ────────────────────────────────────────────────────────────────────

  #accept(raw: Socket): void {
    countReceived(raw);
    const connection = new LiveConnection(raw, this.#handshakes.tls !== undefined);
    connection.drainDefaults = this.#settings.drain;
    connection.limitCounts = this.limits;
    connection.observer = this.#recycler?.watch(connection);
    this.connections.add(connection);
    this.#makeRoom();
    if (!raw.destroyed) this.#handshakes.start(connection, raw);
  }

  #makeRoom(): void {
    const { connections, maxConnections } = this;
    this.#crowd.makeRoom({ connections, maxConnections, promised: this.#settings.keepAlive.advertise });
  }

  #begin(connection: LiveConnection, socket: Socket, protocol: Protocol): void {
    if (protocol === 'h2' && this.#h2 !== undefined) attachH2(connection, socket, this.#h2);
    else attachH1(this.#http, connection, socket, this.#h1);
  }

  /** What the http.Server behind has parsed, or was given by the drivers of other protocols. */
  #receiveFromHttp(): void {
    const deliver = (event: RequestEvent) => (req: IncomingMessage, res: ServerResponse) => {
      const h1 = h1ConnectionOf(req.socket);
      if (h1 !== undefined) {
        h1.deliver(event, res);
        return;
      }
      const connection = liveConnectionOf(req);
      if (connection !== undefined) this.#application.deliver(connection, event, req, res);
    };
    this.#http.on('request', deliver('request'));
    this.#forwarding.add(this.#http, 'checkContinue', deliver('checkContinue'));
    this.#forwarding.add(this.#http, 'checkExpectation', deliver('checkExpectation'));
    this.#forwarding.add(this.#http, 'upgrade', (req: IncomingMessage, stream: Duplex, head: Buffer) =>
      h1ConnectionOf(req.socket)?.upgrade('upgrade', req, stream, head),
    );
    // Without a listener node:http would destroy the socket in the timer.
    this.#http.on('timeout', (socket: Socket) => h1ConnectionOf(socket)?.inactive(() => this.emit('timeout', socket)));
  }

  #tlsServer(member: string): TlsServer {
    const { tls } = this.#handshakes;
    if (tls !== undefined) return tls;
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
