/**
 * The smallest HTTP/2 server that drains a connection as RFC 9113 §6.8 says: GOAWAY(2^31-1), a PING, and a while after
 * its ACK the real last-stream-id; everything accepted is answered, then it half-closes and lingers. Raw frames and
 * nothing of src/: what a client does wrong here is the client's. Its answers are too small to need flow control.
 */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import type { Certificate } from '../wire/certificate.js';
import {
  ErrorCode,
  encodeFrame,
  encodeLiterals,
  type FieldList,
  Flag,
  type Frame,
  FrameReader,
  FrameType,
  goawayPayload,
  HpackCodec,
  MAX_STREAM_ID,
  PREFACE,
  Setting,
  settingsPayload,
  uint32,
} from '../wire/h2-frames.js';

/** How long a client that had a stream allocated may take to write it, beyond the ACK; or the round trip, if longer. */
const GRACE_MS = 10;

/** How long a client may be silent after the FIN. */
const LINGER_MS = 2_000;

const MAX_CONCURRENT_STREAMS = 100;

export interface ReferenceRequest {
  readonly method: string;
  readonly path: string;
  readonly body: Buffer;
}

export interface ReferenceAnswer {
  readonly fields?: FieldList;
  readonly body: Buffer | string;
}

export type Answer = (request: ReferenceRequest) => ReferenceAnswer | Promise<ReferenceAnswer>;

/** A request whose end has not come. */
interface Incoming {
  readonly method: string;
  readonly path: string;
  readonly parts: Buffer[];
}

type State = 'open' | 'announced' | 'committed' | 'lingering';

export class ReferenceConnection {
  readonly #socket: TLSSocket;
  readonly #answer: Answer;
  readonly #reader = new FrameReader();
  readonly #hpack = new HpackCodec();
  readonly #incoming = new Map<number, Incoming>();
  #state: State = 'open';
  #preface = 0;
  #highest = 0;
  #open = 0;
  #announcedAt = 0;

