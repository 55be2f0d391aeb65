/**
 * What the octets of a field's name and value are, a bit for each grammar that all of them belong to. A literal is looked
 * at once, when it is decoded, and the tables keep what was found: a client that repeats long fields in an octet each has
 * nobody read them again. What may stand where is fields.ts's.
 */

/** Of the name: lower-case token (RFC 9113 §8.2.1, RFC 9110 §5.6.2). All others are of the value. */
export const NAME = 1;
/** A field value: no control characters (RFC 9110 §5.5), no white space at either end (RFC 9113 §8.2.1). */
export const VALUE = 2;
/** A token (RFC 9110 §5.6.2). */
export const TOKEN = 4;
/** RFC 3986 §3.3 and §3.4, without fragment; octets over 0x7f pass, as everywhere. */
export const PATH = 8;
/** RFC 3986 §3.2, without userinfo. */
export const AUTHORITY = 16;
/** RFC 3986 §3.1, but for what it begins with. */
export const SCHEME = 32;

const EVERYTHING = NAME | VALUE | TOKEN | PATH | AUTHORITY | SCHEME;

const SPACE = 0x20;
const TAB = 0x09;

const OCTETS = new Uint8Array(256);
for (let c = 0; c < 256; c++) {
  const char = String.fromCharCode(c);
  if (/[!#$%&'*+\-.^_`|~0-9a-z]/.test(char)) OCTETS[c] = NAME | TOKEN;
  if (/[A-Z]/.test(char)) OCTETS[c] = TOKEN;
  if (c === TAB || (c >= SPACE && c !== 0x7f)) OCTETS[c] = (OCTETS[c] as number) | VALUE;
  if (c > SPACE && c !== 0x7f && char !== '#') OCTETS[c] = (OCTETS[c] as number) | PATH;
  if (/[A-Za-z0-9\-._~!$&'()*+,;=:[\]%]/.test(char)) OCTETS[c] = (OCTETS[c] as number) | AUTHORITY;
  if (/[A-Za-z0-9+\-.]/.test(char)) OCTETS[c] = (OCTETS[c] as number) | SCHEME;
}

function common(bytes: Buffer, start: number, end: number): number {
  let kinds = EVERYTHING;
  for (let i = start; i < end; i++) kinds &= OCTETS[bytes[i] as number] as number;
  return kinds;
}

/** Of a name in bytes[start..end): NAME, or 0. */
export function kindsOfName(bytes: Buffer, start: number, end: number): number {
  return start === end ? 0 : common(bytes, start, end) & NAME;
}

/** Of a value in bytes[start..end), which may be empty. */
export function kindsOfValue(bytes: Buffer, start: number, end: number): number {
  const kinds = common(bytes, start, end) & ~NAME;
  if (start === end) return kinds;
  const first = bytes[start] as number;
  const last = bytes[end - 1] as number;
  return first === SPACE || first === TAB || last === SPACE || last === TAB ? kinds & ~VALUE : kinds;
}
