/** The static table of RFC 7541, Appendix A, in the two forms that the decoder and the encoder look things up in. */
import { kindsOfName, kindsOfValue } from './octets.js';

/** Entries in the static table; dynamic indices start right after it (RFC 7541 §2.3.3). */
export const STATIC_LENGTH = 61;

const ENTRIES: readonly (readonly [name: string, value: string])[] = [
  [':authority', ''],
  [':method', 'GET'],
  [':method', 'POST'],
  [':path', '/'],
  [':path', '/index.html'],
  [':scheme', 'http'],
  [':scheme', 'https'],
  [':status', '200'],
  [':status', '204'],
  [':status', '206'],
  [':status', '304'],
  [':status', '400'],
  [':status', '404'],
  [':status', '500'],
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
  ['accept-language', ''],
  ['accept-ranges', ''],
  ['accept', ''],
  ['access-control-allow-origin', ''],
  ['age', ''],
  ['allow', ''],
  ['authorization', ''],
  ['cache-control', ''],
  ['content-disposition', ''],
  ['content-encoding', ''],
  ['content-language', ''],
  ['content-length', ''],
  ['content-location', ''],
  ['content-range', ''],
  ['content-type', ''],
  ['cookie', ''],
  ['date', ''],
  ['etag', ''],
  ['expect', ''],
  ['expires', ''],
  ['from', ''],
  ['host', ''],
  ['if-match', ''],
  ['if-modified-since', ''],
  ['if-none-match', ''],
  ['if-range', ''],
  ['if-unmodified-since', ''],
  ['last-modified', ''],
  ['link', ''],
  ['location', ''],
  ['max-forwards', ''],
  ['proxy-authenticate', ''],
  ['proxy-authorization', ''],
  ['range', ''],
  ['referer', ''],
  ['refresh', ''],
  ['retry-after', ''],
  ['server', ''],
  ['set-cookie', ''],
  ['strict-transport-security', ''],
  ['transfer-encoding', ''],
  ['user-agent', ''],
  ['vary', ''],
  ['via', ''],
  ['www-authenticate', ''],
];

/** Names by index, 1 to 61; index 0 is unused. */
export const STATIC_NAMES: readonly string[] = ['', ...ENTRIES.map((entry) => entry[0])];

/** Values by index, 1 to 61; index 0 is unused. */
export const STATIC_VALUES: readonly string[] = ['', ...ENTRIES.map((entry) => entry[1])];

/** What names and values consist of, by index. */
export const STATIC_KINDS: Uint8Array = Uint8Array.from(STATIC_NAMES, (name, index) => {
  const octets = Buffer.from(name + STATIC_VALUES[index], 'latin1');
  return kindsOfName(octets, 0, name.length) | kindsOfValue(octets, name.length, octets.length);
});

/** The index of a name's first entry. */
export const STATIC_NAME_INDEX: ReadonlyMap<string, number> = new Map(
  ENTRIES.map((entry, i): [string, number] => [entry[0], i + 1]).reverse(),
);
