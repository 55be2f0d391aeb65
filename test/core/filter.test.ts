import { Socket } from 'node:net';
import { expect } from 'chai';
import { Authorities } from '../../src/core/authorities.js';
import type { Connection } from '../../src/core/connection.js';
import { type ConnectionFilter, compileFilter } from '../../src/core/filter.js';
import { type FilterSyntaxError, parseFilter } from '../../src/core/filter-text.js';

type Facts = Partial<Connection> & { authorities?: Authorities };

let lastId = 0;

/** A connection with these facts; nothing else of it is looked at. */
function connection(facts: Facts = {}): Connection & { authorities: Authorities } {
  const openedAt = facts.openedAt ?? Date.now();
  return {
    id: ++lastId,
    protocol: 'h2',
    secure: true,
    state: 'open',
    socket: new Socket(),
    remoteAddress: '192.0.2.1',
    remotePort: 50_000,
    localAddress: '192.0.2.254',
    localPort: 8443,
    servername: 'example.com',
    openedAt,
    lastActiveAt: openedAt,
    active: 0,
    served: 0,
    rtt: undefined,
    tags: new Map(),
    authorities: new Authorities(),
    drainSignal: new AbortController().signal,
    closed: new Promise(() => {}),
    destroy() {},
    ...facts,
  };
}

function authorities(...names: string[]): Authorities {
  const seen = new Authorities();
  for (const name of names) seen.note(name);
  return seen;
}

const ago = (ms: number): number => Date.now() - ms;

/** A filter in both forms, and one connection that it selects and some that it doesn't. */
interface Case {
  filter: ConnectionFilter;
  text?: string;
  selects: Facts[];
  leaves: Facts[];
}

const HOUR = 3_600_000;

