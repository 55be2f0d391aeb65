/**
 * Splits received bytes into frames, whatever pieces they come in, and enforces their order where it needs no streams:
 * the preface first, nothing within a field block. What a frame does to streams and the connection is the sink's. DATA
 * payloads pass through as they arrive; other payloads are collected if they come in pieces.
 */

import { ErrorCode } from './errors.js';
import { checkFrame, type FrameFault } from './frame-rules.js';
import { CLIENT_PREFACE, Flag, FRAME_HEADER_SIZE, FrameType, readUint31, readUint32 } from './frames.js';

/** What becomes of the frames. A call that ends the session calls {@link FrameReader.stop}. */
export interface FrameSink {
  /** A DATA frame begins: `length` octets of payload, of which `dataLength` are not padding. */
  dataBegin(streamId: number, flags: number, length: number, dataLength: number): void;
  /** Some of its data: bytes[start..end), not empty, valid during the call. */
  dataChunk(bytes: Buffer, start: number, end: number): void;
  /** The DATA frame is complete, padding included. */
  dataEnd(): void;
  /** A complete field block: bytes[start..end), valid during the call. Returns how much work it was, see {@link FrameReader.receive}. */
  headers(streamId: number, flags: number, bytes: Buffer, start: number, end: number): number;
  priority(streamId: number, length: number): void;
  rstStream(streamId: number, errorCode: number): void;
  /** The payload of a SETTINGS frame without ACK: whole settings. */
  settings(bytes: Buffer, start: number, end: number): void;
  settingsAck(): void;
  ping(bytes: Buffer, start: number): void;
  pong(bytes: Buffer, start: number): void;
  goaway(lastStreamId: number, errorCode: number): void;
  windowUpdate(streamId: number, increment: number): void;
  priorityUpdate(streamId: number, bytes: Buffer, start: number, end: number): void;
  /** A frame of a type that we don't know; it is skipped. (RFC 9113 §5.5) */
  unknown(): void;
  /** The bytes break the protocol: a connection error. */
  fault(errorCode: number, message: string): void;
}

/** Says when the others have their turn. */
export interface Pace {
  /** Something is read, at a moment on the session's clock. */
  begins(at: number): void;
  /** Asked now and then, and at the end: enough has been read for now. */
  spent(): boolean;
}

export const UNPACED: Pace = { begins() {}, spent: () => false };

/** What the next byte belongs to. */
const At = {
  Preface: 0,
  FrameHeader: 1,
  Payload: 2,
  PadLength: 3,
  Data: 4,
  /** The padding of a DATA frame. */
  Padding: 5,
  /** The payload of an unknown frame. */
  Skipped: 6,
  /** Nothing is read any more. */
  Stopped: 7,
} as const;
type At = (typeof At)[keyof typeof At];

const EMPTY = Buffer.alloc(0);

/** How much is read before the pace is asked: as a clock, it costs a part of a request. */
const WORK_PER_LOOK = 4;

/** What a frame is as work, where a request is 1, or more if it or its answer is large. */
const DATA_WORK = 1 / 4;
const FRAME_WORK = 1 / 8;

export class FrameReader {
  readonly #sink: FrameSink;
  readonly #maxFrameSize: number;
  readonly #maxContinuations: number;
  /** What has been read since the pace was asked. */
  #work = 0;
  #at: At = At.Preface;
  /** Octets of the preface that have been matched. */
  #matched = 0;
  #settingsSeen = false;

  // The frame under way.
  #length = 0;
  #type = 0;
  #flags = 0;
  #streamId = 0;
  /** Payload octets that are still to come, of the part that `#at` names. */
  #left = 0;
  #padding = 0;

  /** A frame header or payload that came in pieces. */
  #carry: Buffer = EMPTY;
  #carried = 0;

  // The field block under way: fragments of HEADERS and CONTINUATION.
  #block: Buffer = EMPTY;
  #blockLength = 0;
  #blockStreamId = 0;
  #blockFlags = 0;
  #continuations = 0;

  constructor(sink: FrameSink, maxFrameSize: number, maxContinuations: number) {
    this.#sink = sink;
    this.#maxFrameSize = maxFrameSize;
    this.#maxContinuations = maxContinuations;
  }

