/**
 * The options of HTTP/2 connections: defaults and checks. What a limit of the session does is settings.ts's; the times
 * are kept by deadlines.ts.
 */
import { duration, flag, integer, optionRangeError, optionsObject } from '../core/options.js';
import { now } from '../core/timing.js';
import type { SessionOptions } from './settings.js';

export interface H2PingOptions {
  /** ms in which nothing was heard of the peer, until a PING looks whether it is still there (default 30,000). */
  interval?: number;
  /**
   * ms for its answer, or anything else from the peer, before the connection is reset (default 10,000). What the kernel
   * holds for a peer goes before the PING: on a slow link megabytes take far longer than a round trip.
   */
  timeout?: number;
}

export interface H2Options {
  /** Streams that may be open at once; more are refused (default 100). */
  maxConcurrentStreams?: number;
  /** Bytes of a request body that may be unread (default 262,144). */
  initialWindowSize?: number;
  /** Bytes of all request bodies together that may be on their way (default 1,048,576; at least 65,535). */
  connectionWindowSize?: number;
  /** Bytes of a request's header list, as RFC 9113 §6.5.2 counts them; beyond it 431 (default 65,536). */
  maxHeaderListSize?: number;
  /** Fields of a request; beyond it 431 (default 2,000). */
  maxHeaderFields?: number;
  /** Bytes of HPACK table that the peer may use (default 4,096). */
  headerTableSize?: number;
  /** Allows extended CONNECT (RFC 8441), which arrives as `'connect'` (default false). */
  enableConnectProtocol?: boolean;
  /** ms until the client's preface must be complete (default 10,000). */
  prefaceTimeout?: number;
  /** ms for a complete request head, from its first frame (default 60,000; 0: no limit). */
  headersTimeout?: number;
  /** ms without a byte while a request's body is awaited and no answer has begun (default 60,000; 0: no limit). */
  bodyTimeout?: number;
  /** ms that body bytes wait for a peer that makes no progress (default 60,000; 0: no limit). */
  sendTimeout?: number;
  /** ms without traffic of a request until `'timeout'` is emitted and, if nobody listens, its stream reset (default 0: never). */
  timeout?: number;
  /** PINGs that look whether the peer is still there (default: none). */
  ping?: H2PingOptions;
  /** 421 for a host that the connection's certificate doesn't name (default: every host is served). */
  misdirected?: 421;
}

/** H2Options with every default in place; read when needed, so that a server's setters work on live connections. */
export interface H2Settings {
  readonly session: SessionOptions;
  prefaceTimeout: number;
  headersTimeout: number;
  bodyTimeout: number;
  sendTimeout: number;
  timeout: number;
  readonly ping: Required<H2PingOptions> | undefined;
  readonly misdirected: boolean;
}

const H2_OPTIONS = [
  'maxConcurrentStreams',
  'initialWindowSize',
  'connectionWindowSize',
  'maxHeaderListSize',
  'maxHeaderFields',
  'headerTableSize',
  'enableConnectProtocol',
  'prefaceTimeout',
  'headersTimeout',
  'bodyTimeout',
  'sendTimeout',
  'timeout',
  'ping',
  'misdirected',
] as const;

/** RFC 9113 §6.9.1 */
const MAX_WINDOW = 2 ** 31 - 1;
const DEFAULT_WINDOW = 65_535;

/**
 * Checks the options and fills in their defaults.
 *
 * @throws {TypeError} ERR_LASTCALL_OPTION when one is of the wrong type or unknown
 * @throws {RangeError} ERR_LASTCALL_OPTION when one is out of its range
 */
export function h2Settings(options: H2Options | undefined): H2Settings {
  optionsObject('h2', options, H2_OPTIONS);
  const given = options ?? {};
  if (given.misdirected !== undefined && given.misdirected !== 421) {
    throw optionRangeError('h2.misdirected', '421 or undefined', given.misdirected);
  }
  return {
    session: {
      now,
      maxConcurrentStreams: integer('h2.maxConcurrentStreams', given.maxConcurrentStreams, 100, 1, MAX_WINDOW),
      initialWindowSize: integer('h2.initialWindowSize', given.initialWindowSize, 262_144, 1, MAX_WINDOW),
      connectionWindowSize: integer(
        'h2.connectionWindowSize',
        given.connectionWindowSize,
        1_048_576,
        DEFAULT_WINDOW,
        MAX_WINDOW,
      ),
      maxHeaderListSize: integer('h2.maxHeaderListSize', given.maxHeaderListSize, 65_536, 1_024, 2 ** 30),
      maxHeaderFields: integer('h2.maxHeaderFields', given.maxHeaderFields, 2_000, 1, 2 ** 20),
      headerTableSize: integer('h2.headerTableSize', given.headerTableSize, 4_096, 0, 2 ** 20),
      enableConnectProtocol: flag('h2.enableConnectProtocol', given.enableConnectProtocol, false),
    },
    prefaceTimeout: duration('h2.prefaceTimeout', given.prefaceTimeout, 10_000, { min: 1 }),
    headersTimeout: duration('h2.headersTimeout', given.headersTimeout, 60_000),
    bodyTimeout: duration('h2.bodyTimeout', given.bodyTimeout, 60_000),
    sendTimeout: duration('h2.sendTimeout', given.sendTimeout, 60_000),
    timeout: duration('h2.timeout', given.timeout, 0),
    ping: pingSettings(given.ping),
    misdirected: given.misdirected === 421,
  };
}

function pingSettings(ping: H2PingOptions | undefined): H2Settings['ping'] {
  if (ping === undefined) return undefined;
  optionsObject('h2.ping', ping, ['interval', 'timeout']);
  return {
    interval: duration('h2.ping.interval', ping.interval, 30_000, { min: 1 }),
    timeout: duration('h2.ping.timeout', ping.timeout, 10_000, { min: 1 }),
  };
}
