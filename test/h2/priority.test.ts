import { expect } from 'chai';
import { Conversation, get, PREFACE, priorityUpdate, settings, windowUpdate } from './script.js';

/** With its header it fills a TLS record. */
const FRAME = 16_375;

/** Streams 1, 3, 5… each with so many frames of body queued, and a priority field where given. */
function queued(frames: number, ...priorities: (string | undefined)[]): Conversation {
  const conversation = Conversation.open();
  conversation.send(settings([4, 10_000_000]), windowUpdate(0, 10_000_000));
  conversation.session.budget = 0;
  priorities.forEach((priority, i) => {
    const id = i * 2 + 1;
    conversation.send(priority === undefined ? get(id) : get(id, ['priority', priority]));
    conversation.session.endWith(conversation.respond(id), Buffer.alloc(frames * FRAME));
  });
  conversation.output();
  return conversation;
}

/** The streams of the next DATA frames. */
function order(conversation: Conversation, frames: number): number[] {
  conversation.session.pump(frames * FRAME);
  return conversation.frames().map((frame) => frame.streamId);
}

describe('h2 session: the order of DATA (RFC 9218)', () => {
  it('without signals, streams take fair turns by frame', () => {
    expect(order(queued(2, undefined, undefined, undefined), 6)).to.deep.equal([1, 3, 5, 1, 3, 5]);
  });

  it('turns go on where they stopped', () => {
    const conversation = queued(4, undefined, undefined, undefined);
    expect(order(conversation, 2)).to.deep.equal([1, 3]);
    expect(order(conversation, 2)).to.deep.equal([5, 1]);
    expect(order(conversation, 2)).to.deep.equal([3, 5]);
  });

  it('§4.1 a lower urgency value goes first', () => {
    expect(order(queued(2, 'u=5, i', 'u=1, i', undefined, 'u=0, i'), 8)).to.deep.equal([7, 7, 3, 3, 5, 5, 1, 1]);
  });

  it('§4.2 what is not incremental is sent one after the other, by stream', () => {
    const conversation = queued(2, 'u=3', 'u=3', 'u=3');
    expect(order(conversation, 6)).to.deep.equal([1, 1, 3, 3, 5, 5]);
  });

  it('§10 incremental and other streams of one urgency don’t starve each other', () => {
    expect(order(queued(2, 'u=3', 'u=3, i', 'u=3', 'u=3, i'), 8)).to.deep.equal([1, 3, 1, 7, 5, 3, 5, 7]);
  });

  it('a value that is longer than anybody needs is none', () => {
    const conversation = Conversation.open();
    const long = `u=0, ${'x'.repeat(252)}`;
    conversation.send(get(1, ['priority', long]), get(3), priorityUpdate(3, long));
    conversation.send(get(5, ['priority', 'u=0'], ['priority', `x=${'y'.repeat(250)}`]));
    expect([1, 3, 5].map((id) => conversation.stream(id).urgency)).to.deep.equal([3, 3, 3]);
    expect(conversation.session.state).to.equal('open');
  });

  it('§7.1 PRIORITY_UPDATE changes the order of streams that are waiting', () => {
    const conversation = queued(2, undefined, undefined);
    conversation.send(priorityUpdate(3, 'u=0'));
    expect(order(conversation, 4)).to.deep.equal([3, 3, 1, 1]);
  });

  it('§7.1 PRIORITY_UPDATE may come before its stream, and overrules the priority field', () => {
    const conversation = Conversation.open();
    conversation.send(priorityUpdate(3, 'u=0'), get(1), get(3, ['priority', 'u=7']), get(5));
    expect([1, 3, 5].map((id) => conversation.stream(id).urgency)).to.deep.equal([3, 0, 3]);
  });

  it('§7.1 PRIORITY_UPDATE for more streams than may be open is a PROTOCOL_ERROR', () => {
    const conversation = Conversation.open({}, { maxConcurrentStreams: 2 });
    conversation.send(get(1), priorityUpdate(3, 'u=0'), priorityUpdate(3, 'u=1'));
    expect(conversation.session.state).to.equal('open');
    conversation.send(priorityUpdate(5, 'u=0'));
    expect(conversation.told().at(-2)).to.equal('failed ERR_LASTCALL_H2_PROTOCOL');
  });

  it('§7.1 before the client knows our limit, PRIORITY_UPDATE for too many streams is ignored', () => {
    const conversation = new Conversation({}, { maxConcurrentStreams: 1 });
    conversation.send(
      PREFACE,
      settings(),
      priorityUpdate(1, 'u=0'),
      priorityUpdate(3, 'u=0'),
      priorityUpdate(5, 'u=0'),
    );
    expect(conversation.session.state).to.equal('open');
    conversation.send(get(1));
    expect(conversation.stream(1).urgency).to.equal(0);
  });

  it('§7.1 PRIORITY_UPDATE for a closed stream is ignored', () => {
    const conversation = Conversation.open();
    conversation.send(get(1));
    conversation.respond(1, true);
    conversation.send(priorityUpdate(1, 'u=0'));
    expect(conversation.session.state).to.equal('open');
  });

  const values: [string, number, boolean][] = [
    ['u=1', 1, false],
    ['i', 3, true],
    ['u=0,i', 0, true],
    [' i ,  u=7 ', 7, true],
    ['i=?0', 3, false],
    ['i=?1', 3, true],
    ['u=2;foo=bar, i;x', 2, true],
    ['u=8', 3, false],
    ['u=-1', 3, false],
    ['u=1.5', 3, false],
    ['x=y, u=2', 2, false],
    ['u=1, u=5', 5, false],
    ['', 3, false],
    ['"', 3, false],
  ];
  for (const [value, urgency, incremental] of values) {
    it(`§4 ${JSON.stringify(value)} is urgency ${urgency}${incremental ? ', incremental' : ''}`, () => {
      const conversation = Conversation.open();
      conversation.send(get(1), priorityUpdate(1, value));
      const stream = conversation.stream(1);
      expect([stream.urgency, stream.incremental]).to.deep.equal([urgency, incremental]);
    });
  }

  it('a stream that is blocked by its window leaves the turn to others, and comes back', () => {
    const conversation = queued(2, 'u=0', undefined);
    conversation.stream(1).sendWindow = FRAME;
    expect(order(conversation, 2)).to.deep.equal([1, 3]);
    conversation.send(windowUpdate(1, FRAME));
    expect(order(conversation, 2)).to.deep.equal([1, 3]);
  });

  it('a small response waits its turn rather than jump the queue', () => {
    const conversation = queued(2, undefined);
    conversation.session.budget = 1_000_000;
    conversation.send(get(3));
    conversation.session.endWith(conversation.respond(3), Buffer.from('x'));
    conversation.frames();
    expect(order(conversation, 3)).to.deep.equal([1, 3, 1]);
  });
});
