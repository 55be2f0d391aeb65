/**
 * What the server says on its streams: heads, bodies and trailers become frames here, within the peer's windows, in
 * turns. Receiving, the life of streams, and frames about the connection are `session.ts`.
 */

import { ErrorCode, H2Error } from './errors.js';
import type { Windows } from './flow.js';
import { Flag, FRAME_HEADER_SIZE, FrameType, MIN_MAX_FRAME_SIZE, putFrameHeader, writeFrameHeader } from './frames.js';
import type { Guard } from './guard.js';
import type { HpackEncoder } from './hpack/encoder.js';
import type { OutputBuffer } from './output.js';
import { Turns } from './priority.js';
import type { PeerSettings } from './settings.js';
import type { Framed, QueuedChunk, Rest, Stream } from './stream.js';

/**
 * Octets of DATA that a stream frames before the next has its turn, whatever larger frames the peer would take: with
 * its header, a frame fills one TLS record (RFC 8446 §5.1). Frames 9 octets longer would cost one small record more for
 * every write, and the peer a wait for the next record to see the end of each.
 */
const TURN = MIN_MAX_FRAME_SIZE - FRAME_HEADER_SIZE;

/** What sending tells the session. */
export interface SendEvents {
  /** END_STREAM has been framed; `state` is still what it was before (or closed, if a callback did that). */
  sentEnd(stream: Stream): void;
  /** The stream's queue is below its low-water mark again. */
  writable(stream: Stream): void;
}

export class Sender {
  /** Octets of DATA that may be framed now; the connection sets it. */
  budget = 0;
  /** Octets of DATA framed so far. */
  dataBytesSent = 0;

  readonly #out: OutputBuffer;
  readonly #encoder: HpackEncoder;
  readonly #connection: Windows;
  readonly #peer: PeerSettings;
  readonly #guard: Guard;
  readonly #events: SendEvents;
  readonly #highWaterMark: number;
  readonly #turns = new Turns();
  /** The stream whose field block is being encoded; undefined also while one for a closed stream is swallowed. */
  #headOf: Stream | undefined = undefined;

  constructor(
    out: OutputBuffer,
    encoder: HpackEncoder,
    connection: Windows,
    peer: PeerSettings,
    guard: Guard,
    events: SendEvents,
    highWaterMark: number,
  ) {
    this.#out = out;
    this.#encoder = encoder;
    this.#connection = connection;
    this.#peer = peer;
    this.#guard = guard;
    this.#events = events;
    this.#highWaterMark = highWaterMark;
  }

  /** Streams that could frame DATA, given budget. */
  get wantsPump(): boolean {
    return this.#turns.size > 0 && this.#connection.sendWindow > 0;
  }

  get turns(): Turns {
    return this.#turns;
  }

  // Field blocks

  informational(stream: Stream, status: number, fields: readonly string[]): void {
    if (stream.sending !== 'nothing') return;
    this.#beginBlock();
    this.#encoder.status(this.#out, status);
    this.#encodeAll(fields);
    this.#endBlock(stream.id, 0);
  }

  beginHeaders(stream: Stream, status: number): void {
    this.#headOf = undefined;
    if (stream.state === 'closed') return;
    if (stream.sending !== 'nothing') throw new Error(`stream ${stream.id} already has a response head`);
    this.#headOf = stream;
    // RFC 9110 §6.4.1; what answers a CONNECT is a tunnel, not a body
    if (status >= 300) stream.tunnel = false;
    if ((status === 204 || status === 304) && !stream.tunnel) stream.withoutBody = true;
    this.#beginBlock();
    this.#encoder.status(this.#out, status);
  }

  field(name: string, value: string): void {
    if (this.#headOf !== undefined) this.#encoder.field(this.#out, name, value);
  }

  /**
   * A response without a body ends with its head only where the application has ended it: the end is what its stream, its
   * request and its events go by.
   */
  endHeaders(rest: Rest): void {
    const stream = this.#headOf;
    if (stream === undefined) return;
    this.#headOf = undefined;
    stream.sending = 'body';
    if (rest === 'none' || (rest === 'said' && stream.withoutBody)) {
      this.#endBlock(stream.id, Flag.END_STREAM);
      this.#events.sentEnd(stream);
    } else {
      this.#endBlock(stream.id, 0);
    }
  }

  /** A response without content for a stream that never became one. */
  bareResponse(streamId: number, status: number): void {
    this.#beginBlock();
    this.#encoder.status(this.#out, status);
    this.#encoder.field(this.#out, 'content-length', '0');
    this.#endBlock(streamId, Flag.END_STREAM);
  }

  #beginBlock(): void {
    const out = this.#out;
    out.reserve(FRAME_HEADER_SIZE);
    out.hold();
    out.pos += FRAME_HEADER_SIZE;
    this.#encoder.begin(out);
  }

