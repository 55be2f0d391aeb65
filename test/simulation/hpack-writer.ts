/**
 * What the simulated client needs to encode header blocks (RFC 7541): names and values into a dynamic table and out of
 * it again, so that a server that skips a block is out of step at once. No Huffman coding.
 */
import type { FieldList } from '../wire/h2-frames.js';

/** The static table's entries that requests use (RFC 7541 Appendix A). */
const STATIC: Readonly<Record<string, number>> = {
  ':method GET': 2,
  ':method POST': 3,
  ':path /': 4,
  ':scheme http': 6,
  ':scheme https': 7,
};
const STATIC_NAMES: Readonly<Record<string, number>> = {
  ':authority': 1,
  ':method': 2,
  ':path': 4,
  ':scheme': 6,
  'content-length': 28,
};

const FIRST_DYNAMIC = 62;
const ENTRY_OVERHEAD = 32;
const TABLE_SIZE = 4_096;

/** The encoding context of one connection. */
export class HpackWriter {
  /** `name value`, the newest first */
  readonly #table: string[] = [];
  #size = 0;

  encode(fields: FieldList): Buffer {
    const out: number[] = [];
    for (const [name, value] of fields) this.#field(out, name, value);
    return Buffer.from(out);
  }

  #field(out: number[], name: string, value: string): void {
    const entry = `${name} ${value}`;
    const indexed = STATIC[entry];
    const known = indexed ?? FIRST_DYNAMIC + this.#table.indexOf(entry);
    if (known >= FIRST_DYNAMIC || indexed !== undefined) {
      integer(out, 0x80, 7, known);
      return;
    }
    // a path is a path once: not worth an entry
    const remembered = name !== ':path' && name !== 'content-length';
    integer(out, remembered ? 0x40 : 0x00, remembered ? 6 : 4, STATIC_NAMES[name] ?? 0);
    if (STATIC_NAMES[name] === undefined) string(out, name);
    string(out, value);
    if (remembered) this.#remember(entry, name.length + value.length + ENTRY_OVERHEAD);
  }

  #remember(entry: string, size: number): void {
    this.#table.unshift(entry);
    this.#size += size;
    while (this.#size > TABLE_SIZE) this.#size -= (this.#table.pop()?.length ?? 0) - 1 + ENTRY_OVERHEAD;
  }
}

function string(out: number[], text: string): void {
  integer(out, 0x00, 7, text.length);
  for (let i = 0; i < text.length; i++) out.push(text.charCodeAt(i));
}

/** RFC 7541 §5.1 */
function integer(out: number[], pattern: number, prefix: number, value: number): void {
  const most = 2 ** prefix - 1;
  if (value < most) {
    out.push(pattern | value);
    return;
  }
  out.push(pattern | most);
  let left = value - most;
  for (; left >= 128; left = Math.floor(left / 128)) out.push((left % 128) + 128);
  out.push(left);
}
