import { expect } from 'chai';
import { block, Conversation, data, type FieldList, get, headers, ping, post, request } from './script.js';

const METHOD = [':method', 'GET'] as const;
const SCHEME = [':scheme', 'https'] as const;
const AUTHORITY = [':authority', 'example.com'] as const;
const PATH = [':path', '/'] as const;

function malformed(fields: FieldList, message: RegExp, options: { readonly connect?: boolean } = {}): void {
  const conversation = Conversation.open({}, { enableConnectProtocol: options.connect === true });
  conversation.send(headers(1, fields, { endStream: true }), get(3));
  expect(conversation.told()).to.deep.equal(['malformed 1', 'request 3 GET / complete']);
  expect(conversation.output()).to.deep.equal(['RST_STREAM 1 PROTOCOL_ERROR']);
  expect(conversation.reasons[0]).to.match(message);
}

/** The raw headers of a request with these fields. */
function accepted(fields: FieldList, endStream = true): string[] {
  const conversation = Conversation.open({}, { enableConnectProtocol: true });
  conversation.send(headers(1, fields, { endStream }));
  return conversation.head(1).rawHeaders;
}

describe('h2 session: a request head (RFC 9113 §8.3)', () => {
  it('§8.3.1 takes method, scheme, authority and path from the pseudo-headers', () => {
    const conversation = Conversation.open();
    conversation.send(
      headers(1, [
        PATH,
        SCHEME,
        AUTHORITY,
        [':method', 'PATCH'],
        ['accept', '*/*'],
        ['content-length', '3'],
        ['x', ''],
      ]),
    );
    expect({ ...conversation.head(1) }).to.deep.equal({
      method: 'PATCH',
      scheme: 'https',
      authority: 'example.com',
      path: '/',
      protocol: undefined,
      rawHeaders: ['host', 'example.com', 'accept', '*/*', 'content-length', '3', 'x', ''],
      contentLength: 3,
      endStream: false,
      expectContinue: false,
      priority: undefined,
    });
  });

  const missing: [string, FieldList][] = [
    [':method', [SCHEME, AUTHORITY, PATH]],
    [':scheme', [METHOD, AUTHORITY, PATH]],
    [':path', [METHOD, SCHEME, AUTHORITY]],
  ];
  for (const [name, fields] of missing) {
    it(`§8.3.1 a request without ${name} is malformed`, () => malformed(fields, new RegExp(`${name} is missing`)));
  }

  for (const field of [METHOD, SCHEME, AUTHORITY, PATH]) {
    it(`§8.3 a request with ${field[0]} twice is malformed`, () => malformed([field, ...request()], /twice/));
  }

  it('§8.3 a pseudo-header after a regular field is malformed', () => {
    malformed([METHOD, SCHEME, ['x', 'y'], PATH], /is missing|not where it may be/);
    malformed([METHOD, SCHEME, PATH, ['x', 'y'], AUTHORITY], /not where it may be/);
  });

  it('§8.3 an unknown pseudo-header, or one of responses, is malformed', () => {
    malformed([...request(), [':status', '200']], /:status/);
    malformed([...request(), [':foo', 'x']], /:foo/);
    malformed([...request(), [':', 'x']], /":"/);
  });

  for (const path of ['', 'index.html', 'http://example.com/', '*', '/a b', '/a#b', '/a\tb', '/a\x7f']) {
    it(`§8.3.1 :path of ${JSON.stringify(path)} is malformed`, () =>
      malformed([METHOD, SCHEME, AUTHORITY, [':path', path]], /:path/));
  }

  it('§8.3.1 OPTIONS may ask for *', () => {
    const conversation = Conversation.open();
    conversation.send(headers(1, [[':method', 'OPTIONS'], SCHEME, AUTHORITY, [':path', '*']], { endStream: true }));
    expect(conversation.head(1).path).to.equal('*');
  });

  for (const method of ['', 'GE T', 'GET\r\n', 'G:T']) {
    it(`:method of ${JSON.stringify(method)} is malformed`, () =>
      malformed([[':method', method], SCHEME, PATH], /method/));
  }

  it(':scheme may be any scheme, but a scheme', () => {
    const conversation = Conversation.open();
    conversation.send(headers(1, [METHOD, [':scheme', 'coap+tcp'], PATH], { endStream: true }));
    expect(conversation.head(1).scheme).to.equal('coap+tcp');
    malformed([METHOD, [':scheme', 'ht tp'], PATH], /:scheme/);
    malformed([METHOD, [':scheme', ''], PATH], /:scheme/);
  });

  for (const authority of [
    'user@example.com',
    'user:pass@example.com',
    'a/b',
    'a b',
    '',
    'a?b',
    'a\\b',
    'a#b',
    'a\x00b',
  ]) {
    it(`§8.3.1 :authority of ${JSON.stringify(authority)} is malformed`, () =>
      malformed([METHOD, SCHEME, [':authority', authority], PATH], /:authority/));
  }

  for (const authority of ['[::1]:8443', 'example.com:1', 'EXAMPLE.com', 'a%20b']) {
    it(`:authority of ${authority} is taken`, () =>
      expect(accepted([METHOD, SCHEME, [':authority', authority], PATH])).to.deep.equal(['host', authority]));
  }

  it('§8.3.1 host may stand in for :authority, and is left where it is', () => {
    expect(accepted([METHOD, SCHEME, PATH, ['x', '1'], ['host', 'h.example']])).to.deep.equal([
      'x',
      '1',
      'host',
      'h.example',
    ]);
  });

  it('§8.3.1 a host that agrees with :authority is dropped in its favour', () => {
    expect(accepted(request('GET', '/', ['host', 'example.com']))).to.deep.equal(['host', 'example.com']);
    expect(accepted(request('GET', '/', ['host', 'EXAMPLE.com:443'], ['x', '1']))).to.deep.equal([
      'host',
      'example.com',
      'x',
      '1',
    ]);
  });

  it('§8.3.1 a host that differs from :authority is malformed', () => {
    malformed(request('GET', '/', ['host', 'other.example']), /disagrees/);
    malformed(request('GET', '/', ['host', 'example.com:80']), /disagrees/);
    malformed(request('GET', '/', ['host', 'example.com'], ['host', 'example.com']), /twice/);
    malformed([METHOD, SCHEME, PATH, ['host', 'user@example.com']], /authority/);
  });
});

