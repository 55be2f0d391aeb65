/**
 * A raw HTTP/2 client, frame by frame: sends what it is told, legal or not, records every frame that comes in, and
 * keeps the windows. It never retries, and does nothing by itself but acknowledge and credit, both of which can be
 * withheld.
 */
import {
  describeFrame,
  encodeFrame,
  type FieldList,
  Flag,
  type Frame,
  FrameReader,
  FrameType,
  goawayPayload,
  HpackCodec,
  PREFACE,
  Setting,
  settingsPayload,
  uint32,
} from './h2-frames.js';
import { DEFAULT_WINDOW, H2Ledger, type H2Stream } from './h2-ledger.js';
import { type Ending, Transport, type TransportOptions } from './transport.js';
import { Waiting } from './waiting.js';

/** When something is answered: at once, `ms` later, or only by an explicit call. */
export type Acknowledge = 'auto' | 'manual' | { readonly afterMs: number };

export interface H2ClientOptions extends TransportOptions {
  /** our SETTINGS as identifier and value pairs (default: none, an empty frame) */
  readonly settings?: readonly (readonly [id: number, value: number])[];
  /** write the preface and SETTINGS on connecting (default true) */
  readonly preface?: boolean;
  readonly settingsAck?: Acknowledge;
  readonly pingAck?: Acknowledge;
  /** `'auto'`: credit both windows as DATA arrives; `'manual'`: only `windowUpdate()` does (default auto) */
  readonly credit?: 'auto' | 'manual';
  /** keep every frame in `frames` (default true); runs of thousands of requests don't */
  readonly record?: boolean;
}

export interface H2Request {
  /** default GET */
  readonly method?: string;
  /** default / */
  readonly path?: string;
  /** further fields, names in lower case */
  readonly headers?: FieldList;
  /** default: taken from the transport */
  readonly scheme?: string;
  /** default localhost */
  readonly authority?: string;
  /** sent as DATA as far as the windows allow, then END_STREAM */
  readonly body?: Buffer | string;
  /** leave the request open: no END_STREAM (default false) */
  readonly open?: boolean;
}

export type { H2Stream } from './h2-ledger.js';

export class H2Client {
  readonly transport: Transport;
  readonly #options: H2ClientOptions;
  readonly #reader = new FrameReader();
  readonly #hpack = new HpackCodec();
  readonly #waiting = new Waiting();
  readonly #uploads = new Map<number, { bytes: Buffer; end: boolean }>();
  #nextId = 1;
  readonly #ledger: H2Ledger;
  /** every frame received, in order (with `record`) */
  readonly frames: Frame[] = [];
  /** a frame came in, after it has been taken into account */
  onFrame: (frame: Frame) => void = () => {};
  /** a stream ended: END_STREAM or RST_STREAM came in */
  onStreamEnd: (stream: H2Stream) => void = () => {};
  /** the peer ended the connection, or it closed */
  onEnding: () => void = () => {};

