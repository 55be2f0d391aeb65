import { expect } from 'chai';
import fc from 'fast-check';
import { fuzzCase } from './fuzz.js';
import {
  block,
  Conversation,
  continuation,
  data,
  frame,
  goaway,
  headers,
  PREFACE,
  parseFrames,
  ping,
  priorityUpdate,
  type Reactions,
  request,
  rstStream,
  SETTINGS_ACK,
  settings,
  windowUpdate,
} from './script.js';

const streamId = fc.integer({ min: 0, max: 6 }).map((n) => n * 2 + 1);
const anyId = fc.oneof({ weight: 9, arbitrary: streamId }, { weight: 1, arbitrary: fc.integer({ min: 0, max: 20 }) });
const padding = fc.option(fc.integer({ min: 0, max: 255 }), { nil: undefined });
const octets = (maxLength: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ maxLength, size: 'max' }).map((bytes) => Buffer.from(bytes));
const pad = (length: number | undefined): { pad?: number } => (length === undefined ? {} : { pad: length });
const small = fc.integer({ min: 0, max: 70_000 });

/** Frames that a client may mean to send, legal where they are or not. */
const anyFrame: fc.Arbitrary<Buffer> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(streamId, fc.constantFrom('GET', 'POST', 'HEAD'), fc.boolean(), padding)
      .map(([id, method, endStream, length]) => headers(id, request(method), { endStream, ...pad(length) })),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(streamId, fc.nat(60), fc.boolean()).map(([id, cut, endStream]) => {
      const whole = block(request());
      const first = headers(id, whole.subarray(0, cut), { endStream, endHeaders: false });
      return Buffer.concat([first, continuation(id, whole.subarray(cut), true)]);
    }),
  },
  {
    weight: 6,
    arbitrary: fc
      .tuple(anyId, octets(300), fc.boolean(), padding)
      .map(([id, content, endStream, length]) => data(id, content, { endStream, ...pad(length) })),
  },
  { weight: 1, arbitrary: anyId.map((id) => headers(id, [['x-trailer', 'y']], { endStream: true })) },
  { weight: 1, arbitrary: fc.tuple(anyId, fc.nat(15)).map(([id, code]) => rstStream(id, code)) },
  { weight: 2, arbitrary: fc.tuple(anyId, small).map(([id, increment]) => windowUpdate(id, increment)) },
  {
    weight: 1,
    arbitrary: fc.array(fc.tuple(fc.nat(9), small), { maxLength: 3 }).map((pairs) => settings(...pairs)),
  },
  { weight: 1, arbitrary: fc.nat(1).map((flags) => ping('12345678', flags)) },
  { weight: 1, arbitrary: fc.constant(SETTINGS_ACK) },
  { weight: 1, arbitrary: fc.tuple(anyId, octets(9)).map(([id, debug]) => goaway(id, 0, debug.toString('latin1'))) },
  { weight: 1, arbitrary: anyId.map((id) => priorityUpdate(id, 'u=1')) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.nat(255), fc.nat(255), anyId, octets(30))
      .map(([type, flags, id, payload]) => frame(type, flags, id, payload)),
  },
);

/** Cuts bytes at the given fractions. */
function split(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const at = [...new Set(cuts.map((cut) => Math.floor(cut * bytes.length)))].sort((a, b) => a - b);
  return [0, ...at].map((from, i) => bytes.subarray(from, at[i] ?? bytes.length));
}

/** An application whose answers don't depend on how the body was cut. */
const APPLICATION: Reactions = {
  request(session, stream, head) {
    if (head.endStream || stream.id % 4 === 1) {
      session.beginHeaders(stream, 200);
      session.field('x-id', String(stream.id));
      session.endHeaders('open');
      session.endWith(stream, Buffer.alloc(stream.id * 3_000));
    }
  },
  data(session, stream, chunk) {
    session.consumed(stream, chunk.length);
  },
  end(session, stream, trailers) {
    if (stream.sending !== 'nothing') return;
    session.beginHeaders(stream, 200);
    session.endHeaders('open');
    session.end(stream, trailers);
  },
};

