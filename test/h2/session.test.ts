import { expect } from 'chai';
import {
  block,
  Conversation,
  continuation,
  data,
  frame,
  get,
  goaway,
  headers,
  PREFACE,
  ping,
  post,
  priorityUpdate,
  request,
  rstStream,
  SETTINGS_ACK,
  settings,
  uint32,
  windowUpdate,
} from './script.js';

const EMPTY = Buffer.alloc(0);

/** Sends bytes on a connection where stream 1 is open, and expects the connection to fail. */
function expectFailure(bytes: Buffer, code: string, errorName: string): void {
  const conversation = Conversation.open();
  conversation.send(post(1));
  conversation.told();
  conversation.send(bytes, get(99));
  expect(conversation.told()).to.deep.equal([`failed ${code}`, 'closed 1']);
  const output = conversation.output();
  expect(output).to.have.length(1);
  expect(output[0]).to.match(new RegExp(`^GOAWAY 1 ${errorName} .`));
  expect(conversation.session.state).to.equal('failed');
}

const expectProtocolError = (bytes: Buffer): void => expectFailure(bytes, 'ERR_LASTCALL_H2_PROTOCOL', 'PROTOCOL_ERROR');
const expectFrameSizeError = (bytes: Buffer): void =>
  expectFailure(bytes, 'ERR_LASTCALL_H2_FRAME_SIZE', 'FRAME_SIZE_ERROR');
const expectFlowControlError = (bytes: Buffer): void =>
  expectFailure(bytes, 'ERR_LASTCALL_H2_FLOW_CONTROL', 'FLOW_CONTROL_ERROR');

describe('h2 session: the preface (RFC 9113 §3.4)', () => {
  it('sends SETTINGS and the connection window before it has read anything', () => {
    const conversation = new Conversation();
    conversation.session.start();
    expect(conversation.output()).to.deep.equal(['SETTINGS 3=100 4=262144 6=65536 9=1', 'WINDOW_UPDATE 0 983041']);
    expect(conversation.session.prefaceComplete).to.equal(false);
  });

  it('§3.4 the preface is complete with the client’s SETTINGS, which are acknowledged', () => {
    const conversation = new Conversation();
    conversation.send(PREFACE);
    expect(conversation.session.prefaceComplete).to.equal(false);
    conversation.send(settings());
    expect(conversation.session.prefaceComplete).to.equal(true);
    expect(conversation.output()).to.deep.equal(['SETTINGS ACK']);
  });

  it('§3.4 an invalid preface is a PROTOCOL_ERROR, at its first wrong octet', () => {
    const conversation = new Conversation();
    conversation.send(Buffer.from('PRI * HTTP/1'));
    expect(conversation.told()).to.deep.equal(['failed ERR_LASTCALL_H2_PROTOCOL']);
    expect(conversation.output()[0]).to.match(/^GOAWAY 0 PROTOCOL_ERROR .*preface/);
  });

  for (const [name, bytes] of [
    ['HEADERS', get(1)],
    ['a SETTINGS ACK', SETTINGS_ACK],
    ['PING', ping()],
    ['an unknown frame', frame(0x42, 0, 0, EMPTY)],
  ] as const) {
    it(`§3.4 ${name} instead of the first SETTINGS is a PROTOCOL_ERROR`, () => {
      const conversation = new Conversation();
      conversation.send(PREFACE, bytes);
      expect(conversation.told()).to.deep.equal(['failed ERR_LASTCALL_H2_PROTOCOL']);
    });
  }

  it('§3.4 requests may follow the preface without waiting for the server’s SETTINGS', () => {
    const conversation = new Conversation();
    conversation.session.start();
    conversation.send(PREFACE, settings(), get(1));
    expect(conversation.told()).to.deep.equal(['request 1 GET / complete']);
  });
});

