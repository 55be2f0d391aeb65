import { expect } from 'chai';
import { HpackDecoder } from '../../../src/h2/hpack/decoder.js';
import { HpackEncoder } from '../../../src/h2/hpack/encoder.js';
import { HpackError } from '../../../src/h2/hpack/error.js';
import { decode, dynamicTable, encode, type Field, hex, listSize, NO_LIMIT, pairs } from './support.js';

/** A literal without Huffman code; `first` is its first octet (0x40: with indexing, 0: without), lengths below 127. */
function literal(first: number, name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.from([first, name.length]),
    Buffer.from(name, 'latin1'),
    Buffer.from([value.length]),
    Buffer.from(value, 'latin1'),
  ]);
}

function expectError(decoder: HpackDecoder, block: string | Buffer, message: RegExp): void {
  const bytes = typeof block === 'string' ? hex(block) : block;
  expect(() => decode(decoder, bytes)).to.throw(HpackError, message);
}

/** A decoder whose table has `fields`, the last one newest. */
function decoderWith(fields: readonly Field[], tableSize = 4096): HpackDecoder {
  const decoder = new HpackDecoder(tableSize);
  for (const [name, value] of fields) decode(decoder, literal(0x40, name, value));
  return decoder;
}

describe('HPACK decoder (RFC 7541)', () => {
  it('§2.1: keeps the order of fields', () => {
    const block = Buffer.concat([literal(0, 'b', '1'), hex('82'), literal(0x40, 'a', '2'), literal(0x10, 'b', '0')]);
    expect(decode(new HpackDecoder(), block)).to.deep.equal([
      ['b', '1'],
      [':method', 'GET'],
      ['a', '2'],
      ['b', '0'],
    ]);
  });

  it('§2.3.2: takes duplicate entries', () => {
    const decoder = decoderWith([
      ['a', '1'],
      ['a', '1'],
    ]);
    expect(decode(decoder, hex('be bf'))).to.deep.equal([
      ['a', '1'],
      ['a', '1'],
    ]);
  });

  it('§2.3.3: an index past both tables is an error, in every representation', () => {
    for (const block of ['be', '7e 01 61', '0f2f 01 61', '1f2f 01 61']) {
      expectError(new HpackDecoder(), block, /index 62 is past the end of the tables \(61\)/);
      expect(decode(decoderWith([['a', '1']]), hex(block))).to.have.length(1);
    }
    expectError(decoderWith([['a', '1']]), 'bf', /index 63 is past the end of the tables \(62\)/);
    expectError(new HpackDecoder(), 'ffffffff7f', /index 268435582 is past/);
  });

  it('§2.3.3: index 61 is the last of the static table', () => {
    expect(decode(new HpackDecoder(), hex('bd'))).to.deep.equal([['www-authenticate', '']]);
  });

  it('§4.1: entries count their octets without Huffman coding, and 32', () => {
    // "custom-key: custom-header" in Huffman code: 55 octets as an entry
    const block = hex('4088 25a8 49e9 5ba9 7d7f 8925 a849 e95a 728e 42d9');
    const [entry] = decode(new HpackDecoder(), block) as [Field];
    expect(entry).to.deep.equal(['custom-key', 'custom-header']);
    for (const { tableSize, entries } of [
      { tableSize: 55, entries: 1 },
      { tableSize: 54, entries: 0 },
    ]) {
      const decoder = new HpackDecoder(tableSize);
      decode(decoder, block);
      expect(dynamicTable(decoder)).to.have.length(entries);
    }
  });

  it('§4.2: a lowered limit has to be acknowledged by an update at the start of the next block', () => {
    const decoder = new HpackDecoder();
    decoder.setMaxTableSize(100);
    expectError(decoder, '82', /lowered to 100/);
  });

  it('§4.2: an update that does not go down far enough is no acknowledgement', () => {
    const decoder = new HpackDecoder();
    decoder.setMaxTableSize(0);
    decoder.setMaxTableSize(100);
    // 100 is allowed now, but 0 was the smallest and has to come first
    expectError(decoder, '3f45 82', /lowered to 0/);
  });

  it('§4.2: the smallest limit of an interval, then the final one', () => {
    const decoder = decoderWith([['a', '1']]);
    decoder.setMaxTableSize(0);
    decoder.setMaxTableSize(100);
    expect(decode(decoder, hex('20 3f45 82'))).to.deep.equal([[':method', 'GET']]);
    expect(dynamicTable(decoder)).to.deep.equal([]);
  });

  it('§4.2: no update is needed when the limit stays at or above what is in use', () => {
    const decoder = decoderWith([['a', '1']]);
    decoder.setMaxTableSize(8192);
    decoder.setMaxTableSize(4096);
    expect(decode(decoder, hex('be'))).to.deep.equal([['a', '1']]);
    decode(decoder, hex('3f45'));
    decoder.setMaxTableSize(100);
    expect(decode(decoder, hex('be'))).to.deep.equal([['a', '1']]);
  });

  it('§4.2: an update after the first field is an error', () => {
    expectError(new HpackDecoder(), '82 20', /size update inside a header block/);
    expectError(new HpackDecoder(), '20 82 20', /size update inside a header block/);
  });

  it('§4.2: at most two updates', () => {
    expect(decode(new HpackDecoder(), hex('20 21 82'))).to.deep.equal([[':method', 'GET']]);
    expectError(new HpackDecoder(), '20 21 22 82', /more than 2 dynamic table size updates/);
  });

  it('§4.3: a smaller size evicts the oldest until the rest fits', () => {
    // 34 octets each
    const decoder = decoderWith([
      ['a', '1'],
      ['b', '2'],
      ['c', '3'],
    ]);
    decode(decoder, hex('3f25')); // 68
    expect(dynamicTable(decoder)).to.deep.equal([
      ['c', '3'],
      ['b', '2'],
    ]);
    decode(decoder, hex('3f24')); // 67
    expect(dynamicTable(decoder)).to.deep.equal([['c', '3']]);
  });

  it('§4.3: entries that were evicted stay away when the size is raised again', () => {
    const decoder = decoderWith([['a', '1']]);
    decode(decoder, hex('20 3fe11f'));
    expect(dynamicTable(decoder)).to.deep.equal([]);
    decode(decoder, literal(0x40, 'b', '2'));
    expect(dynamicTable(decoder)).to.deep.equal([['b', '2']]);
  });

  it('§4.4: an entry evicts the oldest, exactly as many as it needs room for', () => {
    const fields: Field[] = [
      ['a', '1'],
      ['b', '2'],
      ['c', '3'],
    ];
    const full = decoderWith(fields, 3 * 34);
    expect(dynamicTable(full)).to.have.length(3);
    decode(full, literal(0x40, 'd', '4'));
    expect(dynamicTable(full).map(([name]) => name)).to.deep.equal(['d', 'c', 'b']);
    decode(full, literal(0x40, 'e', '55'));
    expect(dynamicTable(full).map(([name]) => name)).to.deep.equal(['e', 'd']);
  });

  it('§4.4: an entry larger than the table empties it, and is no error', () => {
    const decoder = decoderWith([['a', '1']], 50);
    expect(decode(decoder, literal(0x40, 'name', 'fifteen octets!'))).to.deep.equal([['name', 'fifteen octets!']]);
    expect(dynamicTable(decoder)).to.deep.equal([]);
  });

  it('§4.4: the name may come from an entry that is evicted by the insertion', () => {
    const decoder = decoderWith([['name', '1']], 40);
    // 0x7e: with indexing, name from index 62
    expect(decode(decoder, hex('7e 02 3232'))).to.deep.equal([['name', '22']]);
    expect(dynamicTable(decoder)).to.deep.equal([['name', '22']]);
  });

  it('§4.4: keeps order and content over thousands of insertions', () => {
    const decoder = new HpackDecoder(20 * 40);
    const fields = Array.from({ length: 5000 }, (_, i): Field => ['name', String(1000 + i)]);
    for (const [name, value] of fields) decode(decoder, literal(0x40, name, value));
    expect(dynamicTable(decoder)).to.deep.equal(fields.slice(-20).reverse());
  });

  it('§5.1: an integer over the limit, in value or in octets, is an error', () => {
    for (const block of ['ffffffffff7f', 'ff8080808000', '3fffffffff0f', '0fffffffff01 00', '007fffffffff01']) {
      expectError(new HpackDecoder(), block, /integer of more than four octets/);
    }
  });

  it('§5.1: an integer may have needless zeros within the limit', () => {
    // 31 + 0, in four octets
    expect(decode(new HpackDecoder(), hex('3f80808000 82'))).to.deep.equal([[':method', 'GET']]);
  });

  it('§5.1, §5.2: a block that ends inside a representation is an error', () => {
    for (const block of [
      'ff',
      'ff80',
      '40',
      '4001',
      '4001 61',
      '4001 61 02',
      '4001 61 02 31',
      '04',
      '047f',
      '0482 64',
      '3f',
    ]) {
      expectError(new HpackDecoder(), block, /ends|longer than its header block/);
    }
  });

  it('does not read past the end of the block, whatever follows in memory', () => {
    const bytes = hex('04 03 2f6162 82');
    const out: string[] = [];
    expect(() => new HpackDecoder().decode(bytes, 0, 4, out, NO_LIMIT, NO_LIMIT)).to.throw(HpackError);
    expect(() => new HpackDecoder().decode(hex('ff00'), 0, 1, out, NO_LIMIT, NO_LIMIT)).to.throw(HpackError);
    new HpackDecoder().decode(bytes, 0, 5, out, NO_LIMIT, NO_LIMIT);
    expect(out).to.deep.equal([':path', '/ab']);
  });

  it('§5.2: wrong padding and EOS in a string are errors, in names and values', () => {
    // 'a' and 11 ones; 8 ones; '0' and three zeros; EOS and two ones
    for (const bad of ['82 1fff', '81 ff', '81 00', '84 ffffffff']) {
      expectError(new HpackDecoder(), `04${bad}`, /EOS, or bad padding/);
      expectError(new HpackDecoder(), `00${bad} 00`, /EOS, or bad padding/);
    }
  });

  it('§6.1: index 0 is an error', () => {
    expectError(new HpackDecoder(), '80', /index 0/);
  });

  it('§6.2.1–6.2.3: only incremental indexing adds to the table', () => {
    for (const { first, entries } of [
      { first: 0x40, entries: 1 },
      { first: 0x00, entries: 0 },
      { first: 0x10, entries: 0 },
    ]) {
      const decoder = new HpackDecoder();
      decode(decoder, literal(first, 'a', '1'));
      expect(dynamicTable(decoder)).to.have.length(entries);
    }
  });

  it('§6.3: an update over the limit is an error', () => {
    expectError(new HpackDecoder(), '3fe21f', /update to 4097 is over SETTINGS_HEADER_TABLE_SIZE \(4096\)/);
    expect(decode(new HpackDecoder(), hex('3fe11f'))).to.deep.equal([]);
    const raised = new HpackDecoder();
    raised.setMaxTableSize(4097);
    expect(decode(raised, hex('3fe21f'))).to.deep.equal([]);
  });

  it('an empty block is an empty list', () => {
    const decoder = new HpackDecoder();
    expect(decoder.decode(Buffer.alloc(0), 0, 0, [], NO_LIMIT, NO_LIMIT)).to.equal(0);
    expect(decoder.fieldCount).to.equal(0);
  });

  it('decodes octets as latin1, with and without Huffman code', () => {
    const every = Array.from({ length: 256 }, (_, octet) => String.fromCharCode(octet)).join('');
    const plain = Buffer.concat([hex('04 7f8101'), Buffer.from(every, 'latin1')]);
    expect(decode(new HpackDecoder(), plain)).to.deep.equal([[':path', every]]);
  });

  it('hands out the same string for every reference to an entry', () => {
    const decoder = decoderWith([['name', 'value']]);
    const out: string[] = [];
    decoder.decode(hex('be be'), 0, 2, out, NO_LIMIT, NO_LIMIT);
    expect(pairs(out)).to.deep.equal([
      ['name', 'value'],
      ['name', 'value'],
    ]);
  });
});