describe('h2 session: fields that stand in the dynamic table (RFC 7541 §2.3.2)', () => {
  /** A literal with incremental indexing. */
  function stored(name: string, value: string): Buffer {
    const texts = [name, value].map((text) => Buffer.from(text, 'latin1'));
    const length = (n: number): number[] => (n < 127 ? [n] : [127, ((n - 127) & 127) | 128, (n - 127) >> 7]);
    return Buffer.concat([Buffer.of(0x40), ...texts.flatMap((text) => [Buffer.from(length(text.length)), text])]);
  }

  /** The entry of the dynamic table that is this old, 0 being the newest. */
  const entry = (age: number): Buffer => Buffer.of(0x80 | (62 + age));
  const head = block(request());
  const ask = (streamId: number, ...fields: Buffer[]): Buffer =>
    headers(streamId, Buffer.concat([head, ...fields]), { endStream: true });

  const forbidden: [name: string, value: string][] = [
    ['x', 'a\nb'],
    ['x', ' a'],
    ['x', 'a\t'],
    ['Upper', 'x'],
    ['a b', 'x'],
    ['', 'x'],
  ];
  for (const [name, value] of forbidden) {
    it(`${JSON.stringify(`${name}: ${value}`)} is as malformed there as it was when it came`, () => {
      const conversation = Conversation.open();
      conversation.send(ask(1, stored(name, value)), ask(3, entry(0)), ask(5), ask(7, entry(0)));
      expect(conversation.told()).to.deep.equal([
        'malformed 1',
        'malformed 3',
        'request 5 GET / complete',
        'malformed 7',
      ]);
    });
  }

  it('a name that is malformed is so with any value', () => {
    const conversation = Conversation.open();
    const again = Buffer.concat([Buffer.of(0x7e), Buffer.of(1), Buffer.from('y')]);
    conversation.send(ask(1, stored('Upper', 'x')), ask(3, again));
    expect(conversation.told()).to.deep.equal(['malformed 1', 'malformed 3']);
  });

  it('a value is malformed under one name, and another under the same is not', () => {
    const conversation = Conversation.open();
    const again = Buffer.concat([Buffer.of(0x7e), Buffer.of(1), Buffer.from('y')]);
    conversation.send(ask(1, stored('x', 'a\nb')), ask(3, again), ask(5, entry(0)), ask(7, entry(1)));
    expect(conversation.told()).to.deep.equal([
      'malformed 1',
      'request 3 GET / complete',
      'request 5 GET / complete',
      'malformed 7',
    ]);
  });

  it('what may stand in a path, an authority or a scheme is known of the table’s too', () => {
    const of = (streamId: number, ...parts: Buffer[]): Buffer =>
      headers(streamId, Buffer.concat(parts), { endStream: true });
    const start = block([METHOD, SCHEME]);
    const conversation = Conversation.open();
    conversation.send(
      of(1, start, stored(':path', '/a b')),
      of(3, start, entry(0)),
      of(5, start, stored(':path', '/c')),
      of(7, start, entry(0)),
      of(9, start, block([PATH]), stored(':authority', 'user@host')),
      of(11, start, block([PATH]), entry(0)),
      of(13, block([METHOD, PATH]), stored(':scheme', 'h t')),
      of(15, block([METHOD, PATH]), entry(0)),
      of(17, block([METHOD, PATH]), stored(':scheme', 'coap+tcp')),
      of(19, block([METHOD, PATH]), entry(0)),
    );
    expect(conversation.told()).to.deep.equal([
      'malformed 1',
      'malformed 3',
      'request 5 GET /c complete',
      'request 7 GET /c complete',
      'malformed 9',
      'malformed 11',
      'malformed 13',
      'malformed 15',
      'request 17 GET / complete',
      'request 19 GET / complete',
    ]);
  });

  // Of entries of 34 octets, 120 find room in 4,096.
  for (const [what, count] of [
    ['grows', 100],
    ['evicts', 150],
  ] as const) {
    it(`each entry keeps what it is as the table ${what}`, () => {
      const conversation = Conversation.open();
      const bad = new Set([0, 7, 15, 16, 40, 99, 127, 128, 149]);
      const fields = Array.from({ length: count }, (_, i) => stored('n', bad.has(i) ? '\n' : 'v'));
      conversation.send(ask(1, ...fields.slice(0, count / 2)), ask(3, ...fields.slice(count / 2)));
      const wanted = ['malformed 1', 'malformed 3'];
      // An index in one octet reaches as far back.
      for (let i = count - 65, streamId = 5; i < count; i++, streamId += 2) {
        conversation.send(ask(streamId, entry(count - 1 - i)));
        wanted.push(bad.has(i) ? `malformed ${streamId}` : `request ${streamId} GET / complete`);
      }
      expect(conversation.told()).to.deep.equal(wanted);
    });
  }

  it('nobody reads long ones again, however they are mixed', () => {
    const REQUESTS = 50;
    // Two entries in turns, and each request the other way round: none is where it was in the one before.
    const mixed = [0, 1].map((first) => Buffer.from(Array.from({ length: 30 }, (_, i) => 0xbe | ((first + i) & 1))));
    const [short, long] = [1, 1_900].map((octets) => {
      const conversation = Conversation.open({}, { maxHeaderListSize: 100_000 });
      conversation.send(ask(1, stored('x', 'v'.repeat(octets)), stored('y', 'w'.repeat(octets))));
      conversation.respond(1, true);
      return { conversation, fastest: Infinity };
    }) as [{ conversation: Conversation; fastest: number }, { conversation: Conversation; fastest: number }];
    for (let round = 0, streamId = 3; round < 60; round++, streamId += 2 * REQUESTS) {
      for (const one of [short, long]) {
        const at = performance.now();
        for (let i = 0; i < REQUESTS; i++) {
          one.conversation.send(ask(streamId + 2 * i, mixed[i & 1] as Buffer));
          one.conversation.respond(streamId + 2 * i, true);
        }
        one.fastest = Math.min(one.fastest, performance.now() - at);
        one.conversation.output();
      }
    }
    for (const { conversation } of [short, long]) {
      expect(conversation.session.highestStreamId).to.equal(1 + 60 * 2 * REQUESTS);
    }
    // Reading them takes ten times as long as all else.
    expect(long.fastest).to.be.below(2 * short.fastest);
  });

  it('each of many fields is what it is', () => {
    const LAST = 999;
    const fields = Array.from({ length: LAST }, () => stored('n', 'v'));
    const limits = { maxHeaderFields: 2_000, maxHeaderListSize: 1e6 };
    const conversation = Conversation.open({}, limits);
    conversation.send(ask(1, ...fields, stored('n', 'v')), ask(3, ...fields, stored('n', '\n')));
    expect(conversation.told()).to.deep.equal(['request 1 GET / complete', 'malformed 3']);
  });
});

