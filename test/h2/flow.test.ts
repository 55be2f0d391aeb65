import { expect } from 'chai';
import {
  Conversation,
  data,
  get,
  headers,
  PREFACE,
  ping,
  post,
  SETTINGS_ACK,
  settings,
  windowUpdate,
} from './script.js';

const MAX_WINDOW = 2 ** 31 - 1;
const KIB_16 = Buffer.alloc(16_384);

describe('h2 session: what it receives is flow-controlled (RFC 9113 §5.2, §6.9)', () => {
  it('the connection window is credited as DATA arrives, whether or not anybody reads it', () => {
    const conversation = Conversation.open({}, { initialWindowSize: 2 ** 20 });
    conversation.send(post(1));
    for (let i = 0; i < 31; i++) conversation.send(data(1, KIB_16));
    expect(conversation.output()).to.deep.equal([]);
    conversation.send(data(1, KIB_16));
    expect(conversation.output()).to.deep.equal(['WINDOW_UPDATE 0 524288']);
  });

  it('a stream’s window is credited as the application reads, half a window at a time', () => {
    const conversation = Conversation.open();
    conversation.send(post(1));
    for (let i = 0; i < 16; i++) conversation.send(data(1, KIB_16));
    const stream = conversation.stream(1);
    conversation.session.consumed(stream, 131_071);
    expect(conversation.output()).to.deep.equal([]);
    conversation.session.consumed(stream, 1);
    expect(conversation.output()).to.deep.equal(['WINDOW_UPDATE 1 131072']);
  });

  it('what was never received is not credited, however often it is reported', () => {
    const conversation = Conversation.open();
    conversation.send(post(1), data(1, 'abc'));
    conversation.session.consumed(conversation.stream(1), 1_000_000);
    expect(conversation.output()).to.deep.equal([]);
  });

  it('padding is credited at once: nobody reads it', () => {
    const conversation = Conversation.open({}, { initialWindowSize: 65_535 });
    conversation.send(post(1));
    for (let i = 0; i < 128; i++) conversation.send(data(1, '', { pad: 255 }));
    expect(conversation.output()).to.deep.equal(['WINDOW_UPDATE 1 32768']);
  });

  it('§6.1 padding counts for the connection like data', () => {
    const conversation = Conversation.open({}, { connectionWindowSize: 65_536 });
    conversation.send(post(1));
    for (let i = 0; i < 128; i++) conversation.send(data(1, 'x'.repeat(100), { pad: 155 }));
    expect(conversation.output()).to.deep.equal(['WINDOW_UPDATE 0 32768']);
  });

  it('§6.9 DATA in error counts for the connection: on closed, reset, half-closed and refused streams', () => {
    const conversation = Conversation.open({}, { maxConcurrentStreams: 2 });
    conversation.send(post(1), get(3), post(5));
    conversation.session.reset(conversation.stream(1), 8);
    conversation.output();
    const { receiveWindow: before } = conversation.session;
    conversation.send(data(1, KIB_16), data(3, KIB_16), data(5, KIB_16), data(3, KIB_16));
    expect(conversation.session.state).to.equal('open');
    expect(before - conversation.session.receiveWindow).to.equal(4 * 16_384);
  });

  it('§6.9.1 DATA beyond the connection window is a FLOW_CONTROL_ERROR of the connection', () => {
    const conversation = Conversation.open({}, { connectionWindowSize: 65_535, initialWindowSize: 2 ** 20 });
    conversation.send(post(1));
    // one frame, of which half a window would be credited at once: so the frame itself must be too large
    const big = Conversation.open({}, { connectionWindowSize: 65_535, maxFrameSize: 100_000 });
    big.send(post(1), data(1, Buffer.alloc(65_536)));
    expect(big.told().slice(1)).to.deep.equal(['failed ERR_LASTCALL_H2_FLOW_CONTROL', 'closed 1']);
  });

  it('§6.9.1 DATA beyond a stream’s window is a FLOW_CONTROL_ERROR of the stream; others go on', () => {
    const conversation = Conversation.open({}, { initialWindowSize: 65_535 });
    conversation.send(post(1), get(3));
    for (let i = 0; i < 4; i++) conversation.send(data(1, KIB_16));
    expect(conversation.told().at(-2)).to.equal('reset 1 FLOW_CONTROL_ERROR local');
    expect(conversation.output()).to.include('RST_STREAM 1 FLOW_CONTROL_ERROR');
    conversation.respond(3, true);
    expect(conversation.output()).to.deep.equal(['HEADERS 3 END_STREAM :status=200']);
  });

  it('§6.9.2 a smaller initial window of ours binds the client only from its ACK on', () => {
    const conversation = new Conversation({}, { initialWindowSize: 10 });
    conversation.send(PREFACE, settings(), post(1), data(1, Buffer.alloc(16_384)));
    expect(conversation.told().at(-1)).to.match(/^data 1/);
    conversation.send(SETTINGS_ACK, post(3), data(3, 'eleven byte'));
    expect(conversation.told().slice(-2)).to.deep.equal(['reset 3 FLOW_CONTROL_ERROR local', 'closed 3']);
    // stream 1 has spent more than its new window; an empty frame needs none (§6.9.1)
    conversation.send(data(1, ''));
    expect(conversation.told().at(-1)).to.not.match(/FLOW_CONTROL_ERROR|closed/);
    conversation.send(data(1, 'x'));
    expect(conversation.told().slice(-2)).to.deep.equal(['reset 1 FLOW_CONTROL_ERROR local', 'closed 1']);
  });

  it('§6.9.1 a request may end with an empty frame where a smaller initial window is below zero', () => {
    const conversation = new Conversation({}, { initialWindowSize: 10 });
    conversation.send(PREFACE, settings(), post(1), data(1, Buffer.alloc(16_384)), SETTINGS_ACK);
    conversation.send(data(1, '', { endStream: true }));
    expect(conversation.told().join())
      .to.match(/end 1/)
      .and.not.match(/FLOW_CONTROL_ERROR/);
  });

  it('an upload of 64 MiB through a reading application never stalls and never drifts', () => {
    const conversation = Conversation.open({
      data: (session, stream, chunk) => session.consumed(stream, chunk.length),
    });
    conversation.send(post(1));
    let connection = 1_048_576;
    let stream = 262_144;
    for (let sent = 0; sent < 64 * 2 ** 20; sent += 16_384) {
      expect(Math.min(connection, stream)).to.be.at.least(16_384);
      conversation.send(data(1, KIB_16));
      connection -= 16_384;
      stream -= 16_384;
      for (const update of conversation.frames()) {
        if (update.streamId === 0) connection += update.payload.readUInt32BE(0);
        else stream += update.payload.readUInt32BE(0);
      }
    }
  });
});

