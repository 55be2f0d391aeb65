import { expect } from 'chai';
import fc from 'fast-check';
import { Stream } from '../../src/h2/stream.js';
import { Streams } from '../../src/h2/streams.js';

const make = (id: number): Stream => new Stream(id, false, false, -1, 0, 0, 0);

describe('h2 open streams', () => {
  it('answer like a Map, whatever order streams come and go in', () => {
    // identifiers that share slots: some are far apart
    const id = fc.tuple(fc.nat(6), fc.constantFrom(0, 16, 32, 64, 128, 2 ** 25)).map(([n, far]) => (n + far) * 2 + 1);
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), id), { maxLength: 200 }), (steps) => {
        const streams = new Streams();
        const model = new Map<number, Stream>();
        for (const [add, streamId] of steps) {
          if (add && !model.has(streamId)) {
            const stream = make(streamId);
            model.set(streamId, stream);
            streams.add(stream);
          } else if (!add) {
            expect(streams.delete(streamId)).to.equal(model.delete(streamId));
          }
          expect(streams.size).to.equal(model.size);
          for (const known of model.keys()) expect(streams.get(known)).to.equal(model.get(known));
          expect(streams.has(streamId)).to.equal(model.has(streamId));
        }
        const ids = streams.values().map((stream) => stream.id);
        expect(ids.sort((a, b) => a - b)).to.deep.equal([...model.keys()].sort((a, b) => a - b));
      }),
    );
  });
});
