/**
 * PINGs of ours and what they measure: the round trip of each, and a smoothed estimate. Why one is sent is the caller's.
 */
import type { Session } from './session.js';
import type { Tracked, Wire } from './wire.js';

/** Each new round trip has this weight in the estimate. (RFC 6298 §2) */
const WEIGHT = 1 / 8;

/** A PING of ours. Times are on the `now()` clock. */
export class Ping implements Tracked {
  readonly #acked: (at: number) => void;
  #behind = false;
  /** When it went to the socket, or, if older bytes were in its way there, when the socket was done with it. */
  sentAt: number | undefined;
  /** When the socket had written it out. */
  writtenOutAt: number | undefined;
  ackedAt: number | undefined;

  constructor(acked: (at: number) => void) {
    this.#acked = acked;
  }

  /** ms from the socket to the ACK. */
  get rtt(): number | undefined {
    return this.sentAt === undefined || this.ackedAt === undefined ? undefined : this.ackedAt - this.sentAt;
  }

  wrote(at: number, behind: boolean): void {
    this.sentAt = at;
    this.#behind = behind;
  }

  writtenOut(at: number): void {
    this.writtenOutAt = at;
    if (this.#behind && this.ackedAt === undefined) this.sentAt = at;
  }

  acknowledge(at: number): void {
    this.ackedAt = at;
    this.#acked(at);
  }
}

export class Pings {
  readonly #session: Session;
  readonly #wire: Wire;
  /** Those without an ACK, once one was sent: most connections never send any. */
  #open: Map<number, Ping> | undefined;
  #lastId = 0;
  /** The smoothed round trip in ms, once there is one. */
  smoothed: number | undefined;

  constructor(session: Session, wire: Wire) {
    this.#session = session;
    this.#wire = wire;
  }

  /** Puts a PING in the output. */
  send(acked: (at: number) => void = () => {}): Ping {
    const ping = new Ping(acked);
    this.#lastId++;
    this.#open ??= new Map();
    this.#open.set(this.#lastId, ping);
    const opaque = Buffer.alloc(8);
    opaque.writeUInt32BE(this.#lastId, 4);
    this.#session.ping(opaque);
    this.#wire.track(ping);
    this.#wire.schedule();
    return ping;
  }

  /** An ACK has come, of the 8 octets from `start`. One that answers nothing of ours is ignored. */
  acknowledge(bytes: Buffer, start: number, at: number): void {
    const id = bytes.readUInt32BE(start + 4);
    const ping = this.#open?.get(id);
    if (ping === undefined) return;
    this.#open?.delete(id);
    ping.acknowledge(at);
    const { rtt } = ping;
    if (rtt === undefined) return;
    this.smoothed = this.smoothed === undefined ? rtt : this.smoothed + (rtt - this.smoothed) * WEIGHT;
  }
}
