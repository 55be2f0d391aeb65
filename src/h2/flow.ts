/**
 * The arithmetic of flow-control windows, RFC 9113 §5.2 and §6.9, the same for a stream and for the connection.
 * When credit is given and what a violation ends is decided in `session.ts`.
 */

/** RFC 9113 §6.9.1. */
export const MAX_WINDOW = 0x7fff_ffff;
/** RFC 9113 §6.9.2. */
export const DEFAULT_WINDOW = 65_535;

/** The windows of a stream, or of the connection. */
export interface Windows {
  /** Octets of DATA that we may send; negative after the peer lowered its initial window. (RFC 9113 §6.9.2) */
  sendWindow: number;
  /** Octets of DATA that the peer may send. */
  receiveWindow: number;
  /** Octets that have been received and are free again, but not yet given back in a WINDOW_UPDATE. */
  credit: number;
}

/** Adds to the window that we send by. False: it would exceed 2^31-1 (a FLOW_CONTROL_ERROR), and nothing was added. */
export function widen(windows: Windows, increment: number): boolean {
  if (windows.sendWindow + increment > MAX_WINDOW) return false;
  windows.sendWindow += increment;
  return true;
}

/**
 * Counts a received DATA frame, padding included. False: the peer has sent more than it may. An empty frame needs no
 * window, not even one that a smaller initial window has made negative. (RFC 9113 §6.9.1, §6.9.2)
 */
export function spend(windows: Windows, length: number): boolean {
  if (length > 0 && length > windows.receiveWindow) return false;
  windows.receiveWindow -= length;
  return true;
}

/**
 * The increment of the WINDOW_UPDATE that is due, or 0: credit is given back once it amounts to half of the whole
 * window, so that a steady upload costs two small frames a window. (RFC 9113 §6.9.1: no very small increments)
 */
export function takeCredit(windows: Windows, size: number): number {
  const { credit } = windows;
  if (credit === 0 || credit * 2 < size) return 0;
  windows.credit = 0;
  windows.receiveWindow += credit;
  return credit;
}
