import { expect } from 'chai';
import { HpackDecoder } from '../../../src/h2/hpack/decoder.js';
import { HpackEncoder } from '../../../src/h2/hpack/encoder.js';
import { OutputBuffer } from '../../../src/h2/output.js';
import { decode, dynamicTable, encode, type Field, hex } from './support.js';

interface Example {
  readonly section: string;
  readonly block: string;
  readonly fields: readonly Field[];
  /** the dynamic table afterwards, newest first */
  readonly table: readonly Field[];
}

const AUTHORITY: Field = [':authority', 'www.example.com'];
const NO_CACHE: Field = ['cache-control', 'no-cache'];
const CUSTOM: Field = ['custom-key', 'custom-value'];
const FIRST: readonly Field[] = [[':method', 'GET'], [':scheme', 'http'], [':path', '/'], AUTHORITY];
const THIRD: readonly Field[] = [[':method', 'GET'], [':scheme', 'https'], [':path', '/index.html'], AUTHORITY, CUSTOM];

const PRIVATE: Field = ['cache-control', 'private'];
const DATE_21: Field = ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'];
const DATE_22: Field = ['date', 'Mon, 21 Oct 2013 20:13:22 GMT'];
const LOCATION: Field = ['location', 'https://www.example.com'];
const GZIP: Field = ['content-encoding', 'gzip'];
const COOKIE: Field = ['set-cookie', 'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1'];
const S302: Field = [':status', '302'];
const S307: Field = [':status', '307'];
const AFTER_302 = [LOCATION, DATE_21, PRIVATE, S302];
const AFTER_307 = [S307, LOCATION, DATE_21, PRIVATE];
const AFTER_200 = [COOKIE, GZIP, DATE_22];
const LIST_302 = [S302, PRIVATE, DATE_21, LOCATION];
const LIST_307 = [S307, PRIVATE, DATE_21, LOCATION];
const LIST_200: readonly Field[] = [[':status', '200'], PRIVATE, DATE_22, LOCATION, GZIP, COOKIE];

