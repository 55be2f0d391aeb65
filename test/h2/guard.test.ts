import { expect } from 'chai';
import type { SessionOptions } from '../../src/h2/session.js';
import {
  Conversation,
  data,
  frame,
  get,
  goaway,
  headers,
  ping,
  post,
  priorityUpdate,
  type Reactions,
  request,
  rstStream,
  SETTINGS_ACK,
  settings,
  windowUpdate,
} from './script.js';

const CALM = 'failed ERR_LASTCALL_H2_ENHANCE_YOUR_CALM';

/** Sends `bytes(i)` for i = 0, 1, … until the session has failed; how many it took. */
function until(conversation: Conversation, most: number, bytes: (i: number) => Buffer): number {
  for (let i = 0; i < most; i++) {
    if (conversation.session.state === 'failed') return i;
    conversation.send(bytes(i));
    conversation.frames();
  }
  return most;
}

const id = (i: number): number => i * 2 + 1;

describe('h2 session: streams that are opened to be reset', () => {
  it('rapid reset (CVE-2023-44487): the handler is told to drain once 500 streams were opened; going on is ENHANCE_YOUR_CALM', () => {
    const conversation = Conversation.open();
    until(conversation, 499, (i) => Buffer.concat([get(id(i)), rstStream(id(i))]));
    expect(conversation.told()).not.to.include('abuse resets');
    conversation.send(get(id(499)), rstStream(id(499)));
    expect(conversation.told().at(-1)).to.equal('abuse resets');
    const more = until(conversation, 10_000, (i) => Buffer.concat([get(id(500 + i)), rstStream(id(500 + i))]));
    expect(more).to.be.within(200, 500);
    const told = conversation.told();
    expect(told.filter((line) => line === 'abuse resets')).to.deep.equal([]);
    expect(told).to.include(CALM);
  });

  const provoked: [string, (streamId: number) => Buffer][] = [
    ['WINDOW_UPDATE of 0', (streamId) => Buffer.concat([get(streamId), windowUpdate(streamId, 0)])],
    ['WINDOW_UPDATE overflow', (streamId) => Buffer.concat([get(streamId), windowUpdate(streamId, 2 ** 31 - 1)])],
    ['DATA after END_STREAM', (streamId) => Buffer.concat([get(streamId), data(streamId, 'x')])],
    [
      'HEADERS after END_STREAM',
      (streamId) => Buffer.concat([get(streamId), headers(streamId, [['x', 'y']], { endStream: true })]),
    ],
    ['PRIORITY of a wrong size', (streamId) => Buffer.concat([get(streamId), frame(2, 0, streamId, Buffer.alloc(4))])],
    [
      'a content-length that lies',
      (streamId) => Buffer.concat([post(streamId, ['content-length', '1']), data(streamId, 'xy')]),
    ],
    ['malformed requests', (streamId) => headers(streamId, request('GET', 'no-slash'), { endStream: true })],
  ];
  for (const [name, bytes] of provoked) {
    it(`resets provoked from us count the same (CVE-2025-8671): ${name}`, () => {
      const conversation = Conversation.open();
      const taken = until(conversation, 10_000, (i) => bytes(id(i)));
      expect(taken).to.be.within(700, 1_000);
      expect(conversation.told().filter((line) => line === 'abuse resets')).to.have.length(1);
    });
  }

  it('uploads that are answered before their end, and stopped by their clients then, are nobody’s concern', () => {
    const reactions: Reactions = {
      request: (session, stream) => {
        session.beginHeaders(stream, 413);
        session.endHeaders('none');
      },
    };
    const conversation = Conversation.open(reactions);
    const bytes = (i: number): Buffer => Buffer.concat([post(id(i)), data(id(i), 'x'), rstStream(id(i))]);
    expect(until(conversation, 1_500, bytes)).to.equal(1_500);
    expect(conversation.told()).not.to.include('abuse resets');
  });

  it('10,000 cancels among 50,000 served requests, in bursts of 100, are nobody’s concern', () => {
    const reactions: Reactions = {
      request: (session, stream) => {
        if ((stream.id >> 1) % 600 < 500) {
          session.beginHeaders(stream, 200);
          session.endHeaders('open');
          session.endWith(stream, Buffer.from('hello'));
        }
      },
    };
    const conversation = Conversation.open(reactions);
    for (let i = 0; i < 60_000; i++) {
      conversation.session.receive(get(id(i)));
      if (i % 600 >= 500) conversation.session.receive(rstStream(id(i)));
      if (i % 100 === 0) {
        conversation.send(windowUpdate(0, 500));
        conversation.session.output.take();
        conversation.session.budget = 65_536;
        conversation.clock += 10;
      }
    }
    const told = conversation.told();
    expect(told.filter((line) => line.startsWith('reset'))).to.have.length(10_000);
    expect(told.filter((line) => /abuse|failed|later/.test(line))).to.deep.equal([]);
  }).timeout(30_000);

  it('streams that are reset a second after they were opened don’t count', () => {
    const conversation = Conversation.open();
    for (let i = 0; i < 2_000; i += 50) {
      for (let j = i; j < i + 50; j++) conversation.send(get(id(j)));
      conversation.clock += 1_000;
      for (let j = i; j < i + 50; j++) conversation.send(rstStream(id(j)));
      conversation.frames();
    }
    expect(conversation.told().filter((line) => /abuse|failed/.test(line))).to.deep.equal([]);
  });

  const batch = (n: number, size = 100): Buffer => {
    const ids = Array.from({ length: size }, (_, i) => id(n * size + i));
    return Buffer.concat([...ids.map((streamId) => get(streamId)), ...ids.map((streamId) => rstStream(streamId))]);
  };
  const waits = (conversation: Conversation): string[] =>
    conversation.told().filter((line) => line.startsWith('read later'));

  it('where most are reset, as many as may be open are free, and the next wait until half of those are back', () => {
    const conversation = Conversation.open();
    conversation.send(batch(0), batch(1));
    expect(waits(conversation)).to.deep.equal([]);
    conversation.send(get(id(200)));
    // From where more than half have been reset.
    expect(waits(conversation)).to.deep.equal(['read later in 200 ms']);
    conversation.clock += 200;
    conversation.send(get(id(201)), rstStream(id(200)), rstStream(id(201)));
    expect(waits(conversation)).to.deep.equal([]);
  });

  it('so many may be reset in a while as may be open, whatever that is', () => {
    const conversation = Conversation.open({}, { maxConcurrentStreams: 10 });
    // Fifty say nothing yet, and ten are free; twenty are ten too many.
    for (let n = 0; n < 7; n++) conversation.send(batch(n, 10));
    expect(waits(conversation)).to.deep.equal([]);
    conversation.send(get(id(70)));
    expect(waits(conversation)).to.deep.equal(['read later in 300 ms']);
  });

  it('requests that we have to reset use them up, too', () => {
    const conversation = Conversation.open();
    const malformed = (i: number): Buffer => headers(id(i), request('GET', 'no-slash'), { endStream: true });
    conversation.send(...Array.from({ length: 151 }, (_, i) => malformed(i)));
    expect(waits(conversation)).to.deep.equal([]);
    conversation.send(malformed(151));
    expect(waits(conversation)).to.deep.equal(['read later in 102 ms']);
  });

  it('nothing waits where most are answered', () => {
    const conversation = Conversation.open();
    for (let n = 0; n < 4; n++) {
      for (let i = 0; i < 51; i++) {
        conversation.send(get(id(n * 100 + i)));
        conversation.respond(id(n * 100 + i), true);
      }
      for (let i = 51; i < 100; i++) conversation.send(get(id(n * 100 + i)), rstStream(id(n * 100 + i)));
    }
    expect(waits(conversation)).to.deep.equal([]);
  });

  it('what the application resets is its own business', () => {
    const conversation = Conversation.open({ request: (session, stream) => session.reset(stream, 8) });
    until(conversation, 5_000, (i) => get(id(i)));
    expect(conversation.told().filter((line) => /abuse|failed/.test(line))).to.deep.equal([]);
  });
});

