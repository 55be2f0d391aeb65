/**
 * The client of a simulated HTTP/2 connection: a state machine of its own that follows its plan, obeys RFC 9113 (unless
 * the plan says otherwise) and keeps account of what the server said on each stream. Shares no code with the server.
 */
import {
  ErrorCode,
  encodeFrame,
  Flag,
  type Frame,
  FrameReader,
  FrameType,
  HpackCodec,
  MAX_STREAM_ID,
  PREFACE,
  Setting,
  settingsPayload,
  uint32,
} from '../wire/h2-frames.js';
import type { Random } from '../wire/random.js';
import { isPattern, pattern } from './bodies.js';
import { ClientStream } from './h2-stream.js';
import { scheduleWhims, type Whimsical } from './h2-whims.js';
import { DEFAULT_WINDOW, ReceiveWindows, type SendFrame } from './h2-windows.js';
import { HpackWriter } from './hpack-writer.js';
import type { Loop } from './loop.js';
import type { ConnectionPlan, RequestPlan } from './plan.js';
import { type ClientEvents, Tcp } from './tcp.js';

const MAX_FRAME = 16_384;

export class H2SimClient implements ClientEvents, Whimsical {
  readonly tcp: Tcp;
  readonly plan: ConnectionPlan;
  readonly streams = new Map<number, ClientStream>();
  /** last-stream-ids of the server's GOAWAYs */
  readonly goaways: number[] = [];
  /** what the server did that it must not do */
  readonly violations: string[] = [];
  /** It has ended the connection itself, or broken it. */
  left = false;
  /** The server has ended its side. */
  finReceived = false;
  wasReset = false;
  /** It closed its side before the server did, as a client may that has nothing left to wait for. */
  closedBeforeFin = false;
  readonly #loop: Loop;
  readonly #random: Random;
  readonly #hpack = new HpackCodec();
  readonly #writer = new HpackWriter();
  readonly #reader = new FrameReader();
  readonly #windows: ReceiveWindows;
  readonly #trace: (line: string) => void;
  #nextId = 1;
  /** Streams that are open or half-closed, from the client's point of view. */
  #open = 0;
  /** The most that were open at once, and how many the server allows. */
  peakOpen = 0;
  /** Requests that have been decided on and not yet written. */
  #allocated = 0;
  #waitingForSlot: RequestPlan[] = [];
  #maxConcurrent = Infinity;
  #serverInitialWindow = DEFAULT_WINDOW;
  #sendWindow = DEFAULT_WINDOW;
  /** The preface is on its way. */
  #begun = false;
  /** What has to wait for it. */
  readonly #early: Buffer[] = [];
  /** It says nothing more, whatever happens. */
  #mute = false;
  #closed = false;
  #goawayAt: number | undefined;
  #finalAt: number | undefined;

  constructor(loop: Loop, random: Random, plan: ConnectionPlan, port: number, trace: (line: string) => void) {
    this.#loop = loop;
    this.#random = random;
    this.plan = plan;
    this.#trace = trace;
    this.#windows = new ReceiveWindows(loop, plan, this.send);
    this.tcp = new Tcp(loop, random.fork(), plan.network, this, port);
    this.tcp.readDelay = plan.readDelay;
  }

