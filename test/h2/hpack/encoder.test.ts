import { expect } from 'chai';
import { HpackDecoder } from '../../../src/h2/hpack/decoder.js';
import { HpackEncoder } from '../../../src/h2/hpack/encoder.js';
import { OutputBuffer } from '../../../src/h2/output.js';
import { decode, dynamicTable, encode, type Field, hex } from './support.js';

function status(encoder: HpackEncoder, code: number): Buffer {
  const out = new OutputBuffer();
  encoder.begin(out);
  encoder.status(out, code);
  return Buffer.concat(out.take());
}

/** What stands at the start of a block, up to the first field. */
function sizeUpdates(encoder: HpackEncoder): string {
  return encode(encoder, []).toString('hex');
}

describe('HPACK encoder (RFC 7541)', () => {
  it('§2.1: keeps the order of fields', () => {
    const fields: Field[] = [
      ['x-b', '1'],
      ['x-a', '2'],
      ['x-b', '3'],
      ['set-cookie', 'a=1'],
      ['x-b', '1'],
    ];
    expect(decode(new HpackDecoder(), encode(new HpackEncoder(), fields))).to.deep.equal(fields);
  });

  it('has one octet for each status of the static table, and indexes any other', () => {
    const encoder = new HpackEncoder();
    for (const [i, code] of [200, 204, 206, 304, 400, 404, 500].entries()) {
      expect([...status(encoder, code)]).to.deep.equal([0x88 + i]);
    }
    const decoder = new HpackDecoder();
    expect(decode(decoder, status(encoder, 302))).to.deep.equal([[':status', '302']]);
    const again = status(encoder, 302);
    expect([...again]).to.deep.equal([0xbe]);
    expect(decode(decoder, again)).to.deep.equal([[':status', '302']]);
  });

  it('every status from 100 to 999 reaches the peer', () => {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    for (let code = 100; code < 1000; code++) {
      expect(decode(decoder, status(encoder, code))).to.deep.equal([[':status', String(code)]]);
    }
  });

  it('a field that repeats costs one octet', () => {
    const encoder = new HpackEncoder();
    const fields: Field[] = [
      ['content-type', 'application/json'],
      ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
      ['server', 'lastcall'],
      ['x-custom', 'value'],
      ['vary', 'accept'],
    ];
    encode(encoder, fields);
    expect(encode(encoder, fields)).to.have.length(fields.length);
  });

  it('a whole field of the static table costs one octet', () => {
    expect(encode(new HpackEncoder(), [['accept-encoding', 'gzip, deflate']])).to.deep.equal(hex('90'));
    expect(encode(new HpackEncoder(), [[':path', '/index.html']])).to.deep.equal(hex('85'));
  });

  it('§5.2: uses Huffman code only where it is shorter', () => {
    expect(encode(new HpackEncoder(), [['server', 'aaaaa']])).to.deep.equal(hex('76 84 18c631ff'));
    expect(encode(new HpackEncoder(), [['server', '{{{{']])).to.deep.equal(
      Buffer.concat([hex('76 04'), Buffer.from('{{{{')]),
    );
    expect(encode(new HpackEncoder(), [['server', 'zz']])).to.deep.equal(
      Buffer.concat([hex('76 02'), Buffer.from('zz')]),
    );
  });

  it('§4.4: evicts exactly as its peer does, and refers to nothing that is gone', () => {
    const encoder = new HpackEncoder(3 * 34);
    const decoder = new HpackDecoder(4096);
    const rounds = 'abcabcdabcdeabcdefg'.split('').map((name): Field => [name, '1']);
    for (const field of rounds) expect(decode(decoder, encode(encoder, [field]))).to.deep.equal([field]);
    expect(dynamicTable(decoder)).to.have.length(3);
  });

  it('§4.4: keeps what exactly fits', () => {
    const encoder = new HpackEncoder(3 * 34);
    const fields = ['a', 'b', 'c'].map((name): Field => [name, '1']);
    encode(encoder, fields);
    expect(encode(encoder, fields).toString('hex')).to.equal('c0bfbe');
  });

  it('does not index what would push most of the table out', () => {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    decode(decoder, encode(encoder, [['server', 'lastcall']]));
    decode(decoder, encode(encoder, [['x-large', 'x'.repeat(3100)]]));
    expect(dynamicTable(decoder)).to.deep.equal([['server', 'lastcall']]);
  });
});

