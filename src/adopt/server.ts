/**
 * adopt: the registry, drains, shutdown and recycling of lastcall for a server made elsewhere. Which connections it has
 * is intake.ts's, how its events are followed events.ts's.
 */
import { EventEmitter } from 'node:events';
import type { Server as NetServer } from 'node:net';
import { ClosingListener } from '../closing-listener.js';
import type { LiveConnection } from '../core/connection.js';
import type { ConnectionFilter } from '../core/filter.js';
import { optionsObject } from '../core/options.js';
import { Recycler } from '../core/recycle.js';
import { Registry } from '../core/registry.js';
import type { DrainSummary } from '../core/report.js';
import { emitApart } from '../core/rethrow.js';
import { DRAIN_OPTIONS, type DrainOptions, type DrainSettings, drainSettings } from '../core/shutdown.js';
import { Alarm, now } from '../core/timing.js';
import { WAVE_OPTIONS, waveSettings } from '../core/waves.js';
import { H1Connection } from '../h1/connection.js';
import { allowHalfOpenRequests } from '../http-internals.js';
import type { DrainManyOptions } from '../server.js';
import { drainIdle, drainOf, type ShutdownOptions, type ShutdownSettings, Stop, shutdownSettings } from '../stop.js';
import { keepTicksCheap } from '../tick-shape.js';
import { type Emit, OwnApplication } from './application.js';
import { EventRouter, interceptEvents } from './events.js';
import { Intake } from './intake.js';
import {
  type AdoptableServer,
  type AdoptOptions,
  type AdoptSettings,
  adoptSettings,
  checkAdoptable,
  limitsOf,
} from './options.js';

keepTicksCheap();

/** How long `close()` lets an idle connection bring one more request, in ms. */
const CLOSE_IDLE_WAIT = 1_000;

/** The members of a server that adopting it replaces. */
interface OwnMembers {
  readonly close: (callback?: (error?: Error) => void) => unknown;
}

/** What draining an adopted server came to. */
export interface AdoptedSummary extends DrainSummary {
  /** Connections that were left because nobody knew them: see `unknown()`. */
  readonly unknown: number;
}

interface AdoptedEvents {
  listening: [];
  stopping: [];
}

/**
 * A server of node:http, node:https or node:http2 that drains; emits `'stopping'` when a shutdown begins, and
 * `'listening'` when the server does.
 */
export class AdoptedServer extends EventEmitter<AdoptedEvents> {
  /** The server. */
  readonly server: AdoptableServer;
  /** Its live connections, as far as they are known. */
  readonly connections = new Registry();
  readonly #settings: AdoptSettings;
  readonly #own: OwnMembers;
  /** The shutdown under way, */
  #stop: Stop | undefined;
  /** and its listener, once it is being closed. */
  #closing: ClosingListener | undefined;
  #closesListener = false;
  /** When a shutdown no longer waits for connections that nobody knows, on the `now()` clock. */
  #until = Infinity;
  readonly #patience = new Alarm(() => this.#stopped());
  #stopped: () => void = () => {};

  constructor(server: AdoptableServer, options: AdoptOptions) {
    super();
    this.server = server;
    const limits = limitsOf(server);
    this.#settings = adoptSettings(server, options, limits.maxRequestsPerSocket ?? 0);
    const { h1, keepAlive, recycling, recycle, drain: drainDefaults } = this.#settings;
    const emit: Emit = server.emit.bind(server);
    const application = new OwnApplication(emit, (event) => server.listenerCount(event));
    const context = { host: application, settings: h1, keepAlive, recycling };
    const recycler = recycle && new Recycler<LiveConnection>(recycle, drainOf);
    const intake = new Intake(server, this.connections, context, drainDefaults, recycler);
    // node:http would end the connection on the last request's head, and refuse what is pipelined after it.
    if (limits.maxRequestsPerSocket !== undefined) limits.maxRequestsPerSocket = 0;
    allowHalfOpenRequests(server);
    interceptEvents(server, new EventRouter(server, emit, intake, application).route);
    this.#own = { close: server.close.bind(server) };
    this.#replaceClosing();
    server.on('listening', () => this.emit('listening'));
    intake.joinAll();
  }

