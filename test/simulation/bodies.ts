/**
 * The bodies of requests and responses: as many times one byte as asked for, which the request's key decides, so that
 * both sides know what must come without keeping it.
 */

const LENGTH = 32_768;
const patterns: Buffer[] = Array.from({ length: 256 }, (_, byte) => Buffer.alloc(LENGTH, byte));

/** Bytes of the body of the request `key`; made anew only when they are many. */
export function pattern(key: number, length: number): Buffer {
  const byte = key & 0xff;
  return length <= LENGTH ? (patterns[byte] as Buffer).subarray(0, length) : Buffer.alloc(length, byte);
}

export function isPattern(key: number, bytes: Buffer): boolean {
  return bytes.equals(pattern(key, bytes.length));
}
