/**
 * What the server has said on one HTTP/2 connection: streams, windows, settings, GOAWAYs, and every breach of RFC
 * 9113 that shows from outside. Sends nothing.
 */
import { describeFrame, Flag, type Frame, FrameType, type HpackCodec, readGoaway, Setting } from './h2-frames.js';

/** What has come in on one stream. */
export interface H2Stream {
  readonly id: number;
  /** final status; undefined until its HEADERS */
  status: number | undefined;
  /** of the final response, pseudo-fields included */
  headers: [string, string][];
  trailers: [string, string][] | undefined;
  /** statuses of 1xx responses */
  informational: number[];
  body: Buffer[];
  /** END_STREAM received */
  ended: boolean;
  /** error code of a RST_STREAM received */
  reset: number | undefined;
  /** we have sent END_STREAM */
  requestEnded: boolean;
  /** how many bytes of DATA we may still send on it */
  sendWindow: number;
  /** how many bytes the server may still send on it; below 0 the server broke flow control */
  receiveWindow: number;
}

/** RFC 9113 §6.9.2: the initial size of every flow-control window */
export const DEFAULT_WINDOW = 65_535;

export class H2Ledger {
  readonly #hpack: HpackCodec;
  readonly #streams = new Map<number, H2Stream>();
  readonly #onStreamEnd: (stream: H2Stream) => void;
  #headerBlock: { streamId: number; flags: number; parts: Buffer[] } | undefined;
  /** the server's settings by identifier, as last sent */
  readonly serverSettings = new Map<number, number>();
  /** every GOAWAY received */
  readonly goaways: { lastStreamId: number; errorCode: number; debug: string; at: number }[] = [];
  /** what the server did that RFC 9113 forbids, as far as this client can see it, in words */
  readonly violations: string[] = [];
  /** the window that our SETTINGS give each new stream */
  readonly ownInitialWindow: number;
  /** how many bytes of DATA we may still send on the connection */
  sendWindow = DEFAULT_WINDOW;
  /** how many bytes the server may still send on the connection */
  receiveWindow = DEFAULT_WINDOW;

  constructor(hpack: HpackCodec, ownInitialWindow: number, onStreamEnd: (stream: H2Stream) => void) {
    this.#hpack = hpack;
    this.ownInitialWindow = ownInitialWindow;
    this.#onStreamEnd = onStreamEnd;
  }

  /** What has come in on this stream; made on first mention. */
  stream(id: number): H2Stream {
    let stream = this.#streams.get(id);
    if (stream === undefined) {
      stream = {
        id,
        status: undefined,
        headers: [],
        trailers: undefined,
        informational: [],
        body: [],
        ended: false,
        reset: undefined,
        requestEnded: false,
        sendWindow: this.serverSettings.get(Setting.INITIAL_WINDOW_SIZE) ?? DEFAULT_WINDOW,
        receiveWindow: this.ownInitialWindow,
      };
      this.#streams.set(id, stream);
    }
    return stream;
  }

  /** Drops what is known of a stream that is over, so that long runs don't grow. */
  forget(id: number): void {
    this.#streams.delete(id);
  }

  /** Takes a frame into account. */
  receive(frame: Frame): void {
    if (this.#headerBlock !== undefined && frame.type !== FrameType.CONTINUATION) {
      this.violations.push(`${describeFrame(frame)} inside a header block`);
    }
    switch (frame.type) {
      case FrameType.DATA:
        this.#receiveData(frame);
        break;
      case FrameType.HEADERS:
        this.#receiveHeaders(frame);
        break;
      case FrameType.CONTINUATION:
        this.#continueHeaders(frame);
        break;
      case FrameType.RST_STREAM:
        this.#receiveReset(frame);
        break;
      case FrameType.SETTINGS:
        this.#receiveSettings(frame);
        break;
      case FrameType.GOAWAY:
        this.#receiveGoaway(frame);
        break;
      case FrameType.WINDOW_UPDATE:
        this.#receiveWindowUpdate(frame);
        break;
      default:
        break;
    }
  }