const SEQUENCES: readonly { what: string; tableSize: number; examples: readonly Example[] }[] = [
  {
    what: 'C.3 requests without Huffman coding',
    tableSize: 4096,
    examples: [
      {
        section: 'C.3.1',
        block: '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
        fields: FIRST,
        table: [AUTHORITY],
      },
      {
        section: 'C.3.2',
        block: '8286 84be 5808 6e6f 2d63 6163 6865',
        fields: [...FIRST, NO_CACHE],
        table: [NO_CACHE, AUTHORITY],
      },
      {
        section: 'C.3.3',
        block: '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
        fields: THIRD,
        table: [CUSTOM, NO_CACHE, AUTHORITY],
      },
    ],
  },
  {
    what: 'C.4 requests with Huffman coding',
    tableSize: 4096,
    examples: [
      { section: 'C.4.1', block: '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff', fields: FIRST, table: [AUTHORITY] },
      {
        section: 'C.4.2',
        block: '8286 84be 5886 a8eb 1064 9cbf',
        fields: [...FIRST, NO_CACHE],
        table: [NO_CACHE, AUTHORITY],
      },
      {
        section: 'C.4.3',
        block: '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
        fields: THIRD,
        table: [CUSTOM, NO_CACHE, AUTHORITY],
      },
    ],
  },
  {
    what: 'C.5 responses without Huffman coding, with evictions',
    tableSize: 256,
    examples: [
      {
        section: 'C.5.1',
        block: `4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32
          3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
        fields: LIST_302,
        table: AFTER_302,
      },
      { section: 'C.5.2', block: '4803 3330 37c1 c0bf', fields: LIST_307, table: AFTER_307 },
      {
        section: 'C.5.3',
        block: `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970
          7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765
          3d33 3630 303b 2076 6572 7369 6f6e 3d31`,
        fields: LIST_200,
        table: AFTER_200,
      },
    ],
  },
  {
    what: 'C.6 responses with Huffman coding, with evictions',
    tableSize: 256,
    examples: [
      {
        section: 'C.6.1',
        block: `4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad
          1718 63c7 8f0b 97c8 e9ae 82ae 43d3`,
        fields: LIST_302,
        table: AFTER_302,
      },
      { section: 'C.6.2', block: '4883 640e ffc1 c0bf', fields: LIST_307, table: AFTER_307 },
      {
        section: 'C.6.3',
        block: `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2
          e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07`,
        fields: LIST_200,
        table: AFTER_200,
      },
    ],
  },
];

describe('RFC 7541, Appendix C', () => {
  // A table size update carries an integer with a 5-bit prefix and nothing else.
  for (const { section, size, block } of [
    { section: 'C.1.1', size: 10, block: '2a' },
    { section: 'C.1.2', size: 1337, block: '3f9a0a' },
  ]) {
    it(`${section}: ${size} with a 5-bit prefix`, () => {
      const encoder = new HpackEncoder();
      encoder.setPeerMaxTableSize(size);
      expect(encode(encoder, []).toString('hex')).to.equal(block);
      const decoder = new HpackDecoder(size);
      expect(decode(decoder, hex(block))).to.deep.equal([]);
      expect(() => decode(new HpackDecoder(size - 1), hex(block))).to.throw(`update to ${size} `);
    });
  }

  it('C.1.3: 42 at an octet boundary', () => {
    // No field of HPACK has an 8-bit prefix; with 7 bits, as for a string's length, it is the same octet.
    const value = 'v'.repeat(42);
    const block = Buffer.concat([hex('04 2a'), Buffer.from(value)]);
    expect(decode(new HpackDecoder(), block)).to.deep.equal([[':path', value]]);
  });

  const single: readonly Example[] = [
    {
      section: 'C.2.1',
      block: '400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572',
      fields: [['custom-key', 'custom-header']],
      table: [['custom-key', 'custom-header']],
    },
    {
      section: 'C.2.2',
      block: '040c 2f73 616d 706c 652f 7061 7468',
      fields: [[':path', '/sample/path']],
      table: [],
    },
    {
      section: 'C.2.3',
      block: '1008 7061 7373 776f 7264 0673 6563 7265 74',
      fields: [['password', 'secret']],
      table: [],
    },
    { section: 'C.2.4', block: '82', fields: [[':method', 'GET']], table: [] },
  ];
  for (const { section, block, fields, table } of single) {
    it(`${section}: decodes one representation`, () => {
      const decoder = new HpackDecoder();
      expect(decode(decoder, hex(block))).to.deep.equal(fields);
      expect(dynamicTable(decoder)).to.deep.equal(table);
    });
  }

  for (const { what, tableSize, examples } of SEQUENCES) {
    it(`${what}: decodes each list, and leaves the table as shown`, () => {
      // Asking for the table spoils a decoder, so each example gets one that has seen the blocks before it.
      for (let last = 0; last < examples.length; last++) {
        const decoder = new HpackDecoder(tableSize);
        for (const example of examples.slice(0, last + 1)) {
          expect(decode(decoder, hex(example.block)), example.section).to.deep.equal(example.fields);
        }
        expect(dynamicTable(decoder), examples[last]?.section).to.deep.equal(examples[last]?.table);
      }
    });
  }

  it('C.4: the encoder produces the very same blocks', () => {
    const encoder = new HpackEncoder();
    for (const { section, block, fields } of SEQUENCES[1]?.examples ?? []) {
      expect(encode(encoder, fields), section).to.deep.equal(hex(block));
    }
  });

  it('C.6: the encoder evicts as shown', () => {
    const encoder = new HpackEncoder(256);
    const decoder = new HpackDecoder(256);
    const out = new OutputBuffer();
    encoder.begin(out);
    expect(Buffer.concat(out.take())).to.deep.equal(hex('3fe101'));
    // `location` is indexed only once it has come twice: the first list leaves one entry less than in the example.
    for (const list of [LIST_302, LIST_302, LIST_307])
      expect(decode(decoder, encode(encoder, list))).to.deep.equal(list);
    expect(dynamicTable(decoder)).to.deep.equal([S307, LOCATION, DATE_21, PRIVATE]);
  });
});
