/**
 * How long an idle connection lives, and how long its client is told that it does: two different times, so that clients
 * that honour the hint stop before we close, and balancers that ignore it close first.
 */
import { duration, optionRangeError, optionsObject } from './options.js';

export interface KeepAliveOptions {
  /** ms that HTTP/1.1 responses advertise (`Keep-Alive: timeout=5`, in whole seconds; default 5,000; 0: no hint). */
  advertise?: number;
  /** ms that an idle connection is really kept before it is drained (default 620,000; `Infinity` allowed). */
  hold?: number;
}

export type KeepAliveSettings = Required<KeepAliveOptions>;

/** @throws {RangeError} ERR_LASTCALL_OPTION when `hold` isn't longer than `advertise` */
export function keepAliveSettings(options: KeepAliveOptions | undefined): KeepAliveSettings {
  optionsObject('keepAlive', options, ['advertise', 'hold']);
  const advertise = duration('keepAlive.advertise', options?.advertise, 5_000);
  const hold = duration('keepAlive.hold', options?.hold, 620_000, { min: 1, infinite: true });
  if (hold <= advertise)
    throw optionRangeError('keepAlive.hold', `longer than keepAlive.advertise (${advertise} ms)`, hold);
  return { advertise, hold };
}