describe('h2 session: frames (RFC 9113 §4, §5.5)', () => {
  it('§4.1 the reserved bit before the stream identifier is ignored', () => {
    const conversation = Conversation.open();
    conversation.send(headers(0x8000_0001, request(), { endStream: true }));
    expect(conversation.told()).to.deep.equal(['request 1 GET / complete']);
  });

  it('§4.1 undefined flags are ignored', () => {
    const conversation = Conversation.open();
    conversation.send(frame(6, 0xfe, 0, Buffer.from('abcdefgh')));
    expect(conversation.output()).to.deep.equal(['PING ACK abcdefgh']);
  });

  it('§4.2 a frame of 2^14 octets is taken', () => {
    const conversation = Conversation.open();
    conversation.send(post(1), data(1, Buffer.alloc(16_384)));
    expect(conversation.told()).to.have.length(2);
  });

  it('§4.2 a frame over SETTINGS_MAX_FRAME_SIZE is a FRAME_SIZE_ERROR', () => {
    expectFrameSizeError(frame(1, 4, 3, Buffer.alloc(16_385)));
    expectFrameSizeError(frame(0, 0, 1, Buffer.alloc(16_385)));
    expectFrameSizeError(frame(0x42, 0, 0, Buffer.alloc(16_385)));
  });

  it('§4.2 an oversized frame fails by its header, before its payload has arrived', () => {
    const conversation = Conversation.open();
    conversation.send(frame(0, 0, 1, EMPTY, 16_777_215));
    expect(conversation.told()).to.deep.equal(['failed ERR_LASTCALL_H2_FRAME_SIZE']);
  });

  it('§4.3 a field block that can’t be decoded is a COMPRESSION_ERROR', () => {
    expectFailure(headers(3, Buffer.from([0x80])), 'ERR_LASTCALL_H2_COMPRESSION', 'COMPRESSION_ERROR');
    expectFailure(headers(3, Buffer.from([0xff, 0xff])), 'ERR_LASTCALL_H2_COMPRESSION', 'COMPRESSION_ERROR');
  });

  it('§5.4.1 after a connection error nothing more is read, said twice, or sent', () => {
    const conversation = Conversation.open();
    conversation.send(post(1), frame(6, 0, 1, Buffer.alloc(8)));
    conversation.output();
    conversation.told();
    conversation.send(get(3), ping(), data(0, 'x'));
    conversation.session.goaway(0, 0);
    conversation.session.ping(Buffer.alloc(8));
    expect(conversation.told()).to.deep.equal([]);
    expect(conversation.output()).to.deep.equal([]);
  });

  it('§5.5 unknown frames are discarded, whatever their size and stream', () => {
    const conversation = Conversation.open();
    conversation.send(frame(0x42, 0xff, 77, Buffer.alloc(16_384)), frame(0x0b, 0, 0, EMPTY), ping());
    expect(conversation.output()).to.deep.equal(['PING ACK abcdefgh']);
    expect(conversation.told()).to.deep.equal([]);
  });

  it('§5.5 an unknown frame in the middle of a field block is a PROTOCOL_ERROR', () => {
    expectProtocolError(Buffer.concat([headers(3, request(), { endHeaders: false }), frame(0x42, 0, 3, EMPTY)]));
  });
});

