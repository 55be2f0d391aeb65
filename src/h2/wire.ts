/**
 * The session's output on its way to the socket: one write per turn of the event loop, DATA framed only while little
 * waits in the socket, and word of what has been written out. What the bytes mean is the session's.
 */
import type { Socket } from 'node:net';
import { largeWrites, MOST_SMALL, writeLarge } from '../core/large-writes.js';
import { rethrow } from '../core/rethrow.js';
import { now } from '../core/timing.js';
import { awaitTurn, beginTurnsBySending } from '../core/turns.js';
import { turnIsOver } from './date.js';
import type { StreamUser } from './exchange.js';
import type { Session } from './session.js';

/** DATA is framed only while fewer bytes wait in the socket: control frames must not queue behind bodies. */
const DATA_IN_SOCKET = 65_536;

/** Follows bytes that are in the output now. */
export interface Tracked {
  /** They go to the socket, behind others that it holds already or not; `at` is on the `now()` clock. */
  wrote(at: number, behind: boolean): void;
  /** The socket has written them out. */
  writtenOut(at: number): void;
  /** They never will be. */
  lost?(): void;
}

/** What goes with one write to the socket. */
interface Batch {
  /** Those whose response ended in it. */
  readonly users: readonly StreamUser[];
  readonly tracked: readonly Tracked[];
}

/** What the wire tells the connection. */
export interface WireEvents {
  /** A response has been written out; `at` is on the `now()` clock. */
  delivered(user: StreamUser, at: number): void;
  /** A write to the socket is complete. */
  writtenOut(): void;
}

const NOBODY: readonly StreamUser[] = [];
const NOTHING: readonly Tracked[] = [];

/** Wires with output, to be flushed once the event loop has polled everything there is to read. */
let waiting: Wire[] = [];

/** When thousands of connections have something to say at once, the loop gets to poll in between, after this many ms. */
const FLUSH_SLICE = 5;

/** How many wires are flushed between looks at the clock. */
const FLUSHES_PER_LOOK = 16;

/** Whatever was answered in a turn is flushed at its end. */
function flushAll(): void {
  turnIsOver();
  const wires = waiting;
  waiting = [];
  let until = Number.POSITIVE_INFINITY;
  for (let i = 0; i < wires.length; i++) {
    wires[i]?.flush();
    if ((i + 1) % FLUSHES_PER_LOOK !== 0) continue;
    const at = now();
    if (until === Number.POSITIVE_INFINITY) until = at + FLUSH_SLICE;
    else if (at >= until) {
      waiting = wires.slice(i + 1).concat(waiting);
      if (waiting.length > 0) awaitTurn();
      return;
    }
  }
}

beginTurnsBySending(flushAll);

export class Wire {
  readonly #socket: Socket;
  readonly #session: Session;
  readonly #events: WireEvents;
  #scheduled = false;
  #waitsForRoom = false;
  #atFlush: (() => void) | undefined;
  #users: StreamUser[] = [];
  #tracked: Tracked[] = [];
  /** Writes that the socket has not completed, in order. */
  readonly #unwritten: Batch[] = [];

  constructor(socket: Socket, session: Session, events: WireEvents) {
    this.#socket = socket;
    this.#session = session;
    this.#events = events;
    session.budget = DATA_IN_SOCKET;
  }

  /** Nothing waits, neither here nor in the socket. */
  get idle(): boolean {
    return this.#unwritten.length === 0 && this.#session.output.size === 0;
  }

  /** Bytes that wait, here and in the socket. */
  get backlog(): number {
    return this.#session.output.size + this.#socket.writableLength;
  }

