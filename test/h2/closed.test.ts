import { expect } from 'chai';
import { ClosedStreams } from '../../src/h2/closed.js';

describe('h2 closed streams', () => {
  it('remember the last thousand that were reset', () => {
    const closed = new ClosedStreams();
    for (let id = 1; id <= 4_001; id += 2) closed.addReset(id);
    expect(closed.wasReset(4_001)).to.equal(true);
    expect(closed.wasReset(2_003)).to.equal(true);
    expect(closed.wasReset(2_001)).to.equal(false);
  });

  it('remember the last 32 ranges that were passed over', () => {
    const closed = new ClosedStreams();
    for (let i = 0; i < 40; i++) closed.addSkipped(i * 100 + 1, i * 100 + 5);
    expect(closed.wasSkipped(3_903)).to.equal(true);
    expect(closed.wasSkipped(3_907)).to.equal(false);
    expect(closed.wasSkipped(801)).to.equal(true);
    expect(closed.wasSkipped(701)).to.equal(false);
  });
});