describe('h2 session: properties', () => {
  it('any split of the same bytes gives the same events and the same output', () => {
    fc.assert(
      fc.property(
        fc.array(anyFrame, { maxLength: 25, size: 'max' }),
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 40 }),
        fc.boolean(),
        (frames, cuts, byteByByte) => {
          const bytes = Buffer.concat([PREFACE, settings(), SETTINGS_ACK, ...frames]);
          const [whole, pieces] = [
            [bytes],
            byteByByte ? [...bytes].map((byte) => Buffer.from([byte])) : split(bytes, cuts),
          ].map((parts) => {
            const conversation = new Conversation(APPLICATION, { initialWindowSize: 300 });
            conversation.session.start();
            for (const part of parts) conversation.session.receive(part);
            conversation.session.pump(1_000_000);
            return {
              told: conversation.told(),
              output: Buffer.concat(conversation.session.output.take()).toString('latin1'),
            };
          });
          expect(pieces).to.deep.equal(whole);
        },
      ),
      { numRuns: 400 },
    );
  });

  it('whatever follows the preface, the session serves it or fails once, and its output is whole frames', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(anyFrame, octets(60)), { maxLength: 25, size: 'max' }), (parts) => {
        const conversation = Conversation.open(APPLICATION);
        for (const part of parts) conversation.session.receive(part);
        const told = conversation.told();
        const opened = told.filter((line) => line.startsWith('request')).length;
        expect(told.filter((line) => line.startsWith('failed'))).to.have.length(
          conversation.session.state === 'failed' ? 1 : 0,
        );
        conversation.session.destroy();
        const closed = [...told, ...conversation.told()].filter((line) => line.startsWith('closed'));
        expect(closed).to.have.length(opened);
        expect(new Set(closed).size).to.equal(opened);
        conversation.output();
      }),
      { numRuns: 400 },
    );
  });

  it('random clients of the fuzz find nothing', () => {
    for (let seed = 1; seed <= 2_000; seed++) fuzzCase(seed);
  }).timeout(20_000);
});

/** What a legal client and an application do, for the accounting. */
type Step =
  | { readonly kind: 'open' }
  | {
      readonly kind: 'upload' | 'padded' | 'read' | 'write' | 'widen';
      readonly stream: number;
      readonly octets: number;
    }
  | { readonly kind: 'initial' | 'widenAll' | 'pump'; readonly octets: number }
  | { readonly kind: 'reset' | 'cancel' | 'endUpload' | 'endResponse'; readonly stream: number };

const which = fc.nat(5);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('open' as const) }),
  fc.record({
    kind: fc.constantFrom('upload' as const, 'padded' as const, 'read' as const, 'write' as const, 'widen' as const),
    stream: which,
    octets: fc.oneof(fc.nat(100), fc.nat(40_000)),
  }),
  fc.record({
    kind: fc.constantFrom('initial' as const, 'widenAll' as const, 'pump' as const),
    octets: fc.nat(100_000),
  }),
  fc.record({
    kind: fc.constantFrom('reset' as const, 'cancel' as const, 'endUpload' as const, 'endResponse' as const),
    stream: which,
  }),
);

/** A client's own account of all windows, from what it sends and what it sees. */
class Ledger {
  readonly conversation = Conversation.open({}, { initialWindowSize: 100_000, connectionWindowSize: 200_000 });
  connectionUp = 200_000;
  connectionDown = 65_535;
  initialDown = 65_535;
  readonly up = new Map<number, number>();
  readonly down = new Map<number, number>();
  readonly uploading = new Set<number>();
  #next = 1;

  constructor() {
    this.conversation.session.budget = 0;
  }

  /** One of the streams that this client believes open. */
  pick(which: number): number | undefined {
    const ids = [...this.down.keys()];
    return ids[which % Math.max(1, ids.length)];
  }

