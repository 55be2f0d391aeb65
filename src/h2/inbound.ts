/**
 * What each received frame means, RFC 9113 §5 and §6: for a stream in its state, for the windows, for the settings.
 * Frames come whole from `receive.ts`; what ends a stream or the session is carried out by `lifecycle.ts`.
 */

import { ErrorCode } from './errors.js';
import { readRequest, readTrailers } from './fields.js';
import { DEFAULT_WINDOW, spend, takeCredit, widen } from './flow.js';
import { Flag, readUint32, writePing, writeSettingsAck, writeWindowUpdate } from './frames.js';
import { HpackDecoder } from './hpack/decoder.js';
import { HpackError } from './hpack/error.js';
import type { Lifecycle } from './lifecycle.js';
import { LONGEST_PRIORITY, type Priority, parsePriority, setPriority } from './priority.js';
import type { FrameSink } from './receive.js';
import { applySetting, DEFAULT_HEADER_TABLE_SIZE, SettingId } from './settings.js';
import { Stream } from './stream.js';

/** A field list is as much work as another request for each so many octets; a field by itself, as so many octets. */
const OCTETS_PER_WORK = 8_192;
const OCTETS_PER_FIELD = 32;
/** So are answers that are given at once: what a client can't have read yet must not be held against it. */
const OCTETS_OUT_PER_WORK = 4_096;

export class Inbound implements FrameSink {
  readonly #life: Lifecycle;
  readonly #decoder = new HpackDecoder(DEFAULT_HEADER_TABLE_SIZE);
  /** The field section being read. */
  #fields: string[] = [];
  // the DATA frame under way
  #endStream = false;
  #overhead = 0;
  /** Priorities of streams that are still idle. (RFC 9218 §7) */
  #early: Map<number, Priority> | undefined = undefined;

  constructor(life: Lifecycle) {
    this.#life = life;
  }

  fault(errorCode: number, message: string): void {
    const calm = errorCode === ErrorCode.ENHANCE_YOUR_CALM;
    this.#life.fail(errorCode, message, calm ? 'continuations' : 'protocolErrors');
  }

  // DATA (RFC 9113 §6.1)

  dataBegin(streamId: number, flags: number, length: number, dataLength: number): void {
    const life = this.#life;
    const { connection } = life;
    life.midData = undefined;
    // Whatever becomes of the frame, it counts. (RFC 9113 §6.9)
    if (!spend(connection, length)) {
      life.fail(ErrorCode.FLOW_CONTROL_ERROR, 'DATA exceeds the flow-control window of the connection');
      return;
    }
    connection.credit += length;
    const increment = takeCredit(connection, life.limits.connectionWindowSize);
    if (increment > 0) writeWindowUpdate(life.out, 0, increment);

    const endStream = (flags & Flag.END_STREAM) !== 0;
    if (dataLength === 0 && !endStream) life.spend(1);
    if (life.ended) return;
    const stream = life.streams.get(streamId);
    if (stream === undefined) {
      this.#lateData(streamId, endStream);
    } else if (!stream.receiving) {
      life.streamError(stream, ErrorCode.STREAM_CLOSED);
    } else if (!spend(stream, length)) {
      life.streamError(stream, ErrorCode.FLOW_CONTROL_ERROR);
    } else if (stream.contentLength >= 0 && stream.bytesReceived + dataLength > stream.contentLength) {
      life.streamError(stream, ErrorCode.PROTOCOL_ERROR);
    } else if (this.#handedOver(stream)) {
      this.#beginData(stream, endStream, length, dataLength);
    }
  }

