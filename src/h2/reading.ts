/**
 * A connection's received bytes on their way to the session: Node reads them into one buffer that all connections share,
 * so that they cost no memory of their own, and what isn't this turn's to read waits here. What they mean is the
 * session's.
 */
import type { Socket } from 'node:net';
import { Alarm, now } from '../core/timing.js';
import { inLaterTurn } from '../core/turns.js';
import { readInto } from '../socket-internals.js';
import type { Pace } from './receive.js';

/** As much as Node reads at once. */
const BUFFER = Buffer.allocUnsafeSlow(65_536);

/** ms of a turn of the event loop that one connection may take with what it has sent: then the others come first. */
const SLICE = 0.125;

/** Whose bytes are in it while they are read. */
let holder: Reading | undefined;

/** Who reads. */
export interface BytesReader {
  /**
   * Reads bytes[0..end), which are there during the call only.
   *
   * @returns how many octets were read: the rest comes again in another turn
   */
  received(bytes: Buffer, end: number): number;
  /** The peer has ended its side, and everything before it has been read. */
  peerEnded(): void;
  /** What is being read right now is gone: nothing more of it may be read. */
  overwritten(): void;
}

export class Reading implements Pace {
  readonly #socket: Socket;
  readonly #reader: BytesReader;
  /** What was received and is not read yet, in order. */
  #rest: Buffer | undefined;
  #turnComes = false;
  #waitsForTurn = false;
  /** ms of this turn that reading has taken, over TLS record by record, as far as it was looked at, */
  #used = 0;
  /** and when that was, on the `now()` clock. */
  #lookedAt = 0;
  /** Until when little is read, on the same clock, */
  #delayedUntil = 0;
  /** and its end. */
  #delay: Alarm | undefined;
  #paused = false;
  #ended = false;

  constructor(socket: Socket, reader: BytesReader) {
    this.#socket = socket;
    this.#reader = reader;
  }

  start(): void {
    const socket = this.#socket;
    // What was read before, and all that comes from a mere duplex, comes as 'data'.
    socket.on('data', (bytes: Buffer) => this.#received(bytes, bytes.length));
    socket.on('end', () => {
      this.#ended = true;
      if (this.#rest === undefined) this.#reader.peerEnded();
    });
    readInto(socket, BUFFER, (size) => this.#receivedShared(size));
  }

  /** One at a time, unless the application writes nothing to the socket itself: Node decrypts more, then and there. */
  #receivedShared(size: number): void {
    if (holder !== undefined) holder.#reader.overwritten();
    holder = this;
    try {
      this.#received(BUFFER, size);
    } finally {
      holder = undefined;
    }
  }

  begins(at: number): void {
    this.#lookedAt = at;
  }

  /** Turns are only told apart where what is read takes time. */
  spent(): boolean {
    const at = now();
    this.#used += at - this.#lookedAt;
    this.#lookedAt = at;
    if (at < this.#delayedUntil) return true;
    if (this.#used < SLICE / 2) return false;
    this.#startAnew();
    return this.#used >= SLICE;
  }

  /** Bytes have been received that the reader hasn't read. */
  get waits(): boolean {
    return this.#rest !== undefined;
  }

  get paused(): boolean {
    return this.#paused;
  }

  /** What is left of this look is to be read in so many ms. */
  delay(ms: number): void {
    this.#delayedUntil = now() + ms;
  }

  /** Nothing more is to be received or read. */
  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#rest === undefined) this.#socket.resume();
    else this.#readLater();
  }

  /** What is received is of no use any more: the reader takes it all. */
  discard(): void {
    this.#delay?.clear();
    this.#rest = undefined;
    this.#paused = false;
    this.#socket.resume();
  }

  #received(bytes: Buffer, end: number): void {
    let read = 0;
    if (!this.#paused && this.#rest === undefined) {
      read = this.#reader.received(bytes, end);
      if (read === end) return;
    }
    // After a pause Node goes on with what it had decrypted already.
    const before = this.#rest;
    const rest = bytes.subarray(read, end);
    this.#rest = before === undefined ? Buffer.from(rest) : Buffer.concat([before, rest]);
    this.#socket.pause();
    this.#readLater();
  }

  /** In the next turn, time is counted from 0. */
  #startAnew(): void {
    if (this.#turnComes) return;
    this.#turnComes = true;
    setImmediate(() => {
      this.#turnComes = false;
      this.#used = 0;
    });
  }

  /** First the others' turn; in a later one, once the delay is over, reading goes on where it stopped. */
  #readLater(): void {
    if (this.#waitsForTurn) return;
    this.#waitsForTurn = true;
    if (now() >= this.#delayedUntil) this.#inLaterTurn();
    else {
      // A socket that isn't read from keeps no process.
      this.#delay ??= new Alarm(() => this.#inLaterTurn(), true);
      this.#delay.set(this.#delayedUntil);
    }
  }

  #inLaterTurn(): void {
    inLaterTurn(() => {
      this.#waitsForTurn = false;
      this.#used = 0;
      this.#readOn();
    });
  }

  #readOn(): void {
    const rest = this.#rest;
    if (rest === undefined || this.#paused) return;
    this.#rest = undefined;
    const read = this.#reader.received(rest, rest.length);
    if (read < rest.length) {
      this.#rest = rest.subarray(read);
      this.#readLater();
    } else if (this.#ended) this.#reader.peerEnded();
    else this.#socket.resume();
  }
}
