import { Socket } from 'node:net';
import { expect } from 'chai';
import { LiveConnection } from '../../src/core/connection.js';
import { Crowd } from '../../src/core/crowd.js';

describe('a crowd', () => {
  it('makes room a few connections per turn of the loop', async () => {
    const live = Array.from({ length: 1_600 }, () => new LiveConnection(new Socket(), false));
    let drained = 0;
    const crowd = new Crowd(() => {
      drained++;
      return new Promise(() => {});
    });
    crowd.makeRoom({ connections: { size: live.length, live: () => live }, maxConnections: 1_600, promised: 0 });
    expect(drained).to.be.within(1, 64);
    while (drained < 100) await new Promise((resolve) => setImmediate(resolve));
  });
});
