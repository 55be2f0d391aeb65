/**
 * The streams of a session and the session itself from their beginning to their end: what is open, how each ends,
 * when the connection has failed, and which streams a GOAWAY still lets in. Both directions stand on it; what a
 * received frame means is `inbound.ts`, what is sent on a stream is `send.ts`.
 */

import type { Limit } from '../core/limits.js';
import { ClosedStreams } from './closed.js';
import { ErrorCode, errorCodeName, H2Error } from './errors.js';
import { DEFAULT_WINDOW, takeCredit, type Windows } from './flow.js';
import { MAX_STREAM_ID, writeGoaway, writeRstStream, writeWindowUpdate } from './frames.js';
import { Guard } from './guard.js';
import { HpackEncoder } from './hpack/encoder.js';
import { OutputBuffer } from './output.js';
import { type SendEvents, Sender } from './send.js';
import type { SessionHandler } from './session.js';
import { initialPeerSettings, type Limits, type MutablePeerSettings } from './settings.js';
import type { Stream } from './stream.js';
import { Streams } from './streams.js';

/** Waiting for the client's preface; running; ended by an error of the peer's; ended because the transport is gone. */
export type SessionState = 'preface' | 'open' | 'failed' | 'destroyed';

/** DATA that may lie in the output beside what is provoked: what the connection lets through, with room to spare. */
const DATA_ALLOWANCE = 131_072;

const MAX_DEBUG = 1_024;

export class Lifecycle implements SendEvents {
  readonly handler: SessionHandler;
  readonly limits: Limits;
  readonly out = new OutputBuffer();
  readonly streams = new Streams();
  readonly closed = new ClosedStreams();
  readonly guard: Guard;
  readonly connection: Windows;
  readonly peer: MutablePeerSettings = initialPeerSettings();
  readonly encoder: HpackEncoder;
  readonly sender: Sender;

  state: SessionState = 'preface';
  /** The time of the bytes being read. */
  now: number;
  /** When the peer acknowledged our SETTINGS; `Infinity`: not yet. */
  settingsAckedAt = Number.POSITIVE_INFINITY;
  /** The highest stream that the peer has opened, refused ones included. */
  lastStreamId = 0;
  /** The highest stream accepted. */
  highestStreamId = 0;
  /** Streams above it are refused. (RFC 9113 §6.8) */
  goawayLast = MAX_STREAM_ID;
  /** Octets taken from the output that the transport has not taken from the connection. */
  unsent = 0;
  /** The stream in the middle of whose DATA frame we are: its window is credited at the frame's end. */
  midData: Stream | undefined = undefined;
  /** Stops the reader; set once by the session. */
  stopReading: () => void = () => {};

  constructor(handler: SessionHandler, limits: Limits) {
    this.handler = handler;
    this.limits = limits;
    this.now = limits.now();
    this.guard = new Guard(limits, this.now);
    this.connection = { sendWindow: DEFAULT_WINDOW, receiveWindow: limits.connectionWindowSize, credit: 0 };
    this.encoder = new HpackEncoder(limits.encoderTableSize);
    this.sender = new Sender(
      this.out,
      this.encoder,
      this.connection,
      this.peer,
      this.guard,
      this,
      limits.streamHighWaterMark,
    );
  }

  get settingsAcked(): boolean {
    return this.settingsAckedAt < Number.POSITIVE_INFINITY;
  }

  get ended(): boolean {
    return this.state === 'failed' || this.state === 'destroyed';
  }

  /** A stream that nobody has opened: server-initiated ones never are. (RFC 9113 §5.1) */
  isIdle(streamId: number): boolean {
    return (streamId & 1) === 0 || streamId > this.lastStreamId;
  }

  // How streams end

  /** END_STREAM has been framed. */
  sentEnd(stream: Stream): void {
    if (stream.state === 'closed') return;
    stream.endLocal();
    if (!stream.receiving) {
      this.#forget(stream);
    } else if (!stream.tunnel) {
      // RFC 9113 §8.1: the rest of the request is of no use; some of it is read, so that clients read the response
      stream.discardLeft = this.limits.maxDiscard;
      stream.credit += stream.unread;
      stream.unread = 0;
      this.credit(stream);
      this.handler.sentEnd?.(stream);
    }
  }

