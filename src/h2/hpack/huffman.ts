/**
 * The Huffman code of RFC 7541, Appendix B, and string literals in it: the decoder walks a table one octet at a time,
 * the encoder shifts codes into an accumulator. Where strings begin and end in a header block is its callers' business.
 */

/** The end-of-string symbol: its code pads the last octet, and must not occur itself (RFC 7541 §5.2). */
const EOS = 256;

/** Code length in bits by symbol. The code is canonical, so the lengths define it. */
const CODE_LENGTHS = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
  28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6,
  5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23,
  22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22,
  23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26,
  20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27,
  27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
  27, 27, 27, 26, 30,
];

const LENGTHS = Uint8Array.from(CODE_LENGTHS);
const CODES = canonicalCodes(CODE_LENGTHS);

function canonicalCodes(lengths: readonly number[]): Int32Array {
  const codes = new Int32Array(lengths.length);
  let code = 0;
  for (let bits = 1; bits <= 30; bits++) {
    code <<= 1;
    for (let symbol = 0; symbol < lengths.length; symbol++) {
      if (lengths[symbol] === bits) codes[symbol] = code++;
    }
  }
  return codes;
}

// Decoding. A state is an inner node of the code tree (256 of them, the root is 0): the bits of an unfinished code.
// For each state and octet the table has what comes out and where it leads. No code is shorter than 5 bits, so an
// octet completes at most two symbols. An entry: bits 0–7 next state, 8–15 first symbol, 16–23 second symbol,
// 24–25 number of symbols, 26 EOS was met.
const FIRST_SYMBOL = 8;
const SECOND_SYMBOL = 16;
const COUNT = 24;
const MET_EOS = 1 << 26;

const TRANSITIONS = new Int32Array(256 * 256);
/** 1 where a string may end: at most 7 bits into a code, all ones (RFC 7541 §5.2). */
const MAY_END = new Uint8Array(256);

buildDecoder();

function buildDecoder(): void {
  // children[2 * node + bit]: an inner node (>= 0) or a leaf, as ~symbol (< 0).
  const children = new Int16Array(2 * 256);
  let nodes = 1;
  for (let symbol = 0; symbol <= EOS; symbol++) {
    const length = LENGTHS[symbol] as number;
    const code = CODES[symbol] as number;
    let node = 0;
    for (let bit = length - 1; bit > 0; bit--) {
      const at = 2 * node + ((code >> bit) & 1);
      if (children[at] === 0) children[at] = nodes++;
      node = children[at] as number;
    }
    children[2 * node + (code & 1)] = ~symbol;
  }
  for (let state = 0; state < 256; state++) fillTransitions(children, state << 8, 0, 0, state, 0, 0);
  for (let node = 0, depth = 0; depth <= 7; depth++) {
    MAY_END[node] = 1;
    node = children[2 * node + 1] as number;
  }
}

/** Fills the table for all octets that begin with these `depth` bits, having arrived at `node` with these symbols. */
function fillTransitions(
  children: Int16Array,
  row: number,
  bits: number,
  depth: number,
  node: number,
  symbols: number,
  count: number,
): void {
  if (depth === 8) {
    TRANSITIONS[row | bits] = symbols | (count << COUNT) | node;
    return;
  }
  for (let bit = 0; bit <= 1; bit++) {
    const longer = (bits << 1) | bit;
    const next = children[2 * node + bit] as number;
    if (next >= 0) {
      fillTransitions(children, row, longer, depth + 1, next, symbols, count);
    } else if (~next === EOS) {
      const rest = 7 - depth;
      TRANSITIONS.fill(MET_EOS, row | (longer << rest), (row | (longer << rest)) + (1 << rest));
    } else {
      const emitted = symbols | (~next << (count === 0 ? FIRST_SYMBOL : SECOND_SYMBOL));
      fillTransitions(children, row, longer, depth + 1, 0, emitted, count + 1);
    }
  }
}

/** The most octets that `length` octets of Huffman code decode to: the shortest code has 5 bits. */
export function maxDecodedLength(length: number): number {
  return Math.ceil((length * 8) / 5) + 1;
}

/**
 * Decodes `bytes[start..end)` into `into`, which has room for {@link maxDecodedLength} octets.
 *
 * @returns the decoded length, or -1 for what RFC 7541 §5.2 calls a decoding error: EOS in the string, padding of more
 *   than 7 bits, or padding that isn't all ones
 */
export function huffmanDecode(bytes: Uint8Array, start: number, end: number, into: Uint8Array): number {
  let length = 0;
  let state = 0;
  let seen = 0;
  for (let i = start; i < end; i++) {
    const entry = TRANSITIONS[(state << 8) | (bytes[i] as number)] as number;
    state = entry & 0xff;
    seen |= entry;
    // Both symbols are stored whether there or not: cheaper than a branch that can't be predicted.
    into[length] = entry >> FIRST_SYMBOL;
    into[length + 1] = entry >> SECOND_SYMBOL;
    length += (entry >> COUNT) & 3;
  }
  return (seen & MET_EOS) !== 0 || MAY_END[state] === 0 ? -1 : length;
}

/** The length in octets of a latin1 string in Huffman code. */
export function huffmanLength(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i++) bits += LENGTHS[text.charCodeAt(i) & 0xff] as number;
  return (bits + 7) >> 3;
}

/** Writes a latin1 string in Huffman code at `into[pos]`, padded with the first bits of EOS. Returns the end. */
export function huffmanEncode(text: string, into: Uint8Array, pos: number): number {
  let at = pos;
  // Up to 7 bits wait in `pending` between codes; codes longer than 24 bits go in two parts, so that 32 suffice.
  let pending = 0;
  let bits = 0;
  for (let i = 0; i < text.length; i++) {
    const symbol = text.charCodeAt(i) & 0xff;
    let code = CODES[symbol] as number;
    let length = LENGTHS[symbol] as number;
    if (length > 24) {
      length -= 16;
      pending = (pending << length) | (code >>> 16);
      bits += length;
      while (bits >= 8) {
        bits -= 8;
        into[at++] = pending >>> bits;
      }
      code &= 0xffff;
      length = 16;
    }
    pending = (pending << length) | code;
    bits += length;
    while (bits >= 8) {
      bits -= 8;
      into[at++] = pending >>> bits;
    }
  }
  if (bits > 0) into[at++] = (pending << (8 - bits)) | (0xff >> bits);
  return at;
}
