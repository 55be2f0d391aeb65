/**
 * How often each limit of a server has fired: counters that an exporter or an operator reads. Where a limit is kept is
 * its protocol's; it tells its connection (`LiveConnection.limited`), and that its server's counters.
 */

/** What fired, by the name of the option where there is one. */
export const LIMITS = [
  /** TLS or the PROXY header took too long. */
  'handshakeTimeout',
  /** A handshake failed: no TLS, no protocol or cipher in common, a certificate refused, no PROXY header. */
  'handshakeErrors',
  /** h2: the client's preface took too long. */
  'prefaceTimeout',
  /** A request's head took too long: 408, or GOAWAY(ENHANCE_YOUR_CALM). */
  'headersTimeout',
  /** A request's body (h1: or the whole request) stopped: 408, or RST_STREAM(CANCEL). */
  'bodyTimeout',
  /** An answer waited for too long for a client that doesn't read. */
  'sendTimeout',
  /** h2: a client didn't answer a PING (`h2.ping`). */
  'ping',
  /** A head over `maxHeaderSize`, `maxHeaderListSize` or `maxHeaderFields`: 431. */
  'maxHeaderSize',
  /** h2: a stream over `maxConcurrentStreams`: REFUSED_STREAM. */
  'maxConcurrentStreams',
  /** h1: so many requests were pipelined that reading paused. */
  'pipelining',
  /** Requests that are none: 400, or a stream error. */
  'malformed',
  /** h2: connection errors other than those below. */
  'protocolErrors',
  /** h2: a field block of too many CONTINUATION frames: ENHANCE_YOUR_CALM. */
  'continuations',
  /** h2: streams opened to be reset: first a drain, then ENHANCE_YOUR_CALM. */
  'resets',
  /** h2: frames that serve no request: ENHANCE_YOUR_CALM. */
  'floods',
  /** h2: output provoked and not read: ENHANCE_YOUR_CALM. */
  'unreadOutput',
  /** h2: trailers over `maxHeaderListSize` or `maxHeaderFields`: the stream is reset with ENHANCE_YOUR_CALM. */
  'calmedStreams',
] as const;

export type Limit = (typeof LIMITS)[number];

export type LimitCounts = Record<Limit, number>;

export function noLimits(): LimitCounts {
  return Object.fromEntries(LIMITS.map((limit) => [limit, 0])) as LimitCounts;
}
