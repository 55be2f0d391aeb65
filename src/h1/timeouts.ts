/**
 * The times an HTTP/1.1 connection is held to: request heads, request bodies, and idling. An http.Server that doesn't
 * listen enforces none of them. One lazily re-armed alarm per connection, nothing per request.
 */
import type { KeepAliveSettings } from '../core/keep-alive.js';
import { Alarm, now } from '../core/timing.js';
import type { H1Settings } from './options.js';

/** What is asked of a connection, and what it is told. */
export interface Timed {
  readonly over: boolean;
  readonly idle: boolean;
  readonly idleUntil: number;
  readonly headBeganAt: number;
  readonly awaitedBody: { readonly startedAt: number } | undefined;
  readonly bytesRead: number;
  idleExpired(): void;
  requestTimedOut(): void;
}

/** A stalled body is noticed after at most this much more than its limit. */
const LOOKS_PER_BODY_TIMEOUT = 4;

export class Timeouts {
  readonly #connection: Timed;
  readonly #settings: H1Settings;
  readonly #keepAlive: KeepAliveSettings;
  readonly #alarm = new Alarm(() => this.#look());
  #bytesRead = 0;
  #bytesAt = now();

  constructor(connection: Timed, settings: H1Settings, keepAlive: KeepAliveSettings) {
    this.#connection = connection;
    this.#settings = settings;
    this.#keepAlive = keepAlive;
    this.#alarm.set(now() + this.#period);
  }

  /** Something has brought a time forward. */
  reconsider(): void {
    if (!this.#connection.over && this.#connection.idle) this.#alarm.atMost(this.#connection.idleUntil);
  }

  stop(): void {
    this.#alarm.clear();
  }

  /** Looking this often finds everything in time: what begins right after a look is not due before the next one. */
  get #period(): number {
    const { headersTimeout, bodyTimeout, requestTimeout } = this.#settings;
    return Math.min(
      headersTimeout || Infinity,
      bodyTimeout / LOOKS_PER_BODY_TIMEOUT || Infinity,
      requestTimeout || Infinity,
      this.#keepAlive.hold,
    );
  }

  #look(): void {
    const connection = this.#connection;
    if (connection.over) return;
    const at = now();
    if (connection.bytesRead !== this.#bytesRead) {
      this.#bytesRead = connection.bytesRead;
      this.#bytesAt = at;
    }
    const due = this.#due();
    if (at < due) {
      this.#alarm.set(Math.min(due, at + this.#period));
      return;
    }
    if (!connection.idle) {
      connection.requestTimedOut();
      return;
    }
    connection.idleExpired();
    if (!connection.over) this.#alarm.set(now() + this.#period);
  }

  /** When what the connection is doing now has taken too long. */
  #due(): number {
    const { headersTimeout, bodyTimeout, requestTimeout } = this.#settings;
    const connection = this.#connection;
    if (connection.idle) return connection.idleUntil;
    if (connection.headBeganAt > 0) {
      return connection.headBeganAt + Math.min(headersTimeout || Infinity, requestTimeout || Infinity);
    }
    const body = connection.awaitedBody;
    if (body === undefined) return Infinity;
    return Math.min(
      Math.max(this.#bytesAt, body.startedAt) + (bodyTimeout || Infinity),
      body.startedAt + (requestTimeout || Infinity),
    );
  }
}
