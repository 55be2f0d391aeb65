/**
 * Decodes header blocks (RFC 7541): the representations of §6 and the rules about table sizes. Whether the fields make
 * a valid request, and what a list over its limit costs the peer, is for the session to say.
 */
import { DecoderTable, ENTRY_OVERHEAD } from './decoder-table.js';
import { HpackError } from './error.js';
import { huffmanDecode, maxDecodedLength } from './huffman.js';
import { kindsOfName, kindsOfValue, NAME } from './octets.js';
import { STATIC_KINDS, STATIC_LENGTH, STATIC_NAMES, STATIC_VALUES } from './static-table.js';

/** SETTINGS_HEADER_TABLE_SIZE before any SETTINGS say otherwise (RFC 9113 §6.5.2). */
const DEFAULT_TABLE_SIZE = 4096;

/** An integer may take four octets after its prefix (RFC 7541 §5.1: over a limit it is an error): up to 2^28 + 254. */
const MAX_INTEGER_SHIFT = 21;

/** Table size updates that a header block may begin with (RFC 7541 §4.2). */
const MAX_SIZE_UPDATES = 2;

const HUFFMAN_FLAG = 0x80;

/** Decoded strings of up to this size share one scratch buffer; a longer one gets its own, which nobody keeps. */
const SCRATCH_SIZE = 64 * 1024;
const scratch = Buffer.allocUnsafeSlow(SCRATCH_SIZE);

/** What the fields of the list decoded last consist of: it is read before the next is decoded, whosever that is. */
let kinds = new Uint8Array(256);

function noteKinds(field: number, kindsOfField: number): void {
  if (field >= kinds.length) {
    const more = new Uint8Array(2 * field);
    more.set(kinds);
    kinds = more;
  }
  kinds[field] = kindsOfField;
}

/** The decoding context of one connection. After an error it must not be used again. */
export class HpackDecoder {
  /** Fields in the block decoded last, whether or not they were appended. */
  fieldCount = 0;

  /** What each field consists of that was appended last (octets.ts): there until the next block is decoded, by any decoder. */
  get kinds(): Uint8Array {
    return kinds;
  }

  readonly #table: DecoderTable;
  /** What our acknowledged SETTINGS allow. */
  #allowed: number;
  /** The smallest size allowed since the last block: if the table's is larger, the next block must begin by lowering it. */
  #smallestAllowed: number;

  // The block being decoded.
  #bytes: Buffer = scratch;
  #pos = 0;
  #end = 0;
  // The string literal found last: octets [from, to) of `decoded`.
  #decoded: Buffer = scratch;
  #from = 0;
  #to = 0;

  /** @param maxTableSize octets of dynamic table that our SETTINGS allow; default 4,096 */
  constructor(maxTableSize: number = DEFAULT_TABLE_SIZE) {
    this.#table = new DecoderTable(maxTableSize);
    this.#allowed = maxTableSize;
    this.#smallestAllowed = maxTableSize;
  }