  /** Hands over what was put off: what comes next is the application's. `false`: it has ended the stream at once. */
  #handedOver(stream: Stream): boolean {
    this.#life.handler.handOver?.();
    return stream.state !== 'closed';
  }

  #beginData(stream: Stream, endStream: boolean, length: number, dataLength: number): void {
    const life = this.#life;
    if (isDiscarding(stream)) {
      if (dataLength > stream.discardLeft && !endStream) {
        life.stopRequest(stream);
        return;
      }
      stream.discardLeft -= dataLength;
    }
    life.midData = stream;
    this.#endStream = endStream;
    this.#overhead = length - dataLength;
  }

  dataChunk(bytes: Buffer, start: number, end: number): void {
    const life = this.#life;
    const stream = life.midData;
    if (stream === undefined || stream.state === 'closed') return;
    stream.bytesReceived += end - start;
    if (isDiscarding(stream)) stream.credit += end - start;
    else stream.unread += end - start;
    life.handler.data(stream, bytes.subarray(start, end));
  }

  dataEnd(): void {
    const life = this.#life;
    const stream = life.midData;
    life.midData = undefined;
    if (stream === undefined || stream.state === 'closed') return;
    if (!this.#endStream) {
      // nobody reads padding
      stream.credit += this.#overhead;
      life.credit(stream);
    } else if (stream.contentLength >= 0 && stream.bytesReceived !== stream.contentLength) {
      life.streamError(stream, ErrorCode.PROTOCOL_ERROR);
    } else {
      life.receivedEnd(stream, undefined);
    }
  }

  /** DATA on a stream that isn't open. */
  #lateData(streamId: number, endStream: boolean): void {
    const life = this.#life;
    if (life.isIdle(streamId)) {
      life.fail(ErrorCode.PROTOCOL_ERROR, `DATA on idle stream ${streamId}`);
    } else if (streamId > life.goawayLast) {
      return;
    } else if (life.closed.wasReset(streamId)) {
      if (endStream) life.closed.forgetReset(streamId);
    } else if (life.closed.wasSkipped(streamId)) {
      life.fail(ErrorCode.PROTOCOL_ERROR, `DATA on stream ${streamId}, which has been passed over`);
    } else {
      life.closedStreamError(streamId, endStream);
    }
  }

  // HEADERS and CONTINUATION (RFC 9113 §6.2, §8.1)

  headers(streamId: number, flags: number, bytes: Buffer, start: number, end: number): number {
    const life = this.#life;
    const { limits } = life;
    // Of the answer to this one nothing can have been read yet.
    life.checkOutput();
    if (life.ended) return 0;
    if ((streamId & 1) === 0) {
      life.fail(ErrorCode.PROTOCOL_ERROR, `HEADERS on stream ${streamId}, which is not for a client to open`);
      return 0;
    }
    // Emptying the last list would cost more: V8 leaves that to its runtime.
    const fields: string[] = [];
    this.#fields = fields;
    const before = life.out.size;
    let size: number;
    try {
      size = this.#decoder.decode(bytes, start, end, fields, limits.maxHeaderListSize, limits.maxHeaderFields);
    } catch (error) {
      if (!(error instanceof HpackError)) throw error;
      life.fail(ErrorCode.COMPRESSION_ERROR, error.message);
      return 0;
    }
    const count = this.#decoder.fieldCount;
    let tooLarge: string | undefined;
    if (size > limits.maxHeaderListSize) {
      tooLarge = `header list of ${count3(size)} bytes is over maxHeaderListSize (${count3(limits.maxHeaderListSize)})`;
    } else if (count > limits.maxHeaderFields) {
      tooLarge = `header list of ${count3(count)} fields is over maxHeaderFields (${count3(limits.maxHeaderFields)})`;
    }
    const endStream = (flags & Flag.END_STREAM) !== 0;
    if (streamId > life.lastStreamId) {
      this.#open(streamId, endStream, size, tooLarge);
    } else {
      const stream = life.streams.get(streamId);
      if (stream === undefined) this.#lateHeaders(streamId, endStream);
      else this.#trailers(stream, endStream, tooLarge);
    }
    const octets = Math.min(size, limits.maxHeaderListSize) + count * OCTETS_PER_FIELD;
    return 1 + octets / OCTETS_PER_WORK + Math.max(0, life.out.size - before) / OCTETS_OUT_PER_WORK;
  }

  #open(streamId: number, endStream: boolean, size: number, tooLarge: string | undefined): void {
    const life = this.#life;
    const { limits } = life;
    if (streamId > life.lastStreamId + 2) {
      life.closed.addSkipped(life.lastStreamId === 0 ? 1 : life.lastStreamId + 2, streamId - 2);
    }
    life.lastStreamId = streamId;
    const early = this.#early === undefined ? undefined : this.#takeEarly(streamId);
    // As much work as a request, and no more; charging it would cut those that were accepted before.
    if (streamId > life.goawayLast) {
      life.refuse(streamId, true, 0);
      return;
    }
    if (life.streams.size >= limits.maxConcurrentStreams) {
      life.limited('maxConcurrentStreams');
      life.refuse(streamId, endStream, life.settingsAcked ? 1 : 0);
      return;
    }
    if (tooLarge !== undefined) {
      life.headerListTooLarge(streamId, endStream, tooLarge, size / OCTETS_PER_WORK);
      return;
    }
    const head = readRequest(this.#fields, this.#decoder.kinds, endStream, limits.enableConnectProtocol);
    if (typeof head === 'string') {
      life.malformed(streamId, endStream, head);
      return;
    }
    life.highestStreamId = streamId;
    const window = life.settingsAcked ? limits.initialWindowSize : Math.max(limits.initialWindowSize, DEFAULT_WINDOW);
    const { method } = head;
    const stream = new Stream(
      streamId,
      method === 'CONNECT',
      method === 'HEAD',
      head.contentLength,
      life.now,
      life.peer.initialWindowSize,
      window,
    );
    if (endStream) stream.endRemote();
    const priority = early ?? (head.priority === undefined ? undefined : parsePriority(head.priority));
    if (priority !== undefined) setPriority(stream, priority, life.sender.turns);
    life.streams.add(stream);
    life.opened();
    life.handler.request(stream, head);
  }

  #trailers(stream: Stream, endStream: boolean, tooLarge: string | undefined): void {
    const life = this.#life;
    if (!stream.receiving) {
      life.streamError(stream, ErrorCode.STREAM_CLOSED);
      return;
    }
    // RFC 9113 §8.1 without END_STREAM, §8.5 in a tunnel
    if (!endStream || stream.tunnel) {
      life.streamError(stream, ErrorCode.PROTOCOL_ERROR);
      return;
    }
    if (tooLarge !== undefined) {
      life.streamError(stream, ErrorCode.ENHANCE_YOUR_CALM);
      return;
    }
    const trailers = readTrailers(this.#fields, this.#decoder.kinds);
    const complete = stream.contentLength < 0 || stream.bytesReceived === stream.contentLength;
    if (typeof trailers === 'string' || !complete) {
      life.streamError(stream, ErrorCode.PROTOCOL_ERROR);
      return;
    }
    if (this.#handedOver(stream)) life.receivedEnd(stream, trailers);
  }

  /** HEADERS on a stream that was open once, or passed over. */
  #lateHeaders(streamId: number, endStream: boolean): void {
    const life = this.#life;
    if (streamId > life.goawayLast) {
      life.spend(1);
    } else if (life.closed.wasReset(streamId)) {
      if (endStream) life.closed.forgetReset(streamId);
      life.spend(1);
    } else if (life.closed.wasSkipped(streamId)) {
      // RFC 9113 §5.1.1
      life.fail(ErrorCode.PROTOCOL_ERROR, `HEADERS on stream ${streamId}, which has been passed over`);
    } else {
      life.fail(ErrorCode.STREAM_CLOSED, `HEADERS on closed stream ${streamId}`);
    }
  }

  // PRIORITY (RFC 9113 §6.3: ignored) and PRIORITY_UPDATE (RFC 9218 §7.1)

  priority(streamId: number, length: number): void {
    const life = this.#life;
    life.spend(1);
    if (length === 5 || life.ended) return;
    const stream = life.streams.get(streamId);
    if (stream !== undefined) life.streamError(stream, ErrorCode.FRAME_SIZE_ERROR);
    // RST_STREAM cannot be sent on an idle stream (RFC 9113 §6.4)
    else if (life.isIdle(streamId)) life.fail(ErrorCode.FRAME_SIZE_ERROR, `PRIORITY of ${length} octets`);
  }

  priorityUpdate(streamId: number, bytes: Buffer, start: number, end: number): void {
    const life = this.#life;
    life.spend(1);
    if (life.ended) return;
    if (streamId === 0 || (streamId & 1) === 0) {
      life.fail(ErrorCode.PROTOCOL_ERROR, `PRIORITY_UPDATE for stream ${streamId}`);
      return;
    }
    const priority = end - start > LONGEST_PRIORITY ? undefined : parsePriority(bytes.toString('latin1', start, end));
    if (priority === undefined) return;
    const stream = life.streams.get(streamId);
    if (stream !== undefined) {
      setPriority(stream, priority, life.sender.turns);
    } else if (streamId > life.lastStreamId && streamId <= life.goawayLast) {
      this.#early ??= new Map();
      this.#early.set(streamId, priority);
      if (this.#early.size + life.streams.size <= life.limits.maxConcurrentStreams) return;
      if (life.settingsAcked) {
        life.fail(ErrorCode.PROTOCOL_ERROR, 'PRIORITY_UPDATE for more streams than may be open');
      } else {
        this.#early.delete(streamId);
      }
    }
  }

  /** The priority that came before its stream. */
  #takeEarly(streamId: number): Priority | undefined {
    const early = this.#early;
    const value = early?.get(streamId);
    for (const id of early?.keys() ?? []) if (id <= streamId) early?.delete(id);
    if (early?.size === 0) this.#early = undefined;
    return value;
  }

  // RST_STREAM (RFC 9113 §6.4)

  rstStream(streamId: number, errorCode: number): void {
    const life = this.#life;
    const stream = life.streams.get(streamId);
    if (stream !== undefined) {
      const { openedAt } = stream;
      // An answer that is complete was no work for nobody: its client stops an upload that nobody needs. (§8.1)
      const isAnswered = stream.sending === 'ended';
      life.resetByPeer(stream, errorCode);
      if (isAnswered) life.spend(1);
      else life.judgeReset(openedAt);
    } else if (life.isIdle(streamId)) {
      life.fail(ErrorCode.PROTOCOL_ERROR, `RST_STREAM on idle stream ${streamId}`);
    } else {
      life.closed.forgetReset(streamId);
      life.spend(1);
    }
  }

  // SETTINGS (RFC 9113 §6.5)

  settings(bytes: Buffer, start: number, end: number): void {
    const life = this.#life;
    life.spend(Math.max(1, (end - start) / 6));
    if (life.ended) return;
    for (let at = start; at < end; at += 6) {
      const id = ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
      const value = readUint32(bytes, at + 2);
      const before = life.peer.initialWindowSize;
      const error = applySetting(life.peer, id, value);
      if (error !== undefined) {
        life.fail(error.errorCode, error.message);
        return;
      }
      if (id === SettingId.HEADER_TABLE_SIZE) life.encoder.setPeerMaxTableSize(value);
      if (id === SettingId.INITIAL_WINDOW_SIZE && value !== before && !this.#shiftWindows(value - before)) return;
    }
    writeSettingsAck(life.out);
    if (life.state === 'preface') life.state = 'open';
    life.checkOutput();
  }

  /** RFC 9113 §6.9.2. False: a window would exceed 2^31-1. */
  #shiftWindows(by: number): boolean {
    const life = this.#life;
    for (const stream of life.streams.values()) {
      if (!widen(stream, by)) {
        const message = `SETTINGS_INITIAL_WINDOW_SIZE takes the window of stream ${stream.id} over 2,147,483,647`;
        life.fail(ErrorCode.FLOW_CONTROL_ERROR, message);
        return false;
      }
      life.sender.windowChanged(stream);
    }
    return true;
  }

  settingsAck(): void {
    const life = this.#life;
    if (life.settingsAcked) {
      life.spend(1);
      return;
    }
    life.settingsAckedAt = life.now;
    const { headerTableSize, initialWindowSize } = life.limits;
    if (headerTableSize !== DEFAULT_HEADER_TABLE_SIZE) this.#decoder.setMaxTableSize(headerTableSize);
    // streams opened until now were given the larger of the two
    if (initialWindowSize < DEFAULT_WINDOW) {
      for (const stream of life.streams.values()) stream.receiveWindow += initialWindowSize - DEFAULT_WINDOW;
    }
  }

  // PING, GOAWAY, WINDOW_UPDATE (RFC 9113 §6.7 to §6.9)

  ping(bytes: Buffer, start: number): void {
    const life = this.#life;
    life.spend(1);
    if (life.ended) return;
    writePing(life.out, Flag.ACK, bytes, start);
    life.checkOutput();
  }

  pong(bytes: Buffer, start: number): void {
    this.#life.spend(1);
    if (!this.#life.ended) this.#life.handler.pong(bytes, start);
  }

  goaway(lastStreamId: number, errorCode: number): void {
    this.#life.spend(1);
    if (!this.#life.ended) this.#life.handler.goaway(lastStreamId, errorCode);
  }

  windowUpdate(streamId: number, increment: number): void {
    const life = this.#life;
    life.spend(1);
    if (life.ended) return;
    if (streamId === 0) {
      if (increment === 0) life.fail(ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE of 0 for the connection');
      else if (!widen(life.connection, increment)) {
        life.fail(ErrorCode.FLOW_CONTROL_ERROR, 'WINDOW_UPDATE takes the window of the connection over 2,147,483,647');
      }
      return;
    }
    const stream = life.streams.get(streamId);
    if (stream !== undefined) {
      if (increment === 0) life.streamError(stream, ErrorCode.PROTOCOL_ERROR);
      else if (!widen(stream, increment)) life.streamError(stream, ErrorCode.FLOW_CONTROL_ERROR);
      else life.sender.windowChanged(stream);
    } else if (life.isIdle(streamId)) {
      life.fail(ErrorCode.PROTOCOL_ERROR, `WINDOW_UPDATE on idle stream ${streamId}`);
    }
  }

  unknown(): void {
    this.#life.spend(1);
  }
}

/** The response has ended: the rest of the request is read for the connection's sake only. (RFC 9113 §8.1) */
function isDiscarding(stream: Stream): boolean {
  return stream.state === 'half-closed (local)' && !stream.tunnel;
}

function count3(n: number): string {
  return n.toLocaleString('en');
}