describe('h2 session: what it sends obeys the client’s windows (RFC 9113 §6.9)', () => {
  function blocked(...values: [id: number, value: number][]): Conversation {
    const conversation = Conversation.open();
    conversation.send(settings(...values), get(1));
    conversation.output();
    return conversation;
  }

  it('§6.9.1 never sends more than the stream’s window, and goes on with WINDOW_UPDATE', () => {
    const conversation = blocked([4, 10]);
    conversation.session.endWith(conversation.respond(1), Buffer.from('0123456789abcde'));
    conversation.session.pump(1_000);
    expect(conversation.output()).to.deep.equal(['HEADERS 1 :status=200', 'DATA 1 "0123456789"']);
    expect(conversation.session.wantsPump).to.equal(false);
    conversation.send(windowUpdate(1, 2));
    expect(conversation.session.wantsPump).to.equal(true);
    conversation.session.pump(1_000);
    conversation.send(windowUpdate(1, 100));
    conversation.session.pump(1_000);
    expect(conversation.output()).to.deep.equal(['DATA 1 "ab"', 'DATA 1 END_STREAM "cde"']);
  });

  it('§6.9.1 never sends more than the connection’s window', () => {
    const conversation = blocked([4, MAX_WINDOW]);
    conversation.session.endWith(conversation.respond(1), Buffer.alloc(100_000));
    conversation.session.pump(1_000_000);
    const sent = conversation.frames().filter((frame) => frame.type === 0);
    expect(sent.reduce((sum, frame) => sum + frame.payload.length, 0)).to.equal(65_535);
    expect(conversation.session.wantsPump).to.equal(false);
    conversation.send(windowUpdate(0, 50_000));
    conversation.session.pump(1_000_000);
    expect(conversation.output().at(-1)).to.equal('DATA 1 END_STREAM (1715)');
  });

  it('§6.9.1 an empty DATA with END_STREAM needs no window', () => {
    const conversation = blocked([4, 0]);
    conversation.session.end(conversation.respond(1));
    expect(conversation.output()).to.deep.equal(['HEADERS 1 :status=200', 'DATA 1 END_STREAM ""']);
  });

  it('§6.9.2 a changed initial window changes open streams, below zero too', () => {
    const conversation = blocked([4, 20]);
    conversation.session.write(conversation.respond(1), Buffer.alloc(100));
    conversation.session.pump(1_000);
    expect(conversation.stream(1).sendWindow).to.equal(0);
    conversation.send(settings([4, 5]));
    expect(conversation.stream(1).sendWindow).to.equal(-15);
    conversation.send(windowUpdate(1, 15));
    conversation.session.pump(1_000);
    conversation.output();
    expect(conversation.session.wantsPump).to.equal(false);
    conversation.send(windowUpdate(1, 3));
    conversation.session.pump(1_000);
    expect(conversation.output()).to.deep.equal(['DATA 1 "\\u0000\\u0000\\u0000"']);
    conversation.send(settings([4, 1_000]));
    conversation.session.pump(1_000);
    expect(conversation.output()).to.deep.equal(['SETTINGS ACK', 'DATA 1 (77)']);
  });

  it('§6.9.2 a later initial window holds for new streams', () => {
    const conversation = blocked([4, 3]);
    conversation.send(settings([4, 4]), get(3));
    expect(conversation.stream(3).sendWindow).to.equal(4);
  });

  it('§6.9.2 SETTINGS don’t change the connection’s window', () => {
    const conversation = blocked([4, 0]);
    conversation.session.write(conversation.respond(1), Buffer.from('x'));
    conversation.send(windowUpdate(0, 1_000));
    expect(conversation.session.wantsPump).to.equal(false);
  });

  it('§6.9.2 a changed initial window that takes a stream over 2^31-1 is a FLOW_CONTROL_ERROR', () => {
    const conversation = blocked([4, 1]);
    conversation.send(windowUpdate(1, MAX_WINDOW - 1), settings([4, 2]));
    expect(conversation.told().slice(-2)).to.deep.equal(['failed ERR_LASTCALL_H2_FLOW_CONTROL', 'closed 1']);
  });

  it('§6.9.1 a WINDOW_UPDATE that takes a stream over 2^31-1 resets the stream with FLOW_CONTROL_ERROR', () => {
    const conversation = blocked([4, 1]);
    conversation.send(windowUpdate(1, MAX_WINDOW), ping());
    expect(conversation.output()).to.deep.equal(['RST_STREAM 1 FLOW_CONTROL_ERROR', 'PING ACK abcdefgh']);
  });

  it('§6.9.1 a WINDOW_UPDATE that takes the connection over 2^31-1 is a FLOW_CONTROL_ERROR', () => {
    const conversation = blocked();
    conversation.send(windowUpdate(0, MAX_WINDOW - 65_535));
    expect(conversation.session.state).to.equal('open');
    conversation.send(windowUpdate(0, 1));
    expect(conversation.told().slice(-2)).to.deep.equal(['failed ERR_LASTCALL_H2_FLOW_CONTROL', 'closed 1']);
  });

  it('§6.9 a WINDOW_UPDATE of 0 on a stream is a stream error PROTOCOL_ERROR', () => {
    const conversation = blocked();
    conversation.send(windowUpdate(1, 0), ping());
    expect(conversation.output()).to.deep.equal(['RST_STREAM 1 PROTOCOL_ERROR', 'PING ACK abcdefgh']);
  });

  it('§6.9 the reserved bit of WINDOW_UPDATE is ignored', () => {
    const conversation = blocked([4, 0]);
    conversation.send(windowUpdate(1, 0x8000_0005));
    expect(conversation.stream(1).sendWindow).to.equal(5);
  });

  it('trailers and RST_STREAM are not flow-controlled', () => {
    const conversation = blocked([4, 0]);
    conversation.session.end(conversation.respond(1), ['x-sum', '1']);
    conversation.send(
      headers(
        3,
        [
          [':method', 'GET'],
          [':scheme', 'https'],
          [':path', '/'],
        ],
        { endStream: true },
      ),
    );
    conversation.session.reset(conversation.stream(3), 8);
    expect(conversation.output().slice(1)).to.deep.equal(['HEADERS 1 END_STREAM x-sum=1', 'RST_STREAM 3 CANCEL']);
  });
});
