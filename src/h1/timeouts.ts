/**
 * The times an HTTP/1.1 connection is held to: request heads, request bodies, answers that the client doesn't read, and
 * idling. An http.Server that doesn't listen enforces none of them. One lazily re-armed alarm per connection; per request
 * it costs a comparison.
 */
import { Alarm, now } from '../core/timing.js';
import type { H1Settings } from './options.js';

/**
 * What has to come next; times are on the `now()` clock.
 *
 * - `request`: the connection is idle, and may be until then.
 * - `head`: the rest of a head whose first byte came then.
 * - `body`: the rest of the body of a request that began then; `heldBack` while the application doesn't read on, or has
 *   begun to answer: then it may come as slowly as it likes.
 * - `tail`: the rest of the body of a request that began then and is answered already; not awaited for longer than
 *   `until`, and in silence not for longer than an idle connection is kept.
 * - `answer`: the application's.
 */
export type Awaited =
  | { readonly what: 'request'; readonly until: number }
  | { readonly what: 'head'; readonly since: number }
  | { readonly what: 'body'; readonly since: number; readonly heldBack: boolean }
  | { readonly what: 'tail'; readonly since: number; readonly until: number; readonly hold: number }
  | { readonly what: 'answer' };

/** What is asked of a connection, and what it is told. */
export interface Timed {
  /** Nothing is awaited any more. */
  readonly over: boolean;
  readonly awaited: Awaited;
  readonly bytesRead: number;
  /** Requests are unanswered, or their answers are not written out. */
  readonly answering: boolean;
  /** Bytes that wait in the socket, and a number that grows as the kernel takes them. */
  readonly waiting: number;
  readonly bytesTaken: number;
  /** It didn't come in time, as seen after a poll. */
  expired(awaited: Awaited): void;
  /** The client has stopped reading. */
  stuck(): void;
}

/**
 * A stall counts from the look that first finds it: never for less than its limit, and for two of the times between looks
 * more at most. Before that the loop may have stood still.
 */
const LOOKS_PER_TIMEOUT = 4;

/** Without a limit on stalls there are limits on whole requests, in ms, and what is awaited changes unseen. */
const LONGEST_LIMIT = 120_000;

export class Timeouts {
  readonly #connection: Timed;
  readonly #settings: H1Settings;
  readonly #alarm = new Alarm(() => this.#look());
  /** How many bytes had come, when that was last seen to change or to be awaited, and whether they were at the last look. */
  #bytesRead = 0;
  #bytesAt = now();
  #awaitedBytes = false;
  /** How many bytes the kernel had taken, when that was last seen to change or to wait, and whether any did. */
  #bytesTaken = 0;
  #takenAt = now();
  #waited = false;

  constructor(connection: Timed, settings: H1Settings) {
    this.#connection = connection;
    this.#settings = settings;
  }

  /**
   * Nothing has come yet. The first look is as soon as the first request would have it: one look in vain costs less than
   * setting the alarm twice.
   */
  begin(): void {
    const at = now();
    this.#alarm.set(Math.min(this.#nextLook(this.#connection.awaited, at), this.#firstLook(at)));
  }

  /** The first byte of a head has come at this time: its head and its body are timed from now on. */
  requestBegan(at: number): void {
    const next = this.#firstLook(at);
    if (next < this.#alarm.at && !this.#connection.over) this.#alarm.set(next);
  }

  /** When a request that begins then is looked at first. */
  #firstLook(at: number): number {
    const { headersTimeout, requestTimeout } = this.#settings;
    return at + Math.min(limit(headersTimeout), this.#period, limit(requestTimeout));
  }

  /** The connection may not be awaiting this for as long as it was when it was last looked at. */
  reconsider(): void {
    const connection = this.#connection;
    if (!connection.over) this.#alarm.atMost(this.#nextLook(connection.awaited, now()));
  }

  /** The connection is idle, and may be until then; a look while it wasn't has asked for none at that time. */
  idle(until: number): void {
    if (until < this.#alarm.at && !this.#connection.over) this.#alarm.set(until);
  }

  stop(): void {
    this.#alarm.clear();
  }

  #look(): void {
    const connection = this.#connection;
    if (connection.over) return;
    const at = now();
    if (!this.#clientReads(at)) {
      connection.stuck();
      return;
    }
    const { awaited, bytesRead } = connection;
    // A client that need not send, or whose bytes nobody takes, isn't silent.
    const awaitsBytes = awaited.what === 'tail' || (awaited.what === 'body' && !awaited.heldBack);
    if (bytesRead !== this.#bytesRead || !awaitsBytes || !this.#awaitedBytes) {
      this.#bytesRead = bytesRead;
      this.#bytesAt = at;
    }
    this.#awaitedBytes = awaitsBytes;
    if (at < this.#due(awaited)) {
      this.#alarm.set(this.#nextLook(awaited, at));
      return;
    }
    connection.expired(awaited);
    // What was refused is answered after the answers before it, which the client has yet to read.
    if (!connection.over && connection.answering) this.#alarm.atMost(at + this.#period);
  }

  /** Whether the socket gets rid of bytes. */
  #clientReads(at: number): boolean {
    const { waiting, bytesTaken } = this.#connection;
    if (waiting === 0 || !this.#waited || bytesTaken !== this.#bytesTaken) {
      this.#bytesTaken = bytesTaken;
      this.#takenAt = at;
    }
    this.#waited = waiting > 0;
    return at < this.#takenAt + limit(this.#settings.sendTimeout);
  }

  /** Looking this often finds stalls in time. */
  get #period(): number {
    const { bodyTimeout, sendTimeout } = this.#settings;
    return Math.min(limit(bodyTimeout), limit(sendTimeout), LONGEST_LIMIT) / LOOKS_PER_TIMEOUT;
  }

  /** When what is awaited has taken too long. */
  #due(awaited: Awaited): number {
    const { headersTimeout, bodyTimeout, requestTimeout } = this.#settings;
    switch (awaited.what) {
      case 'request':
        return awaited.until;
      case 'head':
        return awaited.since + Math.min(limit(headersTimeout), limit(requestTimeout));
      case 'body':
        return Math.min(
          Math.max(this.#bytesAt, awaited.since) + limit(bodyTimeout),
          awaited.since + limit(requestTimeout),
        );
      case 'tail':
        return Math.min(
          this.#bytesAt + Math.min(limit(bodyTimeout), awaited.hold),
          awaited.since + limit(requestTimeout),
          awaited.until,
        );
      case 'answer':
        return Infinity;
    }
  }

  /** Bodies and answers are looked at now and then, because their bytes are only counted; the rest at its time. */
  #nextLook(awaited: Awaited, at: number): number {
    const due = this.#due(awaited);
    if ((awaited.what === 'request' || awaited.what === 'head') && !this.#connection.answering) return due;
    return Math.min(due, at + this.#period);
  }
}

/** 0 stands for no limit. */
function limit(ms: number): number {
  return ms || Infinity;
}
