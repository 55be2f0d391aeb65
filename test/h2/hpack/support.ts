/** Blocks in and out of encoders and decoders, and generated header lists, for the HPACK tests. */
import fc from 'fast-check';
import hpack from 'hpack.js';
import type { HpackDecoder } from '../../../src/h2/hpack/decoder.js';
import type { HpackEncoder } from '../../../src/h2/hpack/encoder.js';
import { OutputBuffer } from '../../../src/h2/output.js';

export type Field = readonly [name: string, value: string];

export const NO_LIMIT = Number.MAX_SAFE_INTEGER;

/** Bytes from hex, blanks ignored. */
export function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(/\s/g, ''), 'hex');
}

export function decode(decoder: HpackDecoder, block: Buffer, maxListSize = NO_LIMIT, maxFields = NO_LIMIT): Field[] {
  const out: string[] = [];
  decoder.decode(block, 0, block.length, out, maxListSize, maxFields);
  return pairs(out);
}

export function encode(encoder: HpackEncoder, fields: readonly Field[]): Buffer {
  const out = new OutputBuffer();
  encoder.begin(out);
  for (const [name, value] of fields) encoder.field(out, name, value);
  return Buffer.concat(out.take());
}

export function pairs(flat: readonly string[]): Field[] {
  const fields: Field[] = [];
  for (let i = 0; i < flat.length; i += 2) fields.push([flat[i] as string, flat[i + 1] as string]);
  return fields;
}

export function listSize(fields: readonly Field[]): number {
  return fields.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
}

/** The decoder's dynamic table, newest first, as its peer sees it: by asking for one index after the other. */
export function dynamicTable(decoder: HpackDecoder): Field[] {
  const fields: Field[] = [];
  for (let index = 62; ; index++) {
    const more = index - 127;
    const block = index < 127 ? [0x80 | index] : more < 128 ? [0xff, more] : [0xff, (more & 0x7f) | 0x80, more >> 7];
    try {
      fields.push(...decode(decoder, Buffer.from(block)));
    } catch {
      return fields;
    }
  }
}

/** An encoder of hpack.js. */
export class OtherEncoder {
  readonly #compressor;

  constructor(tableSize: number) {
    this.#compressor = hpack.compressor.create({ table: { maxSize: tableSize } });
  }

  encode(
    fields: readonly Field[],
    options: { incremental?: boolean; neverIndex?: boolean; huffman?: boolean } = {},
  ): Buffer {
    this.#compressor.write(fields.map(([name, value]) => ({ name, value, ...options })));
    const parts: Buffer[] = [];
    for (let part = this.#compressor.read(); part !== null; part = this.#compressor.read()) parts.push(part);
    return Buffer.concat(parts);
  }
}

/** A decoder of hpack.js. */
export class OtherDecoder {
  readonly #decompressor;

  constructor(tableSize: number) {
    this.#decompressor = hpack.decompressor.create({ table: { maxSize: tableSize } });
    this.#decompressor.on('error', (error) => {
      throw error;
    });
  }

  decode(block: Buffer): Field[] {
    this.#decompressor.write(block);
    this.#decompressor.execute();
    const fields: Field[] = [];
    for (let field = this.#decompressor.read(); field !== null; field = this.#decompressor.read()) {
      fields.push([field.name, field.value]);
    }
    return fields;
  }
}

const COMMON_FIELDS: readonly Field[] = [
  [':status', '200'],
  [':status', '302'],
  [':method', 'GET'],
  [':path', '/'],
  [':path', '/a/b?c=d'],
  ['accept-encoding', 'gzip, deflate'],
  ['accept-encoding', ''],
  ['authorization', 'Basic Og=='],
  ['cache-control', 'no-cache'],
  ['content-length', '0'],
  ['content-length', '1337'],
  ['content-type', 'text/html; charset=utf-8'],
  ['cookie', 'a=b'],
  ['cookie', 'session=0123456789abcdef'],
  ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
  ['etag', '"1"'],
  ['server', 'lastcall'],
  ['set-cookie', 'a=1'],
  ['set-cookie', 'session=0123456789abcdef; Path=/'],
  ['x-empty', ''],
];

const NAMES = [
  'content-length',
  'date',
  'etag',
  'location',
  'server',
  'set-cookie',
  'x-a',
  'x-b',
  'x-request-id',
  'via',
];

const token = fc
  .string({ unit: fc.constantFrom(...'abcdefghijklmnopqrstuvwxyz0123456789-_.'), minLength: 1, maxLength: 40 })
  .map((rest) => `x${rest}`);

/** Any octets. */
const octets = fc.string({ unit: fc.nat(255).map((octet) => String.fromCharCode(octet)), maxLength: 60 });

const text = fc.string({ unit: fc.nat({ max: 94 }).map((i) => String.fromCharCode(0x20 + i)), maxLength: 60 });

const value = fc.oneof(
  { weight: 4, arbitrary: text },
  { weight: 2, arbitrary: fc.nat(20).map(String) },
  { weight: 1, arbitrary: octets },
  { weight: 1, arbitrary: fc.nat(6000).map((length) => 'long '.repeat(length / 5)) },
);

/** Fields as they come: many that repeat, names that vary in value, and what nobody sends. */
export const field: fc.Arbitrary<Field> = fc.oneof(
  { weight: 5, arbitrary: fc.constantFrom(...COMMON_FIELDS) },
  { weight: 3, arbitrary: fc.tuple(fc.constantFrom(...NAMES), value) },
  { weight: 1, arbitrary: fc.tuple(token, value) },
);

export const fieldList: fc.Arbitrary<Field[]> = fc.array(field, { maxLength: 14 });
