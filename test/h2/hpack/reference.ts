/**
 * RFC 7541's decoder once more, written for being obviously right: arrays, bit strings, no table but the RFC's. The
 * Huffman codes are hpack.js's. Tests hold the real decoder against it, errors included.
 */
import { createRequire } from 'node:module';
import type { Field } from './support.js';

const require = createRequire(import.meta.url);
const { encode: codes } = require('hpack.js/lib/hpack/huffman.js') as { encode: [length: number, code: number][] };
const { table: staticTable } = require('hpack.js/lib/hpack/static-table.js') as {
  table: { name: string; value: string }[];
};

const symbols = new Map(codes.map(([length, code], symbol) => [code.toString(2).padStart(length, '0'), symbol]));

export class ReferenceDecoder {
  readonly #dynamic: Field[] = [];
  readonly #allowed: number;
  #maxSize: number;
  #rest: number[] = [];

  constructor(tableSize: number) {
    this.#allowed = tableSize;
    this.#maxSize = tableSize;
  }

  /** @throws {Error} on a decoding error */
  decode(block: Buffer): Field[] {
    const fields: Field[] = [];
    let updates = 0;
    this.#rest = [...block];
    while (this.#rest.length > 0) {
      const octet = this.#rest[0] as number;
      if (octet >= 0x80) {
        fields.push(this.#entry(this.#integer(7)));
      } else if (octet >= 0x40) {
        const field = this.#literal(6);
        fields.push(field);
        this.#evict(this.#maxSize - size(field));
        if (size(field) <= this.#maxSize) this.#dynamic.unshift(field);
      } else if (octet >= 0x20) {
        const maxSize = this.#integer(5);
        if (fields.length > 0 || ++updates > 2 || maxSize > this.#allowed) throw new Error('size update');
        this.#maxSize = maxSize;
        this.#evict(maxSize);
      } else {
        fields.push(this.#literal(4));
      }
    }
    return fields;
  }

  #evict(limit: number): void {
    while (this.#dynamic.length > 0 && this.#dynamic.reduce((sum, field) => sum + size(field), 0) > limit) {
      this.#dynamic.pop();
    }
  }

  #entry(index: number): Field {
    const known = staticTable[index - 1];
    const field: Field | undefined = known ? [known.name, known.value] : this.#dynamic[index - staticTable.length - 1];
    if (field === undefined) throw new Error('index');
    return field;
  }

  #literal(prefix: number): Field {
    const index = this.#integer(prefix);
    const name = index === 0 ? this.#string() : this.#entry(index)[0];
    return [name, this.#string()];
  }

  #octet(): number {
    const octet = this.#rest.shift();
    if (octet === undefined) throw new Error('end');
    return octet;
  }

  #integer(prefix: number): number {
    const max = 2 ** prefix - 1;
    let value = this.#octet() & max;
    if (value < max) return value;
    for (let i = 0; ; i++) {
      if (i === 4) throw new Error('integer');
      const octet = this.#octet();
      value += (octet & 127) * 2 ** (7 * i);
      if (octet < 128) return value;
    }
  }

  #string(): string {
    const huffman = (this.#rest[0] ?? 0) >= 128;
    const length = this.#integer(7);
    if (length > this.#rest.length) throw new Error('end');
    const octets = this.#rest.splice(0, length);
    return huffman ? decodeHuffman(octets) : Buffer.from(octets).toString('latin1');
  }
}

function size(field: Field): number {
  return field[0].length + field[1].length + 32;
}

function decodeHuffman(octets: number[]): string {
  let text = '';
  let code = '';
  for (const bit of octets.map((octet) => octet.toString(2).padStart(8, '0')).join('')) {
    code += bit;
    const symbol = symbols.get(code);
    if (symbol === 256) throw new Error('EOS');
    if (symbol === undefined) continue;
    text += String.fromCharCode(symbol);
    code = '';
  }
  if (code.length > 7 || code.includes('0')) throw new Error('padding');
  return text;
}
