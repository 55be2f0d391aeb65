import { expect } from 'chai';
import {
  block,
  Conversation,
  continuation,
  data,
  get,
  headers,
  PREFACE,
  ping,
  post,
  request,
  rstStream,
  SETTINGS_ACK,
  settings,
  windowUpdate,
} from './script.js';

const TRAILERS = [['x-sum', '1']] as const;

describe('h2 session: stream states (RFC 9113 §5.1)', () => {
  it('open → half-closed (remote) → closed: the request ends first', () => {
    const conversation = Conversation.open();
    conversation.send(post(1));
    expect(conversation.stream(1).state).to.equal('open');
    conversation.send(data(1, 'x', { endStream: true }));
    expect(conversation.stream(1).state).to.equal('half-closed (remote)');
    conversation.respond(1, true);
    expect(conversation.stream(1).state).to.equal('closed');
    expect(conversation.told()).to.deep.equal(['request 1 POST /', 'data 1 x', 'end 1', 'closed 1']);
  });

  it('open → half-closed (local) → closed: the response ends first', () => {
    const conversation = Conversation.open();
    conversation.send(post(1));
    conversation.respond(1, true);
    expect(conversation.stream(1).state).to.equal('half-closed (local)');
    conversation.send(data(1, 'x'), data(1, 'y', { endStream: true }));
    expect(conversation.stream(1).state).to.equal('closed');
    expect(conversation.told()).to.deep.equal(['request 1 POST /', 'data 1 xy', 'end 1', 'closed 1']);
  });

  it('a response may end within the call that told the request, its body, or its end', () => {
    const respond = (conversation: Conversation): void => void conversation.respond(1, true);
    for (const when of ['request', 'data', 'end'] as const) {
      const conversation: Conversation = Conversation.open({ [when]: () => respond(conversation) });
      conversation.send(post(1), data(1, 'x', { endStream: true }));
      const told = conversation.told();
      expect(told).to.deep.equal(['request 1 POST /', 'data 1 x', 'end 1', 'closed 1'], when);
      expect(conversation.output()).to.deep.equal(['HEADERS 1 END_STREAM :status=200']);
    }
  });

  it('§5.1 trailers end a request', () => {
    const conversation = Conversation.open();
    conversation.send(post(1), data(1, 'x'), headers(1, TRAILERS, { endStream: true }));
    expect(conversation.told()).to.deep.equal(['request 1 POST /', 'data 1 x', 'end 1 x-sum 1']);
    expect(conversation.stream(1).state).to.equal('half-closed (remote)');
  });

  it('§5.1 idle: DATA, RST_STREAM and WINDOW_UPDATE are connection errors PROTOCOL_ERROR', () => {
    for (const bytes of [
      data(5, 'x'),
      rstStream(5),
      windowUpdate(5, 1),
      data(2, 'x'),
      rstStream(2),
      windowUpdate(2, 1),
    ]) {
      const conversation = Conversation.open();
      conversation.send(get(1), bytes);
      expect(conversation.told()[1]).to.equal('failed ERR_LASTCALL_H2_PROTOCOL');
    }
  });

  it('§5.1 half-closed (remote): DATA and HEADERS are stream errors STREAM_CLOSED', () => {
    for (const bytes of [data(1, 'x'), data(1, '', { endStream: true }), headers(1, TRAILERS, { endStream: true })]) {
      const conversation = Conversation.open();
      conversation.send(get(1), bytes, ping());
      expect(conversation.told()).to.deep.equal([
        'request 1 GET / complete',
        'reset 1 STREAM_CLOSED local',
        'closed 1',
      ]);
      expect(conversation.output()).to.deep.equal(['RST_STREAM 1 STREAM_CLOSED', 'PING ACK abcdefgh']);
    }
  });

  it('§5.1 half-closed (remote): WINDOW_UPDATE and RST_STREAM are taken', () => {
    const conversation = Conversation.open();
    conversation.send(get(1), windowUpdate(1, 10), rstStream(1));
    expect(conversation.told()).to.deep.equal(['request 1 GET / complete', 'reset 1 CANCEL peer', 'closed 1']);
    expect(conversation.output()).to.deep.equal([]);
  });

  it('§5.1 closed by END_STREAM: DATA is a stream error STREAM_CLOSED, told once', () => {
    const conversation = Conversation.open({ request: () => conversation.respond(1, true) });
    conversation.send(get(1), data(1, 'x'), data(1, 'y'), ping());
    expect(conversation.output()).to.deep.equal([
      'HEADERS 1 END_STREAM :status=200',
      'RST_STREAM 1 STREAM_CLOSED',
      'PING ACK abcdefgh',
    ]);
  });

  it('§5.1 closed by END_STREAM: HEADERS is a connection error STREAM_CLOSED', () => {
    const conversation = Conversation.open({ request: () => conversation.respond(1, true) });
    conversation.send(get(1), headers(1, TRAILERS, { endStream: true }));
    expect(conversation.told().at(-1)).to.equal('failed ERR_LASTCALL_H2_STREAM_CLOSED');
  });

  it('§5.1 closed by END_STREAM: WINDOW_UPDATE and RST_STREAM are ignored', () => {
    const conversation = Conversation.open({ request: () => conversation.respond(1, true) });
    conversation.send(get(1), windowUpdate(1, 10), windowUpdate(1, 0), rstStream(1), ping());
    expect(conversation.output().slice(1)).to.deep.equal(['PING ACK abcdefgh']);
    expect(conversation.told()).to.deep.equal(['request 1 GET / complete', 'closed 1']);
  });

  it('§5.1 closed by the peer’s RST_STREAM: DATA is STREAM_CLOSED, HEADERS a connection error', () => {
    const conversation = Conversation.open();
    conversation.send(post(1), rstStream(1), data(1, 'x'));
    expect(conversation.output()).to.deep.equal(['RST_STREAM 1 STREAM_CLOSED']);
    const other = Conversation.open();
    other.send(post(1), rstStream(1), headers(1, TRAILERS, { endStream: true }));
    expect(other.told().at(-1)).to.equal('failed ERR_LASTCALL_H2_STREAM_CLOSED');
  });

  it('§5.1, §6.4 closed by our RST_STREAM: late DATA, HEADERS, WINDOW_UPDATE and RST_STREAM are ignored', () => {
    const conversation = Conversation.open();
    conversation.send(post(1));
    conversation.session.reset(conversation.stream(1), 8);
    conversation.told();
    conversation.output();
    conversation.send(
      windowUpdate(1, 1),
      data(1, 'late'),
      headers(1, TRAILERS, { endStream: true }),
      rstStream(1),
      ping(),
    );
    expect(conversation.told()).to.deep.equal([]);
    expect(conversation.output()).to.deep.equal(['PING ACK abcdefgh']);
  });

  it('§5.1 late frames are ignored on a thousand streams that we have reset', () => {
    const conversation = Conversation.open({ request: (session, stream) => session.reset(stream, 8) });
    for (let id = 1; id < 2_000; id += 2) conversation.send(post(id));
    conversation.output();
    for (let id = 1; id < 2_000; id += 2) conversation.send(data(id, 'late', { endStream: true }));
    expect(conversation.output()).to.deep.equal([]);
  });

  it('§5.1 closed by our RST_STREAM: what follows the peer’s own END_STREAM is an error', () => {
    const conversation = Conversation.open();
    conversation.send(post(1));
    conversation.session.reset(conversation.stream(1), 8);
    conversation.send(data(1, 'late', { endStream: true }), headers(1, TRAILERS, { endStream: true }));
    expect(conversation.told().at(-1)).to.equal('failed ERR_LASTCALL_H2_STREAM_CLOSED');
  });

  it('§5.4.2 a RST_STREAM is never answered with RST_STREAM', () => {
    const conversation = Conversation.open();
    conversation.send(post(1), rstStream(1), rstStream(1), rstStream(1, 0xdead));
    expect(conversation.output()).to.deep.equal([]);
    expect(conversation.told()).to.deep.equal(['request 1 POST /', 'reset 1 CANCEL peer', 'closed 1']);
  });

  it('§5.1.1 a stream with an even identifier is a PROTOCOL_ERROR', () => {
    const conversation = Conversation.open();
    conversation.send(get(2));
    expect(conversation.told()).to.deep.equal(['failed ERR_LASTCALL_H2_PROTOCOL']);
  });

  it('§5.1.1 opening a stream closes the idle ones below: using one is a PROTOCOL_ERROR', () => {
    for (const bytes of [get(3), data(3, 'x'), get(1)]) {
      const conversation = Conversation.open();
      conversation.send(get(5), bytes);
      expect(conversation.told()[1]).to.equal('failed ERR_LASTCALL_H2_PROTOCOL');
    }
  });

  it('§5.1.2 a stream over SETTINGS_MAX_CONCURRENT_STREAMS gets REFUSED_STREAM, the others go on', () => {
    const conversation = Conversation.open({}, { maxConcurrentStreams: 2 });
    conversation.send(post(1), post(3), post(5), data(5, 'x', { endStream: true }));
    expect(conversation.told().at(-1)).to.equal('refused 5');
    expect(conversation.output()).to.deep.equal(['RST_STREAM 5 REFUSED_STREAM']);
    expect(conversation.session.active).to.equal(2);
    expect(conversation.session.highestStreamId).to.equal(3);
    conversation.send(rstStream(1), get(7));
    expect(conversation.told().at(-1)).to.equal('request 7 GET / complete');
  });

  it('§5.1.2 half-closed streams count as open', () => {
    const conversation = Conversation.open({}, { maxConcurrentStreams: 2 });
    conversation.send(get(1), post(3));
    conversation.respond(3, true);
    conversation.send(get(5));
    expect(conversation.told().at(-1)).to.equal('refused 5');
  });

  it('our limits bind the client only after its ACK: streams refused before cost it nothing', () => {
    const conversation = new Conversation({}, { maxConcurrentStreams: 1, floodBudget: 2, floodRefill: 0 });
    conversation.session.start();
    conversation.send(PREFACE, settings());
    for (let id = 1; id < 100; id += 2) conversation.send(get(id));
    expect(conversation.session.state).to.equal('open');
    conversation.send(SETTINGS_ACK);
    for (let id = 101; id < 200; id += 2) conversation.send(get(id));
    expect(conversation.session.state).to.equal('failed');
  });
});

