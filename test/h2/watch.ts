/**
 * A server behind a Session that does at random what applications do, and checks what must hold whatever a client
 * sends: the order of the handler's calls, and that the output is a legal conversation. For the fuzz and the
 * properties.
 */
import type { H2Error } from '../../src/h2/errors.js';
import { type RequestHead, Session, type SessionHandler, type SessionOptions } from '../../src/h2/session.js';
import type { Rest, Stream } from '../../src/h2/stream.js';
import type { Random } from '../wire/random.js';
import { parseFrames, type SentFrame } from './script.js';

type Heard = 'open' | 'ended' | 'reset' | 'closed';

/** What may come behind a head. */
const RESTS: readonly Rest[] = ['open', 'said', 'none'];

/** What has been sent on a stream: nothing, a head, END_STREAM, RST_STREAM. */
type Said = 'head' | 'ended' | 'reset';

function ensure(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`violated: ${what}`);
}

export class Watch implements SessionHandler {
  readonly session: Session;
  clock = 0;
  requests = 0;
  answered = 0;
  failedWith: H2Error | undefined = undefined;
  readonly #random: Random;
  readonly #heard = new Map<number, Heard>();
  readonly #said = new Map<number, Said>();
  /** Answered without ever being a request. */
  readonly #never = new Set<number>();
  readonly #unread = new Map<Stream, number>();
  #highest = 0;
  #goawayLast = 2 ** 31 - 1;
  /** The largest that the peer has allowed since the last check. */
  #largestFrame = 16_384;
  #continues = 0;
  #abuses = 0;

  constructor(random: Random, options: Partial<SessionOptions> = {}) {
    this.#random = random;
    this.session = new Session(this, { now: () => this.clock, ...options });
    this.session.start();
    this.#followFrameSize();
  }