describe('h2 session: floods of frames that serve no request share one budget', () => {
  const options: Partial<SessionOptions> = { floodBudget: 100 };
  const floods: [string, () => Buffer][] = [
    ['PING (CVE-2019-9512)', () => ping()],
    ['PING ACK', () => ping('abcdefgh', 1)],
    ['SETTINGS (CVE-2019-9515)', () => settings()],
    ['SETTINGS ACK', () => SETTINGS_ACK],
    ['PRIORITY (CVE-2019-9513)', () => frame(2, 0, 1, Buffer.alloc(5))],
    ['PRIORITY_UPDATE', () => priorityUpdate(1, 'u=1')],
    ['empty DATA (CVE-2019-9518)', () => data(1, '')],
    ['DATA of nothing but padding', () => data(1, '', { pad: 1 })],
    ['WINDOW_UPDATE of a stream (CVE-2019-9511)', () => windowUpdate(1, 1)],
    ['WINDOW_UPDATE of the connection', () => windowUpdate(0, 1)],
    ['RST_STREAM on a closed stream (CVE-2019-9514)', () => rstStream(3)],
    ['GOAWAY', () => goaway(0)],
    ['unknown frames', () => frame(0x77, 0, 0, Buffer.alloc(0))],
  ];
  for (const [name, bytes] of floods) {
    it(`${name}: ENHANCE_YOUR_CALM when the budget is used up`, () => {
      const conversation = Conversation.open({}, options);
      conversation.send(post(1), get(3), rstStream(3));
      conversation.frames();
      expect(until(conversation, 1_000, bytes)).to.be.within(90, 102);
      expect(conversation.told()).to.include(CALM);
    });
  }

  it('a SETTINGS frame costs by the settings in it', () => {
    const conversation = Conversation.open({}, options);
    conversation.send(settings(...Array.from({ length: 101 }, (_, i) => [4, i] as const)));
    expect(conversation.told()).to.deep.equal([CALM]);
  });

  it('the budget grows back with time', () => {
    const conversation = Conversation.open({}, options);
    for (let i = 0; i < 2_000; i++) {
      conversation.clock += 5;
      conversation.send(ping());
      conversation.frames();
    }
    expect(conversation.session.state).to.equal('open');
  });

  it('requests earn what clients send along with them', () => {
    const conversation = Conversation.open(
      {
        request: (session, stream) => {
          session.beginHeaders(stream, 200);
          session.endHeaders('none');
        },
      },
      options,
    );
    until(conversation, 2_000, (i) =>
      Buffer.concat([
        get(id(i)),
        ping(),
        windowUpdate(0, 1),
        windowUpdate(0, 1),
        windowUpdate(id(i), 1),
        frame(2, 0, 1, Buffer.alloc(5)),
      ]),
    );
    expect(conversation.session.state).to.equal('open');
  });

  it('DATA that we send earns the WINDOW_UPDATEs of a keen reader', () => {
    const conversation = Conversation.open({}, options);
    conversation.send(get(1));
    const stream = conversation.respond(1);
    for (let i = 0; i < 2_000; i++) {
      conversation.session.write(stream, Buffer.alloc(16_384));
      conversation.session.pump(16_384);
      conversation.frames();
      for (let j = 0; j < 4; j++) conversation.send(windowUpdate(1, 4_096), windowUpdate(0, 4_096));
    }
    expect(conversation.session.state).to.equal('open');
    expect(stream.bytesSent).to.equal(2_000 * 16_384);
  });

  it('messages of a few octets earn a PING and two WINDOW_UPDATEs each', () => {
    const conversation = Conversation.open({}, options);
    conversation.send(get(1));
    const stream = conversation.respond(1);
    for (let i = 0; i < 2_000; i++) {
      conversation.session.write(stream, Buffer.alloc(20));
      conversation.frames();
      conversation.send(ping(), windowUpdate(1, 20), windowUpdate(0, 20));
    }
    expect(conversation.session.state).to.equal('open');
  });

  it('a window of one octet at a time earns nothing (CVE-2019-9511, data dribble)', () => {
    const conversation = Conversation.open({}, options);
    conversation.send(settings([4, 0]), get(1));
    conversation.session.write(conversation.respond(1), Buffer.alloc(60_000));
    const taken = until(conversation, 10_000, () => {
      conversation.session.pump(65_536);
      return windowUpdate(1, 1);
    });
    expect(taken).to.be.within(90, 110);
  });
});