describe('h2 session: responses that end before their requests (RFC 9113 §8.1)', () => {
  it('reads up to 64 KiB of the rest, then sends RST_STREAM(NO_ERROR) and is done', () => {
    const conversation = Conversation.open();
    conversation.send(post(1));
    conversation.respond(1, true);
    conversation.output();
    for (let i = 0; i < 4; i++) conversation.send(data(1, Buffer.alloc(16_384)));
    expect(conversation.output()).to.deep.equal([]);
    conversation.send(data(1, 'x'), data(1, 'y'));
    expect(conversation.output()).to.deep.equal(['RST_STREAM 1 NO_ERROR']);
    const told = conversation.told();
    expect(told.at(-1)).to.equal('closed 1');
    expect(told.some((line) => line.startsWith('reset'))).to.equal(false);
  });

  it('the rest is credited without anybody reading it', () => {
    const conversation = Conversation.open({}, { initialWindowSize: 65_535 });
    conversation.send(post(1), data(1, Buffer.alloc(16_000)), data(1, Buffer.alloc(16_000)));
    conversation.send(data(1, Buffer.alloc(16_000)));
    expect(conversation.output()).to.deep.equal([]);
    conversation.respond(1, true);
    expect(conversation.output()).to.deep.equal(['HEADERS 1 END_STREAM :status=200', 'WINDOW_UPDATE 1 48000']);
  });

  it('a request that ends within the limit is complete', () => {
    const conversation = Conversation.open();
    conversation.send(post(1));
    conversation.respond(1, true);
    conversation.send(data(1, 'rest', { endStream: true }));
    expect(conversation.told()).to.deep.equal(['request 1 POST /', 'data 1 rest', 'end 1', 'closed 1']);
  });

  it('a tunnel is exempt: each direction ends by itself', () => {
    const conversation = Conversation.open({
      data: (session, stream, chunk) => session.consumed(stream, chunk.length),
    });
    conversation.send(
      headers(1, [
        [':method', 'CONNECT'],
        [':authority', 'example.com:22'],
      ]),
    );
    conversation.session.end(conversation.respond(1));
    for (let i = 0; i < 20; i++) conversation.send(data(1, Buffer.alloc(16_384)));
    expect(conversation.output().filter((line) => line.startsWith('RST'))).to.deep.equal([]);
    expect(conversation.stream(1).state).to.equal('half-closed (local)');
    conversation.send(data(1, '', { endStream: true }));
    expect(conversation.told().slice(-2)).to.deep.equal(['end 1', 'closed 1']);
  });

  it('what a half-closed tunnel receives still waits for its reader', () => {
    const conversation = Conversation.open();
    conversation.send(
      headers(1, [
        [':method', 'CONNECT'],
        [':authority', 'example.com:22'],
      ]),
    );
    for (let i = 0; i < 10; i++) conversation.send(data(1, Buffer.alloc(16_384)));
    conversation.session.end(conversation.respond(1));
    expect(conversation.output()).to.deep.equal(['HEADERS 1 :status=200', 'DATA 1 END_STREAM ""']);
    conversation.session.consumed(conversation.stream(1), 163_840);
    expect(conversation.output()).to.deep.equal(['WINDOW_UPDATE 1 163840']);
  });

  it('a CONNECT that was rejected is not exempt', () => {
    const conversation = Conversation.open();
    conversation.send(
      headers(1, [
        [':method', 'CONNECT'],
        [':authority', 'example.com:22'],
      ]),
    );
    conversation.respond(1, true, 403);
    for (let i = 0; i < 5; i++) conversation.send(data(1, Buffer.alloc(16_384)));
    expect(conversation.output().at(-1)).to.equal('RST_STREAM 1 NO_ERROR');
  });
});

