import { createRequire } from 'node:module';
import { expect } from 'chai';
import fc from 'fast-check';
import { huffmanDecode, huffmanEncode, huffmanLength, maxDecodedLength } from '../../../src/h2/hpack/huffman.js';

const require = createRequire(import.meta.url);
const { encode: codes } = require('hpack.js/lib/hpack/huffman.js') as { encode: [length: number, code: number][] };

/** Octets from a string of bits, filled up with `padding`. */
function octets(bits: string, padding = '1'): Buffer {
  const full = bits.padEnd(Math.ceil(bits.length / 8) * 8, padding);
  return Buffer.from((full.match(/.{8}/g) ?? []).map((octet) => Number.parseInt(octet, 2)));
}

function codeOf(symbol: number): string {
  const [length, code] = codes[symbol] as [number, number];
  return code.toString(2).padStart(length, '0');
}

function decode(bytes: Buffer): string | undefined {
  const into = Buffer.alloc(maxDecodedLength(bytes.length));
  const length = huffmanDecode(bytes, 0, bytes.length, into);
  return length < 0 ? undefined : into.toString('latin1', 0, length);
}

function encode(text: string): Buffer {
  const into = Buffer.alloc(huffmanLength(text) + 8);
  return into.subarray(0, huffmanEncode(text, into, 0));
}

describe('Huffman code (RFC 7541 §5.2, Appendix B)', () => {
  it('has the code of every octet, in both directions, at every bit offset', () => {
    for (let symbol = 0; symbol < 256; symbol++) {
      for (let before = 0; before < 8; before++) {
        // '0' has 5 bits, so `before` of them end at every offset in an octet.
        const text = '0'.repeat(before) + String.fromCharCode(symbol);
        const bits = codeOf(48).repeat(before) + codeOf(symbol);
        expect(encode(text), `encode ${symbol}`).to.deep.equal(octets(bits));
        expect(decode(octets(bits)), `decode ${symbol}`).to.equal(text);
        expect(huffmanLength(text)).to.equal(Math.ceil(bits.length / 8));
      }
    }
  });

  it('decodes what it has encoded', () => {
    const anyOctets = fc.string({ unit: fc.nat(255).map((octet) => String.fromCharCode(octet)), maxLength: 300 });
    fc.assert(
      fc.property(anyOctets, (text) => decode(encode(text)) === text && encode(text).length === huffmanLength(text)),
      { numRuns: 2000 },
    );
  });

  it('writes and reads inside the given range only', () => {
    const into = Buffer.alloc(20, 0xee);
    expect(huffmanEncode('www', into, 5)).to.equal(8);
    expect(into.toString('hex')).to.equal(`${'ee'.repeat(5)}f1e3c7${'ee'.repeat(12)}`);
    const decoded = Buffer.alloc(20);
    expect(decoded.toString('latin1', 0, huffmanDecode(into, 5, 8, decoded))).to.equal('www');
  });

  it('an empty string is no octets', () => {
    expect(encode('')).to.have.length(0);
    expect(decode(Buffer.alloc(0))).to.equal('');
  });

  it('§5.2: padding strictly longer than 7 bits is an error', () => {
    // 'w' has 7 bits: 8 of them are 7 octets, so one more octet is padding alone.
    const whole = codeOf(119).repeat(8);
    expect(decode(octets(whole))).to.equal('wwwwwwww');
    expect(decode(octets(`${whole}11111111`))).to.equal(undefined);
    expect(decode(Buffer.from([0xff]))).to.equal(undefined);
    expect(decode(octets(`${whole}${codeOf(119)}`))).to.equal('wwwwwwwww');
    for (let bits = 1; bits <= 7; bits++) {
      // '0' × k leaves 8 - (5k mod 8) bits.
      const zeros = codeOf(48).repeat([0, 3, 6, 1, 4, 7, 2, 5][bits] as number);
      expect(zeros.length % 8).to.equal(8 - bits);
      expect(decode(octets(zeros)), `${bits} bits of padding`).to.have.length(zeros.length / 5);
      expect(decode(Buffer.concat([octets(zeros), Buffer.from([0xff])])), `${bits + 8} bits`).to.equal(undefined);
    }
  });

  it('§5.2: padding that is not the start of EOS (all ones) is an error', () => {
    for (const wrong of ['0000000', '1111110', '0111111', '1110111']) {
      // 'w' leaves 1 bit, '00' leaves 6, 'ww' leaves 2: the wrong bits are cut to fit, if they stay wrong.
      for (const text of ['0', '00', 'w', 'ww']) {
        const bits = [...text].map((char) => codeOf(char.charCodeAt(0))).join('');
        const room = (8 - (bits.length % 8)) % 8;
        const padding = wrong.slice(0, room);
        if (!padding.includes('0')) continue;
        // Where the wrong padding is itself a code of 5 bits and more, it would decode to a symbol.
        const expected = decodesFurther(padding) ? text.length + 1 : undefined;
        expect(decode(octets(bits + padding))?.length, `${text} ${padding}`).to.equal(expected);
      }
    }
  });

  it('§5.2: EOS in the string is an error, wherever it stands', () => {
    const eos = codeOf(256);
    for (let before = 0; before < 8; before++) {
      const text = codeOf(48).repeat(before);
      expect(decode(octets(text + eos)), `after ${before}`).to.equal(undefined);
      expect(decode(octets(text + eos + codeOf(97))), `after ${before}, with more`).to.equal(undefined);
      expect(decode(octets(text + eos + codeOf(97).repeat(8))), `after ${before}, with much more`).to.equal(undefined);
    }
  });
});

function decodesFurther(padding: string): boolean {
  return codes.some(
    (_, symbol) => padding.startsWith(codeOf(symbol)) && !padding.slice(codeOf(symbol).length).includes('0'),
  );
}