  /** The connection is established: everything that the plan says will happen. */
  start(): void {
    const { plan } = this;
    const loop = this.#loop;
    for (const { at, ms } of plan.readPauses) loop.at(at, () => this.tcp.pauseReading(at + ms));
    loop.after(plan.prefaceDelay, () => this.#begin());
    scheduleWhims(loop, this);
    if (plan.windowsFrom > 0 && plan.windowsFrom < Infinity) {
      loop.at(plan.windowsFrom, () => this.#windows.openAll(this.streams.values()));
    }
  }

  #begin(): void {
    const { plan, tcp } = this;
    if (this.#mute) return;
    const settings = settingsPayload([[Setting.INITIAL_WINDOW_SIZE, plan.initialWindow]]);
    this.#begun = true;
    tcp.send(Buffer.concat([PREFACE, encodeFrame(FrameType.SETTINGS, 0, 0, settings), ...this.#early]));
    for (const request of plan.requests) {
      this.#loop.at(Math.max(request.at, this.#loop.time), () => this.#decide(request));
    }
  }

  /** Sends a frame, unless the client says nothing more. */
  readonly send: SendFrame = (type, flags, streamId, payload) => {
    if (this.#mute) return;
    const frame = encodeFrame(type, flags, streamId, payload);
    if (this.#begun) this.tcp.send(frame);
    else this.#early.push(frame);
  };

  get active(): boolean {
    return this.#nextId > 1;
  }

  get silent(): boolean {
    return this.#mute || this.#closed;
  }

  leave(how: string): void {
    this.#trace(`client ${how}`);
    this.left = true;
    this.#mute = true;
  }

  get allowedOpen(): number {
    return this.#maxConcurrent;
  }

  // Requests

  #mayOpen(): boolean {
    if (this.#mute || this.#closed || this.finReceived || this.wasReset) return false;
    if (this.#goawayAt === undefined) return true;
    if (this.plan.afterGoaway === 'stops') return false;
    return this.#finalAt === undefined || this.#loop.time <= this.#finalAt + this.plan.goesOnFor;
  }

  #decide(request: RequestPlan): void {
    if (!this.#mayOpen()) return;
    if (this.#open + this.#allocated >= this.#maxConcurrent) {
      this.#waitingForSlot.push(request);
      return;
    }
    if (request.writerLag === 0) {
      this.#send(request);
      return;
    }
    this.#allocated++;
    this.#loop.after(request.writerLag, () => {
      this.#allocated--;
      if (!this.#mute && !this.#closed && !this.wasReset) this.#send(request);
      else this.#look();
    });
  }

  #send(request: RequestPlan): void {
    const { tcp } = this;
    const { method, bodySize, tunnel, malformed, key, headPause, expects } = request;
    const id = this.#nextId;
    this.#nextId += 2;
    const hasBody = bodySize > 0 || request.trailers;
    const fields: [string, string][] = tunnel
      ? [
          [':method', 'CONNECT'],
          [':authority', `simulation:${key}`],
        ]
      : [
          [':method', method],
          [':scheme', 'http'],
          [':path', `/${key}`],
          [':authority', 'simulation'],
          ['x-client', `client ${key % 3}`],
        ];
    if (malformed) fields.splice(2, 1);
    if (hasBody && !tunnel && key % 3 === 0) fields.push(['content-length', String(bodySize)]);
    if (expects > 0) fields.push(['expect', '100-continue']);
    const flags = Flag.END_HEADERS | (hasBody ? 0 : Flag.END_STREAM);
    this.#trace(`client opens ${id} for /${key}`);
    const block = this.#writer.encode(fields);
    if (!tcp.sendHead(encodeFrame(FrameType.HEADERS, flags, id, block), headPause)) return;
    const stream = new ClientStream(id, request, tcp.clientSent, this.#serverInitialWindow, this.plan.initialWindow);
    this.streams.set(id, stream);
    this.#open++;
    this.peakOpen = Math.max(this.peakOpen, this.#open);
    if (request.cancelAfter !== Infinity) this.#loop.after(request.cancelAfter, () => this.#cancel(stream));
    this.#windows.opened(stream);
    if (expects === 0) {
      this.#pump(stream);
      return;
    }
    stream.pausing = true;
    if (expects !== Infinity) this.#loop.after(expects, () => this.#goOn(stream));
  }

  /** The body may follow: the server has said so, or long nothing. */
  #goOn(stream: ClientStream): void {
    if (stream.continues) return;
    stream.continues = true;
    stream.pausing = false;
    this.#pump(stream);
  }

  #cancel(stream: ClientStream): void {
    if (!stream.open || this.silent) return;
    this.#trace(`client cancels ${stream.id}`);
    this.send(FrameType.RST_STREAM, 0, stream.id, uint32(ErrorCode.CANCEL));
    stream.cancelEnd = this.tcp.clientSent;
    this.#ended();
  }

  /** A stream has left the open ones. */
  #ended(): void {
    this.#open--;
    const next = this.#waitingForSlot.shift();
    if (next !== undefined) this.#decide(next);
    this.#look();
  }

  /** Sends as much of the body as windows and plan let through. */
  #pump(stream: ClientStream): void {
    if (stream.endSent || stream.pausing || !stream.open || this.#mute) return;
    const { plan } = stream;
    for (;;) {
      const sent = plan.bodySize - stream.bodyLeft;
      const room = Math.min(stream.sendWindow, this.#sendWindow, MAX_FRAME, plan.bodyStallsAt - sent);
      if (stream.bodyLeft > 0 && room <= 0) return;
      const length = Math.min(stream.bodyLeft, Math.max(0, room), 1 + this.#random.below(MAX_FRAME));
      stream.bodyLeft -= length;
      stream.sendWindow -= length;
      this.#sendWindow -= length;
      const last = stream.bodyLeft === 0;
      const ends = last && !plan.trailers;
      if (length > 0 || ends) {
        this.send(FrameType.DATA, ends ? Flag.END_STREAM : 0, stream.id, pattern(plan.key, length));
      }
      if (last && plan.trailers) {
        const block = this.#writer.encode([['x-sum', String(plan.bodySize)]]);
        this.send(FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, stream.id, block);
      }
      if (last) {
        stream.endSent = true;
        if (stream.ended) this.#ended();
        return;
      }
      if (plan.bodyPause > 0) {
        stream.pausing = true;
        this.#loop.after(plan.bodyPause, () => {
          stream.pausing = false;
          this.#pump(stream);
        });
        return;
      }
    }
  }

  #pumpAll(): void {
    for (const stream of this.streams.values()) this.#pump(stream);
  }

  // What comes

  bytes(bytes: Buffer): void {
    this.#reader.push(bytes, (frame) => this.#receive(frame));
  }

  fin(): void {
    this.#trace('client reads FIN');
    this.finReceived = true;
    if (this.plan.closes === 'never') return;
    this.#loop.after(this.plan.closeDelay, () => this.#close());
  }

  reset(): void {
    this.#trace('client is reset');
    this.wasReset = true;
    this.#closed = true;
  }

  #close(): void {
    if (this.#closed) return;
    this.#trace('client closes');
    this.#closed = true;
    if (this.finReceived) {
      this.tcp.close();
    } else {
      this.closedBeforeFin = true;
      this.tcp.finish();
    }
  }

  /** Perhaps the client has nothing left to wait for. */
  #look(): void {
    const { plan } = this;
    if (this.#goawayAt === undefined || this.#closed || plan.closes !== 'idle' || plan.afterGoaway === 'goes on')
      return;
    if (this.#open > 0 || this.#allocated > 0) return;
    this.#loop.after(plan.closeDelay, () => {
      if (this.#open === 0 && this.#allocated === 0) this.#close();
    });
  }

  #violated(what: string): void {
    this.violations.push(what);
  }

  #receive(frame: Frame): void {
    const { streamId, flags } = frame;
    switch (frame.type) {
      case FrameType.HEADERS:
        this.#headers(streamId, flags, frame.payload);
        break;
      case FrameType.DATA:
        this.#data(streamId, flags, frame.payload);
        break;
      case FrameType.RST_STREAM:
        this.#resetStream(streamId, frame.payload.readUInt32BE(0));
        break;
      case FrameType.SETTINGS:
        if ((flags & Flag.ACK) === 0) this.#settings(frame.payload);
        break;
      case FrameType.PING:
        if ((flags & Flag.ACK) === 0) this.#ping(frame.payload);
        break;
      case FrameType.GOAWAY:
        this.#goaway(frame.payload.readUInt32BE(0) & MAX_STREAM_ID, frame.payload.readUInt32BE(4));
        break;
      case FrameType.WINDOW_UPDATE:
        this.#windowUpdate(streamId, frame.payload.readUInt32BE(0));
        break;
      default:
        this.#violated(`frame of type ${frame.type}`);
    }
  }

  #stream(id: number, what: string): ClientStream | undefined {
    const stream = this.streams.get(id);
    if (stream === undefined) this.#violated(`${what} on stream ${id}, which was never opened`);
    else if (stream.ended && what !== 'RST_STREAM' && what !== 'WINDOW_UPDATE') {
      this.#violated(`${what} on stream ${id} after END_STREAM`);
    } else if (stream.reset !== undefined) this.#violated(`${what} on stream ${id} after RST_STREAM`);
    const final = this.goaways.at(-1);
    if (final !== undefined && id > final && what !== 'RST_STREAM') {
      this.#violated(`${what} on stream ${id}, above the last-stream-id ${final}`);
    }
    return stream;
  }

  #headers(id: number, flags: number, block: Buffer): void {
    const fields = new Map(this.#hpack.decode(block));
    const stream = this.#stream(id, 'HEADERS');
    if (stream === undefined) return;
    const status = fields.get(':status');
    if (status === '100') {
      if (stream.plan.expects === 0) this.#violated(`a 100 on stream ${id}, which didn't ask for it`);
      this.#goOn(stream);
    }
    if (status?.startsWith('1') === true) return;
    if (stream.status === undefined) {
      stream.status = Number(status);
      if (stream.status === 200 && fields.get('x-key') !== String(stream.plan.key)) {
        this.#violated(`stream ${id} got the answer for /${fields.get('x-key')} instead of /${stream.plan.key}`);
      }
    } else if (status !== undefined || (flags & Flag.END_STREAM) === 0) {
      this.#violated(`a second head on stream ${id}`);
    }
    if ((flags & Flag.END_STREAM) !== 0) this.#endStream(stream);
  }

  #data(id: number, flags: number, payload: Buffer): void {
    const { length } = payload;
    const stream = this.#stream(id, 'DATA');
    const exceeded = this.#windows.received(length, stream);
    if (exceeded !== undefined) this.#violated(exceeded);
    if (stream === undefined) return;
    stream.received += length;
    if (stream.status === undefined) this.#violated(`DATA before the head of stream ${id}`);
    if (!isPattern(stream.plan.key, payload)) this.#violated(`the body on stream ${id} is not its own`);
    if ((flags & Flag.END_STREAM) !== 0) this.#endStream(stream);
    this.#windows.credit(stream);
  }