describe('h2 session: field blocks in pieces (RFC 9113 §4.3, §6.10)', () => {
  const whole = block(request('GET', '/long'));

  it('§6.10 HEADERS and CONTINUATION make one field block', () => {
    const conversation = Conversation.open();
    conversation.send(
      headers(1, whole.subarray(0, 5), { endStream: true, endHeaders: false, pad: 3 }),
      continuation(1, whole.subarray(5, 5), false),
      continuation(1, whole.subarray(5, 20), false),
    );
    expect(conversation.told()).to.deep.equal([]);
    expect(conversation.session.midBlock).to.equal(true);
    conversation.send(continuation(1, whole.subarray(20), true));
    expect(conversation.told()).to.deep.equal(['request 1 GET /long complete']);
    expect(conversation.session.midBlock).to.equal(false);
  });

  it('§6.10 END_STREAM belongs to HEADERS: trailers may be continued too', () => {
    const conversation = Conversation.open();
    const trailers = block(TRAILERS);
    conversation.send(post(1), headers(1, trailers.subarray(0, 4), { endStream: true, endHeaders: false }));
    conversation.send(continuation(1, trailers.subarray(4), true));
    expect(conversation.told()).to.deep.equal(['request 1 POST /', 'end 1 x-sum 1']);
  });

  it('16 CONTINUATION frames are taken, a seventeenth is ENHANCE_YOUR_CALM', () => {
    const fill = (count: number, id = 1): Buffer[] =>
      Array.from({ length: count }, () => continuation(id, whole.subarray(1, 1), false));
    const conversation = Conversation.open();
    conversation.send(
      headers(1, whole, { endStream: true, endHeaders: false }),
      ...fill(15),
      continuation(1, Buffer.alloc(0), true),
    );
    expect(conversation.told()).to.deep.equal(['request 1 GET /long complete']);
    conversation.send(
      headers(3, whole, { endStream: true, endHeaders: false }),
      ...fill(10, 3),
      continuation(3, Buffer.alloc(0), true),
    );
    expect(conversation.told()).to.deep.equal(['request 3 GET /long complete']);
    const flood = Conversation.open();
    flood.send(headers(1, whole, { endStream: true, endHeaders: false }), ...fill(17));
    expect(flood.told()).to.deep.equal(['failed ERR_LASTCALL_H2_ENHANCE_YOUR_CALM']);
  });
});