describe('HPACK encoder, table sizes (RFC 7541 §4.2)', () => {
  it('says nothing while the size is the default', () => {
    const encoder = new HpackEncoder();
    expect(sizeUpdates(encoder)).to.equal('');
    encoder.setPeerMaxTableSize(4096);
    encoder.setPeerMaxTableSize(65_536);
    expect(sizeUpdates(encoder)).to.equal('');
  });

  it('signals a lower size at the start of the next block, once', () => {
    const encoder = new HpackEncoder();
    encoder.setPeerMaxTableSize(100);
    expect(sizeUpdates(encoder)).to.equal('3f45');
    expect(sizeUpdates(encoder)).to.equal('');
  });

  it('signals the smallest size of an interval, then the final one', () => {
    const encoder = new HpackEncoder();
    for (const size of [1000, 0, 10, 100]) encoder.setPeerMaxTableSize(size);
    expect(sizeUpdates(encoder)).to.equal('203f45');
    encoder.setPeerMaxTableSize(50);
    encoder.setPeerMaxTableSize(10);
    expect(sizeUpdates(encoder)).to.equal('2a');
    encoder.setPeerMaxTableSize(5);
    encoder.setPeerMaxTableSize(10);
    expect(sizeUpdates(encoder)).to.equal('252a');
  });

  it('never uses more than its own cap, whatever the peer allows', () => {
    const encoder = new HpackEncoder(8192);
    encoder.setPeerMaxTableSize(2 ** 32 - 1);
    expect(sizeUpdates(encoder)).to.equal('3fe13f');
    const small = new HpackEncoder(0);
    expect(sizeUpdates(small)).to.equal('20');
    small.setPeerMaxTableSize(65_536);
    expect(sizeUpdates(small)).to.equal('');
  });

  it('indexes nothing in a table of size 0', () => {
    const encoder = new HpackEncoder();
    encoder.setPeerMaxTableSize(0);
    const decoder = new HpackDecoder(0);
    for (let i = 0; i < 3; i++) {
      expect(decode(decoder, encode(encoder, [['server', 'lastcall']]))).to.deep.equal([['server', 'lastcall']]);
    }
  });

  it('forgets what a smaller size evicts', () => {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    const fields: Field[] = [
      ['server', 'lastcall'],
      ['x-a', '1'],
    ];
    decode(decoder, encode(encoder, fields));
    decoder.setMaxTableSize(0);
    decoder.setMaxTableSize(4096);
    encoder.setPeerMaxTableSize(0);
    encoder.setPeerMaxTableSize(4096);
    expect(decode(decoder, encode(encoder, fields))).to.deep.equal(fields);
  });
});

describe('HPACK encoder, what it indexes (RFC 7541 §7.1)', () => {
  const NEVER_INDEXED = 0x10;
  const WITHOUT_INDEXING = 0x00;
  const WITH_INDEXING = 0x40;

  function representation(encoder: HpackEncoder, name: string, value: string): number {
    const first = encode(encoder, [[name, value]])[0] as number;
    return first >= 0x80 ? 0x80 : first >= 0x40 ? 0x40 : first & 0xf0;
  }

  it('§7.1.3: credentials are never-indexed literals, however often they come', () => {
    const encoder = new HpackEncoder();
    for (const name of ['authorization', 'proxy-authorization']) {
      for (let i = 0; i < 3; i++) {
        expect(representation(encoder, name, `Bearer ${'t'.repeat(100)}`)).to.equal(NEVER_INDEXED);
      }
    }
  });

  it('§7.1.3: cookies under 20 octets are never-indexed literals', () => {
    const encoder = new HpackEncoder();
    for (let i = 0; i < 3; i++) {
      for (const name of ['cookie', 'set-cookie']) {
        expect(representation(encoder, name, 'c'.repeat(19))).to.equal(NEVER_INDEXED);
        expect(representation(encoder, name, '')).to.equal(NEVER_INDEXED);
      }
      expect(representation(encoder, 'set-cookie', 'c'.repeat(20))).to.equal(WITHOUT_INDEXING);
    }
    expect(representation(encoder, 'cookie', 'c'.repeat(20))).to.equal(WITH_INDEXING);
  });

  it('indexes a varying field only when its value comes twice in a row', () => {
    for (const name of ['content-length', 'etag', 'location', 'x-request-id']) {
      const encoder = new HpackEncoder();
      expect(representation(encoder, name, '1')).to.equal(WITHOUT_INDEXING);
      expect(representation(encoder, name, '2')).to.equal(WITHOUT_INDEXING);
      expect(representation(encoder, name, '1')).to.equal(WITHOUT_INDEXING);
      expect(representation(encoder, name, '1')).to.equal(WITH_INDEXING);
      expect(representation(encoder, name, '1')).to.equal(0x80);
    }
  });

  it('stops indexing a name whose values are not used again, until one is', () => {
    const encoder = new HpackEncoder();
    for (let i = 0; i < 3; i++) expect(representation(encoder, 'x-trace', `id-${i}`)).to.equal(WITH_INDEXING);
    for (let i = 3; i < 9; i++) expect(representation(encoder, 'x-trace', `id-${i}`)).to.equal(WITHOUT_INDEXING);
    expect(representation(encoder, 'x-trace', 'id-8')).to.equal(WITH_INDEXING);
    expect(representation(encoder, 'x-trace', 'id-8')).to.equal(0x80);
    expect(representation(encoder, 'x-trace', 'id-9')).to.equal(WITH_INDEXING);
  });

  it('keeps what repeats in the table while others vary', () => {
    const encoder = new HpackEncoder();
    for (let i = 0; i < 1000; i++) {
      encode(encoder, [
        ['server', 'lastcall'],
        ['x-trace', `${i}`.repeat(10)],
        ['content-length', `${i}`],
        ['set-cookie', `session=${i}; Path=/; HttpOnly; Secure`],
      ]);
    }
    expect(representation(encoder, 'server', 'lastcall')).to.equal(0x80);
  });

  it('keeps what repeats in the table while names come and go', () => {
    const encoder = new HpackEncoder();
    encode(encoder, [['server', 'lastcall']]);
    // Too long to be indexed
    for (let i = 0; i < 1000; i++) encode(encoder, [[`x-${i}`, 'long '.repeat(700)]]);
    expect(representation(encoder, 'server', 'lastcall')).to.equal(0x80);
  });

  it('stays in step with its peer through ten thousand names that come once', () => {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    for (let i = 0; i < 10_000; i++) {
      const fields: Field[] = [
        [`x-${i}`, `${i}`],
        ['server', 'lastcall'],
      ];
      expect(decode(decoder, encode(encoder, fields))).to.deep.equal(fields);
    }
  });
});