  #encodeAll(fields: readonly string[]): void {
    for (let i = 0; i + 1 < fields.length; i += 2) {
      this.#encoder.field(this.#out, fields[i] as string, fields[i + 1] as string);
    }
  }

  /** Patches the frame header; `flags` is 0 or END_STREAM. */
  #endBlock(streamId: number, flags: number): void {
    const out = this.#out;
    const start = out.held;
    const length = out.pos - start - FRAME_HEADER_SIZE;
    if (length <= this.#peer.maxFrameSize) {
      putFrameHeader(out.buf, start, length, FrameType.HEADERS, flags | Flag.END_HEADERS, streamId);
    } else {
      this.#split(streamId, flags, length);
    }
    out.release();
  }

  /** RFC 9113 §4.3: a block over the peer's SETTINGS_MAX_FRAME_SIZE goes on in CONTINUATION frames. */
  #split(streamId: number, flags: number, length: number): void {
    const out = this.#out;
    const size = this.#peer.maxFrameSize;
    const frames = Math.ceil(length / size);
    out.reserve((frames - 1) * FRAME_HEADER_SIZE);
    const { buf, held } = out;
    const begin = held + FRAME_HEADER_SIZE;
    // from the last fragment to the first, each moves up by the headers before it
    for (let i = frames - 1; i >= 0; i--) {
      const from = begin + i * size;
      const fragment = Math.min(size, length - i * size);
      const to = from + i * FRAME_HEADER_SIZE;
      if (i > 0) buf.copyWithin(to, from, from + fragment);
      const type = i === 0 ? FrameType.HEADERS : FrameType.CONTINUATION;
      const frameFlags = (i === 0 ? flags : 0) | (i === frames - 1 ? Flag.END_HEADERS : 0);
      putFrameHeader(buf, to - FRAME_HEADER_SIZE, fragment, type, frameFlags, streamId);
    }
    out.pos += (frames - 1) * FRAME_HEADER_SIZE;
  }

  // Bodies

  write(stream: Stream, chunk: Buffer, done: Framed | undefined): boolean {
    if (stream.sending !== 'body') {
      this.#refuse(stream, done);
      return true;
    }
    if ((chunk.length === 0 && stream.queuedBytes === 0) || stream.withoutBody) {
      done?.();
      return true;
    }
    if (this.#fitsNow(stream, chunk.length)) {
      this.#frame(stream, chunk, 0);
      done?.();
      return true;
    }
    this.#enqueue(stream, chunk, done);
    if (stream.queuedBytes <= this.#highWaterMark) return true;
    stream.needsDrain = true;
    return false;
  }

  endWith(stream: Stream, chunk: Buffer, done: Framed | undefined): void {
    if (stream.sending !== 'body') {
      this.#refuse(stream, done);
      return;
    }
    const hasBytes = chunk.length > 0 && !stream.withoutBody;
    if (hasBytes && this.#fitsNow(stream, chunk.length)) {
      this.#frame(stream, chunk, Flag.END_STREAM);
      stream.sending = 'ended';
      done?.();
      this.#events.sentEnd(stream);
      return;
    }
    if (hasBytes || stream.queuedBytes > 0) {
      this.#enqueue(stream, chunk, done);
      this.end(stream, undefined);
    } else {
      // What is done then may reset the stream: END_STREAM must be out before.
      this.end(stream, undefined);
      done?.();
    }
  }

  end(stream: Stream, trailers: readonly string[] | undefined): void {
    if (stream.sending === 'nothing') throw new Error(`stream ${stream.id} has no response head to end`);
    if (stream.sending !== 'body') return;
    stream.sending = 'ending';
    stream.trailers = stream.withoutBody ? undefined : trailers;
    if (stream.firstChunk === undefined) this.#finish(stream);
  }

  /** A closed stream's queue is dropped; each `done` learns why. */
  drop(stream: Stream, error: () => Error): void {
    this.#turns.remove(stream);
    if (this.#headOf === stream) this.#abandonBlock();
    let chunk = stream.firstChunk;
    stream.firstChunk = undefined;
    stream.lastChunk = undefined;
    stream.queuedBytes = 0;
    stream.firstOffset = 0;
    stream.needsDrain = false;
    stream.trailers = undefined;
    if (chunk === undefined) return;
    let reason: Error | undefined;
    for (; chunk !== undefined; chunk = chunk.next) {
      if (chunk.done === undefined) continue;
      reason ??= error();
      chunk.done(reason);
    }
  }

  /** The stream's window has changed. */
  windowChanged(stream: Stream): void {
    if (stream.sendWindow > 0 && stream.firstChunk !== undefined) this.#turns.add(stream);
    else this.#turns.remove(stream);
  }

  pump(budget: number): void {
    let left = budget;
    while (left > 0 && this.#connection.sendWindow > 0) {
      const stream = this.#turns.next();
      if (stream === undefined) return;
      left -= FRAME_HEADER_SIZE + this.#takeTurn(stream);
    }
  }

  /** Bytes for a stream that takes none: its head alone was the response, or it has been cut short. */
  #refuse(stream: Stream, done: Framed | undefined): void {
    if (stream.sending === 'nothing') throw new Error(`stream ${stream.id} has no response head yet`);
    if (done === undefined) return;
    if (stream.sending === 'ended') done();
    else done(new H2Error(ErrorCode.STREAM_CLOSED, `stream ${stream.id} takes no more of the response`, stream.id));
  }

  #fitsNow(stream: Stream, length: number): boolean {
    return (
      stream.firstChunk === undefined &&
      this.#turns.size === 0 &&
      length <= this.budget &&
      length <= stream.sendWindow &&
      length <= this.#connection.sendWindow
    );
  }

  /** Frames a whole chunk; `flags` go on its last frame. */
  #frame(stream: Stream, chunk: Buffer, flags: number): void {
    const out = this.#out;
    const { length } = chunk;
    let at = 0;
    while (length - at > TURN) {
      writeFrameHeader(out, TURN, FrameType.DATA, 0, stream.id);
      out.append(chunk.subarray(at, at + TURN));
      at += TURN;
    }
    writeFrameHeader(out, length - at, FrameType.DATA, flags, stream.id);
    out.append(at === 0 ? chunk : chunk.subarray(at));
    this.#count(stream, length);
    this.#guard.sent(length, true);
  }

  #count(stream: Stream, length: number): void {
    stream.sendWindow -= length;
    stream.bytesSent += length;
    this.#connection.sendWindow -= length;
    this.dataBytesSent += length;
    this.budget -= length;
  }

  #enqueue(stream: Stream, bytes: Buffer, done: Framed | undefined): void {
    const chunk: QueuedChunk = { bytes, done, next: undefined };
    if (stream.lastChunk === undefined) stream.firstChunk = chunk;
    else stream.lastChunk.next = chunk;
    stream.lastChunk = chunk;
    stream.queuedBytes += bytes.length;
    if (stream.sendWindow > 0) this.#turns.add(stream);
  }

  /** Frames the stream's next DATA and returns its length. */
  #takeTurn(stream: Stream): number {
    const length = Math.min(stream.queuedBytes, TURN, stream.sendWindow, this.#connection.sendWindow);
    const last = length === stream.queuedBytes;
    const ends = last && stream.sending === 'ending' && stream.trailers === undefined;
    const out = this.#out;
    writeFrameHeader(out, length, FrameType.DATA, ends ? Flag.END_STREAM : 0, stream.id);
    this.#count(stream, length);
    this.#guard.sent(length, last);
    stream.queuedBytes -= length;

    // Take out what is framed before any callback runs: it may write, end or reset.
    let framed: QueuedChunk | undefined;
    let left = length;
    const first = stream.firstChunk;
    let chunk = first;
    while (chunk !== undefined) {
      const { bytes } = chunk;
      const offset = stream.firstOffset;
      const rest = bytes.length - offset;
      if (rest > left) {
        if (left > 0) out.append(bytes.subarray(offset, offset + left));
        stream.firstOffset = offset + left;
        break;
      }
      if (rest > 0) out.append(offset === 0 ? bytes : bytes.subarray(offset));
      left -= rest;
      stream.firstOffset = 0;
      framed = chunk;
      chunk = chunk.next;
    }
    stream.firstChunk = chunk;
    if (chunk === undefined) stream.lastChunk = undefined;
    if (last || stream.sendWindow <= 0) this.#turns.remove(stream);

    if (ends) stream.sending = 'ended';
    if (framed !== undefined) {
      for (let done = first; done !== undefined; done = done === framed ? undefined : done.next) done.done?.();
    }
    if (ends) this.#events.sentEnd(stream);
    else if (stream.sending === 'ending' && stream.firstChunk === undefined) this.#finish(stream);
    if (stream.needsDrain && stream.sending === 'body' && stream.queuedBytes * 2 <= this.#highWaterMark) {
      stream.needsDrain = false;
      this.#events.writable(stream);
    }
    return length;
  }

  /** All body bytes are framed: what remains is the end. */
  #finish(stream: Stream): void {
    const { trailers } = stream;
    stream.sending = 'ended';
    if (trailers !== undefined) {
      stream.trailers = undefined;
      this.#beginBlock();
      this.#encodeAll(trailers);
      this.#endBlock(stream.id, Flag.END_STREAM);
    } else {
      writeFrameHeader(this.#out, 0, FrameType.DATA, Flag.END_STREAM, stream.id);
    }
    this.#events.sentEnd(stream);
  }

  /** A head was begun and its stream closed before it was complete: it still has to be sent, else HPACK is out of step. */
  #abandonBlock(): void {
    const stream = this.#headOf;
    if (stream === undefined) return;
    this.#headOf = undefined;
    this.#endBlock(stream.id, 0);
  }
}
