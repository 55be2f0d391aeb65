/**
 * The protocol core of one HTTP/2 connection, server side and sans-I/O: bytes in, calls of a handler, bytes out. No
 * socket, no timer and no clock of its own. This file is its surface; frames are understood in `inbound.ts`, streams
 * live in `lifecycle.ts`, responses are framed in `send.ts`.
 */

import type { Limit } from '../core/limits.js';
import type { H2Error } from './errors.js';
import type { RequestHead } from './fields.js';
import { DEFAULT_WINDOW } from './flow.js';
import { MAX_STREAM_ID, writePing, writeSettings, writeWindowUpdate } from './frames.js';
import { Inbound } from './inbound.js';
import { Lifecycle, type SessionState } from './lifecycle.js';
import type { OutputBuffer } from './output.js';
import { FrameReader, type Pace, UNPACED } from './receive.js';
import { localSettings, type PeerSettings, type SessionOptions, withDefaults } from './settings.js';
import type { Framed, Rest, Stream } from './stream.js';

export { RequestHead } from './fields.js';
export type { SessionState } from './lifecycle.js';
export type { SessionOptions } from './settings.js';

/** What a session tells the connection. Each call may call back into the session at once, except `receive`; none may throw. */
export interface SessionHandler {
  /** A complete, valid request head. */
  request(stream: Stream, head: RequestHead): void;
  /** What was put off for what might be read next is to be done: all has been read, or DATA, trailers or a failure is next. */
  handOver?(): void;
  /**
   * Some of the request's body, never empty: a view into the received bytes, valid during the call. After the response
   * has ended it goes on for at most `maxDiscard` octets, which need not be consumed.
   */
  data(stream: Stream, chunk: Buffer): void;
  /** The request is complete. Not called when `head.endStream` said so already. */
  end(stream: Stream, trailers: string[] | undefined): void;
  /** The response is complete, END_STREAM framed, while the request goes on. Else `closed` tells. */
  sentEnd?(stream: Stream): void;
  /** The stream has ended abnormally: RST_STREAM received, or sent for a stream error or by {@link Session.reset}. */
  reset(stream: Stream, errorCode: number, by: 'peer' | 'local'): void;
  /** The stream's queue is at most half full, after {@link Session.write} had returned false. */
  writable(stream: Stream): void;
  /**
   * Exactly once for each `request`, as the last call of its life: both sides are complete, or it was reset, or the
   * session has ended. It comes within the call that closes the stream.
   */
  closed(stream: Stream): void;
  /** A request that never became one was answered with RST_STREAM, or with 431. */
  malformed(streamId: number, why: string): void;
  /** A stream was answered with REFUSED_STREAM: over the concurrency limit, or above our final last-stream-id. */
  refused(streamId: number): void;
  /** The ACK of a PING: 8 octets from `start`, which are there during the call only. */
  pong(bytes: Buffer, start: number): void;
  /** The peer's GOAWAY. */
  goaway(lastStreamId: number, errorCode: number): void;
  /**
   * The peer opens streams to reset them: time to drain this connection. Called once; if it goes on, the session fails
   * with ENHANCE_YOUR_CALM.
   */
  abuse(kind: 'resets'): void;
  /** What the peer sends next should be read in so many ms: it resets what it opens, and has others work for nobody. */
  readLater?(ms: number): void;
  /** A limit has fired; what became of it is told by the other calls. */
  limited?(limit: Limit): void;
  /** A connection error of the peer's. The GOAWAY is in the output; nothing more is read; each open stream is closed next. */
  failed(error: H2Error): void;
}

/** The streams that are open or half-closed. */
export interface OpenStreams {
  readonly size: number;
  get(id: number): Stream | undefined;
  has(id: number): boolean;
  values(): Stream[];
}

/** One HTTP/2 connection. */
export class Session {
  /** Bytes for the peer, to be taken and written once a turn. */
  readonly output: OutputBuffer;
  readonly #life: Lifecycle;
  readonly #reader: FrameReader;

  constructor(handler: SessionHandler, options: SessionOptions) {
    const limits = withDefaults(options);
    const life = new Lifecycle(handler, limits);
    const reader = new FrameReader(new Inbound(life), limits.maxFrameSize, limits.maxContinuations);
    life.stopReading = () => reader.stop();
    this.#life = life;
    this.#reader = reader;
    this.output = life.out;
  }

  /** Puts our SETTINGS and the connection's WINDOW_UPDATE in the output. To be called once, before anything else. */
  start(): void {
    const { limits, out } = this.#life;
    writeSettings(out, localSettings(limits));
    const increment = limits.connectionWindowSize - DEFAULT_WINDOW;
    if (increment > 0) writeWindowUpdate(out, 0, increment);
  }

  /**
   * Reads what the peer sent, bytes[0..end). Any split of the same bytes gives the same result, but for the moments of
   * `handOver`. They need not be there after the call.
   *
   * @param pace when to stop (default: never)
   * @returns how many octets were read: fewer than all once the pace says so. The rest has to come again.
   */
  receive(bytes: Buffer, end = bytes.length, pace: Pace = UNPACED): number {
    const life = this.#life;
    life.now = life.limits.now();
    pace.begins(life.now);
    const read = this.#reader.receive(bytes, end, pace);
    life.handler.handOver?.();
    pace.spent();
    return read;
  }