  /**
   * Connections that the server has and nobody could name yet. An HTTP/2 session that was open when the server was
   * adopted joins at its next stream on Node 20 and 22; a connection in its TLS handshake once that is done; a WebSocket
   * that was open never. 0 for a server that was adopted before it listened.
   */
  unknown(): Promise<number> {
    return new Promise((resolve) => {
      this.server.getConnections((_error, count) => resolve(Math.max(0, (count ?? 0) - this.connections.size)));
    });
  }

  /**
   * Drains the connections that a filter names; all others go on.
   *
   * @throws {TypeError} ERR_LASTCALL_OPTION for a filter that is empty or unknown, or an option of the wrong type
   * @throws {RangeError} ERR_LASTCALL_OPTION for an option out of its range
   */
  drain(filter: ConnectionFilter, options: DrainManyOptions = {}): Promise<DrainSummary> {
    optionsObject('drain', options, [...DRAIN_OPTIONS, ...WAVE_OPTIONS]);
    const each = Object.entries(options).filter(([name]) => !(WAVE_OPTIONS as readonly string[]).includes(name));
    const waves = waveSettings(options);
    return this.connections.drain(filter, this.#drainSettings(Object.fromEntries(each)), waves);
  }

  /** Whether new connections are wanted: it listens, and no shutdown has begun. For a balancer's health check. */
  get ready(): boolean {
    return this.server.listening && this.#stop === undefined;
  }

  /**
   * Stops the server, and resolves when nothing is left, or when only unknown connections are left and the time is up, or
   * `signal` has cut all others. If it listens anew meanwhile, new connections are served, and it resolves when the older
   * ones are closed.
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
  shutdown(options: ShutdownOptions = {}): Promise<AdoptedSummary> {
    const settings = shutdownSettings(options, this.#settings.drain);
    const known = this.#stop;
    const stop = known ?? this.#newStop(settings);
    if (known === undefined) this.#until = Infinity;
    this.#waitAtMostUntil(now() + settings.budget);
    const joined = known?.join(settings);
    if (known !== undefined) this.#closing?.stopAgain();
    else {
      stop.run();
      emitApart(this, 'stopping');
    }
    const over = new AbortController();
    this.#waitNoLongerOn(settings.signal, over.signal);
    return (joined ?? stop.done).then(async (summary) => {
      over.abort();
      return { ...summary, unknown: await this.unknown() };
    });
  }

  /** What cuts connections waits for none that nobody knows. */
  #waitNoLongerOn(signal: AbortSignal | undefined, over: AbortSignal): void {
    const cut = (): void => this.#waitAtMostUntil(now());
    if (signal?.aborted) cut();
    else signal?.addEventListener('abort', cut, { once: true, signal: over });
  }

  #waitAtMostUntil(at: number): void {
    this.#until = Math.min(this.#until, at);
    if (this.#patience.at !== Infinity) this.#patience.atMost(this.#until);
  }