describe('h2 session: frames that are errors by themselves (RFC 9113 §6)', () => {
  const protocolErrors: [string, Buffer][] = [
    ['§6.1 DATA on stream 0', data(0, 'x')],
    ['§6.1 DATA with padding of its whole payload', frame(0, 8, 1, Buffer.from([4, 0, 0, 0]))],
    ['§6.2 HEADERS on stream 0', headers(0, request())],
    ['§6.2 HEADERS with padding longer than its payload', frame(1, 12, 3, Buffer.from([9, 0, 0, 0]))],
    ['§6.2 HEADERS with padding of its whole payload', frame(1, 12, 3, Buffer.from([4, 0, 0, 0]))],
    [
      '§6.2 another frame in the middle of a field block',
      Buffer.concat([headers(3, request(), { endHeaders: false }), ping()]),
    ],
    [
      '§6.2 CONTINUATION of another stream in the middle of a field block',
      Buffer.concat([headers(3, request(), { endHeaders: false }), continuation(5, EMPTY, true)]),
    ],
    [
      '§6.2 HEADERS in the middle of a field block',
      Buffer.concat([headers(3, request(), { endHeaders: false }), get(5)]),
    ],
    ['§6.3 PRIORITY on stream 0', frame(2, 0, 0, Buffer.alloc(5))],
    ['§6.4 RST_STREAM on stream 0', rstStream(0)],
    ['§6.4 RST_STREAM on an idle stream', rstStream(3)],
    ['§6.5 SETTINGS on a stream', frame(4, 0, 1, EMPTY)],
    ['§6.5.2 SETTINGS_ENABLE_PUSH of 2', settings([2, 2])],
    ['§6.5.2 SETTINGS_MAX_FRAME_SIZE of 16,383', settings([5, 16_383])],
    ['§6.5.2 SETTINGS_MAX_FRAME_SIZE of 16,777,216', settings([5, 16_777_216])],
    ['§6.6, §8.4 PUSH_PROMISE', frame(5, 4, 1, Buffer.concat([uint32(2), block(request())]))],
    ['§6.7 PING on a stream', frame(6, 0, 1, Buffer.alloc(8))],
    ['§6.8 GOAWAY on a stream', frame(7, 0, 1, Buffer.alloc(8))],
    ['§6.9 WINDOW_UPDATE of 0 for the connection', windowUpdate(0, 0)],
    ['§6.10 CONTINUATION on stream 0', continuation(0, EMPTY, true)],
    ['§6.10 CONTINUATION without HEADERS', continuation(1, EMPTY, true)],
    [
      '§6.10 CONTINUATION after END_HEADERS',
      Buffer.concat([headers(3, request(), { endStream: true }), continuation(3, EMPTY, true)]).subarray(0),
    ],
    ['RFC 9218 §2.1 SETTINGS_NO_RFC7540_PRIORITIES of 2', settings([9, 2])],
    ['RFC 9218 §7.1 PRIORITY_UPDATE on a stream', frame(0x10, 0, 1, Buffer.alloc(4))],
    ['RFC 9218 §7.1 PRIORITY_UPDATE for stream 0', priorityUpdate(0, 'u=1')],
  ];
  for (const [name, bytes] of protocolErrors) {
    it(`${name} is a PROTOCOL_ERROR`, () => {
      const conversation = Conversation.open();
      conversation.send(post(1));
      conversation.told();
      conversation.send(bytes, get(99));
      expect(conversation.told().filter((line) => !line.startsWith('request 3'))).to.include(
        'failed ERR_LASTCALL_H2_PROTOCOL',
      );
      expect(conversation.output().at(-1)).to.match(/^GOAWAY \d PROTOCOL_ERROR ./);
      expect(conversation.heads.has(99)).to.equal(false);
    });
  }

  const frameSizeErrors: [string, Buffer][] = [
    ['§6.1 padded DATA without room for the pad length', frame(0, 8, 1, EMPTY)],
    ['§6.2 padded HEADERS without room for the pad length', frame(1, 12, 3, EMPTY)],
    ['§6.2 HEADERS with PRIORITY without room for it', frame(1, 0x24, 3, Buffer.alloc(4))],
    ['§6.4 RST_STREAM of 3 octets', frame(3, 0, 1, Buffer.alloc(3))],
    ['§6.4 RST_STREAM of 5 octets', frame(3, 0, 1, Buffer.alloc(5))],
    ['§6.5 a SETTINGS ACK with payload', frame(4, 1, 0, Buffer.alloc(6))],
    ['§6.5 SETTINGS of 7 octets', frame(4, 0, 0, Buffer.alloc(7))],
    ['§6.7 PING of 7 octets', frame(6, 0, 0, Buffer.alloc(7))],
    ['§6.7 PING of 9 octets', frame(6, 0, 0, Buffer.alloc(9))],
    ['§6.8 GOAWAY of 7 octets', frame(7, 0, 0, Buffer.alloc(7))],
    ['§6.9 WINDOW_UPDATE of 3 octets', frame(8, 0, 0, Buffer.alloc(3))],
    ['§6.9 WINDOW_UPDATE of 5 octets on a stream', frame(8, 0, 1, Buffer.alloc(5))],
    ['§6.3 PRIORITY of 4 octets on an idle stream', frame(2, 0, 3, Buffer.alloc(4))],
    ['RFC 9218 §7.1 PRIORITY_UPDATE of 3 octets', frame(0x10, 0, 0, Buffer.alloc(3))],
  ];
  for (const [name, bytes] of frameSizeErrors) {
    it(`${name} is a FRAME_SIZE_ERROR`, () => expectFrameSizeError(bytes));
  }

  it('§6.3 PRIORITY of 4 octets on an open stream is a stream error FRAME_SIZE_ERROR', () => {
    const conversation = Conversation.open();
    conversation.send(post(1), frame(2, 0, 1, Buffer.alloc(4)), ping());
    expect(conversation.told()).to.deep.equal(['request 1 POST /', 'reset 1 FRAME_SIZE_ERROR local', 'closed 1']);
    expect(conversation.output()).to.deep.equal(['RST_STREAM 1 FRAME_SIZE_ERROR', 'PING ACK abcdefgh']);
  });

  it('§6.3 PRIORITY is taken in any state, idle, open and closed, self-dependencies included', () => {
    const conversation = Conversation.open();
    const priority = (id: number, on: number): Buffer =>
      frame(2, 0, id, Buffer.concat([uint32(on), Buffer.from([15])]));
    conversation.send(priority(7, 0), get(1), priority(1, 1), rstStream(1), priority(1, 3), priority(2, 0), ping());
    expect(conversation.output()).to.deep.equal(['PING ACK abcdefgh']);
  });

  it('§6.2 the priority in HEADERS is read over, padding is dropped', () => {
    const conversation = Conversation.open();
    conversation.send(headers(1, request(), { endStream: true, priority: [0x8000_0001, 255], pad: 7 }));
    expect(conversation.told()).to.deep.equal(['request 1 GET / complete']);
  });
});

