/**
 * How a simulated client opens its HTTP/2 windows: at once, late, not before a certain time, or never. Also finds out
 * whether the server keeps to them.
 */
import { FrameType, uint32 } from '../wire/h2-frames.js';
import type { ClientStream } from './h2-stream.js';
import type { Loop } from './loop.js';
import type { ConnectionPlan } from './plan.js';

/** RFC 9113 §6.9.2 */
export const DEFAULT_WINDOW = 65_535;

/** What a stream that began with no window at all is given. */
const FIRST_WINDOW = 20_000;

/** Sends a frame; without effect when the client is silent. */
export type SendFrame = (type: number, flags: number, streamId: number, payload?: Buffer) => void;

export class ReceiveWindows {
  readonly #loop: Loop;
  readonly #plan: ConnectionPlan;
  readonly #send: SendFrame;
  #window = DEFAULT_WINDOW;
  #owed = 0;
  #opening: boolean;

  constructor(loop: Loop, plan: ConnectionPlan, send: SendFrame) {
    this.#loop = loop;
    this.#plan = plan;
    this.#send = send;
    this.#opening = plan.windowsFrom === 0;
  }

  /** A stream has begun. */
  opened(stream: ClientStream): void {
    if (this.#opening && this.#plan.initialWindow === 0) this.#open(stream);
  }

  /** DATA has come; tells what the server did wrong. */
  received(length: number, stream: ClientStream | undefined): string | undefined {
    this.#window -= length;
    this.#owed += length;
    if (this.#window < 0) return 'the window of the connection is exceeded';
    if (stream === undefined) return undefined;
    stream.receiveWindow -= length;
    stream.owed += length;
    return stream.receiveWindow < 0 ? `the window of stream ${stream.id} is exceeded` : undefined;
  }

  /** Gives back what has been received, at the pace of the plan. */
  credit(stream: ClientStream): void {
    if (!this.#opening) return;
    const { initialWindow } = this.#plan;
    const due = stream.owed * 2 >= initialWindow || stream.receiveWindow <= 0;
    if (due && !stream.ended) this.#later(() => this.#open(stream));
    if (this.#owed * 2 >= DEFAULT_WINDOW || this.#window <= 0) this.#later(() => this.#openConnection());
  }

  /** The time has come from which windows open. */
  openAll(streams: Iterable<ClientStream>): void {
    this.#opening = true;
    this.#openConnection();
    for (const stream of streams) this.#open(stream);
  }

  #later(callback: () => void): void {
    const { windowDelay } = this.#plan;
    if (windowDelay === 0) callback();
    else this.#loop.after(windowDelay, callback);
  }

  #open(stream: ClientStream): void {
    const increment = stream.owed === 0 && stream.receiveWindow === 0 ? FIRST_WINDOW : stream.owed;
    if (increment === 0 || !stream.open || stream.ended) return;
    stream.owed = 0;
    stream.receiveWindow += increment;
    this.#send(FrameType.WINDOW_UPDATE, 0, stream.id, uint32(increment));
  }

  #openConnection(): void {
    if (this.#owed === 0) return;
    this.#window += this.#owed;
    this.#send(FrameType.WINDOW_UPDATE, 0, 0, uint32(this.#owed));
    this.#owed = 0;
  }
}