  constructor(transport: Transport, options: H2ClientOptions) {
    this.transport = transport;
    this.#options = options;
    const initialWindow = options.settings?.findLast(([id]) => id === Setting.INITIAL_WINDOW_SIZE)?.[1];
    this.#ledger = new H2Ledger(this.#hpack, initialWindow ?? DEFAULT_WINDOW, (stream) => {
      if (stream.reset !== undefined) this.#uploads.delete(stream.id);
      this.onStreamEnd(stream);
    });
    transport.onBytes = (bytes) => {
      this.#reader.push(bytes, (frame) => this.#receive(frame));
      this.look();
    };
    transport.onEnding = () => {
      this.onEnding();
      this.look();
    };
    if (options.preface ?? true) {
      transport.write(
        Buffer.concat([PREFACE, encodeFrame(FrameType.SETTINGS, 0, 0, settingsPayload(options.settings ?? []))]),
      );
    }
  }

  /** Connects (TLS with ALPN `h2` unless `tls: false`) and writes the preface and SETTINGS unless told not to. */
  static async connect(options: H2ClientOptions): Promise<H2Client> {
    const transport = await Transport.connect({ alpn: ['h2'], ...options });
    return new H2Client(transport, options);
  }

  get ending(): Ending {
    return this.transport.ending;
  }

  /** What has come in on this stream; made on first mention. */
  stream(id: number): H2Stream {
    return this.#ledger.stream(id);
  }

  /** Drops what is known of a stream that is over, so that long runs don't grow. */
  forget(id: number): void {
    this.#ledger.forget(id);
    this.#uploads.delete(id);
  }

  /** the server's settings by identifier, as last sent */
  get serverSettings(): ReadonlyMap<number, number> {
    return this.#ledger.serverSettings;
  }

  /** every GOAWAY received */
  get goaways(): H2Ledger['goaways'] {
    return this.#ledger.goaways;
  }

  /** what the server did that RFC 9113 forbids, as far as this client can see it, in words */
  get violations(): readonly string[] {
    return this.#ledger.violations;
  }

  /** how many bytes of DATA we may still send on the connection */
  get sendWindow(): number {
    return this.#ledger.sendWindow;
  }

  /** how many bytes the server may still send on the connection */
  get receiveWindow(): number {
    return this.#ledger.receiveWindow;
  }

  // ---- sending ----

  /** Writes exactly these bytes. False once the socket can't be written to. */
  write(bytes: Buffer): boolean {
    return this.transport.write(bytes);
  }

  /** Any frame, legal or not. */
  frame(type: number, flags: number, streamId: number, payload?: Buffer): boolean {
    return this.write(encodeFrame(type, flags, streamId, payload));
  }

  /** The identifier of the next stream; `request` takes it by itself. */
  nextStreamId(): number {
    const id = this.#nextId;
    this.#nextId += 2;
    return id;
  }

  /** HEADERS with a block from this connection's HPACK encoder, in one frame. */
  headers(streamId: number, fields: FieldList, flags: number = Flag.END_HEADERS | Flag.END_STREAM): boolean {
    this.stream(streamId).requestEnded = (flags & Flag.END_STREAM) !== 0;
    return this.frame(FrameType.HEADERS, flags, streamId, this.#hpack.encode(fields));
  }

  /** Opens a stream with a request and returns its identifier. */
  request(request: H2Request = {}): number {
    const id = this.nextStreamId();
    const { method = 'GET', path = '/', authority = 'localhost', headers = [], body, open = false } = request;
    const scheme = request.scheme ?? ((this.#options.tls ?? true) ? 'https' : 'http');
    const fields: FieldList = [
      [':method', method],
      [':scheme', scheme],
      [':authority', authority],
      [':path', path],
      ...headers,
    ];
    const endsNow = body === undefined && !open;
    this.headers(id, fields, Flag.END_HEADERS | (endsNow ? Flag.END_STREAM : 0));
    if (body !== undefined) this.upload(id, Buffer.from(body), !open);
    return id;
  }

  /** Opens a stream with a header block made by `encodeLiterals`, for runs that send the same fields over and over. */
  requestBlock(block: Buffer, endStream: boolean): number {
    const id = this.nextStreamId();
    this.stream(id).requestEnded = endStream;
    this.frame(FrameType.HEADERS, Flag.END_HEADERS | (endStream ? Flag.END_STREAM : 0), id, block);
    return id;
  }

  /** One DATA frame, whatever the windows say; they are debited. */
  data(streamId: number, bytes: Buffer | string, endStream = false): boolean {
    const payload = Buffer.from(bytes);
    const stream = this.stream(streamId);
    stream.sendWindow -= payload.length;
    if (endStream) stream.requestEnded = true;
    this.#ledger.sendWindow -= payload.length;
    return this.frame(FrameType.DATA, endStream ? Flag.END_STREAM : 0, streamId, payload);
  }

  /** DATA frames as far as the windows allow, now and as WINDOW_UPDATEs come in. */
  upload(streamId: number, bytes: Buffer, endStream = true): void {
    this.#uploads.set(streamId, { bytes, end: endStream });
    this.#pumpUpload(streamId);
  }

  /** bytes of `upload` that the windows still hold back */
  uploadLeft(streamId: number): number {
    return this.#uploads.get(streamId)?.bytes.length ?? 0;
  }

  settings(entries: readonly (readonly [id: number, value: number])[]): boolean {
    return this.frame(FrameType.SETTINGS, 0, 0, settingsPayload(entries));
  }

  ackSettings(): boolean {
    return this.frame(FrameType.SETTINGS, Flag.ACK, 0);
  }

  /** `opaque` must be 8 bytes to be legal */
  ping(opaque: Buffer = Buffer.alloc(8)): boolean {
    return this.frame(FrameType.PING, 0, 0, opaque);
  }

  ackPing(opaque: Buffer): boolean {
    return this.frame(FrameType.PING, Flag.ACK, 0, opaque);
  }

  rst(streamId: number, errorCode: number): boolean {
    return this.frame(FrameType.RST_STREAM, 0, streamId, uint32(errorCode));
  }

  goaway(lastStreamId: number, errorCode: number, debug = ''): boolean {
    return this.frame(FrameType.GOAWAY, 0, 0, goawayPayload(lastStreamId, errorCode, debug));
  }

  /** Credits a window (0: the connection's). */
  windowUpdate(streamId: number, increment: number): boolean {
    if (streamId === 0) this.#ledger.receiveWindow += increment;
    else this.stream(streamId).receiveWindow += increment;
    return this.frame(FrameType.WINDOW_UPDATE, 0, streamId, uint32(increment));
  }

  // ---- waiting ----

  /**
   * The first frame received that fits, also one that is already here; `after` skips up to and including a frame.
   * Rejects when the connection ends or nothing fits in time, naming the frames that did come.
   */
  async frameWhere(
    fits: (frame: Frame) => boolean,
    options: { after?: Frame; what?: string; timeoutMs?: number } = {},
  ): Promise<Frame> {
    let next = options.after === undefined ? 0 : this.frames.indexOf(options.after) + 1;
    let found: Frame | undefined;
    const look = (): boolean => {
      while (found === undefined && next < this.frames.length) {
        const frame = this.frames[next];
        next += 1;
        if (frame !== undefined && fits(frame)) found = frame;
      }
      return found !== undefined || this.ending !== 'open';
    };
    await this.until(look, options.what ?? 'fitting frame', options.timeoutMs);
    if (found === undefined)
      throw new Error(
        `connection ended (${this.#endingInWords()}) before ${options.what ?? 'a fitting frame'}: ${this.log()}`,
      );
    return found;
  }

  /** The next frame of this type (after `after`), e.g. `await client.expect('GOAWAY')`. */
  expect(type: keyof typeof FrameType, options: { after?: Frame; timeoutMs?: number } = {}): Promise<Frame> {
    const isAck = (frame: Frame): boolean => (type === 'SETTINGS' || type === 'PING') && (frame.flags & Flag.ACK) !== 0;
    return this.frameWhere((frame) => frame.type === FrameType[type] && !isAck(frame), { what: type, ...options });
  }

  /** The ACK of our SETTINGS or PING. */
  expectAck(type: 'SETTINGS' | 'PING', options: { after?: Frame; timeoutMs?: number } = {}): Promise<Frame> {
    const fits = (frame: Frame): boolean => frame.type === FrameType[type] && (frame.flags & Flag.ACK) !== 0;
    return this.frameWhere(fits, { what: `${type} ACK`, ...options });
  }

  /** A stream once it is over: END_STREAM or RST_STREAM received; rejects when the connection ends before. */
  async response(id: number, timeoutMs = 5_000): Promise<H2Stream & { readonly text: string }> {
    const stream = this.stream(id);
    const isOver = (): boolean => stream.ended || stream.reset !== undefined;
    await this.until(() => isOver() || this.ending !== 'open', `end of stream ${id}`, timeoutMs);
    if (!isOver())
      throw new Error(`connection ended (${this.#endingInWords()}) before stream ${id} did: ${this.log()}`);
    return Object.assign(stream, { text: Buffer.concat(stream.body).toString('utf8') });
  }

  /** Sends a request and waits until its stream is over. */
  fetch(request: H2Request = {}): Promise<H2Stream & { readonly text: string }> {
    return this.response(this.request(request));
  }

  /** Waits for the peer's FIN or a reset and says which. */
  async ended(timeoutMs = 5_000): Promise<Ending> {
    await this.until(() => this.ending !== 'open', 'end of the connection', timeoutMs);
    return this.ending;
  }

  /** Waits until something holds; looked at again whenever bytes or the end of the connection come in. */
  async until(holds: () => boolean, what = 'condition', timeoutMs = 5_000): Promise<void> {
    if (await this.wait(holds, timeoutMs)) return;
    throw new Error(`no ${what} after ${timeoutMs} ms (connection ${this.#endingInWords()}): ${this.log()}`);
  }

  /** As `until`, but says whether it holds instead of throwing. */
  wait(holds: () => boolean, timeoutMs: number): Promise<boolean> {
    return this.#waiting.wait(holds, timeoutMs);
  }

  /** Has everyone who waits look again, because something outside of the connection changed. */
  look(): void {
    this.#waiting.look();
  }

  /** The frames received so far, one readable word each. */
  log(): string {
    return this.frames.map(describeFrame).join('; ') || 'no frames';
  }

  // ---- ending ----

  /** close_notify and FIN; reading goes on */
  end(): void {
    this.transport.end();
  }

  /** RST */
  reset(): void {
    this.transport.reset();
  }

  destroy(): void {
    this.transport.destroy();
  }

  // ---- receiving ----

  #receive(frame: Frame): void {
    if (this.#options.record ?? true) this.frames.push(frame);
    this.#ledger.receive(frame);
    const isAck = (frame.flags & Flag.ACK) !== 0;
    if (frame.type === FrameType.PING && !isAck) {
      this.#acknowledge(this.#options.pingAck, () => this.ackPing(frame.payload));
    } else if (frame.type === FrameType.SETTINGS && !isAck) {
      this.#acknowledge(this.#options.settingsAck, () => this.ackSettings());
      this.#pumpUploads();
    } else if (frame.type === FrameType.WINDOW_UPDATE) {
      this.#pumpUploads();
    } else if (frame.type === FrameType.DATA && (this.#options.credit ?? 'auto') === 'auto') {
      this.#credit(frame.streamId, (frame.flags & Flag.END_STREAM) !== 0);
    }
    this.onFrame(frame);
  }

  #credit(streamId: number, ended: boolean): void {
    if (this.receiveWindow < DEFAULT_WINDOW / 2) this.windowUpdate(0, DEFAULT_WINDOW - this.receiveWindow);
    if (ended) return;
    const stream = this.stream(streamId);
    const initial = this.#ledger.ownInitialWindow;
    if (stream.receiveWindow <= initial / 2) this.windowUpdate(streamId, initial - stream.receiveWindow);
  }

  #pumpUploads(): void {
    for (const id of [...this.#uploads.keys()]) this.#pumpUpload(id);
  }

  #pumpUpload(id: number): void {
    const upload = this.#uploads.get(id);
    if (upload === undefined) return;
    const stream = this.stream(id);
    const maxFrame = this.serverSettings.get(Setting.MAX_FRAME_SIZE) ?? 16_384;
    for (;;) {
      const size = Math.max(0, Math.min(upload.bytes.length, stream.sendWindow, this.sendWindow, maxFrame));
      if (size === 0 && upload.bytes.length > 0) return;
      const part = upload.bytes.subarray(0, size);
      upload.bytes = upload.bytes.subarray(size);
      const isLast = upload.bytes.length === 0;
      if (size > 0 || upload.end) this.data(id, part, isLast && upload.end);
      if (!isLast) continue;
      this.#uploads.delete(id);
      return;
    }
  }

  #acknowledge(how: Acknowledge | undefined, send: () => void): void {
    if (how === 'manual') return;
    if (how === undefined || how === 'auto') send();
    else setTimeout(send, how.afterMs);
  }

  #endingInWords(): string {
    return this.transport.error?.code ?? this.ending;
  }
}