/** Made anew for each test: their times are as of now. */
const cases = (): Case[] => [
  { filter: 'all', text: 'all', selects: [{}, { protocol: undefined, remoteAddress: undefined }], leaves: [] },
  {
    filter: { protocol: 'h2' },
    text: 'proto=h2',
    selects: [{ protocol: 'h2' }],
    leaves: [{ protocol: 'http/1.1' }, { protocol: undefined }],
  },
  {
    filter: { protocol: ['http/1.1', 'h2'] },
    text: 'proto=h1,h2',
    selects: [{ protocol: 'h2' }, { protocol: 'http/1.1' }],
    leaves: [{ protocol: undefined }],
  },
  {
    filter: { tags: { tenant: 'acme', zone: ['a', 'b'] } },
    text: 'tag.tenant=acme tag.zone=a,b',
    selects: [
      {
        tags: new Map([
          ['tenant', 'acme'],
          ['zone', 'b'],
          ['other', 'x'],
        ]),
      },
    ],
    leaves: [{}, { tags: new Map([['tenant', 'acme']]) }, { tags: new Map([['zone', 'a']]) }],
  },
  {
    filter: { tags: { name: 'a "b", c\\d' } },
    text: String.raw`tag.name="a \"b\", c\\d"`,
    selects: [{ tags: new Map([['name', 'a "b", c\\d']]) }],
    leaves: [{ tags: new Map([['name', 'a']]) }],
  },
  {
    filter: { tags: { empty: '' } },
    text: 'tag.empty=""',
    selects: [{ tags: new Map([['empty', '']]) }],
    leaves: [{}],
  },
  {
    filter: { remoteAddress: ['10.0.0.0/8', '2001:db8::/32'] },
    text: 'addr=10.0.0.0/8,2001:db8::/32',
    selects: [{ remoteAddress: '10.1.1.1' }, { remoteAddress: '::ffff:10.1.1.1' }, { remoteAddress: '2001:db8::1' }],
    leaves: [{ remoteAddress: '11.0.0.1' }, { remoteAddress: undefined }],
  },
  {
    filter: { servername: 'Example.COM' },
    text: 'sni=Example.COM',
    selects: [{ servername: 'example.com' }, { servername: 'EXAMPLE.com' }],
    leaves: [{ servername: undefined }, { servername: 'www.example.com', authorities: authorities('example.com') }],
  },
  {
    filter: { authority: 'Shop.example.com' },
    text: 'authority=Shop.example.com',
    selects: [
      { authorities: authorities('example.com', 'SHOP.example.com') },
      { authorities: authorities('shop.example.com:8443') },
    ],
    leaves: [{}, { servername: 'shop.example.com' }, { authorities: authorities('shop.example.co', 'example.com') }],
  },
  {
    filter: { authority: ['[2001:db8::1]', 'a:8443'] },
    text: 'authority=[2001:db8::1],a:8443',
    selects: [{ authorities: authorities('[2001:db8::1]:443') }, { authorities: authorities('a:8443') }],
    leaves: [{ authorities: authorities('a', 'a:80', '[2001:db8::2]') }],
  },
  {
    filter: { localPort: 8443 },
    text: 'port=8443',
    selects: [{}],
    leaves: [{ localPort: 80 }, { localPort: undefined }],
  },
  {
    filter: { age: { over: HOUR } },
    text: 'age>1h',
    selects: [{ openedAt: ago(HOUR + 60_000) }],
    leaves: [{ openedAt: ago(HOUR / 2) }],
  },
  {
    filter: { age: { atLeast: 1.5 * HOUR, under: 2 * 24 * HOUR } },
    text: 'age>=1h30m age<2d',
    selects: [{ openedAt: ago(2 * HOUR) }],
    leaves: [{ openedAt: ago(HOUR) }, { openedAt: ago(50 * HOUR) }],
  },
  {
    filter: { idle: { over: 90_000 } },
    text: 'idle>90s',
    selects: [{ lastActiveAt: ago(100_000) }],
    leaves: [{ lastActiveAt: ago(0) }, { lastActiveAt: ago(100_000), active: 1 }],
  },
  {
    filter: { idle: { atMost: HOUR / 2 } },
    text: 'idle<=30m',
    selects: [{ lastActiveAt: ago(2 * HOUR), active: 1 }, { lastActiveAt: ago(0) }],
    leaves: [{ lastActiveAt: ago(HOUR) }],
  },
  {
    filter: { served: { atLeast: 2, atMost: 3 } },
    text: 'served>=2 served<=3',
    selects: [{ served: 2 }, { served: 3 }],
    leaves: [{ served: 1 }, { served: 4 }],
  },
  { filter: { served: 0 }, text: 'served=0', selects: [{ served: 0 }], leaves: [{ served: 1 }] },
  { filter: { active: { over: 0 } }, text: 'active>0', selects: [{ active: 1 }], leaves: [{ active: 0 }] },
  {
    filter: { protocol: 'h2', tags: { tenant: 'acme' }, age: { over: HOUR }, remoteAddress: '10.0.0.0/8' },
    text: ' tag.tenant=acme\tage>1h  proto=h2 addr=10.0.0.0/8 ',
    selects: [{ tags: new Map([['tenant', 'acme']]), openedAt: ago(2 * HOUR), remoteAddress: '10.0.0.1' }],
    leaves: [
      { tags: new Map([['tenant', 'acme']]), openedAt: ago(2 * HOUR), remoteAddress: '11.0.0.1' },
      { tags: new Map([['tenant', 'beta']]), openedAt: ago(2 * HOUR), remoteAddress: '10.0.0.1' },
      { tags: new Map([['tenant', 'acme']]), openedAt: ago(60_000), remoteAddress: '10.0.0.1' },
    ],
  },
  {
    filter: { protocol: 'h2', where: ({ remotePort }) => remotePort === 1 },
    selects: [{ remotePort: 1 }],
    leaves: [{ remotePort: 2 }, { remotePort: 1, protocol: 'http/1.1' }],
  },
  { filter: ({ secure }) => secure, selects: [{ secure: true }], leaves: [{ secure: false }] },
];