describe('h2 session: memory that a peer can fill', () => {
  it('output that is provoked and not read is bounded: PINGs', () => {
    const conversation = Conversation.open({}, { floodBudget: 1e9 });
    const burst = Buffer.concat(Array.from({ length: 1_000 }, () => ping()));
    while (conversation.session.state === 'open') conversation.session.receive(burst);
    expect(conversation.told()).to.deep.equal([CALM]);
    expect(conversation.session.output.size).to.be.within(1_048_576, 1_048_576 + 131_072 + 2_000);
  });

  it('output that is provoked and not read is bounded: response heads, with what the socket holds', () => {
    const conversation = Conversation.open({
      request: (session, stream) => {
        session.beginHeaders(stream, 200);
        session.field('x', String(stream.id).padStart(1_000, '~'));
        session.endHeaders('none');
      },
    });
    conversation.session.unsent = 500_000;
    let i = 0;
    while (conversation.session.state === 'open') conversation.session.receive(get(id(i++)));
    expect(conversation.session.output.size).to.be.below(1_048_576 + 131_072);
    expect(conversation.told().at(-1)).to.equal(CALM);
  });

  it('body bytes that a slow reader leaves waiting don’t count', () => {
    const conversation = Conversation.open();
    conversation.send(settings([4, 2 ** 31 - 1]), get(1));
    conversation.session.budget = 0;
    conversation.session.endWith(conversation.respond(1), Buffer.alloc(64 * 2 ** 20));
    conversation.send(ping(), get(3));
    expect(conversation.session.state).to.equal('open');
  });
});
