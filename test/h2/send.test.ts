import { expect } from 'chai';
import { Conversation, get, headers, ping, post, request, rstStream, settings, windowUpdate } from './script.js';

function requested(streams = 1): Conversation {
  const conversation = Conversation.open();
  for (let i = 0; i < streams; i++) conversation.send(get(i * 2 + 1));
  conversation.told();
  return conversation;
}

function endWithTrailers(conversation: Conversation): void {
  conversation.session.end(conversation.stream(1), ['x-sum', '1']);
}

describe('h2 session: responses (RFC 9113 §8.1)', () => {
  it('§8.1 head and body in one go end with END_STREAM on the DATA', () => {
    const conversation = requested();
    const { session } = conversation;
    const stream = conversation.stream(1);
    session.beginHeaders(stream, 200);
    session.field('content-type', 'text/plain');
    session.field('content-length', '5');
    session.endHeaders('open');
    session.endWith(stream, Buffer.from('hello'));
    expect(conversation.output()).to.deep.equal([
      'HEADERS 1 :status=200 content-type=text/plain content-length=5',
      'DATA 1 END_STREAM "hello"',
    ]);
    expect(conversation.told()).to.deep.equal(['closed 1']);
  });

  it('§8.1 an answer that ends without a body is complete before anyone is told, and may reset the rest of its request', () => {
    const conversation = Conversation.open();
    conversation.send(headers(1, request('POST')));
    const stream = conversation.respond(1);
    conversation.session.endWith(stream, Buffer.alloc(0), () => conversation.session.reset(stream, 0));
    expect(conversation.output()).to.deep.equal([
      'HEADERS 1 :status=200',
      'DATA 1 END_STREAM ""',
      'RST_STREAM 1 NO_ERROR',
    ]);
  });

  it('§8.1 interim responses come before the final one, and none after it', () => {
    const conversation = requested();
    const stream = conversation.stream(1);
    conversation.session.informational(stream, 100, []);
    conversation.session.informational(stream, 103, ['link', '</a.css>; rel=preload']);
    conversation.respond(1);
    conversation.session.informational(stream, 103, []);
    expect(conversation.output()).to.deep.equal([
      'HEADERS 1 :status=100',
      'HEADERS 1 :status=103 link=</a.css>; rel=preload',
      'HEADERS 1 :status=200',
    ]);
  });

  it('§8.1 trailers end a response, behind all of its body', () => {
    const conversation = requested();
    const { session } = conversation;
    session.budget = 0;
    const stream = conversation.respond(1);
    session.write(stream, Buffer.from('body'));
    session.end(stream, ['x-sum', '1']);
    expect(conversation.output()).to.deep.equal(['HEADERS 1 :status=200']);
    session.pump(100);
    expect(conversation.output()).to.deep.equal(['DATA 1 "body"', 'HEADERS 1 END_STREAM x-sum=1']);
    expect(conversation.told()).to.deep.equal(['closed 1']);
  });

  for (const [method, status] of [
    ['HEAD', 200],
    ['GET', 204],
    ['GET', 304],
  ] as const) {
    it(`the answer to ${method} with ${status} ends when it is ended; its body and its trailers go nowhere`, () => {
      const conversation = Conversation.open();
      conversation.send(headers(1, request(method), { endStream: true }));
      const { session } = conversation;
      const stream = conversation.respond(1, false, status);
      let done = 0;
      const count = (error?: Error): void => void (error === undefined && done++);
      expect(session.write(stream, Buffer.from('x'), count)).to.equal(true);
      expect(conversation.told()).not.to.include('closed 1');
      session.endWith(stream, Buffer.from('x'), count);
      session.end(stream, ['x-sum', '1']);
      expect(done).to.equal(2);
      expect(conversation.output()).to.deep.equal([`HEADERS 1 :status=${status}`, 'DATA 1 END_STREAM ""']);
      expect(conversation.told()).to.include('closed 1');
    });

    it(`the answer to ${method} with ${status} ends with its head when all of it is known; its trailers go nowhere`, () => {
      for (const end of [(it: Conversation) => it.session.endWith(it.stream(1), Buffer.from('x')), endWithTrailers]) {
        const conversation = Conversation.open();
        conversation.send(headers(1, request(method), { endStream: true }));
        const { session } = conversation;
        session.beginHeaders(conversation.stream(1), status);
        session.endHeaders('said');
        end(conversation);
        expect(conversation.output()).to.deep.equal([`HEADERS 1 END_STREAM :status=${status}`]);
      }
    });
  }

  it('§4.2, §6.10 a head over the client’s SETTINGS_MAX_FRAME_SIZE goes on in CONTINUATION', () => {
    for (const size of [16_384, 20_000]) {
      const conversation = requested();
      conversation.send(settings([5, size]));
      conversation.output();
      const { session } = conversation;
      session.beginHeaders(conversation.stream(1), 200);
      for (let i = 0; i < 50; i++) session.field(`x-${i}`, '~'.repeat(1_000));
      session.endHeaders('none');
      session.ping(Buffer.from('abcdefgh'));
      const frames = conversation.frames();
      const lengths = frames.map((frame) => frame.payload.length);
      const total = lengths.slice(0, -1).reduce((sum, length) => sum + length, 0);
      expect(lengths.slice(0, -2).every((length) => length === size)).to.equal(true);
      expect(total).to.be.greaterThan(50_000);
      expect(frames.map((frame) => [frame.type, frame.flags])).to.deep.equal([
        [1, 1],
        ...lengths.slice(1, -2).map(() => [9, 0]),
        [9, 4],
        [6, 0],
      ]);
    }
  });

  it('a continued head reads back whole', () => {
    const conversation = requested();
    const { session } = conversation;
    session.beginHeaders(conversation.stream(1), 200);
    const values = Array.from({ length: 40 }, (_, i) => String.fromCharCode(97 + (i % 26)).repeat(1_000 + i));
    values.forEach((value, i) => {
      session.field(`x-${i}`, value);
    });
    session.endHeaders('open');
    const lines = conversation.output();
    const expected = values.map((value, i) => `x-${i}=${value}`).join(' ');
    expect(lines.at(-1)).to.equal(`CONTINUATION 1 :status=200 ${expected}`);
  });

  it('§5.1 nothing but the reset is sent on a stream that was reset, whoever did it', () => {
    for (const by of ['peer', 'local']) {
      const conversation = requested();
      const { session } = conversation;
      session.budget = 0;
      const stream = conversation.respond(1);
      const errors: (Error | undefined)[] = [];
      session.write(stream, Buffer.from('queued'), (error) => errors.push(error));
      conversation.output();
      if (by === 'peer') conversation.send(rstStream(1));
      else session.reset(stream, 8);
      expect(errors).to.have.length(1);
      expect(errors[0]?.message).to.match(/^stream 1 was reset by the (peer|server): CANCEL$/);
      session.informational(stream, 103, []);
      session.beginHeaders(stream, 200);
      session.field('x', 'y');
      session.endHeaders('none');
      expect(session.write(stream, Buffer.from('x'), (error) => errors.push(error))).to.equal(true);
      session.endWith(stream, Buffer.from('x'), (error) => errors.push(error));
      session.end(stream, ['x', 'y']);
      session.reset(stream, 2);
      session.pump(1_000);
      expect(errors.every((error) => error !== undefined)).to.equal(true);
      expect(errors).to.have.length(3);
      expect(conversation.output()).to.deep.equal(by === 'peer' ? [] : ['RST_STREAM 1 CANCEL']);
      expect(conversation.told()).to.deep.equal([`reset 1 CANCEL ${by}`, 'closed 1']);
    }
  });

  it('a head for a closed stream leaves HPACK in step', () => {
    const conversation = requested(2);
    const { session } = conversation;
    conversation.send(rstStream(1));
    for (const id of [1, 3]) {
      session.beginHeaders(conversation.stream(id), 200);
      session.field('x-remember', 'me');
      session.endHeaders('none');
    }
    expect(conversation.output()).to.deep.equal(['HEADERS 3 END_STREAM :status=200 x-remember=me']);
  });

  it('a head that its stream doesn’t outlive is still sent, so that HPACK stays in step', () => {
    const conversation = requested(2);
    const { session } = conversation;
    session.beginHeaders(conversation.stream(1), 200);
    session.field('x-remember', 'me');
    session.reset(conversation.stream(1), 2);
    session.endHeaders('none');
    session.beginHeaders(conversation.stream(3), 200);
    session.field('x-remember', 'me');
    session.endHeaders('none');
    expect(conversation.output()).to.deep.equal([
      'HEADERS 1 :status=200 x-remember=me',
      'RST_STREAM 1 INTERNAL_ERROR',
      'HEADERS 3 END_STREAM :status=200 x-remember=me',
    ]);
  });

  it('a second head is a mistake of the caller’s', () => {
    const conversation = requested();
    const stream = conversation.respond(1);
    expect(() => conversation.session.beginHeaders(stream, 200)).to.throw(/already/);
  });
});