describe('h2 session: a request after another', () => {
  /** The fields of a second request, after an equal or similar one. */
  function second(first: FieldList, then: FieldList): string[] | undefined {
    const conversation = Conversation.open();
    conversation.send(headers(1, first, { endStream: true }), headers(3, then, { endStream: true }));
    return conversation.heads.get(3)?.rawHeaders;
  }

  it('is checked like the first, where fields moved, changed, or are no pseudo-headers any more', () => {
    const fields = request('GET', '/', ['a', '1'], ['b', '2']);
    expect(second(fields, fields)).to.deep.equal(['host', 'example.com', 'a', '1', 'b', '2']);
    expect(second(fields, request('GET', '/', ['a', '1'], ['b', '2\n']))).to.equal(undefined);
    expect(second(fields, request('GET', '/', ['a', '1'], ['B', '2']))).to.equal(undefined);
    expect(second([METHOD, SCHEME, PATH, AUTHORITY], [METHOD, SCHEME, PATH])).to.deep.equal([]);
    // :authority stands where it stood before, but now behind a regular field
    expect(
      second([METHOD, SCHEME, PATH, ['a', '1'], ['b', '2']], [METHOD, PATH, SCHEME, ['a', '1'], AUTHORITY]),
    ).to.equal(undefined);
    expect(
      second([METHOD, SCHEME, PATH, AUTHORITY, ['a', '1']], [METHOD, SCHEME, PATH, ['a', '1'], ['b', '2']]),
    ).to.not.equal(undefined);
    expect(second([METHOD, PATH, AUTHORITY, SCHEME], [METHOD, SCHEME, PATH, ['a', '1']])).to.not.equal(undefined);
    expect(
      second([METHOD, SCHEME, PATH, AUTHORITY], [[':method', 'GET'], SCHEME, PATH, ['a', '1'], AUTHORITY]),
    ).to.equal(undefined);
    expect(second([METHOD, SCHEME, AUTHORITY, PATH], [METHOD, SCHEME, AUTHORITY, ['a', '1'], PATH])).to.equal(
      undefined,
    );
  });

  it('a pseudo-header behind a field is malformed, also where it stood rightly before', () => {
    const conversation = Conversation.open({}, { enableConnectProtocol: true });
    const first = [[':method', 'CONNECT'], [':protocol', 'x'], SCHEME, PATH, AUTHORITY] as const;
    conversation.send(
      headers(1, first),
      headers(3, [METHOD, SCHEME, PATH, ['a', '1'], AUTHORITY], { endStream: true }),
    );
    expect(conversation.told().at(-1)).to.equal('malformed 3');
  });

  it('a malformed one leaves nothing to compare with', () => {
    expect(second(request('GET', '/', ['a', '1\n']), request('GET', '/', ['a', '1\n']))).to.equal(undefined);
  });
});