  // State

  get state(): SessionState {
    return this.#life.state;
  }
  /** The client's preface and its first SETTINGS have been read. */
  get prefaceComplete(): boolean {
    return this.#life.state === 'open';
  }
  /** When the peer acknowledged our SETTINGS, on the session's clock; `Infinity`: not yet. */
  get settingsAckedAt(): number {
    return this.#life.settingsAckedAt;
  }
  /** The highest stream that was handed to the application (or answered in its place). */
  get highestStreamId(): number {
    return this.#life.highestStreamId;
  }
  /** `values()` is a snapshot: streams may be closed while it is walked. */
  get streams(): OpenStreams {
    return this.#life.streams;
  }
  /** Streams that are open or half-closed. */
  get active(): number {
    return this.#life.streams.size;
  }
  get peerSettings(): PeerSettings {
    return this.#life.peer;
  }
  /** Octets of DATA that the peer may send, on all streams together. */
  get receiveWindow(): number {
    return this.#life.connection.receiveWindow;
  }
  /** A field block has begun and is not complete. */
  get midBlock(): boolean {
    return this.#reader.midBlock;
  }

  /** A request may have begun, of which only a part has been read. */
  get midRequest(): boolean {
    return this.#reader.midRequest;
  }
  /** Octets of DATA framed so far. */
  get dataBytesSent(): number {
    return this.#life.sender.dataBytesSent;
  }
  /** Some stream has queued data, and the windows let it go. */
  get wantsPump(): boolean {
    return this.#life.sender.wantsPump;
  }
  /** Octets of DATA that write() may frame at once; the connection sets it, framing lowers it. */
  get budget(): number {
    return this.#life.sender.budget;
  }
  set budget(octets: number) {
    this.#life.sender.budget = octets;
  }
  /** Octets taken from the output that the socket has not written out; the connection sets it. */
  get unsent(): number {
    return this.#life.unsent;
  }
  set unsent(octets: number) {
    this.#life.unsent = octets;
  }

  // Responses. Names are lower-case and values valid: the response layer has checked. On a closed stream all of these
  // do nothing, so that nobody has to know first.

  /** An interim response (1xx): `fields` is name, value… (RFC 9113 §8.1) */
  informational(stream: Stream, status: number, fields: readonly string[]): void {
    this.#life.sender.informational(stream, status, fields);
  }

  /** Begins the final response head: {@link field} and {@link endHeaders} follow, and nothing else in between. */
  beginHeaders(stream: Stream, status: number): void {
    this.#life.sender.beginHeaders(stream, status);
  }

  field(name: string, value: string): void {
    this.#life.sender.field(name, value);
  }

  /** Completes the head, and with it the response, if nothing comes behind it, or nothing may: after HEAD, in a 204 or 304. */
  endHeaders(rest: Rest): void {
    this.#life.sender.endHeaders(rest);
  }

  /**
   * Sends body bytes: framed at once when windows, turns and {@link budget} allow it, else queued for {@link pump}.
   *
   * @param chunk not to be changed any more; from 4 KiB on it is not copied
   * @param done called once the chunk is framed, or with an error when it never will be
   * @returns false when over `streamHighWaterMark` octets are queued: wait for the handler's `writable`
   */
  write(stream: Stream, chunk: Buffer, done?: Framed): boolean {
    return this.#life.sender.write(stream, chunk, done);
  }

  /** {@link write} and {@link end} in one: the last bytes and END_STREAM share a frame. */
  endWith(stream: Stream, chunk: Buffer, done?: Framed): void {
    this.#life.sender.endWith(stream, chunk, done);
  }

  /** Ends the response behind what is queued. `trailers` is name, value… */
  end(stream: Stream, trailers?: readonly string[]): void {
    this.#life.sender.end(stream, trailers);
  }

  /** RST_STREAM; what is queued is dropped. */
  reset(stream: Stream, errorCode: number): void {
    this.#life.reset(stream, errorCode);
  }

  /** The application has read `bytes` octets of the request's body: the peer may send more of this stream. */
  consumed(stream: Stream, bytes: number): void {
    this.#life.consumed(stream, bytes);
  }

  // The connection

  /** Sends a PING; its ACK comes to the handler's `pong`. `opaque` is 8 octets. */
  ping(opaque: Buffer): void {
    if (opaque.length !== 8) throw new RangeError(`a PING carries 8 octets, not ${opaque.length}`);
    if (!this.#life.ended) writePing(this.output, 0, opaque, 0);
  }

  /**
   * Sends GOAWAY. With 2^31-1 it announces; with anything less, streams above are refused from now on. The
   * last-stream-id that is sent never rises. (RFC 9113 §6.8)
   */
  goaway(lastStreamId: number, errorCode: number, debug = ''): void {
    this.#life.goaway(Math.min(lastStreamId, MAX_STREAM_ID), errorCode, debug);
  }

  /** Frames queued DATA in turns, until `budget` octets are used up, headers included; the last frame may go beyond. */
  pump(budget: number): void {
    this.#life.sender.pump(budget);
  }

  /** The transport is gone: every open stream is closed, and nothing is read any more. */
  destroy(): void {
    this.#life.destroy();
  }
}