  #receiveData(frame: Frame): void {
    const stream = this.stream(frame.streamId);
    if (stream.status === undefined) this.violations.push(`DATA before HEADERS on stream ${stream.id}`);
    if (stream.ended) this.violations.push(`DATA after END_STREAM on stream ${stream.id}`);
    const size = frame.payload.length;
    let content = frame.payload;
    if ((frame.flags & Flag.PADDED) !== 0) content = content.subarray(1, size - content.readUInt8(0));
    if (content.length > 0) stream.body.push(content);
    stream.receiveWindow -= size;
    this.receiveWindow -= size;
    if (stream.receiveWindow < 0) this.violations.push(`flow-control window of stream ${stream.id} exceeded`);
    if (this.receiveWindow < 0) this.violations.push('flow-control window of the connection exceeded');
    if ((frame.flags & Flag.END_STREAM) !== 0) this.#endStream(stream);
  }

  #receiveHeaders(frame: Frame): void {
    let block = frame.payload;
    if ((frame.flags & Flag.PADDED) !== 0) block = block.subarray(1, block.length - block.readUInt8(0));
    if ((frame.flags & Flag.PRIORITY) !== 0) block = block.subarray(5);
    if ((frame.flags & Flag.END_HEADERS) !== 0) this.#headersComplete(frame.streamId, frame.flags, block);
    else this.#headerBlock = { streamId: frame.streamId, flags: frame.flags, parts: [block] };
  }

  #continueHeaders(frame: Frame): void {
    const open = this.#headerBlock;
    if (open === undefined || open.streamId !== frame.streamId) {
      this.violations.push(`${describeFrame(frame)} without a header block`);
      return;
    }
    open.parts.push(frame.payload);
    if ((frame.flags & Flag.END_HEADERS) === 0) return;
    this.#headerBlock = undefined;
    this.#headersComplete(open.streamId, open.flags, Buffer.concat(open.parts));
  }

  #headersComplete(streamId: number, flags: number, block: Buffer): void {
    const stream = this.stream(streamId);
    if (stream.ended) this.violations.push(`HEADERS after END_STREAM on stream ${streamId}`);
    let fields: [string, string][];
    try {
      fields = this.#hpack.decode(block);
    } catch (error) {
      this.violations.push(`header block of stream ${streamId}: ${String(error)}`);
      return;
    }
    const status = Number(fields.find(([name]) => name === ':status')?.[1]);
    if (stream.status !== undefined) stream.trailers = fields;
    else if (status >= 100 && status < 200) stream.informational.push(status);
    else {
      if (!(status >= 200)) this.violations.push(`no :status on stream ${streamId}`);
      stream.status = status;
      stream.headers = fields;
    }
    if ((flags & Flag.END_STREAM) !== 0) this.#endStream(stream);
  }

  #endStream(stream: H2Stream): void {
    stream.ended = true;
    this.#onStreamEnd(stream);
  }

  #receiveReset(frame: Frame): void {
    const stream = this.stream(frame.streamId);
    stream.reset = frame.payload.length === 4 ? frame.payload.readUInt32BE(0) : -1;
    this.#onStreamEnd(stream);
  }

  #receiveSettings(frame: Frame): void {
    if ((frame.flags & Flag.ACK) !== 0) return;
    for (let offset = 0; offset + 6 <= frame.payload.length; offset += 6) {
      const id = frame.payload.readUInt16BE(offset);
      const value = frame.payload.readUInt32BE(offset + 2);
      if (id === Setting.INITIAL_WINDOW_SIZE) {
        const change = value - (this.serverSettings.get(id) ?? DEFAULT_WINDOW);
        for (const stream of this.#streams.values()) stream.sendWindow += change;
      }
      this.serverSettings.set(id, value);
    }
  }

  #receiveGoaway(frame: Frame): void {
    const goaway = { ...readGoaway(frame), at: frame.at };
    const previous = this.goaways.at(-1);
    if (previous !== undefined && goaway.lastStreamId > previous.lastStreamId) {
      this.violations.push(`last-stream-id rose from ${previous.lastStreamId} to ${goaway.lastStreamId}`);
    }
    this.goaways.push(goaway);
  }

  #receiveWindowUpdate(frame: Frame): void {
    const increment = frame.payload.readUInt32BE(0);
    if (frame.streamId === 0) this.sendWindow += increment;
    else {
      const stream = this.#streams.get(frame.streamId);
      if (stream !== undefined) stream.sendWindow += increment;
    }
  }
}