  constructor(socket: TLSSocket, answer: Answer) {
    this.#socket = socket;
    this.#answer = answer;
    socket.setNoDelay(true);
    socket.allowHalfOpen = true;
    socket.on('data', (bytes: Buffer) => this.#receive(bytes));
    socket.on('end', () => socket.end());
    socket.on('error', () => socket.destroy());
    const settings = settingsPayload([
      [Setting.MAX_CONCURRENT_STREAMS, MAX_CONCURRENT_STREAMS],
      [Setting.INITIAL_WINDOW_SIZE, 1_048_576],
    ]);
    this.#send(FrameType.SETTINGS, 0, 0, settings);
  }

  /** Begins a drain; a second call does nothing. */
  drain(): void {
    if (this.#state !== 'open') return;
    this.#state = 'announced';
    this.#announcedAt = performance.now();
    this.#send(FrameType.GOAWAY, 0, 0, goawayPayload(MAX_STREAM_ID, ErrorCode.NO_ERROR));
    this.#send(FrameType.PING, 0, 0, Buffer.alloc(8, 1));
  }

  /** A request has come. */
  get used(): boolean {
    return this.#highest > 0;
  }

  get draining(): boolean {
    return this.#state !== 'open';
  }

  #receive(bytes: Buffer): void {
    const prefaceBytes = Math.min(bytes.length, PREFACE.length - this.#preface);
    this.#preface += prefaceBytes;
    this.#reader.push(Buffer.from(bytes.subarray(prefaceBytes)), (frame) => this.#receiveFrame(frame));
  }

  #receiveFrame(frame: Frame): void {
    const isAck = (frame.flags & Flag.ACK) !== 0;
    switch (frame.type) {
      case FrameType.SETTINGS:
        if (!isAck) this.#send(FrameType.SETTINGS, Flag.ACK, 0);
        return;
      case FrameType.PING:
        if (!isAck) this.#send(FrameType.PING, Flag.ACK, 0, frame.payload);
        else if (this.#state === 'announced') this.#acknowledged();
        return;
      case FrameType.HEADERS:
        this.#receiveHeaders(frame);
        return;
      case FrameType.DATA:
        this.#receiveData(frame);
        return;
      case FrameType.RST_STREAM:
        if (this.#incoming.delete(frame.streamId)) this.#closed();
        return;
    }
  }

  #receiveHeaders(frame: Frame): void {
    const fields = new Map(this.#hpack.decode(fragmentOf(frame)));
    const { streamId } = frame;
    if (!this.#incoming.has(streamId)) {
      if (this.#state === 'committed' || this.#state === 'lingering') {
        this.#send(FrameType.RST_STREAM, 0, streamId, uint32(ErrorCode.REFUSED_STREAM));
        return;
      }
      this.#highest = Math.max(this.#highest, streamId);
      this.#open += 1;
      const [method, path] = [fields.get(':method') ?? '', fields.get(':path') ?? ''];
      this.#incoming.set(streamId, { method, path, parts: [] });
    }
    if ((frame.flags & Flag.END_STREAM) !== 0) void this.#respond(streamId);
  }

  #receiveData({ streamId, payload, flags }: Frame): void {
    const incoming = this.#incoming.get(streamId);
    // Padding counts too (RFC 9113 §6.1), but none of the clients pads.
    if (payload.length > 0) this.#send(FrameType.WINDOW_UPDATE, 0, 0, uint32(payload.length));
    if (incoming === undefined) return;
    incoming.parts.push(payload);
    if ((flags & Flag.END_STREAM) !== 0) void this.#respond(streamId);
    else if (payload.length > 0) this.#send(FrameType.WINDOW_UPDATE, 0, streamId, uint32(payload.length));
  }

  async #respond(streamId: number): Promise<void> {
    const incoming = this.#incoming.get(streamId);
    if (incoming === undefined) return;
    const { method, path, parts } = incoming;
    const { fields = [], body } = await this.#answer({ method, path, body: Buffer.concat(parts) });
    // Cancelled meanwhile.
    if (!this.#incoming.delete(streamId)) return;
    const payload = Buffer.from(body);
    const head = encodeLiterals([[':status', '200'], ['content-length', `${payload.length}`], ...fields]);
    this.#send(FrameType.HEADERS, Flag.END_HEADERS, streamId, head);
    this.#send(FrameType.DATA, Flag.END_STREAM, streamId, payload);
    this.#closed();
  }

  #acknowledged(): void {
    const rtt = performance.now() - this.#announcedAt;
    setTimeout(() => setImmediate(() => this.#commit()), Math.max(GRACE_MS, rtt));
  }

  #commit(): void {
    if (this.#state !== 'announced') return;
    this.#state = 'committed';
    this.#send(FrameType.GOAWAY, 0, 0, goawayPayload(this.#highest, ErrorCode.NO_ERROR));
    this.#look();
  }

  #closed(): void {
    this.#open -= 1;
    this.#look();
  }

  #look(): void {
    if (this.#state !== 'committed' || this.#open > 0) return;
    this.#state = 'lingering';
    this.#socket.end();
    this.#socket.setTimeout(LINGER_MS, () => this.#socket.destroy());
  }

  #send(type: number, flags: number, streamId: number, payload?: Buffer): void {
    if (this.#socket.writable) this.#socket.write(encodeFrame(type, flags, streamId, payload));
  }
}

export class ReferenceServer {
  readonly #server: Server;
  readonly connections = new Set<ReferenceConnection>();
  readonly port: number;

  private constructor(server: Server) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
  }

  /** Listens on a free port of loopback; `onSocket` sees each socket before the server does. */
  static async listen(
    certificate: Certificate,
    answer: Answer,
    onSocket: (socket: TLSSocket) => void = () => {},
  ): Promise<ReferenceServer> {
    const server = createServer({ ...certificate, ALPNProtocols: ['h2'] });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const made = new ReferenceServer(server);
    server.on('tlsClientError', (_error, socket) => socket.destroy());
    server.on('secureConnection', (socket) => {
      onSocket(socket);
      const connection = new ReferenceConnection(socket, answer);
      made.connections.add(connection);
      socket.on('close', () => made.connections.delete(connection));
    });
    return made;
  }

  /** Stops accepting; resolves when no connection is left, or after so many ms. */
  async close(timeoutMs: number): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    await Promise.race([closed, late]);
    clearTimeout(timer);
  }
}

/** The header block fragment of HEADERS, without padding and priority (RFC 9113 §6.2). */
function fragmentOf({ flags, payload }: Frame): Buffer {
  let start = 0;
  let end = payload.length;
  if ((flags & Flag.PADDED) !== 0) {
    end -= payload.readUInt8(0);
    start += 1;
  }
  if ((flags & Flag.PRIORITY) !== 0) start += 5;
  return payload.subarray(start, end);
}
