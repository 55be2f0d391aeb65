/**
 * A log of the frames of one server connection, taken from the decrypted bytes at the server's socket, and what it says
 * of how the server treated each stream. It shares nothing with src/h2.
 */
import type { Socket } from 'node:net';
import { describeFrame, Flag, type Frame, FrameReader, FrameType, PREFACE, readGoaway } from '../wire/h2-frames.js';

/** How far a stream came. */
interface StreamLog {
  readonly id: number;
  answered: boolean;
  /** The error code of the server's RST_STREAM. */
  resetByServer: number | undefined;
  resetByClient: boolean;
}

/** What became of the streams that a client opened on one connection, by the log. */
export interface Judgement {
  readonly streams: number;
  readonly answered: number;
  /** Reset by the client before the answer was complete. */
  readonly cancelled: number;
  /** The client closed the connection before the answer was complete. */
  readonly left: number;
  /** At or below the final last-stream-id, and not answered: the server's fault. */
  readonly unanswered: number;
  /** Above the final last-stream-id: the client was told by GOAWAY (and by RST_STREAM, if at all, with REFUSED_STREAM). */
  readonly above: number;
  /** What no server may do, in words. */
  readonly breaches: readonly string[];
}

const REFUSED_STREAM = 0x7;
const NO_ERROR = 0x0;

/** So many frames are kept for a report of what went wrong. */
const KEPT_LINES = 400;

export class FrameLog {
  readonly #streams = new Map<number, StreamLog>();
  readonly #received = new FrameReader();
  readonly #sent = new FrameReader();
  readonly #breaches: string[] = [];
  /** ms, `performance.now()`'s clock. */
  readonly openedAt = performance.now();
  #preface = 0;
  #lastStreamId: number | undefined;
  #goaways = 0;
  /** The client ended or broke the connection, and the server had not. */
  #clientLeft = false;
  /** The frames both ways, in readable lines. */
  readonly lines: string[] = [];
  readonly socket: Socket;

  /** To be called before anybody else reads from the socket or writes to it. */
  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (bytes: Buffer) => this.#receive(bytes));
    socket.on('end', () => this.#left('FIN'));
    socket.on('error', (error: NodeJS.ErrnoException) => this.#left(error.code ?? error.message));
    const write = socket.write;
    socket.write = ((chunk: Buffer | string, ...rest: unknown[]) => {
      this.#sent.push(typeof chunk === 'string' ? Buffer.from(chunk, 'latin1') : Buffer.from(chunk), (frame) =>
        this.#sentFrame(frame),
      );
      return Reflect.apply(write, socket, [chunk, ...rest]) as boolean;
    }) as typeof socket.write;
  }

  get goaways(): number {
    return this.#goaways;
  }

  /** What the log says now; to be asked when the connection is closed. */
  judge(): Judgement {
    const last = this.#lastStreamId ?? Number.POSITIVE_INFINITY;
    const breaches = [...this.#breaches];
    const counts = { answered: 0, cancelled: 0, left: 0, unanswered: 0, above: 0 };
    for (const { id, answered, resetByServer, resetByClient } of this.#streams.values()) {
      if (id > last) {
        counts.above += 1;
        if (answered) breaches.push(`stream ${id}, above the last-stream-id ${last}, was answered`);
        if (resetByServer !== undefined && resetByServer !== REFUSED_STREAM) {
          breaches.push(`stream ${id}, above the last-stream-id ${last}, was reset with error ${resetByServer}`);
        }
      } else if (answered) counts.answered += 1;
      else if (resetByClient) counts.cancelled += 1;
      else if (resetByServer === undefined && this.#clientLeft) counts.left += 1;
      else counts.unanswered += 1;
    }
    return { streams: this.#streams.size, ...counts, breaches };
  }

  #receive(bytes: Buffer): void {
    let rest = bytes;
    if (this.#preface < PREFACE.length) {
      const length = Math.min(rest.length, PREFACE.length - this.#preface);
      this.#preface += length;
      rest = rest.subarray(length);
    }
    // The reader keeps what is incomplete, and the buffer is not ours.
    this.#received.push(Buffer.from(rest), (frame) => this.#receivedFrame(frame));
  }

  #receivedFrame(frame: Frame): void {
    this.#note('<', frame);
    const { type, streamId } = frame;
    if (type === FrameType.HEADERS && !this.#streams.has(streamId)) {
      this.#streams.set(streamId, { id: streamId, answered: false, resetByServer: undefined, resetByClient: false });
    } else if (type === FrameType.RST_STREAM) {
      const stream = this.#streams.get(streamId);
      if (stream !== undefined && stream.resetByServer === undefined) stream.resetByClient = true;
    }
  }

  #sentFrame(frame: Frame): void {
    this.#note('>', frame);
    const { type, flags, streamId } = frame;
    if (type === FrameType.GOAWAY) {
      const { lastStreamId, errorCode } = readGoaway(frame);
      this.#goaways += 1;
      if (this.#lastStreamId !== undefined && lastStreamId > this.#lastStreamId) {
        this.#breaches.push(`the last-stream-id rose from ${this.#lastStreamId} to ${lastStreamId}`);
      }
      if (errorCode !== NO_ERROR) this.#breaches.push(`GOAWAY with error ${errorCode}: ${readGoaway(frame).debug}`);
      this.#lastStreamId = lastStreamId;
      return;
    }
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    if (type === FrameType.RST_STREAM && !stream.answered) stream.resetByServer = frame.payload.readUInt32BE(0);
    const carries = type === FrameType.DATA || type === FrameType.HEADERS;
    if (carries && (flags & Flag.END_STREAM) !== 0) stream.answered = true;
  }

  #left(how: string): void {
    // Whoever half-closes first with answers missing is the one to blame.
    if (!this.socket.writableEnded) this.#clientLeft = true;
    this.#line(`< ${how}`);
  }

  #note(direction: '<' | '>', frame: Frame): void {
    this.#line(`${direction} ${describeFrame(frame)}`);
  }

  #line(text: string): void {
    if (this.lines.length >= KEPT_LINES) this.lines.shift();
    this.lines.push(`${(performance.now() - this.openedAt).toFixed(1).padStart(8)} ${text}`);
  }
}