describe('h2 session: fields (RFC 9113 §8.2)', () => {
  for (const name of ['X', 'Content-Length', 'a b', 'a\x00', 'a\x7f', 'a:b', 'ä', '', 'a\r', 'a(b']) {
    it(`§8.2.1 a field name ${JSON.stringify(name)} is malformed`, () =>
      malformed(request('GET', '/', [name, 'x']), /field/));
  }

  for (const value of ['a\x00b', 'a\nb', 'a\rb', ' a', 'a ', '\ta', 'a\t', 'a\x01b', 'a\x7f']) {
    it(`§8.2.1 a field value ${JSON.stringify(value)} is malformed`, () =>
      malformed(request('GET', '/', ['x', value]), /value of the field "x"/));
  }

  it('§8.2.1 values may be empty, hold tabs and blanks inside, and octets over 0x7f', () => {
    expect(accepted(request('GET', '/', ['x', ''], ['y', 'a \tb'], ['z', 'é\xff']))).to.deep.equal([
      'host',
      'example.com',
      'x',
      '',
      'y',
      'a \tb',
      'z',
      'é\xff',
    ]);
  });

  for (const name of ['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade']) {
    it(`§8.2.2 the connection-specific field ${name} is malformed`, () =>
      malformed(request('GET', '/', [name, 'x']), new RegExp(name)));
  }

  it('§8.2.2 te may say trailers and nothing else', () => {
    expect(accepted(request('GET', '/', ['te', 'trailers']))).to.include('te');
    malformed(request('GET', '/', ['te', 'gzip']), /te may only/);
    malformed(request('GET', '/', ['te', 'trailers, gzip']), /te may only/);
  });

  it('§8.2.3 cookie crumbs are joined where the first one stood', () => {
    const fields = request('GET', '/', ['cookie', 'a=b'], ['x', '1'], ['cookie', 'c=d; e=f'], ['cookie', 'g=h']);
    expect(accepted(fields)).to.deep.equal(['host', 'example.com', 'cookie', 'a=b; c=d; e=f; g=h', 'x', '1']);
  });

  it('expect: 100-continue is noticed', () => {
    const conversation = Conversation.open();
    conversation.send(post(1, ['expect', '100-Continue']), post(3, ['expect', 'miracles']));
    expect(conversation.head(1).expectContinue).to.equal(true);
    expect(conversation.head(3).expectContinue).to.equal(false);
  });
});