  writable(stream: Stream): void {
    this.handler.writable(stream);
  }

  /** END_STREAM has been received. */
  receivedEnd(stream: Stream, trailers: string[] | undefined): void {
    stream.endRemote();
    this.handler.end(stream, trailers);
    if (stream.sending === 'ended') this.#forget(stream);
  }

  /** RST_STREAM received. */
  resetByPeer(stream: Stream, errorCode: number): void {
    stream.close();
    this.#dropQueue(stream, errorCode, 'by the peer');
    if (this.streams.has(stream.id)) this.handler.reset(stream, errorCode, 'peer');
    this.#forget(stream);
  }

  /** Sends RST_STREAM, unless there is nothing left to reset. */
  reset(stream: Stream, errorCode: number): void {
    if (stream.state === 'closed') return;
    if (stream.sending === 'ended' && !stream.receiving) return;
    this.#sendReset(stream, errorCode);
    if (this.streams.has(stream.id)) this.handler.reset(stream, errorCode, 'local');
    this.#forget(stream);
  }

  /** RFC 9113 §8.1: the response is complete, and the client is asked to stop its request. */
  stopRequest(stream: Stream): void {
    this.#sendReset(stream, ErrorCode.NO_ERROR);
    this.#forget(stream);
  }

  /** A stream error: the peer's fault, and on its account. (RFC 9113 §5.4.2) */
  streamError(stream: Stream, errorCode: number): void {
    const { openedAt } = stream;
    this.limited(errorCode === ErrorCode.ENHANCE_YOUR_CALM ? 'calmedStreams' : 'malformed');
    this.reset(stream, errorCode);
    this.judgeReset(openedAt);
  }