describe('h2 session: bodies', () => {
  it('a body goes out in frames of at most 16 KiB, by reference', () => {
    const conversation = requested();
    conversation.send(settings([4, 1_000_000], [5, 100_000]), windowUpdate(0, 1_000_000));
    conversation.output();
    const body = Buffer.alloc(40_000, 1);
    conversation.session.endWith(conversation.respond(1), body);
    const chunks = conversation.session.output.take();
    expect(chunks.some((chunk) => chunk.buffer === body.buffer && chunk.length === 16_375)).to.equal(true);
  });

  it('what a pump frames fills whole TLS records, one with each frame', () => {
    const conversation = requested();
    conversation.send(settings([4, 1_000_000]), windowUpdate(0, 1_000_000));
    const { session } = conversation;
    session.budget = 0;
    session.endWith(conversation.respond(1), Buffer.alloc(200_000));
    conversation.output();
    session.pump(65_536);
    expect(session.output.size).to.equal(4 * 16_384);
    expect(conversation.output()).to.deep.equal(new Array(4).fill('DATA 1 (16375)'));
  });

  it('DATA waits while the budget is used up; pump() frames it; done() tells when', () => {
    const conversation = requested();
    const { session } = conversation;
    session.budget = 5;
    const stream = conversation.respond(1);
    const done: string[] = [];
    session.write(stream, Buffer.from('12345'), () => done.push('first'));
    session.write(stream, Buffer.from('6'), () => done.push('second'));
    expect(done).to.deep.equal(['first']);
    expect(session.budget).to.equal(0);
    expect(session.wantsPump).to.equal(true);
    session.pump(1);
    expect(done).to.deep.equal(['first', 'second']);
    expect(session.wantsPump).to.equal(false);
    expect(conversation.output()).to.deep.equal(['HEADERS 1 :status=200', 'DATA 1 "12345"', 'DATA 1 "6"']);
    expect(session.dataBytesSent).to.equal(6);
  });

  it('small chunks that waited share frames', () => {
    const conversation = requested();
    const { session } = conversation;
    session.budget = 0;
    const stream = conversation.respond(1);
    for (const letter of 'abcdef') session.write(stream, Buffer.from(letter));
    session.write(stream, Buffer.alloc(0));
    session.end(stream);
    session.pump(100);
    expect(conversation.output().slice(1)).to.deep.equal(['DATA 1 END_STREAM "abcdef"']);
  });

  it('write() says false over the high-water mark, and writable() comes once at half of it', () => {
    const conversation = requested();
    const { session } = conversation;
    session.budget = 0;
    const stream = conversation.respond(1);
    expect(session.write(stream, Buffer.alloc(60_000))).to.equal(true);
    expect(session.write(stream, Buffer.alloc(5_000))).to.equal(true);
    expect(session.write(stream, Buffer.alloc(5_000))).to.equal(false);
    session.pump(16_384);
    session.pump(16_384);
    expect(conversation.told()).to.deep.equal([]);
    session.pump(16_384);
    expect(conversation.told()).to.deep.equal(['writable 1']);
    session.pump(16_384);
    expect(conversation.told()).to.deep.equal([]);
  });

  it('a write() from done() and from writable() goes behind what is queued', () => {
    const conversation: Conversation = Conversation.open(
      {
        writable: (session, stream) => session.endWith(stream, Buffer.from('end')),
      },
      { streamHighWaterMark: 0 },
    );
    conversation.send(get(1));
    const { session } = conversation;
    session.budget = 0;
    const stream = conversation.respond(1);
    session.write(stream, Buffer.from('a'), () => session.write(stream, Buffer.from('c')));
    session.write(stream, Buffer.from('b'));
    session.pump(100);
    session.pump(100);
    expect(conversation.output().slice(1).join()).to.match(/"ab".*"c.*end"/);
    expect(conversation.told().at(-1)).to.equal('closed 1');
  });

  it('a stream that resets itself from done() or closes the session is not sent on', () => {
    for (const act of ['reset', 'destroy'] as const) {
      const conversation = requested(2);
      const { session } = conversation;
      session.budget = 0;
      const stream = conversation.respond(1);
      const end = (): void => (act === 'reset' ? session.reset(stream, 2) : session.destroy());
      session.write(stream, Buffer.from('a'), end);
      session.end(stream);
      session.pump(100);
      expect(conversation.told().filter((line) => line === 'closed 1')).to.have.length(1);
    }
  });

  it('§5.1 a reset after END_STREAM has been framed sends nothing', () => {
    const conversation = requested();
    const { session } = conversation;
    const stream = conversation.respond(1);
    session.endWith(stream, Buffer.from('x'), () => session.reset(stream, 2));
    expect(conversation.output()).to.deep.equal(['HEADERS 1 :status=200', 'DATA 1 END_STREAM "x"']);
    expect(conversation.told()).to.deep.equal(['closed 1']);
  });

  it('an empty write() frames nothing and is done at once', () => {
    const conversation = requested();
    let done = 0;
    conversation.session.write(conversation.respond(1), Buffer.alloc(0), () => done++);
    expect(done).to.equal(1);
    expect(conversation.output()).to.deep.equal(['HEADERS 1 :status=200']);
  });

  it('endWith() of nothing ends the stream', () => {
    const conversation = requested();
    let done = 0;
    conversation.session.endWith(conversation.respond(1), Buffer.alloc(0), () => done++);
    expect(done).to.equal(1);
    expect(conversation.output()).to.deep.equal(['HEADERS 1 :status=200', 'DATA 1 END_STREAM ""']);
  });

  it('done() runs before closed()', () => {
    const order: string[] = [];
    const conversation: Conversation = Conversation.open({ closed: () => order.push('closed') });
    conversation.send(get(1), get(3));
    conversation.session.endWith(conversation.respond(1), Buffer.from('x'), () => order.push('done'));
    conversation.session.budget = 0;
    conversation.session.endWith(conversation.respond(3), Buffer.from('x'), () => order.push('done'));
    conversation.session.pump(10);
    expect(order).to.deep.equal(['done', 'closed', 'done', 'closed']);
  });

  it('a response may go on while the request does', () => {
    const conversation = Conversation.open({ data: (session, stream, chunk) => session.write(stream, chunk) });
    conversation.send(post(1));
    conversation.respond(1);
    conversation.send(ping());
    expect(conversation.output()).to.deep.equal(['HEADERS 1 :status=200', 'PING ACK abcdefgh']);
  });
});