  /** What has been framed may be as large as the peer allowed then; it may have lowered it within the same read. */
  #followFrameSize(): void {
    const { peerSettings } = this.session;
    let size = peerSettings.maxFrameSize;
    Object.defineProperty(peerSettings, 'maxFrameSize', {
      get: () => size,
      set: (value: number) => {
        size = value;
        this.#largestFrame = Math.max(this.#largestFrame, value);
      },
    });
  }

  /** Something that applications do between reads. */
  act(): void {
    const { session } = this;
    const random = this.#random;
    session.budget = random.chance(0.8) ? 65_536 : 0;
    for (const stream of session.streams.values()) if (random.chance(0.3)) this.#work(stream);
    if (session.wantsPump && random.chance(0.7)) session.pump(random.below(100_000));
    if (random.chance(0.01)) session.ping(Buffer.alloc(8));
    if (random.chance(0.01)) session.goaway(random.chance(0.5) ? 2 ** 31 - 1 : session.highestStreamId, 0, 'drain');
    this.clock += random.below(20);
  }

  /** Reads and checks the output. */
  check(): void {
    const { session } = this;
    const bytes = Buffer.concat(session.output.take());
    for (const frame of parseFrames(bytes)) this.#checkFrame(frame);
    this.#largestFrame = session.peerSettings.maxFrameSize;
    ensure(this.#continues === 0, 'a field block is complete at the end of a turn');
    let open = 0;
    for (const heard of this.#heard.values()) if (heard !== 'closed') open++;
    ensure(session.active === open, 'streams that were not told as closed are the active ones');
    if (session.state === 'failed')
      ensure(open === 0 && this.failedWith !== undefined, 'a failed session is told and empty');
  }

  /** The transport goes: nothing may be left. */
  finish(): void {
    this.session.destroy();
    this.check();
    for (const [id, heard] of this.#heard) ensure(heard === 'closed', `stream ${id} is closed in the end`);
    ensure(this.#heard.size === this.requests, 'a stream a request');
  }

  #work(stream: Stream): void {
    const { session } = this;
    const random = this.#random;
    const unread = this.#unread.get(stream) ?? 0;
    if (unread > 0) {
      const read = random.below(unread + 1);
      this.#unread.set(stream, unread - read);
      session.consumed(stream, read);
    }
    switch (random.below(8)) {
      case 0:
        session.informational(stream, 103, ['link', '</x>']);
        break;
      case 1:
        if (random.chance(0.2)) session.reset(stream, 8);
        break;
      case 2:
      case 3:
        if (stream.sending === 'nothing') {
          session.beginHeaders(stream, random.chance(0.1) ? 204 : 200);
          session.field('x-test', 'y'.repeat(random.below(50)));
          if (random.chance(0.02)) session.field('x-big', 'z'.repeat(20_000));
          session.endHeaders(RESTS[random.below(RESTS.length)] ?? 'open');
        }
        break;
      case 4:
      case 5:
        if (stream.sending === 'body')
          session.write(stream, Buffer.alloc(random.below(random.chance(0.2) ? 50_000 : 100)));
        break;
      case 6:
        if (stream.sending === 'body') session.end(stream, random.chance(0.3) ? ['x-sum', '1'] : undefined);
        break;
      default:
        if (stream.sending === 'body') session.endWith(stream, Buffer.alloc(random.below(200)));
    }
  }

  #live(stream: Stream, call: string): Heard {
    const heard = this.#heard.get(stream.id);
    ensure(heard !== undefined, `${call} of stream ${stream.id} only after its request`);
    ensure(heard !== 'closed', `${call} of stream ${stream.id} only before closed`);
    return heard;
  }

  request(stream: Stream, head: RequestHead): void {
    const { id } = stream;
    ensure((id & 1) === 1 && id > this.#highest, `stream ${id} is odd and the highest`);
    ensure(this.failedWith === undefined, 'no request after the failure');
    ensure(head.method !== '' && (head.method === 'CONNECT' || /^[/*]/.test(head.path)), 'a valid head');
    ensure(head.rawHeaders.length % 2 === 0, 'names and values');
    this.#highest = id;
    this.requests++;
    this.#heard.set(id, head.endStream ? 'ended' : 'open');
    while (this.#random.chance(0.5) && stream.state !== 'closed') this.#work(stream);
  }

  data(stream: Stream, chunk: Buffer): void {
    ensure(this.#live(stream, 'data') === 'open', `data of stream ${stream.id} before its end`);
    ensure(chunk.length > 0, 'a chunk is never empty');
    this.#unread.set(stream, (this.#unread.get(stream) ?? 0) + chunk.length);
    if (this.#random.chance(0.3)) this.#work(stream);
  }

  end(stream: Stream): void {
    ensure(this.#live(stream, 'end') === 'open', `one end of stream ${stream.id}`);
    this.#heard.set(stream.id, 'ended');
    while (this.#random.chance(0.5) && stream.state !== 'closed') this.#work(stream);
  }

  reset(stream: Stream): void {
    ensure(this.#live(stream, 'reset') !== 'reset', `one reset of stream ${stream.id}`);
    ensure(stream.state === 'closed', 'a reset stream is closed');
    this.#heard.set(stream.id, 'reset');
  }

  writable(stream: Stream): void {
    this.#live(stream, 'writable');
    if (this.#random.chance(0.5)) this.#work(stream);
  }

  closed(stream: Stream): void {
    this.#live(stream, 'closed');
    ensure(stream.state === 'closed', 'a stream told as closed is closed');
    ensure(!this.session.streams.has(stream.id), 'a closed stream is forgotten');
    if (stream.sending === 'ended') this.answered++;
    this.#heard.set(stream.id, 'closed');
    this.#unread.delete(stream);
  }

  malformed(streamId: number): void {
    ensure(!this.#heard.has(streamId), `malformed stream ${streamId} was no request`);
    this.#never.add(streamId);
  }

  refused(streamId: number): void {
    ensure(!this.#heard.has(streamId), `refused stream ${streamId} was no request`);
    this.#never.add(streamId);
  }

  pong(): void {}
  goaway(): void {}

  abuse(): void {
    ensure(++this.#abuses === 1, 'abuse is told once');
  }

  failed(error: H2Error): void {
    ensure(this.failedWith === undefined, 'one failure');
    ensure(error.message.length > 0 && /^ERR_LASTCALL_H2_/.test(error.code), 'an error with a code and a message');
    this.failedWith = error;
  }

  #checkFrame({ type, flags, streamId, payload }: SentFrame): void {
    ensure(payload.length <= this.#largestFrame, 'no frame over the limit');
    if (this.#continues !== 0) ensure(type === 9 && streamId === this.#continues, 'nothing within a field block');
    const said = this.#said.get(streamId);
    const endStream = (flags & 1) !== 0;
    switch (type) {
      case 0:
        ensure(said === 'head', `DATA of stream ${streamId} after its head and before its end`);
        if (endStream) this.#said.set(streamId, 'ended');
        break;
      case 1: {
        const known = this.#heard.has(streamId) || this.#never.has(streamId);
        ensure(known && (said === undefined || said === 'head'), `HEADERS of stream ${streamId} where they may be`);
        this.#said.set(streamId, endStream ? 'ended' : 'head');
        this.#continues = (flags & 4) === 0 ? streamId : 0;
        break;
      }
      case 3:
        ensure(payload.length === 4 && streamId !== 0, 'RST_STREAM has 4 octets and a stream');
        // once, but for frames on a stream that had been closed by END_STREAM or by the peer
        ensure(said !== 'reset' || payload.readUInt32BE(0) === 5, `one RST_STREAM of stream ${streamId}`);
        this.#said.set(streamId, 'reset');
        break;
      case 4:
        ensure(streamId === 0, 'SETTINGS on stream 0');
        break;
      case 6:
        ensure(payload.length === 8 && streamId === 0, 'PING has 8 octets');
        break;
      case 7: {
        const last = payload.readUInt32BE(0);
        ensure(last <= this.#goawayLast, 'the last-stream-id never rises');
        this.#goawayLast = last;
        break;
      }
      case 8: {
        const increment = payload.readUInt32BE(0);
        ensure(increment > 0 && increment < 2 ** 31, 'WINDOW_UPDATE in its range');
        ensure(streamId === 0 || said !== 'reset', `no WINDOW_UPDATE of stream ${streamId} after its reset`);
        break;
      }
      case 9:
        ensure(this.#continues === streamId, 'CONTINUATION within a field block');
        this.#continues = (flags & 4) === 0 ? streamId : 0;
        break;
      default:
        ensure(false, `no frames of type ${type}`);
    }
  }
}
