/**
 * Encodes header blocks (RFC 7541) straight into an output buffer. The frames around them, and whether names and values
 * are valid, are its callers' business.
 */
import type { OutputBuffer } from '../output.js';
import { ENTRY_OVERHEAD } from './decoder-table.js';
import { EncoderTable, type NameState } from './encoder-table.js';
import { huffmanEncode, huffmanLength } from './huffman.js';

/** SETTINGS_HEADER_TABLE_SIZE before any SETTINGS say otherwise (RFC 9113 §6.5.2). */
const DEFAULT_TABLE_SIZE = 4096;

// The first bits of each representation (RFC 7541 §6).
const INDEXED = 0x80;
const WITH_INDEXING = 0x40;
const SIZE_UPDATE = 0x20;
const NEVER_INDEXED = 0x10;
const WITHOUT_INDEXING = 0x00;

/** Octets that an integer may take at most: the first one and five with seven bits each. */
const MAX_INTEGER = 6;

/** Values inserted in a row without one of them being used again, after which a name counts as varying. */
const MAX_MISSES = 3;

/** Longer values are not remembered for comparison with the next one. */
const MAX_REMEMBERED = 256;

/** Short strings are copied character by character: cheaper than the call into native code. */
const NATIVE_COPY_FROM = 48;

/** The static table's index by status code; 0: not there. */
const STATUS_INDEX = new Uint8Array(1000);
for (const [i, status] of [200, 204, 206, 304, 400, 404, 500].entries()) STATUS_INDEX[status] = 8 + i;

const STATUS_TEXT: readonly string[] = Array.from({ length: 1000 }, (_, status) => String(status));

/** The encoding context of one connection. */
export class HpackEncoder {
  readonly #table: EncoderTable;
  /** Our own cap on the table. */
  readonly #cap: number;
  /** The size to use from the next block on, and the smallest that the peer has asked for since the last one. */
  #wanted: number;
  #smallest: number;

  /** @param tableSize octets of dynamic table to use at most, however many the peer allows; default 4,096 */
  constructor(tableSize: number = DEFAULT_TABLE_SIZE) {
    this.#cap = tableSize;
    this.#table = new EncoderTable(DEFAULT_TABLE_SIZE);
    this.#wanted = Math.min(tableSize, DEFAULT_TABLE_SIZE);
    this.#smallest = this.#wanted;
  }

  /** The peer's SETTINGS_HEADER_TABLE_SIZE: takes effect, and is signalled, at the start of the next block (§4.2). */
  setPeerMaxTableSize(size: number): void {
    this.#wanted = Math.min(size, this.#cap);
    this.#smallest = Math.min(this.#smallest, this.#wanted);
  }

  /** Starts a header block: writes the table size updates that are due, the smallest first (§4.2). */
  begin(out: OutputBuffer): void {
    const current = this.#table.maxSize;
    if (this.#wanted === current && this.#smallest === current) return;
    if (this.#smallest < this.#wanted && this.#smallest < current) this.#sizeUpdate(out, this.#smallest);
    this.#sizeUpdate(out, this.#wanted);
    this.#smallest = this.#wanted;
  }

  /** Adds `:status`, an integer from 100 to 999. */
  status(out: OutputBuffer, status: number): void {
    const index = STATUS_INDEX[status] as number;
    if (index > 0) writeIndexed(out, index);
    else this.field(out, ':status', STATUS_TEXT[status] as string);
  }

  /** Adds a field: the name in lower case, both as latin1 strings. */
  field(out: OutputBuffer, name: string, value: string): void {
    const table = this.#table;
    const state = table.state(name);
    const traits = state.traits;
    const newest = state.newest;

    if (traits.indexing === 'sensitive' || value.length < traits.sensitiveBelow) {
      this.#literal(out, NEVER_INDEXED, 0x0f, state, value);
      return;
    }
    if (newest !== undefined) {
      const entry = newest.value === value ? newest : table.find(state, value);
      if (entry !== undefined) {
        state.misses = 0;
        writeIndexed(out, table.index(entry));
        return;
      }
    }
    const at = traits.staticValues.indexOf(value);
    if (at >= 0) {
      writeIndexed(out, traits.staticIndex + at);
    } else if (this.#worthIndexing(state, value)) {
      this.#literal(out, WITH_INDEXING, 0x3f, state, value);
      state.misses++;
      table.add(state, value);
    } else {
      this.#literal(out, WITHOUT_INDEXING, 0x0f, state, value);
    }
  }

  #worthIndexing(state: NameState, value: string): boolean {
    // An entry that would evict most of the others has to be worth more than all of them: it hardly ever is.
    const size = state.name.length + value.length + ENTRY_OVERHEAD;
    if (state.traits.indexing === 'literal' || size > this.#table.maxSize * 0.75) return false;
    const again = value === state.lastValue && value !== '';
    state.lastValue = value.length <= MAX_REMEMBERED ? value : '';
    return again || (state.traits.indexing === 'repeats' && state.misses < MAX_MISSES);
  }

  #literal(out: OutputBuffer, representation: number, prefix: number, state: NameState, value: string): void {
    const name = state.name;
    // Huffman code is used only where it is shorter, so the plain lengths bound the literal.
    out.reserve(name.length + value.length + 3 * MAX_INTEGER);
    const buf = out.buf;
    let pos = out.pos;
    const staticIndex = state.traits.staticIndex;
    const index = staticIndex > 0 || state.newest === undefined ? staticIndex : this.#table.index(state.newest);
    pos = writeInteger(buf, pos, representation, prefix, index);
    if (index === 0) pos = writeString(buf, pos, name);
    out.pos = writeString(buf, pos, value);
  }

  #sizeUpdate(out: OutputBuffer, size: number): void {
    out.reserve(MAX_INTEGER);
    out.pos = writeInteger(out.buf, out.pos, SIZE_UPDATE, 0x1f, size);
    this.#table.resize(size);
  }
}

function writeIndexed(out: OutputBuffer, index: number): void {
  out.reserve(MAX_INTEGER);
  if (index < 0x7f) out.buf[out.pos++] = INDEXED | index;
  else out.pos = writeInteger(out.buf, out.pos, INDEXED, 0x7f, index);
}

/** RFC 7541 §5.1; `first` has the bits before the prefix, and `prefix` is its largest value. Returns the end. */
function writeInteger(buf: Buffer, pos: number, first: number, prefix: number, value: number): number {
  if (value < prefix) {
    buf[pos] = first | value;
    return pos + 1;
  }
  let at = pos;
  let rest = value - prefix;
  buf[at++] = first | prefix;
  while (rest >= 0x80) {
    buf[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  buf[at++] = rest;
  return at;
}

/** RFC 7541 §5.2, in whichever form is shorter. Returns the end. */
function writeString(buf: Buffer, pos: number, text: string): number {
  const length = text.length;
  const coded = huffmanLength(text);
  if (coded < length) return huffmanEncode(text, buf, writeInteger(buf, pos, 0x80, 0x7f, coded));
  const at = writeInteger(buf, pos, 0, 0x7f, length);
  if (length < NATIVE_COPY_FROM) for (let i = 0; i < length; i++) buf[at + i] = text.charCodeAt(i);
  else buf.write(text, at, 'latin1');
  return at + length;
}