  #sendReset(stream: Stream, errorCode: number): void {
    const { receiving } = stream;
    stream.close();
    // first what is queued: a field block begun has to be completed before another frame
    this.#dropQueue(stream, errorCode, 'by the server');
    if (this.ended) return;
    writeRstStream(this.out, stream.id, errorCode);
    if (receiving) this.closed.addReset(stream.id);
  }

  #dropQueue(stream: Stream, errorCode: number, by: string): void {
    const { id } = stream;
    this.sender.drop(
      stream,
      () => new H2Error(errorCode, `stream ${id} was reset ${by}: ${errorCodeName(errorCode)}`, id),
    );
  }

  #forget(stream: Stream): void {
    if (!this.streams.delete(stream.id)) return;
    this.handler.closed(stream);
  }

  // Streams that never become one

  /** @param units what it costs the peer: nothing before it knows our limits */
  refuse(streamId: number, endStream: boolean, units: number): void {
    writeRstStream(this.out, streamId, ErrorCode.REFUSED_STREAM);
    if (!endStream) this.closed.addReset(streamId);
    this.handler.refused(streamId);
    if (units > 0) this.spend(units);
  }

  malformed(streamId: number, endStream: boolean, why: string): void {
    writeRstStream(this.out, streamId, ErrorCode.PROTOCOL_ERROR);
    if (!endStream) this.closed.addReset(streamId);
    this.limited('malformed');
    this.#neverOpened(streamId, why);
  }

  /**
   * RFC 9113 §10.5.1: answered 431, without the request ever being one.
   *
   * @param units what it costs the peer: a few octets can be megabytes of fields, and all of them have to be decoded
   */
  headerListTooLarge(streamId: number, endStream: boolean, why: string, units: number): void {
    this.sender.bareResponse(streamId, 431);
    if (!endStream) {
      writeRstStream(this.out, streamId, ErrorCode.NO_ERROR);
      this.closed.addReset(streamId);
    }
    this.limited('maxHeaderSize');
    this.#neverOpened(streamId, why);
    this.spend(units);
  }

  /** No error is made of it: a stack costs more than all the rest, and a peer can ask for thousands. */
  #neverOpened(streamId: number, why: string): void {
    // it has been answered: sending it once more would be no use
    this.highestStreamId = streamId;
    this.opened();
    this.handler.malformed(streamId, why);
    this.judgeReset(this.now);
  }

  /** A stream error on a stream that is closed already: once, then its frames are ignored. (RFC 9113 §6.1) */
  closedStreamError(streamId: number, endStream: boolean): void {
    writeRstStream(this.out, streamId, ErrorCode.STREAM_CLOSED);
    if (!endStream) this.closed.addReset(streamId);
    this.spend(1);
  }

  // Budgets

  /** Counts a stream that the peer has opened. */
  opened(): void {
    this.guard.opened();
    const wait = this.guard.wait(this.now);
    if (wait > 0) this.handler.readLater?.(wait);
  }

  /** Counts a stream that ended in RST_STREAM because of the peer. (CVE-2023-44487, CVE-2025-8671) */
  judgeReset(openedAt: number): void {
    const verdict = this.guard.reset(openedAt, this.now);
    if (verdict === 'fine' || this.ended) return;
    if (verdict === 'fail') {
      this.fail(ErrorCode.ENHANCE_YOUR_CALM, 'streams are opened to be reset', 'resets');
      return;
    }
    this.limited('resets');
    this.handler.abuse('resets');
  }

  /** Charges frames that serve no request. */
  spend(units: number): void {
    if (!this.guard.spend(units, this.now) && !this.ended) {
      this.fail(ErrorCode.ENHANCE_YOUR_CALM, 'flood of frames that serve no request', 'floods');
    }
  }

  /** Output that the peer provokes and doesn't read. */
  checkOutput(): void {
    if (this.out.size + this.unsent <= this.limits.maxProvokedOutput + DATA_ALLOWANCE || this.ended) return;
    this.fail(ErrorCode.ENHANCE_YOUR_CALM, 'output is provoked and not read', 'unreadOutput');
  }

  limited(limit: Limit): void {
    this.handler.limited?.(limit);
  }

  // Flow control of what we receive

  /** Octets of the stream are free again: gives the credit back when it is worth a frame. */
  credit(stream: Stream): void {
    if (this.midData === stream || !stream.receiving) return;
    const increment = takeCredit(stream, this.limits.initialWindowSize);
    if (increment > 0) writeWindowUpdate(this.out, stream.id, increment);
  }

  /** The application has read `octets` of the stream. */
  consumed(stream: Stream, octets: number): void {
    const read = Math.min(octets, stream.unread);
    if (read <= 0) return;
    stream.unread -= read;
    stream.credit += read;
    this.credit(stream);
  }

  // The session

  /** A GOAWAY whose last-stream-id never rises. (RFC 9113 §6.8) */
  goaway(lastStreamId: number, errorCode: number, debug: string): void {
    if (this.ended) return;
    if (lastStreamId < this.goawayLast) this.goawayLast = lastStreamId;
    writeGoaway(this.out, this.goawayLast, errorCode, Buffer.from(debug, 'utf8').subarray(0, MAX_DEBUG));
  }

  /** A connection error: nothing is read any more. (RFC 9113 §5.4.1) */
  fail(errorCode: number, message: string, limit: Limit = 'protocolErrors'): void {
    if (this.ended) return;
    this.handler.handOver?.();
    if (this.ended) return;
    this.limited(limit);
    this.goaway(this.highestStreamId, errorCode, message);
    this.state = 'failed';
    this.stopReading();
    this.handler.failed(new H2Error(errorCode, message));
    this.#closeAll(errorCode);
  }

  /** The transport is gone. */
  destroy(): void {
    if (this.state === 'destroyed') return;
    this.state = 'destroyed';
    this.stopReading();
    this.#closeAll(ErrorCode.CANCEL);
  }

  #closeAll(errorCode: number): void {
    for (const stream of this.streams.values()) {
      stream.close();
      this.#dropQueue(stream, errorCode, 'with its connection');
      this.#forget(stream);
    }
  }
}