describe('h2 session: SETTINGS (RFC 9113 §6.5)', () => {
  it('§6.5.3 each SETTINGS is acknowledged, in order, and its values hold', () => {
    const conversation = Conversation.open();
    conversation.send(
      settings([1, 0], [2, 0], [3, 7], [4, 100], [5, 20_000], [6, 1_000]),
      settings([4, 200], [4, 300]),
    );
    expect(conversation.output()).to.deep.equal(['SETTINGS ACK', 'SETTINGS ACK']);
    expect(conversation.session.peerSettings).to.deep.equal({
      headerTableSize: 0,
      enablePush: false,
      maxConcurrentStreams: 7,
      initialWindowSize: 300,
      maxFrameSize: 20_000,
      maxHeaderListSize: 1_000,
    });
  });

  it('§6.5.2 unknown settings are ignored', () => {
    const conversation = Conversation.open();
    conversation.send(settings([0x7777, 0xffff_ffff], [0, 1], [8, 1]));
    expect(conversation.output()).to.deep.equal(['SETTINGS ACK']);
  });

  it('§6.5.2 a value of SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1 is a FLOW_CONTROL_ERROR', () => {
    expectFlowControlError(settings([4, 0x8000_0000]));
  });

  it('§6.5 an ACK is not acknowledged', () => {
    const conversation = Conversation.open();
    conversation.send(SETTINGS_ACK);
    expect(conversation.output()).to.deep.equal([]);
  });

  it('§4.3.1 our encoder obeys SETTINGS_HEADER_TABLE_SIZE with a table size update', () => {
    const conversation = Conversation.open();
    conversation.send(settings([1, 0]), get(1));
    conversation.output();
    const stream = conversation.stream(1);
    conversation.session.beginHeaders(stream, 200);
    conversation.session.endHeaders('none');
    expect(conversation.frames()[0]?.payload).to.deep.equal(Buffer.from([0x20, 0x88]));
  });

  it('options that differ from the protocol’s defaults are announced', () => {
    const conversation = new Conversation(
      {},
      { headerTableSize: 0, maxFrameSize: 32_768, enableConnectProtocol: true },
    );
    conversation.session.start();
    expect(conversation.output()[0]).to.equal('SETTINGS 3=100 4=262144 6=65536 9=1 1=0 5=32768 8=1');
  });

  it('§4.3.1 a field block that ignores our acknowledged, smaller SETTINGS_HEADER_TABLE_SIZE is a COMPRESSION_ERROR', () => {
    const conversation = new Conversation({}, { headerTableSize: 0 });
    conversation.send(PREFACE, settings(), get(1), SETTINGS_ACK, get(3));
    expect(conversation.told()).to.deep.equal([
      'request 1 GET / complete',
      'failed ERR_LASTCALL_H2_COMPRESSION',
      'closed 1',
    ]);
  });
});

