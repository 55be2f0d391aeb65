import { expect } from 'chai';
import fc from 'fast-check';
import { HpackDecoder } from '../../../src/h2/hpack/decoder.js';
import { HpackEncoder } from '../../../src/h2/hpack/encoder.js';
import { HpackError } from '../../../src/h2/hpack/error.js';
import { ReferenceDecoder } from './reference.js';
import {
  decode,
  dynamicTable,
  encode,
  type Field,
  fieldList,
  listSize,
  NO_LIMIT,
  OtherDecoder,
  OtherEncoder,
  pairs,
} from './support.js';

/** Sizes around what matters: nothing, one entry, a few, the default, more. */
const tableSize = fc.oneof(fc.constantFrom(0, 31, 32, 64, 100, 256, 4096, 16_384), fc.nat(8192));

/** A connection's life: header lists, and the peer's table size changing between them. */
const conversation = fc.array(fc.oneof({ weight: 5, arbitrary: fieldList }, { weight: 1, arbitrary: tableSize }), {
  minLength: 1,
  maxLength: 30,
});

describe('HPACK, any header lists', () => {
  it('our encoder to our decoder, table sizes changing between blocks', () => {
    fc.assert(
      fc.property(conversation, tableSize, (steps, cap) => {
        const encoder = new HpackEncoder(cap);
        const decoder = new HpackDecoder();
        for (const step of steps) {
          if (typeof step === 'number') {
            encoder.setPeerMaxTableSize(step);
            decoder.setMaxTableSize(step);
            continue;
          }
          const out: string[] = [];
          const block = encode(encoder, step);
          expect(decoder.decode(block, 0, block.length, out, NO_LIMIT, NO_LIMIT)).to.equal(listSize(step));
          expect(pairs(out)).to.deep.equal(step);
          expect(decoder.fieldCount).to.equal(step.length);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('our encoder to hpack.js and to the reference decoder, table sizes changing between blocks', () => {
    fc.assert(
      fc.property(conversation, tableSize, (steps, cap) => {
        const encoder = new HpackEncoder(cap);
        // Neither is told of changes: a maximum that is never exceeded allows every update.
        const others = [new OtherDecoder(16_384), new ReferenceDecoder(16_384)];
        for (const other of others) other.decode(Buffer.from('3fe11f', 'hex'));
        for (const step of steps) {
          if (typeof step === 'number') {
            encoder.setPeerMaxTableSize(step);
            continue;
          }
          const block = encode(encoder, step);
          for (const other of others) expect(other.decode(block)).to.deep.equal(step);
        }
      }),
      { numRuns: 400 },
    );
  }).timeout(30_000);

  it('the encoder of hpack.js to our decoder, in every representation', () => {
    const options = fc.record({ incremental: fc.boolean(), neverIndex: fc.boolean(), huffman: fc.boolean() });
    const size = fc.constantFrom(0, 64, 256, 4096);
    fc.assert(
      fc.property(fc.array(fc.tuple(fieldList, options), { maxLength: 20 }), size, (lists, max) => {
        const encoder = new OtherEncoder(max);
        const decoder = new HpackDecoder(max);
        const kept: Field[] = [];
        for (const [fields, option] of lists) {
          expect(decode(decoder, encoder.encode(fields, option))).to.deep.equal(fields);
          kept.push(...fields);
        }
        const table = dynamicTable(decoder);
        expect(listSize(table)).to.be.at.most(max);
        for (const [name, value] of table) {
          expect(kept.some((field) => field[0] === name && field[1] === value)).to.equal(true);
        }
      }),
      { numRuns: 400 },
    );
  });

  it('limits cut the list, and change nothing else', () => {
    fc.assert(
      fc.property(fc.array(fieldList, { maxLength: 8 }), fc.nat(800), fc.nat(12), (lists, maxSize, maxFields) => {
        const encoder = new HpackEncoder();
        const decoder = new HpackDecoder();
        for (const [i, fields] of lists.entries()) {
          const block = encode(encoder, fields);
          const limited = i % 2 === 0;
          const out: string[] = [];
          const size = decoder.decode(
            block,
            0,
            block.length,
            out,
            limited ? maxSize : NO_LIMIT,
            limited ? maxFields : NO_LIMIT,
          );
          let kept = 0;
          while (
            kept < fields.length &&
            (!limited || (kept < maxFields && listSize(fields.slice(0, kept + 1)) <= maxSize))
          )
            kept++;
          expect(size).to.equal(listSize(fields));
          expect(pairs(out)).to.deep.equal(fields.slice(0, kept));
        }
      }),
      { numRuns: 400 },
    );
  });
});

/** The outcome of a block: its fields, or that it is an error. */
function outcome(decodeBlock: () => readonly Field[]): readonly Field[] | 'error' {
  try {
    return decodeBlock();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return 'error';
  }
}

function outcomeOfOurs(decoder: HpackDecoder, block: Buffer): readonly Field[] | 'error' {
  try {
    return decode(decoder, block);
  } catch (error) {
    expect(error).to.be.instanceOf(HpackError);
    return 'error';
  }
}

describe('HPACK decoder, any octets', () => {
  /** Blocks of representations that are well-formed in the large and wrong in the small. */
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 6 }),
    fc.constantFrom(0x82, 0x90, 0xbe, 0xbf, 0xc0, 0x20, 0x3f).map((octet) => Uint8Array.of(octet)),
    fc
      .tuple(fc.constantFrom(0x40, 0x00, 0x10, 0x44, 0x7e, 0x0f), fc.uint8Array({ maxLength: 5 }), fc.boolean())
      .map(([first, octets, huffman]) => Uint8Array.of(first, octets.length | (huffman ? 0x80 : 0), ...octets)),
    fc.uint8Array({ maxLength: 20 }).map((octets) => Uint8Array.of(0x44, 0x80 | octets.length, ...octets)),
  );
  const anyBlock = fc.array(piece, { maxLength: 12 }).map((pieces) => Buffer.concat(pieces));

  it('agrees with the reference decoder, errors included, and throws nothing but HpackError', () => {
    let errors = 0;
    let lists = 0;
    fc.assert(
      fc.property(fc.array(anyBlock, { minLength: 1, maxLength: 6 }), tableSize, (blocks, max) => {
        const ours = new HpackDecoder(max);
        const reference = new ReferenceDecoder(max);
        for (const block of blocks) {
          const expected = outcome(() => reference.decode(block));
          expect(outcomeOfOurs(ours, block)).to.deep.equal(expected);
          if (expected === 'error') {
            errors++;
            break;
          }
          lists++;
        }
      }),
      { numRuns: 5000 },
    );
    expect(errors, 'blocks with errors').to.be.greaterThan(500);
    expect(lists, 'blocks without').to.be.greaterThan(500);
  });

  it('agrees with the reference decoder about mutated blocks', () => {
    const mutation = fc.tuple(fc.nat(), fc.nat(255), fc.constantFrom('set', 'insert', 'remove'));
    fc.assert(
      fc.property(
        fc.array(fieldList, { minLength: 1, maxLength: 5 }),
        fc.array(mutation, { maxLength: 3 }),
        (lists, mutations) => {
          const encoder = new HpackEncoder();
          const ours = new HpackDecoder();
          const reference = new ReferenceDecoder(4096);
          for (const fields of lists) {
            const octets = [...encode(encoder, fields)];
            for (const [where, octet, how] of mutations) {
              octets.splice(
                where % (octets.length + 1),
                how === 'insert' ? 0 : 1,
                ...(how === 'remove' ? [] : [octet]),
              );
            }
            const block = Buffer.from(octets);
            const expected = outcome(() => reference.decode(block));
            expect(outcomeOfOurs(ours, block)).to.deep.equal(expected);
            if (expected === 'error') return;
          }
        },
      ),
      { numRuns: 1500 },
    );
  }).timeout(30_000);

  it('a table never grows over its limit, whatever is decoded', () => {
    fc.assert(
      fc.property(fc.array(anyBlock, { maxLength: 20 }), (blocks) => {
        const decoder = new HpackDecoder(200);
        for (const block of blocks) if (outcomeOfOurs(decoder, block) === 'error') break;
        expect(listSize(dynamicTable(decoder))).to.be.at.most(200);
      }),
      { numRuns: 1000 },
    );
  });
});
