/**
 * A client that attacks: exact bytes out at a given pace, and of what comes in only what tells how the server takes it.
 * It keeps nothing per stream, so that floods of any length fit. The polite raw clients are in wire/.
 */
import {
  encodeFrame,
  errorName,
  FrameReader,
  FrameType,
  HpackCodec,
  PREFACE,
  readGoaway,
  settingsPayload,
} from '../wire/h2-frames.js';
import { Transport } from '../wire/transport.js';
import { Waiting } from '../wire/waiting.js';
import { delay, type Outcome, type Target } from './attack.js';

/** How long a refused connection may take to be closed, and the end of one to be heard behind what wasn't read, in ms. */
const UNTIL_ENDED = 5_000;
const UNTIL_HEARD = 2_000;

export interface PeerOptions {
  readonly alpn?: string;
  /** read nothing at all (default false) */
  readonly deaf?: boolean;
}

/** Any bytes over TLS, and what becomes of the connection. */
export class AttackPeer {
  readonly transport: Transport;
  protected readonly target: Target;
  protected readonly waiting = new Waiting();
  sent = 0;
  received = 0;

  constructor(transport: Transport, target: Target) {
    this.transport = transport;
    this.target = target;
    transport.onBytes = (bytes) => {
      this.received += bytes.length;
      this.read(bytes);
      this.waiting.look();
    };
    transport.onEnding = () => this.waiting.look();
    transport.socket.on('drain', () => this.waiting.look());
  }

  protected read(_bytes: Buffer): void {}

  /** The server has ended it, or the attacker's time is over. */
  get over(): boolean {
    return this.refused || this.transport.ending !== 'open' || performance.now() >= this.target.until;
  }

  /** The server has said that it is enough. */
  get refused(): boolean {
    return false;
  }

  /** Sends at the target's pace; false: there is no use in going on. */
  async write(bytes: Buffer | string): Promise<boolean> {
    await this.target.pace.bytes(bytes.length);
    if (this.over || !this.transport.write(bytes)) return false;
    this.sent += bytes.length;
    if (this.transport.socket.writableNeedDrain) {
      await this.wait(() => !this.transport.socket.writableNeedDrain);
    } else {
      // What the server has said meanwhile is read.
      await new Promise((resolve) => setImmediate(resolve));
    }
    return !this.over;
  }

  /** Waits for something, or for the end; false: it was the end. */
  async wait(holds: () => boolean): Promise<boolean> {
    await this.waiting.wait(() => holds() || this.over, Math.max(1, this.target.until - performance.now()));
    return holds();
  }

  /** Does nothing for a while, or until the end. */
  async idle(ms: number): Promise<void> {
    await Promise.race([delay(ms), this.wait(() => false)]);
  }

  /** How it ended; the connection is closed. */
  async outcome(): Promise<Outcome> {
    const ending = await this.describe();
    this.transport.reset();
    return { sent: this.sent, ending };
  }

  protected async describe(): Promise<string> {
    // After a refusal the server closes; that it does is part of the ending.
    if (this.refused) await this.waiting.wait(() => this.transport.ending !== 'open', UNTIL_ENDED);
    // Whoever doesn't read doesn't hear of a reset either. When time is over there is none to hear of, and the server
    // would be served all that was never read: work that is no part of the attack, in the quiet behind it.
    if (this.transport.socket.isPaused() && performance.now() < this.target.until) {
      this.transport.socket.resume();
      await this.waiting.wait(() => this.transport.ending !== 'open', UNTIL_HEARD);
    }
    const { ending } = this.transport;
    return ending === 'fin' ? 'closed' : ending;
  }
}

export interface H2PeerOptions extends PeerOptions {
  readonly settings?: readonly (readonly [id: number, value: number])[];
  /** decode what is answered; else only counted (default false) */
  readonly decode?: boolean;
  readonly preface?: boolean;
  /** acknowledge SETTINGS (default true) */
  readonly ack?: boolean;
}

