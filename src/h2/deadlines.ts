/**
 * The times an HTTP/2 connection and its streams are held to: one lazily re-armed alarm per connection, nothing per
 * request. It looks several times within the shortest limit and compares counters; what happens then is the connection's.
 */
import { Alarm, now } from '../core/timing.js';
import type { StreamUser } from './exchange.js';
import type { H2Settings } from './options.js';
import type { Ping } from './pings.js';
import type { Session } from './session.js';

/** What is asked of a connection, and what it is told. */
export interface Timed {
  readonly session: Session;
  /** Its end is under way: nothing is to be done any more. */
  readonly over: boolean;
  readonly idle: boolean;
  /** How long idle connections are held, in ms. */
  readonly hold: number;
  /** When it has been idle for as long as idle connections are held; on the `now()` clock. */
  readonly idleUntil: number;
  readonly bytesRead: number;
  /** False: nothing is read at the moment, so the peer can't be blamed for what doesn't come. */
  readonly reads: boolean;
  /** Bytes that wait in the socket, and a number that grows as the kernel takes them; NaN for a duplex, which nobody knows of. */
  readonly waiting: number;
  readonly progress: number;
  users(): Iterable<StreamUser>;
  idleExpired(): void;
  prefaceTimedOut(): void;
  headTimedOut(): void;
  /** The peer has stopped sending a request's body. */
  bodyTimedOut(user: StreamUser): void;
  /** The peer has stopped giving a stream window for its answer. */
  sendTimedOut(user: StreamUser): void;
  /** The peer reads no more, or answers no PING. */
  gone(limit: 'sendTimeout' | 'ping'): void;
  silent(user: StreamUser): void;
  sendPing(): Ping;
}

/**
 * What is waited for counts from the look that first finds it so: never for less than its limit, and for two of the times
 * between looks more at most. Before that the loop may have stood still.
 */
const LOOKS_PER_TIMEOUT = 4;

/** Streams whose time runs out in one turn: a client can have it happen to all at once, and each is some work. */
const MOST_IN_TURN = 8;

/** What a stream had sent and received when it was last seen to do so. */
class Traffic {
  sent = -1;
  received = -1;
  sentAt = 0;
  receivedAt = 0;
  /** Since when more of the request has been waited for, and since when the answer has been held up; `Infinity`: it isn't. */
  awaitedAt = Infinity;
  blockedAt = Infinity;
  /** The application has been told of this silence. */
  told = false;
}

const NOBODY: ReadonlyMap<StreamUser, Traffic> = new Map();

export class Deadlines {
  readonly #connection: Timed;
  readonly #settings: H2Settings;
  readonly #alarm = new Alarm(() => this.#look());
  readonly #openedAt = now();
  /** Streams that were open at the last look. */
  #traffic: ReadonlyMap<StreamUser, Traffic> = NOBODY;
  /** What had been sent on all of them, and when that was last seen to change. */
  #dataSent = 0;
  #dataSentAt = 0;
  /** The shortest time that the application asked of a stream. */
  #shortest = Infinity;
  /** Nothing was open at the last look, so the next one is far away. */
  #resting = false;
  #headSince = 0;
  /** The highest stream when it began: every read may end in the middle of another head. */
  #headBehind = 0;
  #progress = 0;
  #progressAt = 0;
  #bytesRead = -1;
  /** Bytes waited in the socket at the last look. */
  #waited = false;
  /** When the peer was last seen to be there. */
  #heardAt = 0;
  /** The last PING that asked whether it still is, and when it was first seen to be on its way unanswered, in this silence. */
  #pinged: Ping | undefined;
  #unansweredAt = Infinity;
  /** When nothing was read at the last look that found it so. */
  #deafAt = 0;

  constructor(connection: Timed, settings: H2Settings) {
    this.#connection = connection;
    this.#settings = settings;
    this.#alarm.set(this.#openedAt + Math.min(settings.prefaceTimeout, this.#period()));
  }