  #newStop(settings: ShutdownSettings): Stop {
    // Nobody sends anybody to a server that doesn't listen.
    const delay = this.server.listening ? settings.delay : 0;
    this.#stop = new Stop(this.connections, { ...settings, delay }, () => this.#closeListener());
    return this.#stop;
  }

  /** Destroys every connection that is known. */
  closeAllConnections(): void {
    for (const connection of this.connections) connection.destroy();
  }

  /** The server's own ways to close, so that frameworks drain without knowing it. */
  #replaceClosing(): void {
    const replace = (name: string, value: unknown): void => {
      Object.defineProperty(this.server, name, { value, writable: true, configurable: true, enumerable: false });
    };
    replace('close', (callback?: (error?: Error) => void) => this.#close(callback));
    replace('closeIdleConnections', () => this.#closeIdleConnections());
    replace('closeAllConnections', () => this.#closeHttp());
  }

  #close(callback?: (error?: Error) => void): AdoptableServer {
    if (!this.server.listening && this.#stop === undefined) {
      this.#own.close(callback);
      return this.server;
    }
    if (callback !== undefined) this.server.once('close', callback);
    void this.shutdown({
      timeout: Infinity,
      idleWait: Math.min(CLOSE_IDLE_WAIT, this.#settings.drain.idleWait ?? Infinity),
    });
    return this.server;
  }

  /** node:http's leaves those to the application that were upgraded. */
  #closeHttp(): void {
    for (const connection of this.connections.live()) {
      const { driver } = connection;
      if (!(driver instanceof H1Connection && driver.isUpgraded)) connection.destroy();
    }
  }

  #closeIdleConnections(): void {
    // node:http calls it when its listener closes; by then they are being drained.
    if (this.#closesListener) return;
    drainIdle(this.connections.live(), this.#drainSettings({}));
  }

  #closeListener(): Promise<void> {
    const patience = new Promise<void>((resolve) => {
      this.#stopped = resolve;
    });
    this.#patience.set(this.#until);
    this.#closing = new ClosingListener(
      this.server,
      () => {
        this.#closesListener = true;
        this.#own.close();
        this.#closesListener = false;
      },
      () => {
        this.#patience.clear();
        this.#stop = undefined;
        this.#closing = undefined;
      },
    );
    return Promise.race([patience, this.#closing.over]);
  }

  #drainSettings(options: DrainOptions): DrainSettings {
    return drainSettings(options, 'drain', this.#settings.drain);
  }
}

const adopted = new WeakMap<NetServer, AdoptedServer>();

/**
 * Gives a server made elsewhere, by `node:http`, `node:https` or `node:http2`, lastcall's registry, drains, shutdown and
 * recycling. Its listeners, options and limits go on as they are.
 *
 * ```ts
 * const server = http.createServer(app);
 * onSignals(adopt(server));
 * server.listen(8080);
 * ```
 *
 * **HTTP/1.1**, also on an http2 server with `allowHTTP1`, is driven as on lastcall's own server, and loses as little.
 * **HTTP/2** stays with Node's own sessions, which can't announce a shutdown: a drain answers every request that has
 * arrived; those that are on the wire when it begins are not served, and nobody can count them, though GOAWAY tells the
 * client that it may retry them. A client in its handshake is turned away. Measured at a round trip of 50 ms with four
 * streams in flight: 3,000 to 3,700 requests not served in 1,000 drains, against none on lastcall's own server.
 *
 * Adopt it before it listens and nothing is missed. Later, open HTTP/1.1 connections are found at once, and so are
 * HTTP/2 sessions from Node 24 on; on Node 20 and 22 a session joins at its next stream. `unknown()` tells how many
 * connections are missing.
 *
 * What changes for the server, for the rest of its life:
 * - Node's keep-alive timer, which destroys idle sockets, has no effect; `keepAlive.hold` takes its place.
 * - `headersTimeout` and `requestTimeout` are kept to the moment instead of looked at every 30 s.
 * - Once a connection has had `maxRequestsPerSocket` requests it is drained; the property reads 0.
 * - Pipelined requests reach the application one at a time.
 * - A client that has half-closed its HTTP/1.1 connection still gets its answers: `req` and `res` close with the
 *   connection, not with the client's FIN. Clients that are gone are found by TCP keep-alive, after 60 s unless the
 *   server's own `keepAlive` option says otherwise.
 * - `close()` is `shutdown` without a timeout, and with at most a second for idle connections to bring one more request;
 *   `closeIdleConnections()` drains them, `closeAllConnections()` destroys all that are known and weren't upgraded.
 *
 * Adopting it again without options gives the same object.
 *
 * @throws {TypeError} ERR_LASTCALL_OPTION when `server` is no such server, or an option is unknown or of the wrong type
 * @throws {RangeError} ERR_LASTCALL_OPTION when an option is out of its range
 * @throws {Error} ERR_LASTCALL_ADOPTED when it is adopted already, and options are given
 */
export function adopt(server: AdoptableServer, options?: AdoptOptions): AdoptedServer {
  checkAdoptable(server);
  const known = adopted.get(server);
  if (known === undefined) {
    const made = new AdoptedServer(server, options ?? {});
    adopted.set(server, made);
    return made;
  }
  if (options === undefined) return known;
  const message = 'adopt: this server is adopted already, and its options are set';
  throw Object.assign(new Error(message), { code: 'ERR_LASTCALL_ADOPTED' });
}