describe('h2 session: PING and GOAWAY (RFC 9113 §6.7, §6.8)', () => {
  it('§6.7 a PING is answered with its own octets, ahead of queued DATA', () => {
    const conversation = Conversation.open();
    conversation.session.budget = 0;
    conversation.send(get(1));
    conversation.session.write(conversation.respond(1), Buffer.alloc(30_000));
    conversation.send(ping('01234567'));
    conversation.session.pump(1_000_000);
    expect(conversation.output()).to.deep.equal([
      'HEADERS 1 :status=200',
      'PING ACK 01234567',
      'DATA 1 (16375)',
      'DATA 1 (13625)',
    ]);
  });

  it('§6.7 an ACK is not answered, but told', () => {
    const conversation = Conversation.open();
    conversation.session.ping(Buffer.from('roundtri'));
    expect(conversation.output()).to.deep.equal(['PING roundtri']);
    conversation.send(ping('roundtri', 1));
    expect(conversation.output()).to.deep.equal([]);
    expect(conversation.told()).to.deep.equal(['pong roundtri']);
  });

  it('§6.8 the client’s GOAWAY is told, and its streams go on', () => {
    const conversation = Conversation.open();
    conversation.send(post(1), goaway(0, 0, 'bye'), data(1, 'x', { endStream: true }));
    expect(conversation.told()).to.deep.equal(['request 1 POST /', 'goaway 0 NO_ERROR', 'data 1 x', 'end 1']);
    conversation.respond(1, true);
    expect(conversation.output()).to.deep.equal(['HEADERS 1 END_STREAM :status=200']);
  });

  it('§6.8 streams between an announcing and the final GOAWAY are served', () => {
    const conversation = Conversation.open();
    conversation.send(get(1));
    conversation.session.goaway(2 ** 31 - 1, 0, 'moving');
    conversation.send(get(3));
    expect(conversation.told()).to.deep.equal(['request 1 GET / complete', 'request 3 GET / complete']);
    conversation.session.goaway(conversation.session.highestStreamId, 0);
    expect(conversation.output()).to.deep.equal(['GOAWAY 2147483647 NO_ERROR moving', 'GOAWAY 3 NO_ERROR']);
  });

  it('§6.8 streams above the final last-stream-id are refused once each; their late frames are ignored', () => {
    const conversation = Conversation.open();
    conversation.send(get(1));
    conversation.session.goaway(1, 0);
    conversation.output();
    conversation.told();
    conversation.send(post(3), data(3, 'late'), headers(3, [['x', 'y']], { endStream: true }), get(5), rstStream(3));
    conversation.send(windowUpdate(3, 10), windowUpdate(3, 0));
    expect(conversation.told()).to.deep.equal(['refused 3', 'refused 5']);
    expect(conversation.output()).to.deep.equal(['RST_STREAM 3 REFUSED_STREAM', 'RST_STREAM 5 REFUSED_STREAM']);
    expect(conversation.session.highestStreamId).to.equal(1);
    conversation.respond(1, true);
    expect(conversation.output()).to.deep.equal(['HEADERS 1 END_STREAM :status=200']);
  });

  it('§6.8 refused streams keep HPACK in step', () => {
    const conversation = Conversation.open();
    conversation.session.goaway(0, 0);
    // stream 1 puts x-token into the dynamic table; stream 3 refers to it with an index
    const indexed = Buffer.concat([block(request()), Buffer.from([0x40]), Buffer.from('\x07x-token\x01t', 'latin1')]);
    conversation.send(headers(1, indexed), headers(3, Buffer.concat([block(request()), Buffer.from([0xbe])])), ping());
    expect(conversation.told()).to.deep.equal(['refused 1', 'refused 3']);
    expect(conversation.output().at(-1)).to.equal('PING ACK abcdefgh');
  });

  it('§6.8 DATA of refused streams counts against the connection window and is credited', () => {
    const conversation = Conversation.open();
    conversation.session.goaway(0, 0);
    conversation.send(post(1));
    conversation.output();
    for (let i = 0; i < 32; i++) conversation.send(data(1, Buffer.alloc(16_384)));
    expect(conversation.output()).to.deep.equal(['WINDOW_UPDATE 0 524288']);
  });

  it('§6.8 the last-stream-id never rises', () => {
    const conversation = Conversation.open();
    conversation.send(get(1), get(3));
    conversation.session.goaway(1, 0);
    conversation.session.goaway(3, 0);
    conversation.session.goaway(2 ** 31 - 1, 2);
    expect(conversation.output()).to.deep.equal(['GOAWAY 1 NO_ERROR', 'GOAWAY 1 NO_ERROR', 'GOAWAY 1 INTERNAL_ERROR']);
  });

  it('§6.8 the last-stream-id of a connection error is the highest stream that was handled, not one refused', () => {
    const conversation = Conversation.open({}, { maxConcurrentStreams: 1 });
    conversation.send(get(1), get(3), data(0, 'x'));
    expect(conversation.output().at(-1)).to.match(/^GOAWAY 1 PROTOCOL_ERROR/);
  });

  it('§6.8 a malformed request has been handled: a GOAWAY doesn’t invite the client to repeat it', () => {
    const conversation = Conversation.open();
    conversation.send(headers(5, [['x', 'y']], { endStream: true }));
    expect(conversation.session.highestStreamId).to.equal(5);
  });

  it('§6.8 a connection error after the final GOAWAY keeps its last-stream-id', () => {
    const conversation = Conversation.open();
    conversation.send(get(1), get(3));
    conversation.session.goaway(1, 0);
    conversation.output();
    conversation.send(data(0, 'x'));
    expect(conversation.output()[0]).to.match(/^GOAWAY 1 PROTOCOL_ERROR/);
  });

  it('§6.8 every open stream is closed, once, when the session fails or the transport goes', () => {
    for (const end of [(c: Conversation) => c.send(data(0, 'x')), (c: Conversation) => c.session.destroy()]) {
      const conversation = Conversation.open();
      conversation.send(post(1), get(3), get(5));
      conversation.respond(3, true);
      conversation.told();
      end(conversation);
      conversation.session.destroy();
      expect(conversation.told().filter((line) => line.startsWith('closed'))).to.deep.equal(['closed 1', 'closed 5']);
      expect(conversation.session.active).to.equal(0);
    }
  });
});