  /** Something is open: look soon enough. Cheap, for every request. */
  busy(): void {
    if (!this.#resting) return;
    this.#resting = false;
    this.#alarm.atMost(now() + this.#period());
  }

  /** A field block is or isn't under way after what was received. */
  midBlock(mid: boolean): void {
    const { highestStreamId } = this.#connection.session;
    if (!mid) {
      this.#headSince = 0;
    } else if (this.#headSince === 0 || this.#headBehind !== highestStreamId) {
      this.#headSince = now();
      this.#headBehind = highestStreamId;
      this.busy();
    }
  }

  /** The application wants to know of a silence of `ms`. */
  watch(ms: number): void {
    if (ms <= 0) return;
    this.#shortest = Math.min(this.#shortest, ms);
    this.#resting = false;
    this.#alarm.atMost(now() + this.#period());
  }

  stop(): void {
    this.#alarm.clear();
    this.#traffic = NOBODY;
  }

  /** Looking this often finds everything in time. */
  #period(): number {
    const { headersTimeout, bodyTimeout, sendTimeout, timeout, ping } = this.#settings;
    const shortest = Math.min(
      headersTimeout || Infinity,
      bodyTimeout || Infinity,
      sendTimeout || Infinity,
      timeout || Infinity,
      this.#shortest,
      this.#connection.hold * LOOKS_PER_TIMEOUT,
      ping === undefined ? Infinity : Math.min(ping.interval, ping.timeout),
    );
    return shortest / LOOKS_PER_TIMEOUT;
  }

  #look(): void {
    const connection = this.#connection;
    if (connection.over) return;
    const at = now();
    if (!connection.session.prefaceComplete && at >= this.#openedAt + this.#settings.prefaceTimeout) {
      connection.prefaceTimedOut();
      return;
    }
    if (!connection.reads) this.#deafAt = at;
    const { headersTimeout } = this.#settings;
    const headSince = Math.max(this.#headSince, this.#deafAt);
    if (this.#headSince > 0 && headersTimeout > 0 && at >= headSince + headersTimeout) {
      connection.headTimedOut();
      return;
    }
    const limit = this.#goneBy(at);
    if (limit !== undefined) {
      connection.gone(limit);
      return;
    }
    const goesOn = this.#lookAtStreams(at);
    if (connection.over) return;
    if (connection.idle && at >= connection.idleUntil) connection.idleExpired();
    if (!connection.over) this.#alarm.set(goesOn ? at : this.#nextLook(now()));
  }

