/** The one error of the compression layer. What it does to the connection (RFC 9113 §4.3) is the session's business. */

/** A header block that can't be decoded (RFC 7541). The decoder's state is undefined afterwards: the connection has to end. */
export class HpackError extends Error {
  override readonly name = 'HpackError';
  readonly code = 'ERR_LASTCALL_H2_COMPRESSION';
}
