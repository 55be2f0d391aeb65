import { expect } from 'chai';
import fc from 'fast-check';
import { OutputBuffer } from '../../src/h2/output.js';

function write(out: OutputBuffer, bytes: Buffer): void {
  out.reserve(bytes.length);
  out.buf.set(bytes, out.pos);
  out.pos += bytes.length;
}

describe('OutputBuffer', () => {
  it('hands out what was written and appended, in order, and is empty afterwards', () => {
    const out = new OutputBuffer();
    write(out, Buffer.from('head '));
    out.append(Buffer.from('small '));
    const large = Buffer.alloc(5000, 'x');
    out.append(large);
    write(out, Buffer.from(' tail'));
    expect(out.size).to.equal(5 + 6 + 5000 + 5);
    expect(Buffer.concat(out.take()).toString()).to.equal(`head small ${large.toString()} tail`);
    expect(out.size).to.equal(0);
    expect(out.take()).to.deep.equal([]);
  });

  it('passes large buffers by reference, and copies small ones', () => {
    const out = new OutputBuffer();
    const large = Buffer.alloc(4096, 'a');
    const small = Buffer.alloc(4095, 'b');
    out.append(large);
    out.append(small);
    const taken = out.take();
    expect(taken[0]).to.equal(large);
    small.fill('c');
    expect((taken[1] as Buffer).every((octet) => octet === 0x62)).to.equal(true);
  });

  it('gives room for one piece larger than a chunk', () => {
    const out = new OutputBuffer();
    write(out, Buffer.from('a'));
    write(out, Buffer.alloc(100_000, 'b'));
    expect(Buffer.concat(out.take()).length).to.equal(100_001);
  });

  it('never writes again to what it has handed out, whichever buffer goes on in the same chunk', () => {
    const buffers = [new OutputBuffer(), new OutputBuffer(), new OutputBuffer()] as const;
    const handedOut: { bytes: Buffer; was: string }[] = [];
    for (let i = 0; i < 3000; i++) {
      const out = buffers[i % 3] as OutputBuffer;
      write(out, Buffer.from(`${i} of ${i % 3};`));
      if (i % 2 === 0) for (const bytes of out.take()) handedOut.push({ bytes, was: bytes.toString() });
    }
    for (const { bytes, was } of handedOut) expect(bytes.toString()).to.equal(was);
  });

  it('shares one chunk among buffers that are emptied in turn', () => {
    const chunks = new Set<ArrayBufferLike>();
    for (let i = 0; i < 100; i++) {
      const out = new OutputBuffer();
      write(out, Buffer.from('a small answer'));
      for (const bytes of out.take()) chunks.add(bytes.buffer);
    }
    expect(chunks.size).to.be.lessThan(3);
  });

  it('keeps a held frame in one piece across chunks, so that its length can be patched', () => {
    const out = new OutputBuffer();
    write(out, Buffer.from('before'));
    out.hold();
    for (let i = 0; i < 50; i++) write(out, Buffer.alloc(1000, i));
    out.append(Buffer.alloc(5000, 50));
    expect(out.pos - out.held).to.equal(55_000);
    out.buf[out.held] = 0xff;
    out.release();
    const bytes = Buffer.concat(out.take());
    expect(bytes.length).to.equal(6 + 55_000);
    expect(bytes.subarray(0, 6).toString()).to.equal('before');
    expect(bytes[6]).to.equal(0xff);
    for (let i = 1; i < 55_000; i++) expect(bytes[6 + i]).to.equal(Math.min(50, Math.floor(i / 1000)));
  });

  it('is a byte queue, whatever the order and size of writes, appends and takes', () => {
    const size = fc.oneof(fc.nat(40), fc.nat(20_000));
    const step = fc.tuple(fc.constantFrom('write', 'append', 'take', 'hold', 'release'), size, fc.nat(1));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const queues = [0, 1].map(() => ({ out: new OutputBuffer(), expected: [] as Buffer[], taken: [] as Buffer[] }));
        let mark = 0;
        for (const [action, length, which] of steps) {
          const queue = queues[which] as (typeof queues)[0];
          if (action === 'hold') queue.out.hold();
          else if (action === 'release') queue.out.release();
          else if (action === 'take') queue.taken.push(...queue.out.take());
          else {
            const bytes = Buffer.alloc(length, ++mark);
            queue.expected.push(bytes);
            if (action === 'write') write(queue.out, bytes);
            else queue.out.append(bytes);
          }
          const waiting = queue.expected.reduce((sum, bytes) => sum + bytes.length, 0);
          const gone = queue.taken.reduce((sum, bytes) => sum + bytes.length, 0);
          expect(queue.out.size).to.equal(waiting - gone);
        }
        for (const { out, expected, taken } of queues) {
          expect(Buffer.concat([...taken, ...out.take()]).equals(Buffer.concat(expected))).to.equal(true);
        }
      }),
      { numRuns: 300 },
    );
  });
});