  #nextLook(at: number): number {
    const { session, idle, idleUntil, waiting } = this.#connection;
    if (!session.prefaceComplete) {
      return Math.max(at + 1, Math.min(this.#openedAt + this.#settings.prefaceTimeout, at + this.#period()));
    }
    this.#resting = idle && waiting === 0 && this.#headSince === 0 && this.#settings.ping === undefined;
    if (!this.#resting) return at + this.#period();
    // An expired hold has begun a drain, which ends the connection by itself.
    return idleUntil > at ? idleUntil : at + this.#period();
  }

  /** Unless the socket gets rid of bytes, and the peer answers if it is asked. */
  #goneBy(at: number): 'sendTimeout' | 'ping' | undefined {
    const connection = this.#connection;
    const { sendTimeout, ping } = this.#settings;
    const { progress, waiting, bytesRead } = connection;
    // A kernel that was full and takes more has been told that the peer has read.
    const peerHasRead = this.#waited && progress !== this.#progress;
    if (peerHasRead || !this.#waited || waiting === 0) this.#progressAt = at;
    this.#progress = progress;
    if (sendTimeout > 0 && at >= this.#progressAt + sendTimeout) return 'sendTimeout';
    if (bytesRead !== this.#bytesRead || peerHasRead) {
      this.#bytesRead = bytesRead;
      this.#heardAt = at;
      this.#unansweredAt = Infinity;
    }
    this.#waited = waiting > 0;
    if (ping === undefined || at < this.#heardAt + ping.interval) return undefined;
    // One at a time: what doesn't answer PINGs isn't sent more and more of them.
    if (this.#pinged === undefined || this.#pinged.ackedAt !== undefined) this.#pinged = connection.sendPing();
    else if (this.#pinged.sentAt !== undefined) this.#unansweredAt = Math.min(this.#unansweredAt, at);
    return at >= Math.max(this.#unansweredAt, this.#deafAt) + ping.timeout ? 'ping' : undefined;
  }

  /** @returns whether more of them may have run out of time than one turn sees to */
  #lookAtStreams(at: number): boolean {
    const before = this.#traffic;
    const { dataBytesSent } = this.#connection.session;
    if (dataBytesSent !== this.#dataSent) {
      this.#dataSent = dataBytesSent;
      this.#dataSentAt = at;
    }
    this.#traffic = NOBODY;
    this.#shortest = Infinity;
    const users = [...this.#connection.users()];
    if (users.length === 0) return false;
    const traffic = new Map<StreamUser, Traffic>();
    this.#traffic = traffic;
    for (const user of users) {
      const seen = before.get(user) ?? new Traffic();
      const { bytesSent, bytesReceived } = user.stream;
      if (bytesSent !== seen.sent) {
        seen.sent = bytesSent;
        seen.sentAt = at;
        seen.told = false;
      }
      if (bytesReceived !== seen.received) {
        seen.received = bytesReceived;
        seen.receivedAt = at;
        seen.told = false;
      }
      traffic.set(user, seen);
      if (user.timeout > 0) this.#shortest = Math.min(this.#shortest, user.timeout);
    }
    let left = MOST_IN_TURN;
    for (const user of users) {
      const seen = traffic.get(user);
      if (seen !== undefined && user.fate === 'open' && this.#judge(user, seen, at)) left--;
      if (left === 0) return true;
      if (this.#connection.over) return false;
    }
    return false;
  }

  /** Whether its time has run out. */
  #judge(user: StreamUser, seen: Traffic, at: number): boolean {
    const { bodyTimeout, sendTimeout } = this.#settings;
    const { stream } = user;
    const { session } = this.#connection;
    // Waiting for a body is the peer's doing only while the application takes it and hasn't begun to answer; once the
    // answer is complete, nobody waits for the rest.
    const awaited =
      this.#connection.reads &&
      stream.receiving &&
      !stream.tunnel &&
      !(user.awaitsContinue && stream.sending === 'nothing' && stream.bytesReceived === 0) &&
      stream.unread === 0 &&
      !user.holdsHead &&
      user.readsNoMore !== true &&
      stream.sending !== 'body' &&
      stream.sending !== 'ending';
    seen.awaitedAt = awaited ? Math.min(seen.awaitedAt, at) : Infinity;
    if (bodyTimeout > 0 && at >= Math.max(seen.receivedAt, seen.awaitedAt) + bodyTimeout) {
      this.#connection.bodyTimedOut(user);
      return true;
    }

    // A stream that merely waits for its turn is not blocked by the peer, nor is one whose turn at the connection's window
    // has yet to come, nor one for which a window may have come that isn't read yet.
    const isClosed = stream.sendWindow <= 0;
    const blocked = this.#connection.reads && stream.queuedBytes > 0 && (isClosed || !session.wantsPump);
    seen.blockedAt = blocked ? Math.min(seen.blockedAt, at) : Infinity;
    if (blocked && !isClosed) seen.blockedAt = Math.max(seen.blockedAt, this.#dataSentAt);
    if (sendTimeout > 0 && at >= Math.max(seen.sentAt, seen.blockedAt) + sendTimeout) {
      this.#connection.sendTimedOut(user);
      return true;
    }

    if (user.timeout <= 0 || seen.told || at < Math.max(seen.sentAt, seen.receivedAt) + user.timeout) return false;
    seen.told = true;
    this.#connection.silent(user);
    return true;
  }
}