describe('a connection filter', () => {
  for (const [n, { filter, text }] of cases().entries()) {
    it(`${text ?? String(filter)}: selects what meets every condition, and nothing else`, () => {
      const { selects = [], leaves = [] } = cases()[n] ?? {};
      const compiled = compileFilter(filter);
      for (const facts of selects) expect(compiled.matches(connection(facts)), JSON.stringify(facts)).to.equal(true);
      for (const facts of leaves) expect(compiled.matches(connection(facts)), JSON.stringify(facts)).to.equal(false);
      const mixed = [...selects, ...leaves].map((facts) => connection(facts));
      expect(compiled.select(mixed)).to.deep.equal(mixed.slice(0, selects.length));
    });
    if (text !== undefined) {
      it(`${text}: the text means the same as the conditions`, () => {
        expect(parseFilter(text)).to.deep.equal(filter);
      });
    }
  }

  it('asks the predicate last, and only about connections that meet the other conditions', () => {
    const asked: Connection[] = [];
    const where = (one: Connection) => asked.push(one) > 0;
    const [h1, h2] = [connection({ protocol: 'http/1.1' }), connection()];
    expect(compileFilter({ where, protocol: 'h2' }).select([h1, h2])).to.deep.equal([h2]);
    expect(asked).to.deep.equal([h2]);
  });

  it('measures age when it selects, not when it was compiled', () => {
    const compiled = compileFilter({ age: { over: 1_000 } });
    const one = connection();
    expect(compiled.matches(one)).to.equal(false);
    expect(compiled.matches(one, Date.now() + 1_001)).to.equal(true);
  });

  const mistakes: [filter: unknown, message: string][] = [
    [{}, "option filter must be 'all' or at least one of protocol, localPort"],
    [undefined, "option filter must be 'all', an object of conditions or a predicate, got undefined"],
    [null, "option filter must be 'all', an object of conditions or a predicate, got null"],
    ['everything', 'a predicate, got "everything"'],
    [[], 'option filter must be an object, got an array'],
    [new Map([['protocol', 'h2']]), 'option filter must be'],
    [{ tag: { tenant: 'acme' } }, 'unknown option filter.tag (known: protocol,'],
    [{ protocol: undefined }, "option filter.protocol must be 'http/1.1' or 'h2', got undefined"],
    [{ protocol: 'h3' }, 'filter.protocol must be'],
    [{ protocol: [] }, 'filter.protocol must be'],
    [{ tags: {} }, 'filter.tags must be an object with at least one tag'],
    [{ tags: undefined }, 'filter.tags must be'],
    [{ tags: { tenant: undefined } }, 'filter.tags.tenant must be a string, got undefined'],
    [{ tags: { tenant: ['acme', undefined] } }, 'filter.tags.tenant must be a string, got undefined'],
    [{ remoteAddress: '10.0.0.0/33' }, 'filter.remoteAddress must be an IP address or CIDR range, got "10.0.0.0/33"'],
    [{ remoteAddress: undefined }, 'filter.remoteAddress must be'],
    [{ servername: '' }, 'filter.servername must be a host name, got ""'],
    [{ authority: undefined }, 'filter.authority must be a host name'],
    [{ localPort: '80' }, 'filter.localPort must be a port'],
    [{ localPort: 0 }, 'filter.localPort must be a port'],
    [{ age: 1_000 }, 'filter.age must be an object, got 1000'],
    [{ age: undefined }, 'filter.age must be an object'],
    [{ age: {} }, 'filter.age must be at least one of over, atLeast, under, atMost'],
    [{ age: { over: undefined } }, 'filter.age.over must be a number, got undefined'],
    [{ age: { min: 5 } }, 'unknown option filter.age.min (known: over, atLeast, under, atMost)'],
    [{ idle: { over: Number.NaN } }, 'filter.idle.over must be a number, got NaN'],
    [{ served: -1 }, 'filter.served must be at least 0'],
    [{ active: { under: Infinity } }, 'filter.active.under must be at least 0 and finite, got Infinity'],
    [{ sample: {} }, 'filter.sample must be given either fraction or count'],
    [{ sample: undefined }, 'filter.sample must be an object'],
    [{ sample: { fraction: 0.1, count: 1 } }, 'filter.sample must be given either fraction or count'],
    [{ sample: { fraction: 1.5 } }, 'filter.sample.fraction must be more than 0, at most 1, got 1.5'],
    [{ sample: { fraction: 0 } }, 'filter.sample.fraction must be more than 0'],
    [{ sample: { fraction: undefined } }, 'filter.sample.fraction must be a number'],
    [{ sample: { count: 1.5 } }, 'filter.sample.count must be a whole number'],
    [{ sample: { count: 1, order: 'newest' } }, "filter.sample.order must be 'oldest' or 'random'"],
    [{ sample: { count: 1, seed: 1 } }, "filter.sample.seed must be given with order 'random' only"],
    [{ sample: { count: 1, order: 'random', seed: -1 } }, 'filter.sample.seed must be a whole number'],
    [{ where: undefined }, 'filter.where must be a function, got undefined'],
  ];
  for (const [filter, message] of mistakes) {
    it(`${JSON.stringify(filter) ?? String(filter)} throws: ${message}`, () => {
      expect(() => compileFilter(filter as ConnectionFilter))
        .to.throw(Error, message)
        .with.property('code', 'ERR_LASTCALL_OPTION');
    });
  }
});