  /**
   * The peer has acknowledged another SETTINGS_HEADER_TABLE_SIZE of ours. If it is below what the peer uses, its next
   * header block has to begin with a table size update (RFC 7541 §4.2).
   */
  setMaxTableSize(size: number): void {
    this.#allowed = size;
    if (size < this.#smallestAllowed) this.#smallestAllowed = size;
  }

  /**
   * Decodes the complete header block `bytes[start..end)` and appends name, value, name, value, … to `out`, each octet
   * a latin1 character.
   *
   * Fields past `maxListSize` (the sum of name, value and 32 each, RFC 9113 §6.5.2) or past `maxFields` are decoded,
   * because the table has to stay in step, but not appended; where no table keeps them they aren't even allocated.
   *
   * @returns the size of the whole list, including what was not appended
   * @throws {HpackError} on whatever RFC 7541 calls a decoding error
   */
  decode(bytes: Buffer, start: number, end: number, out: string[], maxListSize: number, maxFields: number): number {
    this.#bytes = bytes;
    this.#pos = start;
    this.#end = end;
    if (end > start && ((bytes[start] as number) & 0xe0) === 0x20) this.#sizeUpdates();
    else if (this.#smallestAllowed < this.#table.maxSize) this.#missingUpdate();
    this.#smallestAllowed = this.#allowed;

    const table = this.#table;
    let listSize = 0;
    let fields = 0;
    while (this.#pos < end) {
      const first = bytes[this.#pos++] as number;
      let name: string;
      let value: string;
      let kindsOfField: number;
      fields++;

      if (first >= 0x80) {
        // Indexed (§6.1)
        let index = first & 0x7f;
        if (index === 0x7f) index = this.#integer(0x7f);
        if (index <= STATIC_LENGTH) {
          if (index === 0) throw new HpackError('index 0 in an indexed header field');
          name = STATIC_NAMES[index] as string;
          value = STATIC_VALUES[index] as string;
          kindsOfField = STATIC_KINDS[index] as number;
        } else {
          index -= STATIC_LENGTH + 1;
          if (index >= table.count) this.#badIndex(index);
          name = table.name(index);
          value = table.value(index);
          kindsOfField = table.kinds(index);
        }
        listSize += name.length + value.length + ENTRY_OVERHEAD;
        if (listSize <= maxListSize && fields <= maxFields) {
          noteKinds(out.length >> 1, kindsOfField);
          out.push(name, value);
        }
        continue;
      }

      const indexing = first >= 0x40;
      if (!indexing && first >= 0x20) throw new HpackError('dynamic table size update inside a header block');
      // Literal with incremental indexing (§6.2.1); without (§6.2.2), or never (§6.2.3): the same to a server.
      const prefix = indexing ? 0x3f : 0x0f;
      let index = first & prefix;
      if (index === prefix) index = this.#integer(prefix);

      const wanted = listSize <= maxListSize && fields <= maxFields;
      let nameLength: number;
      if (index === 0) {
        this.#string();
        nameLength = this.#to - this.#from;
        const useful = (wanted && listSize + nameLength <= maxListSize) || (indexing && nameLength <= table.maxSize);
        name = useful ? this.#text() : '';
        kindsOfField = useful ? kindsOfName(this.#decoded, this.#from, this.#to) : 0;
      } else {
        name = this.#indexedName(index);
        nameLength = name.length;
        kindsOfField = this.#indexedKinds(index) & NAME;
      }
      this.#string();
      const size = nameLength + this.#to - this.#from + ENTRY_OVERHEAD;
      listSize += size;
      const append = wanted && listSize <= maxListSize;
      const keep = indexing && table.makeRoom(size);
      if (!append && !keep) continue;
      value = this.#text();
      kindsOfField |= kindsOfValue(this.#decoded, this.#from, this.#to);
      if (keep) table.add(name, value, kindsOfField);
      if (append) {
        noteKinds(out.length >> 1, kindsOfField);
        out.push(name, value);
      }
    }
    this.#bytes = scratch;
    this.#decoded = scratch;
    this.fieldCount = fields;
    return listSize;
  }

  #indexedName(index: number): string {
    if (index <= STATIC_LENGTH) return STATIC_NAMES[index] as string;
    const dynamic = index - STATIC_LENGTH - 1;
    if (dynamic >= this.#table.count) this.#badIndex(dynamic);
    return this.#table.name(dynamic);
  }

  #indexedKinds(index: number): number {
    return index <= STATIC_LENGTH ? (STATIC_KINDS[index] as number) : this.#table.kinds(index - STATIC_LENGTH - 1);
  }

  #badIndex(dynamic: number): never {
    const last = STATIC_LENGTH + this.#table.count;
    throw new HpackError(`index ${dynamic + STATIC_LENGTH + 1} is past the end of the tables (${last})`);
  }

  /** Dynamic table size updates (§6.3), which come first in a block if at all (§4.2). */
  #sizeUpdates(): void {
    const table = this.#table;
    for (let updates = 1; this.#pos < this.#end; updates++) {
      const first = this.#bytes[this.#pos] as number;
      if ((first & 0xe0) !== 0x20) break;
      if (updates > MAX_SIZE_UPDATES) {
        throw new HpackError(`more than ${MAX_SIZE_UPDATES} dynamic table size updates in a header block`);
      }
      this.#pos++;
      let size = first & 0x1f;
      if (size === 0x1f) size = this.#integer(0x1f);
      if (size > this.#allowed) {
        throw new HpackError(
          `dynamic table size update to ${size} is over SETTINGS_HEADER_TABLE_SIZE (${this.#allowed})`,
        );
      }
      if (updates === 1 && this.#smallestAllowed < table.maxSize && size > this.#smallestAllowed) this.#missingUpdate();
      table.resize(size);
    }
  }

  #missingUpdate(): never {
    throw new HpackError(
      `SETTINGS_HEADER_TABLE_SIZE was lowered to ${this.#smallestAllowed}, but the header block doesn't begin with a dynamic table size update to that`,
    );
  }

  /** The rest of an integer whose prefix was full (§5.1). */
  #integer(prefix: number): number {
    let value = prefix;
    let shift = 0;
    for (;;) {
      if (this.#pos >= this.#end) throw new HpackError('header block ends inside an integer');
      const octet = this.#bytes[this.#pos++] as number;
      value += (octet & 0x7f) << shift;
      if (octet < 0x80) return value;
      if (shift === MAX_INTEGER_SHIFT) throw new HpackError('integer of more than four octets after its prefix');
      shift += 7;
    }
  }

  /** A string literal (§5.2): leaves its octets in decoded[from..to). */
  #string(): void {
    if (this.#pos >= this.#end) throw new HpackError('header block ends where a string literal should be');
    const first = this.#bytes[this.#pos++] as number;
    let length = first & 0x7f;
    if (length === 0x7f) length = this.#integer(0x7f);
    const from = this.#pos;
    const to = from + length;
    if (to > this.#end) throw new HpackError('string literal is longer than its header block');
    this.#pos = to;
    if ((first & HUFFMAN_FLAG) === 0) {
      this.#decoded = this.#bytes;
      this.#from = from;
      this.#to = to;
      return;
    }
    const room = maxDecodedLength(length);
    this.#decoded = room <= SCRATCH_SIZE ? scratch : Buffer.allocUnsafe(room);
    this.#from = 0;
    this.#to = huffmanDecode(this.#bytes, from, to, this.#decoded);
    if (this.#to < 0) throw new HpackError('string literal contains EOS, or bad padding, in its Huffman code');
  }

  #text(): string {
    return this.#from === this.#to ? '' : this.#decoded.toString('latin1', this.#from, this.#to);
  }
}