/** Frames over TLS. SETTINGS are acknowledged, windows and PINGs are not. */
export class H2Peer extends AttackPeer {
  readonly #reader = new FrameReader();
  readonly #hpack: HpackCodec | undefined;
  /** RST_STREAM received, by their error code's name */
  readonly resets = new Map<string, number>();
  readonly statuses = new Map<string, number>();
  answers = 0;
  #goaway: { errorCode: number; debug: string } | undefined;
  #drained = false;
  readonly #ack: boolean;

  constructor(transport: Transport, target: Target, options: H2PeerOptions = {}) {
    super(transport, target);
    this.#hpack = options.decode === true ? new HpackCodec() : undefined;
    this.#ack = options.ack ?? options.preface ?? true;
    if (options.deaf === true) transport.socket.pause();
    if (options.preface === false) return;
    const opening = Buffer.concat([
      PREFACE,
      encodeFrame(FrameType.SETTINGS, 0, 0, settingsPayload(options.settings ?? [])),
    ]);
    transport.write(opening);
    this.sent += opening.length;
  }

  static async open(target: Target, options: H2PeerOptions = {}): Promise<H2Peer> {
    return new H2Peer(await Transport.connect({ port: target.port, alpn: ['h2'] }), target, options);
  }

  override get refused(): boolean {
    return this.#goaway !== undefined;
  }

  protected override read(bytes: Buffer): void {
    this.#reader.push(bytes, ({ type, flags, payload }) => {
      switch (type) {
        case FrameType.SETTINGS:
          if (this.#ack && (flags & 1) === 0) this.transport.write(encodeFrame(FrameType.SETTINGS, 1, 0));
          break;
        case FrameType.RST_STREAM:
          count(this.resets, errorName(payload.readUInt32BE(0)));
          break;
        case FrameType.HEADERS:
          this.answers++;
          if (this.#hpack !== undefined) count(this.statuses, this.#hpack.decode(payload)[0]?.[1] ?? '');
          break;
        case FrameType.GOAWAY: {
          const goaway = readGoaway({ type, flags, payload, streamId: 0, at: 0 });
          if (goaway.errorCode === 0) this.#drained = true;
          else this.#goaway = goaway;
          break;
        }
        default:
          break;
      }
    });
  }

  protected override async describe(): Promise<string> {
    const ending = await super.describe();
    const said: string[] = [];
    const commonest = [...this.resets].sort(([, a], [, b]) => b - a)[0];
    if (commonest !== undefined) said.push(`RST_STREAM ${commonest[0]}`);
    const status = [...this.statuses].sort(([, a], [, b]) => b - a)[0];
    if (status !== undefined) said.push(status[0]);
    if (this.#drained) said.push('drain');
    if (this.#goaway !== undefined) {
      said.push(`GOAWAY ${errorName(this.#goaway.errorCode)} "${this.#goaway.debug}"`);
    }
    said.push(ending);
    return said.join(', ');
  }
}

/** Text over TLS. */
export class H1Peer extends AttackPeer {
  #head = '';

  static async open(target: Target, options: PeerOptions = {}): Promise<H1Peer> {
    const peer = new H1Peer(await Transport.connect({ port: target.port, alpn: ['http/1.1'] }), target);
    if (options.deaf === true) peer.transport.socket.pause();
    return peer;
  }

  protected override read(bytes: Buffer): void {
    if (this.#head.length < 4_096) this.#head += bytes.toString('latin1', 0, 4_096);
  }

  /** Status codes received so far, as far as they are kept. */
  get statuses(): string[] {
    return [...this.#head.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => status ?? '');
  }

  protected override async describe(): Promise<string> {
    const ending = await super.describe();
    const last = this.statuses.at(-1);
    return last === undefined ? ending : `${last}, ${ending}`;
  }
}

function count(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}
