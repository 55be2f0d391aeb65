import { expect } from 'chai';
import { drawThinkTime, Random } from './random.js';

describe('seeded randomness', () => {
  it('repeats itself for the same seed, and differs for another', () => {
    const draw = (seed: number): number[] =>
      Array.from(
        { length: 20 },
        (
          (random) => () =>
            random.next()
        )(new Random(seed)),
      );
    expect(draw(7)).to.deep.equal(draw(7));
    expect(draw(7)).to.not.deep.equal(draw(8));
  });

  it('draws think times with the mean that was asked for', () => {
    const random = new Random(1);
    const mean = (draw: () => number): number => Array.from({ length: 20_000 }, draw).reduce((a, b) => a + b) / 20_000;
    expect(mean(() => drawThinkTime({ kind: 'exponential', meanMs: 500 }, random))).to.be.within(485, 515);
    expect(mean(() => drawThinkTime({ kind: 'uniform', minMs: 10, maxMs: 30 }, random))).to.be.within(19.8, 20.2);
  });
});
