/**
 * The limits of HTTP/1.1 connections: options, defaults and checks.
 */
import { duration, integer, optionsObject } from '../core/options.js';

export interface H1Options {
  /** ms for a complete request head, from its first byte; then 408 (default 60,000; 0: no limit). */
  headersTimeout?: number;
  /** ms without a byte while a request's body is awaited and no answer has begun; then 408 (default 60,000; 0: no limit). */
  bodyTimeout?: number;
  /** ms that bytes of an answer wait for a client that takes none; then the connection is reset (default 60,000; 0: no limit). */
  sendTimeout?: number;
  /** ms for a whole request, head and body; then 408 (default 0: no limit). */
  requestTimeout?: number;
  /** Bytes of a request's head; beyond it 431 (default 65,536). */
  maxHeaderSize?: number;
  /** Fields of a request's head; what is beyond is ignored, as in node:http (default 2,000). */
  maxHeadersCount?: number;
  /** Requests after which a connection is drained (default 0: no limit). */
  maxRequestsPerSocket?: number;
}

/** What every connection reads at the moment it needs it, so that the server's setters work on live connections. */
export type H1Settings = Required<H1Options>;

const H1_OPTIONS = [
  'headersTimeout',
  'bodyTimeout',
  'sendTimeout',
  'requestTimeout',
  'maxHeaderSize',
  'maxHeadersCount',
  'maxRequestsPerSocket',
] as const;

export function h1Settings(options: H1Options | undefined): H1Settings {
  optionsObject('h1', options, H1_OPTIONS);
  const given = options ?? {};
  return {
    headersTimeout: duration('h1.headersTimeout', given.headersTimeout, 60_000),
    bodyTimeout: duration('h1.bodyTimeout', given.bodyTimeout, 60_000),
    sendTimeout: duration('h1.sendTimeout', given.sendTimeout, 60_000),
    requestTimeout: duration('h1.requestTimeout', given.requestTimeout, 0),
    maxHeaderSize: integer('h1.maxHeaderSize', given.maxHeaderSize, 65_536, 1_024, 2 ** 30),
    maxHeadersCount: integer('h1.maxHeadersCount', given.maxHeadersCount, 2_000, 1, 2 ** 20),
    maxRequestsPerSocket: integer('h1.maxRequestsPerSocket', given.maxRequestsPerSocket, 0, 0, Number.MAX_SAFE_INTEGER),
  };
}