describe('h2 session: content-length (RFC 9113 §8.1.1)', () => {
  it('a body of the promised length is complete, padding not counted', () => {
    const conversation = Conversation.open();
    conversation.send(post(1, ['content-length', '4']), data(1, 'ab', { pad: 9 }), data(1, 'cd', { endStream: true }));
    expect(conversation.told()).to.deep.equal(['request 1 POST /', 'data 1 abcd', 'end 1']);
  });

  const wrong: [string, Buffer[], number][] = [
    ['more DATA than promised, before any of it is told', [data(1, 'abcde')], 1],
    ['less DATA than promised', [data(1, 'abc', { endStream: true })], 2],
    ['trailers before what was promised', [data(1, 'a'), headers(1, [['x', 'y']], { endStream: true })], 2],
  ];
  for (const [name, bytes, events] of wrong) {
    it(`${name} is a stream error PROTOCOL_ERROR`, () => {
      const conversation = Conversation.open();
      conversation.send(post(1, ['content-length', '4']), ...bytes, ping());
      const told = conversation.told();
      expect(told).to.have.length(events + 2);
      expect(told.slice(-2)).to.deep.equal(['reset 1 PROTOCOL_ERROR local', 'closed 1']);
      expect(conversation.output()).to.deep.equal(['RST_STREAM 1 PROTOCOL_ERROR', 'PING ACK abcdefgh']);
    });
  }

  it('a promise that HEADERS with END_STREAM breaks is malformed', () => {
    malformed(request('POST', '/', ['content-length', '1']), /content-length promises 1/);
  });

  it('content-length of 0 without content is fine', () => {
    expect(accepted(request('POST', '/', ['content-length', '0']))).to.include('content-length');
  });

  for (const value of ['', '-1', '+1', '1.0', '0x1', '1, 1', '1e3', '9999999999999999']) {
    it(`content-length of ${JSON.stringify(value)} is malformed`, () =>
      malformed(request('POST', '/', ['content-length', value]), /content-length/));
  }

  it('content-length twice is malformed', () => {
    malformed(request('POST', '/', ['content-length', '0'], ['content-length', '0']), /twice/);
  });
});

describe('h2 session: trailers of a request (RFC 9113 §8.1)', () => {
  const wrong: [string, FieldList, boolean][] = [
    ['without END_STREAM', [['x', 'y']], false],
    ['with a pseudo-header', [[':path', '/']], true],
    ['with an upper-case name', [['X', 'y']], true],
    ['with a line feed', [['x', 'a\nb']], true],
    ['with connection', [['connection', 'close']], true],
  ];
  for (const [name, fields, endStream] of wrong) {
    it(`${name} are a stream error PROTOCOL_ERROR`, () => {
      const conversation = Conversation.open();
      conversation.send(post(1), headers(1, fields, { endStream }), ping());
      expect(conversation.told()).to.deep.equal(['request 1 POST /', 'reset 1 PROTOCOL_ERROR local', 'closed 1']);
      expect(conversation.output()).to.deep.equal(['RST_STREAM 1 PROTOCOL_ERROR', 'PING ACK abcdefgh']);
    });
  }
});

