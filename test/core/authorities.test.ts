import { expect } from 'chai';
import { Authorities } from '../../src/core/authorities.js';

describe('the authorities of a connection', () => {
  it('are remembered as they were named, and by their host', () => {
    const authorities = new Authorities();
    for (const name of ['a.example', 'B.example:8443', '[2001:db8::1]:443', 'a.example']) authorities.note(name);
    expect([...authorities]).to.deep.equal(['b.example:8443', '[2001:db8::1]:443', 'a.example']);
    expect(authorities.has('b.example')).to.equal(true);
    expect(authorities.has('[2001:db8::1]')).to.equal(true);
  });

  it('are no more than 64, and none that is longer than a host can be', () => {
    const authorities = new Authorities();
    for (let i = 0; i < 100; i++) {
      authorities.note(`${i}.example`);
      authorities.note(`${i}${'x'.repeat(60_000)}:1`);
    }
    expect(authorities.size).to.equal(64);
    expect([...authorities].at(-1)).to.equal('99.example');
  });
});