  #endStream(stream: ClientStream): void {
    this.#trace(`client has the answer on ${stream.id}`);
    stream.ended = true;
    const { answer, method, tunnel, bodySize } = stream.plan;
    const expected = tunnel ? bodySize : method === 'HEAD' ? 0 : answer.size;
    if (stream.status !== 200) this.#violated(`status ${stream.status} on stream ${stream.id}`);
    else if (stream.received !== expected) {
      this.#violated(`the body of stream ${stream.id} has ${stream.received} bytes instead of ${expected}`);
    }
    if (stream.endSent && !stream.cancelled) this.#ended();
  }

  #resetStream(id: number, code: number): void {
    const stream = this.#stream(id, 'RST_STREAM');
    if (stream === undefined) return;
    this.#trace(`client reads RST_STREAM ${code} on ${id}`);
    const open = stream.open;
    stream.reset = code;
    if (open) this.#ended();
  }

  #settings(payload: Buffer): void {
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      const id = payload.readUInt16BE(at);
      const value = payload.readUInt32BE(at + 2);
      if (id === Setting.INITIAL_WINDOW_SIZE) {
        for (const stream of this.streams.values()) stream.sendWindow += value - this.#serverInitialWindow;
        this.#serverInitialWindow = value;
      } else if (id === Setting.MAX_CONCURRENT_STREAMS) this.#maxConcurrent = value;
    }
    this.send(FrameType.SETTINGS, Flag.ACK, 0);
    this.#pumpAll();
  }

  #ping(payload: Buffer): void {
    const { pingAckDelay } = this.plan;
    if (pingAckDelay === Infinity) return;
    const opaque = Buffer.from(payload);
    const ack = (): void => this.send(FrameType.PING, Flag.ACK, 0, opaque);
    if (pingAckDelay === 0) ack();
    else this.#loop.after(pingAckDelay, ack);
  }

  #goaway(lastStreamId: number, code: number): void {
    this.#trace(`client reads GOAWAY ${lastStreamId} ${code}`);
    const before = this.goaways.at(-1) ?? MAX_STREAM_ID;
    if (lastStreamId > before) this.#violated(`last-stream-id rose from ${before} to ${lastStreamId}`);
    this.goaways.push(lastStreamId);
    this.#goawayAt ??= this.#loop.time;
    if (lastStreamId !== MAX_STREAM_ID) {
      this.#finalAt ??= this.#loop.time;
      for (const stream of this.streams.values()) {
        if (stream.id <= lastStreamId) continue;
        if (stream.status !== undefined) this.#violated(`stream ${stream.id} was answered, then refused`);
        // it was not processed: the client forgets it, and will not hear of it again
        const open = stream.open;
        stream.forgotten = true;
        if (open) this.#ended();
      }
    }
    this.#look();
  }

  // Windows

  #windowUpdate(id: number, increment: number): void {
    if (id === 0) {
      this.#sendWindow += increment;
      this.#pumpAll();
      return;
    }
    const stream = this.#stream(id, 'WINDOW_UPDATE');
    if (stream === undefined) return;
    stream.sendWindow += increment;
    this.#pump(stream);
  }
}