describe('a predicate', () => {
  it('that returns no boolean throws: a promise would be true for every connection', () => {
    const filter = (async () => false) as unknown as (one: Connection) => boolean;
    for (const [given, name] of [
      [filter, 'filter'],
      [{ where: filter }, 'filter.where'],
    ] as const) {
      expect(() => compileFilter(given).select([connection()]))
        .to.throw(TypeError, `option ${name} must be a predicate that returns a boolean, got an object`)
        .with.property('code', 'ERR_LASTCALL_OPTION');
    }
  });
});

describe('a sample', () => {
  const thirty = Array.from({ length: 30 }, () => connection());
  const ids = (of: Connection[]) => of.map(({ id }) => id);
  const sample = (text: string, of = thirty) => ids(compileFilter(parseFilter(text)).select(of));

  it('takes the oldest, a fraction rounded up', () => {
    expect(sample('sample=5')).to.deep.equal(ids(thirty).slice(0, 5));
    expect(sample('sample=10%')).to.have.length(3);
    expect(sample('sample=0.1%')).to.have.length(1);
    expect(sample('sample=0.0000000001%')).to.have.length(1);
    expect(sample('sample=100%')).to.deep.equal(ids(thirty));
    expect(sample('sample=31')).to.have.length(30);
    expect(sample('sample=10%', [])).to.deep.equal([]);
  });

  it('is taken of what meets the other conditions', () => {
    const mixed = thirty.map((one, index) => ({ ...one, protocol: index < 20 ? ('http/1.1' as const) : one.protocol }));
    expect(sample('sample=50% proto=h2', mixed)).to.deep.equal(ids(thirty).slice(20, 25));
  });

  it('with a seed is the same every time; another seed picks others, a larger sample contains the smaller', () => {
    const seven = sample('sample=10:random:7');
    expect(seven).to.have.length(10).and.deep.equal(sample('sample=10:random:7'));
    expect(seven).to.deep.equal(seven.toSorted((a, b) => a - b));
    expect(seven).not.to.deep.equal(sample('sample=10:random:8'));
    expect(sample('sample=50%:random:7')).to.include.members(seven);
  });

  it('without a seed picks anew each time, every connection as often as any other', () => {
    const picked = new Map(ids(thirty).map((id) => [id, 0]));
    for (let round = 0; round < 3_000; round++) {
      for (const id of sample('sample=10%:random')) picked.set(id, (picked.get(id) ?? 0) + 1);
    }
    // 300 expected, with a standard deviation of 16.
    for (const count of picked.values()) expect(count).to.be.within(200, 400);
  });
});

