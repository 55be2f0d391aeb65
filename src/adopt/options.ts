/**
 * adopt's arguments: which servers it takes, its options and their checks. The limits that the adopted server has of its
 * own are read from it when they are needed, so that setting them works as before.
 */
import { Server as HttpServer } from 'node:http';
import type { Http2SecureServer, Http2Server } from 'node:http2';
import { Server as HttpsServer } from 'node:https';
import { Server as NetServer } from 'node:net';
import { Server as TlsServer } from 'node:tls';
import { type KeepAliveOptions, type KeepAliveSettings, keepAliveSettings } from '../core/keep-alive.js';
import { ERR_OPTION, optionsObject } from '../core/options.js';
import { type RecycleOptions, type RecycleSettings, recycleSettings } from '../core/recycle.js';
import { type DrainOptions, type DrainSettings, drainSettings } from '../core/shutdown.js';
import type { H1Settings } from '../h1/options.js';
import { Server } from '../server.js';

/** A server that `adopt` takes: one of node:http, node:https or node:http2, with whatever classes of messages. */
export type AdoptableServer = NetServer &
  (Pick<HttpServer, 'closeIdleConnections'> | Pick<Http2Server | Http2SecureServer, 'updateSettings'>);

export interface AdoptOptions {
  /**
   * Defaults for `gracefulShutdown` and `drain`; but for `timeout`, for `shutdown`, `onSignals` and recycling, too.
   */
  drain?: DrainOptions;
  /**
   * How long idle HTTP/1.1 connections are kept, and what clients are told about it. `advertise` defaults to the
   * server's `keepAliveTimeout`; `hold` to 620,000 ms, longer where `keepAliveTimeout` is, `Infinity` where it is 0.
   */
  keepAlive?: KeepAliveOptions;
  /** When connections are drained by themselves (default: never but for `keepAlive.hold`). */
  recycle?: RecycleOptions;
}

const ADOPT_OPTIONS = ['drain', 'keepAlive', 'recycle'];

/** Every option checked, every default in place. */
export interface AdoptSettings {
  readonly h1: H1Settings;
  readonly keepAlive: KeepAliveSettings;
  readonly drain: DrainOptions;
  readonly recycling: DrainSettings;
  readonly recycle: RecycleSettings | undefined;
}

/** What servers have, each some of it. */
export type ServerLimits = {
  keepAliveTimeout?: number;
  /** Since Node 22: how much longer than `keepAliveTimeout` Node waits. */
  readonly keepAliveTimeoutBuffer?: number;
  readonly headersTimeout?: number;
  readonly requestTimeout?: number;
  readonly timeout?: number;
  maxRequestsPerSocket?: number;
};

/** `keepAlive.hold`, in ms, of a server whose own `keepAliveTimeout` isn't longer. */
const HOLD = 620_000;

/** What `hold` is longer than a long `keepAliveTimeout`, in ms. */
const HOLD_MARGIN = 1_000;

/** @param maxRequestsPerSocket the server's own, which is taken over */
export function adoptSettings(
  server: AdoptableServer,
  options: AdoptOptions,
  maxRequestsPerSocket: number,
): AdoptSettings {
  optionsObject('adopt', options, ADOPT_OPTIONS);
  const { drain = {}, keepAlive, recycle } = options;
  drainSettings(drain);
  const advertised = keepAlive?.advertise ?? limitsOf(server).keepAliveTimeout ?? 0;
  const held = keepAliveSettings({
    advertise: advertised,
    hold: keepAlive?.hold ?? longEnough(advertised),
    ...keepAlive,
  });
  return {
    h1: new OwnLimits(server, maxRequestsPerSocket),
    keepAlive: new OwnKeepAlive(server, keepAlive ?? {}),
    drain,
    recycling: drainSettings({ ...drain, timeout: Infinity }),
    recycle: recycleSettings(recycle, drain, held.advertise),
  };
}

export function limitsOf(server: AdoptableServer): ServerLimits {
  return server as ServerLimits;
}

function longEnough(keepAliveTimeout: number): number {
  return keepAliveTimeout === 0 ? Infinity : Math.max(HOLD, keepAliveTimeout + HOLD_MARGIN);
}

/** The limits of HTTP/1.1 connections, as the server has them at the moment. */
class OwnLimits implements H1Settings {
  readonly #limits: ServerLimits;
  /** A server made elsewhere has no such limits. */
  readonly bodyTimeout = 0;
  readonly sendTimeout = 0;
  /** Its parsers know theirs. */
  readonly maxHeaderSize = 0;
  readonly maxHeadersCount = 0;
  readonly maxRequestsPerSocket: number;

  constructor(server: AdoptableServer, maxRequestsPerSocket: number) {
    this.#limits = limitsOf(server);
    this.maxRequestsPerSocket = maxRequestsPerSocket;
  }

  get headersTimeout(): number {
    return this.#limits.headersTimeout ?? 0;
  }

  get requestTimeout(): number {
    return this.#limits.requestTimeout ?? 0;
  }
}

/** keepAlive, with what isn't given taken from the server as it is at the moment. */
class OwnKeepAlive implements KeepAliveSettings {
  readonly #limits: ServerLimits;
  readonly #given: KeepAliveOptions;

  constructor(server: AdoptableServer, given: KeepAliveOptions) {
    this.#limits = limitsOf(server);
    this.#given = given;
  }

  get advertise(): number {
    return this.#given.advertise ?? this.#limits.keepAliveTimeout ?? 0;
  }

  get hold(): number {
    return this.#given.hold ?? longEnough(this.advertise);
  }
}

/** Whether a server is one of node:http2's. Their classes aren't exported; both have this method, and no other has. */
export function speaksH2(server: NetServer): server is Http2Server | Http2SecureServer {
  return typeof (server as { updateSettings?: unknown }).updateSettings === 'function';
}

export function isTls(server: NetServer): server is TlsServer {
  return server instanceof TlsServer;
}

/** @throws {TypeError} ERR_LASTCALL_OPTION for anything else than a server of node:http, node:https or node:http2 */
export function checkAdoptable(server: unknown): asserts server is AdoptableServer {
  if (server instanceof Server) throw wrong('a server of lastcall, which drains by itself');
  if (server instanceof HttpServer || server instanceof HttpsServer) return;
  if (server instanceof NetServer) {
    if (speaksH2(server)) return;
    throw wrong('another kind of net.Server');
  }
  if (typeof server === 'function') throw wrong('a function: of an Express app pass what app.listen() returns');
  if (typeof server === 'object' && server !== null) {
    const { server: inner } = server as { server?: unknown };
    throw wrong(inner instanceof NetServer ? 'an object with a server: pass its .server' : 'an object');
  }
  throw wrong(String(server));
}

function wrong(given: string): TypeError {
  const message = `argument server must be a server of node:http, node:https or node:http2, got ${given}`;
  return Object.assign(new TypeError(message), { code: ERR_OPTION });
}
