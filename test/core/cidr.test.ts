import { BlockList, isIPv6 } from 'node:net';
import { expect } from 'chai';
import fc from 'fast-check';
import { AddressSet } from '../../src/core/cidr.js';

const set = (...members: string[]) => new AddressSet('addresses', members);

describe('AddressSet', () => {
  const cases: [members: string[], inside: string[], outside: string[]][] = [
    [['192.0.2.7'], ['192.0.2.7', '::ffff:192.0.2.7'], ['192.0.2.8', '::192.0.2.7', '::1']],
    [
      ['10.0.0.0/8'],
      ['10.0.0.0', '10.255.255.255', '::ffff:10.1.2.3', '::FFFF:a01:203'],
      ['11.0.0.0', '9.255.255.255'],
    ],
    [['10.128.0.0/9'], ['10.128.0.1'], ['10.127.255.255']],
    [['198.51.100.4/30'], ['198.51.100.7'], ['198.51.100.8', '198.51.100.3']],
    [['0.0.0.0/0'], ['203.0.113.1', '::ffff:203.0.113.1'], ['::1', '2001:db8::1']],
    [['2001:db8::/32'], ['2001:db8::1', '2001:DB8:ffff::'], ['2001:db9::1', '32.1.13.184']],
    [['2001:db8:8000::/33'], ['2001:db8:8001::'], ['2001:db8:7fff::']],
    [['::1'], ['::1', '0:0:0:0:0:0:0:1'], ['::2', '127.0.0.1']],
    [['::ffff:10.0.0.0/104'], ['10.9.9.9', '::ffff:10.9.9.9'], ['11.0.0.0']],
    [['fe80::/10'], ['fe80::1%eth0', 'febf::'], ['fec0::']],
    [['::/0'], ['::1', '2001:db8::1', '192.0.2.1'], []],
    [['2000::/3'], ['2001:db8::1'], ['192.0.2.1', '::ffff:192.0.2.1']],
    [
      ['10.0.0.0/8', '2001:db8::/32', '::1'],
      ['10.0.0.1', '2001:db8::', '::1'],
      ['192.0.2.1', '::'],
    ],
    [['1:2:3:4:5:6:7:8'], ['1:2:3:4:5:6:7:8'], ['1:2:3:4:5:6:7:9']],
    [['1::8'], ['1:0:0:0:0:0:0:8'], ['1:8::']],
    [['1:2::'], ['1:2:0:0::'], ['::1:2']],
  ];
  for (const [members, inside, outside] of cases) {
    it(`${members.join(', ')}: has ${inside.join(', ')}${outside.length > 0 ? `; not ${outside.join(', ')}` : ''}`, () => {
      const addresses = set(...members);
      for (const address of inside) expect(addresses.has(address), address).to.equal(true);
      for (const address of outside) expect(addresses.has(address), address).to.equal(false);
    });
  }

  it('has no connection without an address', () => {
    expect(set('0.0.0.0/0', '::/0').has(undefined)).to.equal(false);
  });

  for (const text of [
    '',
    '10.0.0.0/33',
    '10.0.0.0/',
    '10.0.0.0/08',
    '10.0.0.0/-1',
    '10.0.0/8',
    '010.0.0.0/8',
    '10.0.0.0/8/8',
    '2001:db8::/129',
    '2001:db8::g',
    'fe80::1%eth0',
    'example.com',
    ' 10.0.0.1',
  ]) {
    it(`refuses ${JSON.stringify(text)} by name`, () => {
      expect(() => set(text))
        .to.throw(RangeError, `option addresses must be an IP address or CIDR range, got ${JSON.stringify(text)}`)
        .with.property('code', 'ERR_LASTCALL_OPTION');
    });
  }

  it('refuses bits beyond the prefix: 10.1.2.3/8 is more likely a typo than the wish for all of 10.0.0.0/8', () => {
    expect(() => set('10.1.2.3/8')).to.throw(RangeError, 'bits beyond its /8 prefix, got "10.1.2.3/8"');
    expect(() => set('2001:db8::1/64')).to.throw(RangeError, '/64 prefix');
  });

  it('refuses what is no text', () => {
    expect(() => new AddressSet('addresses', [7 as unknown as string])).to.throw(TypeError, 'got 7');
  });

  it("agrees with Node's BlockList on any range and address", () => {
    const octets = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255));
    const v4 = octets.map((parts) => parts.join('.'));
    const v6 = fc.ipV6();
    // Near each other, or nothing would ever match: the same address with one bit changed.
    const pair = fc.oneof(
      fc.tuple(octets, fc.nat(31), fc.nat(32)).map(([parts, bit, prefix]) => {
        const near = [...parts];
        near[bit >> 3] = (near[bit >> 3] ?? 0) ^ (0x80 >> (bit & 7));
        return { base: parts.join('.'), other: near.join('.'), prefix };
      }),
      fc
        .tuple(fc.array(fc.nat(0xffff), { minLength: 8, maxLength: 8 }), fc.nat(127), fc.nat(128))
        .map(([groups, bit, prefix]) => {
          const near = [...groups];
          near[bit >> 4] = (near[bit >> 4] ?? 0) ^ (0x8000 >> (bit & 15));
          const text = (of: number[]) => of.map((group) => group.toString(16)).join(':');
          return { base: text(groups), other: text(near), prefix };
        }),
      fc.tuple(v6, v6, fc.nat(128)).map(([base, other, prefix]) => ({ base, other, prefix })),
      fc.tuple(v4, v6, fc.nat(32)).map(([base, other, prefix]) => ({ base, other, prefix })),
    );
    fc.assert(
      fc.property(pair, ({ base, other, prefix }) => {
        const family = (address: string) => (isIPv6(address) ? 'ipv6' : 'ipv4');
        const list = new BlockList();
        list.addSubnet(base, prefix, family(base));
        const ours = set(`${networkOf(base, prefix)}/${prefix}`);
        for (const address of [base, other]) {
          expect(ours.has(address), `${address} in ${base}/${prefix}`).to.equal(list.check(address, family(address)));
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('finds its members among 20,000 addresses in under 20 ms', () => {
    const addresses = Array.from({ length: 20_000 }, (_, n) =>
      n % 2 === 0 ? `::ffff:10.${n >> 16}.${(n >> 8) & 255}.${n & 255}` : `2001:db8::${(n % 0xffff).toString(16)}:1`,
    );
    const members = set('10.0.0.0/8', '192.0.2.0/24', '2001:db8:1::/48');
    const took = Math.min(
      ...Array.from({ length: 5 }, () => {
        const from = performance.now();
        expect(addresses.filter((address) => members.has(address))).to.have.length(10_000);
        return performance.now() - from;
      }),
    );
    expect(took).to.be.below(20);
  });
});

/** The address with the bits beyond the prefix cleared. */
function networkOf(address: string, prefix: number): string {
  if (!isIPv6(address)) {
    const value = address.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n);
    const cleared = (value >> BigInt(32 - prefix)) << BigInt(32 - prefix);
    return [24n, 16n, 8n, 0n].map((shift) => String((cleared >> shift) & 255n)).join('.');
  }
  const host = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [before = '', after = ''] = host.split('::');
  const left = before === '' ? [] : before.split(':');
  const right = after === '' ? [] : after.split(':');
  const groups = host.includes('::') ? [...left, ...Array(8 - left.length - right.length).fill('0'), ...right] : left;
  const value = groups.reduce((sum, group) => (sum << 16n) + BigInt(`0x${group}`), 0n);
  const cleared = (value >> BigInt(128 - prefix)) << BigInt(128 - prefix);
  return [112n, 96n, 80n, 64n, 48n, 32n, 16n, 0n].map((shift) => ((cleared >> shift) & 0xffffn).toString(16)).join(':');
}