  play(step: Step): void {
    const { conversation } = this;
    const { session } = conversation;
    switch (step.kind) {
      case 'open': {
        if (this.down.size >= 6) return;
        const id = this.#next;
        this.#next += 2;
        this.up.set(id, 100_000);
        this.down.set(id, this.initialDown);
        this.uploading.add(id);
        conversation.send(headers(id, request('POST')));
        if (session.streams.has(id)) conversation.respond(id);
        return;
      }
      case 'initial':
        for (const [id, window] of this.down) this.down.set(id, window + step.octets - this.initialDown);
        this.initialDown = step.octets;
        conversation.send(settings([4, step.octets]));
        return;
      case 'widenAll':
        this.connectionDown += step.octets + 1;
        conversation.send(windowUpdate(0, step.octets + 1));
        return;
      case 'pump':
        session.pump(step.octets);
        return;
      default:
        break;
    }
    const id = this.pick(step.stream);
    if (id === undefined) return;
    const stream = conversation.stream(id);
    switch (step.kind) {
      case 'upload':
      case 'padded': {
        const room = Math.min(this.connectionUp, this.up.get(id) ?? 0, 16_384);
        const padLength = step.kind === 'padded' ? 50 : -1;
        const length = Math.min(step.octets, room - padLength - 1);
        if (length <= 0 || !this.uploading.has(id)) return;
        const sent = length + padLength + 1;
        this.connectionUp -= sent;
        this.up.set(id, (this.up.get(id) ?? 0) - sent);
        conversation.send(data(id, Buffer.alloc(length), padLength < 0 ? {} : { pad: padLength }));
        return;
      }
      case 'read':
        session.consumed(stream, step.octets);
        return;
      case 'write':
        session.write(stream, Buffer.alloc(step.octets));
        return;
      case 'widen':
        this.down.set(id, (this.down.get(id) ?? 0) + step.octets + 1);
        conversation.send(windowUpdate(id, step.octets + 1));
        return;
      case 'reset':
        conversation.send(rstStream(id));
        this.#close(id);
        return;
      case 'cancel':
        session.reset(stream, 8);
        return;
      case 'endUpload':
        if (this.uploading.delete(id)) conversation.send(data(id, '', { endStream: true }));
        return;
      default:
        if (stream.sending === 'body') session.end(stream);
    }
  }

  #close(id: number): void {
    this.up.delete(id);
    this.down.delete(id);
    this.uploading.delete(id);
  }

  /** Reads the output into the account. */
  settle(): void {
    for (const { type, flags, streamId, payload } of parseFrames(
      Buffer.concat(this.conversation.session.output.take()),
    )) {
      if (type === 0) {
        this.connectionDown -= payload.length;
        this.down.set(streamId, (this.down.get(streamId) ?? 0) - payload.length);
        expect(this.connectionDown, 'connection window').to.be.at.least(0);
        if (payload.length > 0) expect(this.down.get(streamId), `window of stream ${streamId}`).to.be.at.least(0);
      }
      if (type === 8 && streamId === 0) this.connectionUp += payload.readUInt32BE(0);
      if (type === 8 && this.up.has(streamId)) {
        this.up.set(streamId, (this.up.get(streamId) ?? 0) + payload.readUInt32BE(0));
      }
      const ended = (type === 0 || type === 1) && (flags & 1) !== 0;
      if (type === 3 || (ended && !this.uploading.has(streamId))) this.#close(streamId);
    }
  }

  /** Both sides agree to the octet. */
  compare(): void {
    const { session } = this.conversation;
    expect(session.state).to.equal('open');
    expect(session.receiveWindow, 'what the client may send').to.equal(this.connectionUp);
    for (const stream of session.streams.values()) {
      const { id } = stream;
      expect(stream.sendWindow, `what stream ${id} may send`).to.equal(this.down.get(id));
      if (stream.receiving) {
        expect(stream.receiveWindow, `what stream ${id} may receive`).to.equal(this.up.get(id));
        // nothing gets lost: what isn't in the window is unread, or credit that waits
        expect(stream.receiveWindow + stream.unread + stream.credit).to.equal(100_000);
      }
    }
  }
}

describe('h2 session: flow-control accounting', () => {
  it('never drifts from the client’s own, whatever both do', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120, size: 'max' }), (steps) => {
        const ledger = new Ledger();
        for (const each of steps) {
          ledger.play(each);
          ledger.settle();
          ledger.compare();
        }
      }),
      { numRuns: 300 },
    );
  }).timeout(30_000);
});