  /** Flushes in this turn, when everything else that it brings has been seen. */
  schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    if (waiting.length === 0) awaitTurn();
    waiting.push(this);
  }

  /** The user's answer ends in what is in the output now: it is delivered when that has been written out. */
  follow(user: StreamUser): void {
    this.#users.push(user);
  }

  /** The socket is closed: what was followed is lost. Returns those whose answers were not written out. */
  closed(): StreamUser[] {
    const batches = [...this.#unwritten, { users: this.#users, tracked: this.#tracked }];
    this.#unwritten.length = 0;
    this.#users = [];
    this.#tracked = [];
    for (const { tracked } of batches) for (const one of tracked) one.lost?.();
    return batches.flatMap((batch) => batch.users);
  }

  /** The peer has reset the connection, and the kernel had taken everything: word of it will never come. */
  taken(): void {
    const at = now();
    for (const { users, tracked } of this.#unwritten.splice(0)) {
      for (const one of tracked) one.writtenOut(at);
      for (const user of users) this.#events.delivered(user, at);
    }
  }

  /**
   * Puts frames in the output when it is flushed, in this turn. Thousands of connections that have something to say
   * at once share one chunk then, and the loop polls in between. They go ahead of what waits: clients act on an answer
   * before they read on, and what node:http2's or Chromium asks for between an answer and a GOAWAY in the same read,
   * it fails by itself.
   */
  atFlush(encode: () => void): void {
    this.#atFlush = encode;
    this.schedule();
  }

  /** Follows the bytes in the output. */
  track(tracked: Tracked): void {
    this.#tracked.push(tracked);
  }

  /**
   * Writes what there is.
   *
   * @param isLast there is no later turn to write more in
   */
  flush(isLast = false): void {
    const session = this.#session;
    const socket = this.#socket;
    if (this.#atFlush !== undefined) {
      const encode = this.#atFlush;
      this.#atFlush = undefined;
      // What it schedules is this flush.
      this.#scheduled = true;
      const waiting = session.output.take();
      encode();
      for (const bytes of waiting) session.output.append(bytes);
    }
    this.#scheduled = false;
    if (!socket.writable) {
      session.output.take();
      this.#events.writtenOut();
      return;
    }
    if (session.wantsPump) {
      const room = DATA_IN_SOCKET - this.backlog;
      if (room > 0 && (isLast || this.#mayPump())) this.#pump(room);
    }
    const buffers = session.output.take();
    if (buffers.length > 0) {
      const users = this.#users;
      const tracked = this.#tracked;
      if (users.length > 0) this.#users = [];
      this.#unwritten.push({
        users: users.length === 0 ? NOBODY : users,
        tracked: tracked.length === 0 ? NOTHING : tracked,
      });
      if (tracked.length > 0) {
        this.#tracked = [];
        const at = now();
        const behind = socket.writableLength > 0;
        for (const one of tracked) one.wrote(at, behind);
      }
      this.#write(buffers);
    } else if (this.#tracked.length > 0) this.#trackNothing();
    this.#measure();
  }

  /** What is followed has no bytes (an empty write): it is written out when all before it is. */
  #trackNothing(): void {
    const tracked = this.#tracked;
    this.#tracked = [];
    const last = this.#unwritten.pop();
    if (last !== undefined) {
      this.#unwritten.push({ users: last.users, tracked: [...last.tracked, ...tracked] });
      return;
    }
    const at = now();
    for (const one of tracked) one.writtenOut(at);
  }

  #pump(room: number): void {
    try {
      this.#session.pump(room);
    } catch (error) {
      rethrow(error);
    }
  }

  #write(buffers: Buffer[]): void {
    let size = 0;
    for (const buffer of buffers) size += buffer.length;
    if (size > MOST_SMALL) {
      writeLarge(this.#socket, size, () => this.#writeVector(buffers));
      return;
    }
    const [first] = buffers;
    const one = buffers.length === 1 && first !== undefined ? first : Buffer.concat(buffers, size);
    this.#socket.write(one, this.#onWritten);
  }

  #writeVector(buffers: Buffer[]): void {
    const socket = this.#socket;
    socket.cork();
    const last = buffers.length - 1;
    for (let i = 0; i < last; i++) socket.write(buffers[i] as Buffer);
    socket.write(buffers[last] as Buffer, this.#onWritten);
    socket.uncork();
  }

  #measure(): void {
    const pending = this.#socket.writableLength;
    this.#session.unsent = pending;
    this.#session.budget = Math.max(0, DATA_IN_SOCKET - pending);
  }

  readonly #onWritten = (error?: Error | null): void => {
    // What failed stays undelivered; the socket is about to close.
    const batch = error ? undefined : this.#unwritten.shift();
    if (batch === undefined) return;
    const at = now();
    for (const one of batch.tracked) one.writtenOut(at);
    for (const user of batch.users) this.#events.delivered(user, at);
    this.#measure();
    if (this.#session.wantsPump) this.flush();
    this.#events.writtenOut();
  };

  /** Whether this turn has room for more of what waits; in one that has, it is flushed. */
  #mayPump(): boolean {
    if (this.#waitsForRoom) return false;
    if (largeWrites.hasRoom) return true;
    this.#waitsForRoom = true;
    largeWrites.whenRoom(() => {
      this.#waitsForRoom = false;
      if (this.#session.wantsPump) this.flush();
    });
    return false;
  }
}