describe('HPACK decoder, limits', () => {
  const fields: Field[] = [
    ['first', '1'],
    ['second', '22'],
    ['third', '333'],
    ['fourth', ''],
  ];

  it('appends up to the list limit, returns the size of the whole list, and counts all fields', () => {
    const block = encode(new HpackEncoder(), fields);
    const two = listSize(fields.slice(0, 2));
    for (const { max, kept } of [
      { max: two, kept: 2 },
      { max: two - 1, kept: 1 },
      { max: listSize(fields), kept: 4 },
      { max: 0, kept: 0 },
    ]) {
      const decoder = new HpackDecoder();
      const out: string[] = [];
      expect(decoder.decode(block, 0, block.length, out, max, NO_LIMIT)).to.equal(listSize(fields));
      expect(pairs(out)).to.deep.equal(fields.slice(0, kept));
      expect(decoder.fieldCount).to.equal(4);
    }
  });

  it('does not append a small field after one that was over the limit', () => {
    const out: string[] = [];
    const block = Buffer.concat([literal(0, 'large', 'x'.repeat(100)), literal(0, 'a', '1'), hex('82')]);
    new HpackDecoder().decode(block, 0, block.length, out, 100, NO_LIMIT);
    expect(out).to.deep.equal([]);
  });

  it('appends up to the field limit, of every representation', () => {
    const block = Buffer.concat([hex('82 84'), literal(0, 'a', '1'), literal(0x40, 'b', '2'), hex('be')]);
    for (let max = 0; max <= 5; max++) {
      const decoder = new HpackDecoder();
      expect(decode(decoder, block, NO_LIMIT, max)).to.have.length(max);
      expect(decoder.fieldCount).to.equal(5);
    }
  });

  it('keeps the table in step with what it did not append', () => {
    const decoder = new HpackDecoder();
    const encoder = new HpackEncoder();
    expect(decode(decoder, encode(encoder, fields), 0)).to.deep.equal([]);
    expect(decode(decoder, encode(encoder, fields))).to.deep.equal(fields);
    expect(dynamicTable(decoder)).to.deep.equal([...fields].reverse());
  });

  it('still finds decoding errors past the limits', () => {
    expect(() => decode(new HpackDecoder(), hex('82 04 81 ff'), 0)).to.throw(HpackError);
    expect(() => decode(new HpackDecoder(), hex('82 be'), 0)).to.throw(HpackError);
  });

  it('HPACK bomb: references past the limit are counted, not collected', () => {
    const value = 'v'.repeat(4000);
    const decoder = new HpackDecoder();
    decode(decoder, Buffer.concat([hex('40 01 61 7fa11e'), Buffer.from(value)]));
    const bomb = Buffer.alloc(100_000, 0xbe);
    const out: string[] = [];
    expect(decoder.decode(bomb, 0, bomb.length, out, 65_536, 2000)).to.equal(100_000 * (1 + 4000 + 32));
    expect(out).to.have.length(2 * 16);
  });

  it('makes no strings of literals past the limit', () => {
    const one = Buffer.concat([hex('00 03 6e616d 7fff7e'), Buffer.alloc(127 + 0x3f7f, 'x')]);
    const plain = Buffer.concat(new Array<Buffer>(20).fill(one));
    const huffman = Buffer.concat(new Array<Buffer>(5000).fill(hex('00 81 1f 86 a8eb10649cbf')));
    const original = Buffer.prototype.toString;
    for (const block of [plain, huffman]) {
      let calls = 0;
      const decoder = new HpackDecoder();
      Buffer.prototype.toString = function counted(this: Buffer, ...args: Parameters<typeof original>): string {
        calls++;
        return original.apply(this, args);
      };
      try {
        expect(decoder.decode(block, 0, block.length, [], 0, NO_LIMIT)).to.be.greaterThan(100_000);
      } finally {
        Buffer.prototype.toString = original;
      }
      expect(calls).to.equal(0);
    }
  });
});