describe('the textual form of a filter', () => {
  const mistakes: [text: string, pointer: string, message: string][] = [
    ['', '^', 'it is empty'],
    ['   ', '^', 'it is empty'],
    ['tag.tenant=acme agee>1h', '                ^', 'unknown field "agee" (known: proto, tag.NAME, addr, sni,'],
    ['constructor=1', '^', 'unknown field "constructor"'],
    ['proto', '     ^', 'proto lacks its operator'],
    ['proto=', '      ^', 'a value is missing'],
    ['proto= h2', '      ^', 'a value is missing'],
    ['proto=h3', '      ^', 'proto is h1 or h2, not "h3"'],
    ['proto=h2,h3', '         ^', 'proto is h1 or h2, not "h3"'],
    ['proto>h2', '     ^', 'proto takes =, not >'],
    ['proto=h2 proto=h1', '         ^', 'proto is given twice'],
    ['all proto=h2', '^', '"all" stands alone'],
    ['proto=h2 all', '         ^', '"all" stands alone'],
    ['=h2', '^', 'a field is missing before "="'],
    ['addr=10.0.0.0/8,10.0.0.0/33', '                ^', 'addr must be an IP address or CIDR range, got "10.0.0.0/33"'],
    ['addr=10.1.2.3/8', '     ^', 'bits beyond its /8 prefix'],
    ['port=99999', '     ^', 'port is 1 to 65535'],
    ['sni=""', '    ^', 'a host name is empty'],
    ['age>60', '    ^', 'age takes a duration such as 500ms, 90s, 1h30m or 2d, not "60"'],
    ['age=1h', '   ^', 'age takes >, >=, < or <=, not ='],
    ['age>1h age>2h', '       ^', 'age> is given twice'],
    ['age>1h,2h', '       ^', 'age takes one value'],
    ['served>1.5', '       ^', 'served takes a whole number, not "1.5"'],
    ['served=1 served>0', '         ^', 'served is given twice'],
    ['served>0 served=1', '         ^', 'served is given twice'],
    ['tag.=x', '^', 'tag. lacks the name of a tag'],
    ['tag.a=1 tag.a=2', '        ^', 'tag.a is given twice'],
    ['tag.a="x', '      ^', 'a quoted value has no end'],
    ['tag.a="x"y', '         ^', 'a space is missing after the quoted value'],
    ['tag.a=x"y"', '       ^', 'a quoted value must be quoted from its beginning'],
    ['sample=0%', '       ^', 'more than 0% and at most 100%'],
    ['sample=150%', '       ^', 'more than 0% and at most 100%'],
    ['sample=0', '       ^', 'sample takes a share or a count'],
    ['sample=10%:newest', '       ^', 'sample takes a share or a count'],
    ['sample=10%:random:9999999999', '       ^', 'the seed of a sample is at most'],
    ['proto=h2 "', '         ^', 'a field is missing before "\\""'],
  ];
  for (const [text, pointer, message] of mistakes) {
    it(`${JSON.stringify(text)} throws: ${message}`, () => {
      let thrown: FilterSyntaxError | undefined;
      try {
        parseFilter(text);
      } catch (error) {
        thrown = error as FilterSyntaxError;
      }
      expect(thrown).to.be.instanceOf(SyntaxError).with.property('code', 'ERR_LASTCALL_FILTER');
      expect(thrown?.message)
        .to.contain(message)
        .and.match(new RegExp(` at character ${pointer.length}$`));
      expect(thrown?.position).to.equal(pointer.length - 1);
      expect(thrown?.excerpt).to.equal(`${text}\n${pointer}`);
    });
  }

  it('takes any name for a tag', () => {
    const one = connection({ tags: new Map([['__proto__', 'x']]) });
    expect(compileFilter(parseFilter('tag.__proto__=x tag.toString=y')).matches(one)).to.equal(false);
    expect(compileFilter(parseFilter('tag.__proto__=x')).matches(one)).to.equal(true);
  });
});

describe('hosts seen on a connection', () => {
  it('are remembered up to a limit, the ones named last', () => {
    const seen = new Authorities();
    for (let n = 0; n < 100; n++) {
      seen.note(`host${n}.example`);
      seen.note('often.example');
    }
    expect(seen.size).to.equal(64);
    expect(seen.has('often.example')).to.equal(true);
    expect(seen.has('host99.example')).to.equal(true);
    expect(seen.has('host0.example')).to.equal(false);
  });
});

describe('selecting among 20,000 connections', () => {
  const many = Array.from({ length: 20_000 }, (_, n) =>
    connection({
      remoteAddress: `${n % 2 === 0 ? '::ffff:' : ''}10.${n % 4}.${(n >> 8) & 255}.${n & 255}`,
      tags: new Map([['tenant', n % 10 === 0 ? 'acme' : `tenant${n % 100}`]]),
      authorities: authorities('example.com', `host${n % 10}.example.com`),
    }),
  );
  const LIMIT = 20;
  const texts: [text: string, count: number][] = [
    ['tag.tenant=acme', 2_000],
    ['addr=10.1.0.0/16', 5_000],
    ['addr=10.1.0.0/16,192.0.2.0/24,2001:db8::/32,10.2.0.0/16', 10_000],
    ['authority=host3.example.com', 2_000],
    ['proto=h2 served=0 sample=10%:random', 2_000],
  ];
  for (const [text, count] of texts) {
    it(`by ${text} takes less than ${LIMIT} ms of CPU`, () => {
      const filter = parseFilter(text);
      const times = Array.from({ length: 5 }, () => {
        const from = process.cpuUsage();
        expect(compileFilter(filter).select(many)).to.have.length(count);
        const { user, system } = process.cpuUsage(from);
        return (user + system) / 1000;
      });
      expect(Math.min(...times)).to.be.below(LIMIT);
    });
  }
});