describe('h2 session: CONNECT (RFC 9113 §8.5, RFC 8441)', () => {
  it('§8.5 a CONNECT has an authority and neither scheme nor path', () => {
    const conversation = Conversation.open();
    conversation.send(
      headers(1, [
        [':method', 'CONNECT'],
        [':authority', 'example.com:22'],
      ]),
      data(1, 'ssh'),
    );
    expect(conversation.told()).to.deep.equal(['request 1 CONNECT ', 'data 1 ssh']);
    expect(conversation.head(1).authority).to.equal('example.com:22');
  });

  it('§8.5 CONNECT without :authority, or with :scheme or :path, is malformed', () => {
    malformed([[':method', 'CONNECT']], /:authority/);
    malformed([[':method', 'CONNECT'], AUTHORITY, SCHEME], /:scheme/);
    malformed([[':method', 'CONNECT'], AUTHORITY, PATH], /:path/);
    malformed(
      [
        [':method', 'CONNECT'],
        [':authority', 'a@b'],
      ],
      /:authority/,
    );
  });

  it('a content-length says nothing of a tunnel (RFC 9110 §9.3.6)', () => {
    const conversation = Conversation.open();
    const fields: FieldList = [[':method', 'CONNECT'], AUTHORITY, ['content-length', '1']];
    conversation.send(headers(1, fields), data(1, 'abc', { endStream: true }));
    expect(conversation.told()).to.deep.equal(['request 1 CONNECT ', 'data 1 abc', 'end 1']);
  });

  it('§8.5 HEADERS within a tunnel is a stream error', () => {
    const conversation = Conversation.open();
    conversation.send(headers(1, [[':method', 'CONNECT'], AUTHORITY]));
    conversation.respond(1);
    conversation.send(headers(1, [['x', 'y']], { endStream: true }));
    expect(conversation.output().at(-1)).to.equal('RST_STREAM 1 PROTOCOL_ERROR');
  });

  const EXTENDED = [[':method', 'CONNECT'], [':protocol', 'websocket'], SCHEME, AUTHORITY, [':path', '/chat']] as const;

  it('RFC 8441 §4 an extended CONNECT carries scheme and path', () => {
    const conversation = Conversation.open({}, { enableConnectProtocol: true });
    conversation.send(headers(1, EXTENDED));
    const { method, protocol, path } = conversation.head(1);
    expect([method, protocol, path]).to.deep.equal(['CONNECT', 'websocket', '/chat']);
  });

  it('RFC 8441 §3 :protocol without our permission is malformed', () => malformed(EXTENDED, /:protocol/));

  it('RFC 8441 §4 :protocol belongs to CONNECT, and needs scheme, path and authority', () => {
    malformed([...request(), [':protocol', 'websocket']], /:protocol/, { connect: true });
    malformed([[':method', 'CONNECT'], [':protocol', 'websocket'], AUTHORITY], /:scheme/, { connect: true });
    malformed([[':method', 'CONNECT'], [':protocol', 'websocket'], SCHEME, PATH], /:authority/, { connect: true });
  });
});

describe('h2 session: header lists over the limit (RFC 9113 §10.5.1)', () => {
  const big = request('GET', '/', ['x', 'y'.repeat(2_000)]);

  it('a list of too many octets is answered 431, and the connection goes on', () => {
    const conversation = Conversation.open({}, { maxHeaderListSize: 2_000 });
    conversation.send(headers(1, big, { endStream: true }), get(3));
    expect(conversation.told()).to.deep.equal(['malformed 1', 'request 3 GET / complete']);
    expect(conversation.output()).to.deep.equal(['HEADERS 1 END_STREAM :status=431 content-length=0']);
    expect(conversation.reasons[0]).to.match(/^header list of 2,\d{3} bytes is over maxHeaderListSize \(2,000\)$/);
  });

  it('its body is not wanted: RST_STREAM(NO_ERROR), and late DATA is ignored', () => {
    const conversation = Conversation.open({}, { maxHeaderListSize: 2_000 });
    conversation.send(headers(1, big), data(1, 'x'), ping());
    expect(conversation.output().slice(1)).to.deep.equal(['RST_STREAM 1 NO_ERROR', 'PING ACK abcdefgh']);
  });

  it('a list of too many fields is answered 431', () => {
    const fields = (count: number): FieldList =>
      request('GET', '/', ...Array.from({ length: count - 4 }, () => ['a', ''] as const));
    const conversation = Conversation.open({}, { maxHeaderFields: 10 });
    conversation.send(headers(1, fields(11), { endStream: true }), headers(3, fields(10), { endStream: true }));
    expect(conversation.told()).to.deep.equal(['malformed 1', 'request 3 GET / complete']);
    expect(conversation.output()[0]).to.match(/:status=431/);
    expect(conversation.reasons[0]).to.equal('header list of 11 fields is over maxHeaderFields (10)');
  });

  it('trailers over the limit reset the stream with ENHANCE_YOUR_CALM', () => {
    const conversation = Conversation.open({}, { maxHeaderListSize: 2_000 });
    conversation.send(post(1), headers(1, [['x', 'y'.repeat(2_000)]], { endStream: true }));
    expect(conversation.output()).to.deep.equal(['RST_STREAM 1 ENHANCE_YOUR_CALM']);
  });
});