  /** A field block has begun and is not complete. */
  get midBlock(): boolean {
    if (this.#blockStreamId !== 0) return true;
    return this.#at === At.Payload && this.#type === FrameType.HEADERS;
  }

  /** A request may have begun: of a field block, or of the header of a frame, only a part has been read. */
  get midRequest(): boolean {
    return this.midBlock || (this.#at === At.FrameHeader && this.#carried > 0);
  }

  /** Reads nothing more, not even the rest of what receive() was given. */
  stop(): void {
    this.#at = At.Stopped;
    this.#carry = EMPTY;
    this.#block = EMPTY;
  }

  /**
   * Reads frames from bytes[0..end), for as long as the pace allows.
   *
   * @returns how many octets were read
   */
  receive(bytes: Buffer, end: number, pace: Pace): number {
    let pos = 0;
    while (pos < end) {
      switch (this.#at) {
        case At.FrameHeader: {
          if (this.#work >= WORK_PER_LOOK) {
            this.#work = 0;
            if (pace.spent()) return pos;
          }
          if (this.#carried === 0 && end - pos >= FRAME_HEADER_SIZE) {
            this.#readHeader(bytes, pos);
            pos += FRAME_HEADER_SIZE;
          } else {
            pos = this.#collect(bytes, pos, end, FRAME_HEADER_SIZE);
            if (this.#carried < FRAME_HEADER_SIZE) return end;
            this.#carried = 0;
            this.#readHeader(this.#carry, 0);
          }
          break;
        }
        case At.Payload: {
          const length = this.#length;
          if (this.#carried === 0 && end - pos >= length) {
            this.#at = At.FrameHeader;
            this.#dispatch(bytes, pos, pos + length);
            pos += length;
          } else {
            pos = this.#collect(bytes, pos, end, length);
            if (this.#carried < length) return end;
            const payload = this.#carry;
            this.#carry = EMPTY;
            this.#carried = 0;
            this.#at = At.FrameHeader;
            this.#dispatch(payload, 0, length);
          }
          break;
        }
        case At.Data: {
          const upTo = end - pos < this.#left ? end : pos + this.#left;
          this.#left -= upTo - pos;
          this.#sink.dataChunk(bytes, pos, upTo);
          pos = upTo;
          if (this.#left === 0) this.#afterData();
          break;
        }
        case At.PadLength:
          this.#readPadLength(bytes[pos] as number);
          pos++;
          break;
        case At.Padding: {
          const skipped = Math.min(this.#left, end - pos);
          this.#left -= skipped;
          pos += skipped;
          if (this.#left === 0) this.#endData();
          break;
        }
        case At.Skipped: {
          const skipped = Math.min(this.#left, end - pos);
          this.#left -= skipped;
          pos += skipped;
          if (this.#left === 0) this.#at = At.FrameHeader;
          break;
        }
        case At.Preface:
          pos = this.#matchPreface(bytes, pos, end);
          break;
        default:
          return end;
      }
    }
    return end;
  }

  /** Adds to the carried bytes until there are `wanted`; returns where it stopped reading. */
  #collect(bytes: Buffer, pos: number, end: number, wanted: number): number {
    if (this.#carried === 0 && this.#carry.length < wanted) this.#carry = Buffer.allocUnsafe(wanted);
    const upTo = Math.min(end, pos + wanted - this.#carried);
    this.#carry.set(bytes.subarray(pos, upTo), this.#carried);
    this.#carried += upTo - pos;
    return upTo;
  }

  /** RFC 9113 §3.4. */
  #matchPreface(bytes: Buffer, from: number, end: number): number {
    let pos = from;
    while (pos < end && this.#matched < CLIENT_PREFACE.length) {
      if (bytes[pos] !== CLIENT_PREFACE[this.#matched]) {
        this.#sink.fault(ErrorCode.PROTOCOL_ERROR, 'the connection does not begin with the HTTP/2 preface');
        return end;
      }
      pos++;
      this.#matched++;
    }
    if (this.#matched === CLIENT_PREFACE.length) this.#at = At.FrameHeader;
    return pos;
  }

  #readHeader(bytes: Buffer, at: number): void {
    const length = ((bytes[at] as number) << 16) | ((bytes[at + 1] as number) << 8) | (bytes[at + 2] as number);
    const type = bytes[at + 3] as number;
    const flags = bytes[at + 4] as number;
    const streamId = readUint31(bytes, at + 5);
    this.#length = length;
    this.#type = type;
    this.#flags = flags;
    this.#streamId = streamId;
    const fault = this.#checkSequence(type, flags, streamId, length) ?? checkFrame(type, flags, streamId, length);
    if (fault !== undefined) {
      this.#sink.fault(fault.errorCode, fault.message);
      return;
    }
    this.#work += type === FrameType.DATA ? DATA_WORK : FRAME_WORK;
    if (type === FrameType.DATA) {
      if ((flags & Flag.PADDED) !== 0) {
        this.#at = At.PadLength;
      } else {
        this.#padding = 0;
        this.#beginData(length);
      }
    } else if (type > FrameType.CONTINUATION && type !== FrameType.PRIORITY_UPDATE) {
      this.#left = length;
      this.#at = length === 0 ? At.FrameHeader : At.Skipped;
      this.#sink.unknown();
    } else if (length === 0) {
      this.#at = At.FrameHeader;
      this.#dispatch(EMPTY, 0, 0);
    } else {
      this.#at = At.Payload;
    }
  }

  /** What a frame may not be because of those before it, and the size that we take. */
  #checkSequence(type: number, flags: number, streamId: number, length: number): FrameFault | undefined {
    if (!this.#settingsSeen) {
      // RFC 9113 §3.4
      if (type !== FrameType.SETTINGS || (flags & Flag.ACK) !== 0) {
        return { errorCode: ErrorCode.PROTOCOL_ERROR, message: 'the preface is not followed by SETTINGS' };
      }
      this.#settingsSeen = true;
    }
    if (length > this.#maxFrameSize) {
      const size = length.toLocaleString('en');
      const limit = this.#maxFrameSize.toLocaleString('en');
      const message = `frame of ${size} octets is over SETTINGS_MAX_FRAME_SIZE (${limit})`;
      return { errorCode: ErrorCode.FRAME_SIZE_ERROR, message };
    }
    // RFC 9113 §6.10
    if (this.#blockStreamId !== 0) {
      if (type !== FrameType.CONTINUATION || streamId !== this.#blockStreamId) {
        const message = `field block of stream ${this.#blockStreamId} interrupted`;
        return { errorCode: ErrorCode.PROTOCOL_ERROR, message };
      }
      if (++this.#continuations > this.#maxContinuations) {
        const message = `field block of over ${this.#maxContinuations} CONTINUATION frames`;
        return { errorCode: ErrorCode.ENHANCE_YOUR_CALM, message };
      }
    } else if (type === FrameType.CONTINUATION) {
      const message = `CONTINUATION on stream ${streamId} without a field block`;
      return { errorCode: ErrorCode.PROTOCOL_ERROR, message };
    }
    return undefined;
  }

  /** A frame whose payload is complete: bytes[start..end). */
  #dispatch(bytes: Buffer, start: number, end: number): void {
    switch (this.#type) {
      case FrameType.HEADERS:
        this.#dispatchHeaders(bytes, start, end);
        break;
      case FrameType.WINDOW_UPDATE:
        this.#sink.windowUpdate(this.#streamId, readUint31(bytes, start));
        break;
      case FrameType.RST_STREAM:
        this.#sink.rstStream(this.#streamId, readUint32(bytes, start));
        break;
      case FrameType.SETTINGS:
        if ((this.#flags & Flag.ACK) !== 0) this.#sink.settingsAck();
        else this.#sink.settings(bytes, start, end);
        break;
      case FrameType.PING:
        if ((this.#flags & Flag.ACK) !== 0) this.#sink.pong(bytes, start);
        else this.#sink.ping(bytes, start);
        break;
      case FrameType.CONTINUATION:
        this.#addFragment(bytes, start, end, (this.#flags & Flag.END_HEADERS) !== 0);
        break;
      case FrameType.PRIORITY:
        this.#sink.priority(this.#streamId, end - start);
        break;
      case FrameType.GOAWAY:
        this.#sink.goaway(readUint31(bytes, start), readUint32(bytes, start + 4));
        break;
      case FrameType.PRIORITY_UPDATE:
        this.#sink.priorityUpdate(readUint31(bytes, start), bytes, start + 4, end);
        break;
      default:
        break;
    }
  }

  #dispatchHeaders(bytes: Buffer, payloadStart: number, payloadEnd: number): void {
    let start = payloadStart;
    let end = payloadEnd;
    const flags = this.#flags;
    if ((flags & Flag.PADDED) !== 0) end -= bytes[start++] as number;
    // RFC 9113 §5.3.2: RFC 7540's priorities are read over
    if ((flags & Flag.PRIORITY) !== 0) start += 5;
    if (start > end) {
      this.#sink.fault(ErrorCode.PROTOCOL_ERROR, 'HEADERS with padding longer than its payload');
      return;
    }
    if ((flags & Flag.END_HEADERS) !== 0) {
      this.#work += this.#sink.headers(this.#streamId, flags, bytes, start, end);
      return;
    }
    this.#blockStreamId = this.#streamId;
    this.#blockFlags = flags;
    this.#blockLength = 0;
    this.#continuations = 0;
    this.#addFragment(bytes, start, end, false);
  }

  #addFragment(bytes: Buffer, start: number, end: number, last: boolean): void {
    const length = this.#blockLength + end - start;
    if (length > this.#block.length) {
      const larger = Buffer.allocUnsafe(Math.max(length, this.#block.length * 2, 1024));
      larger.set(this.#block.subarray(0, this.#blockLength));
      this.#block = larger;
    }
    this.#block.set(bytes.subarray(start, end), this.#blockLength);
    this.#blockLength = length;
    if (!last) return;
    const block = this.#block;
    const streamId = this.#blockStreamId;
    this.#block = EMPTY;
    this.#blockStreamId = 0;
    this.#work += this.#sink.headers(streamId, this.#blockFlags, block, 0, length);
  }

  #readPadLength(padLength: number): void {
    // RFC 9113 §6.1
    if (padLength >= this.#length) {
      this.#sink.fault(ErrorCode.PROTOCOL_ERROR, 'DATA with padding longer than its payload');
      return;
    }
    this.#padding = padLength;
    this.#beginData(this.#length - 1 - padLength);
  }

  #beginData(dataLength: number): void {
    this.#left = dataLength;
    this.#at = At.Data;
    this.#sink.dataBegin(this.#streamId, this.#flags, this.#length, dataLength);
    if (dataLength === 0) this.#afterData();
  }

  #afterData(): void {
    if (this.#at !== At.Data) return; // stopped meanwhile
    this.#left = this.#padding;
    if (this.#padding === 0) this.#endData();
    else this.#at = At.Padding;
  }

  #endData(): void {
    this.#at = At.FrameHeader;
    this.#sink.dataEnd();
  }
}
