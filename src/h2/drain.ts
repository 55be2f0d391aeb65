/**
 * The phases of a drain on HTTP/2 (RFC 9113 §6.8): GOAWAY(2^31-1) and a PING, the round trip, the final GOAWAY, the last
 * streams, the lingering close. When a phase begins and when time is up is decided in core/shutdown.ts.
 */
import type { DrainTerms } from '../core/driver.js';
import { LingeringClose } from '../core/linger.js';
import { Alarm, now } from '../core/timing.js';
import { ErrorCode } from './errors.js';
import { MAX_STREAM_ID } from './frames.js';
import type { Ping, Pings } from './pings.js';
import type { Requests } from './requests.js';

/**
 * ms. The ACK proves that the peer's reader saw the GOAWAY; a client whose writer is apart may still write a stream that it
 * had allocated. Committing on the ACK lost 5 of 443 drains against Go's client, 10 ms later none of 475.
 */
const GRACE = 10;

/** The part of the round trip that is waited beyond the ACK. */
const GRACE_PER_RTT = 0.25;

/** ms that whoever sends without end may hold up the final GOAWAY, where `settle` is shorter. */
const LEAST_HELD_UP = 1_000;

export class H2Drain {
  readonly #on: Requests;
  readonly #pings: Pings;
  /** Whether bytes have been received that the session has not read yet. */
  readonly #unread: () => boolean;
  readonly #alarm = new Alarm(() => this.#decide());
  #terms: DrainTerms | undefined;
  /** Its moment is yet to come. */
  #waitsToAnnounce = false;
  #drainBeganAt = 0;
  readonly #announcement = new Alarm(() => this.#announce());
  /** The announcement's PING, and one more if the peer's preface came after it. */
  readonly #sent: Ping[] = [];
  /** Whether the preface had come when the last of them was sent. */
  #prefaceComplete = false;
  /** When bytes were last seen that had been received and not read, on the `now()` clock, */
  #heldUpAt = -Infinity;
  /** and for how many ms they have held up the decision. */
  #heldUpFor = 0;
  /** When the rest of a request was read of which a part had come, on the same clock. */
  #headCameAt = -Infinity;
  #settled: (() => void) | undefined;
  #finished: (() => void) | undefined;
  /** When it was committed, every request had been answered and every byte written out. */
  #nothingToFinish = false;
  #lingering: Promise<void> | undefined;
  #closing: LingeringClose | undefined;
  /** The session has failed or its peer is gone: nothing is to be waited for. */
  #over = false;

  constructor(on: Requests, pings: Pings, unread: () => boolean) {
    this.#on = on;
    this.#pings = pings;
    this.#unread = unread;
  }

  /** The round trip that was measured: if possible by the last PING, because nobody answers one before its preface. */
  get rtt(): number | undefined {
    return this.#sent.findLast(({ ackedAt }) => ackedAt !== undefined)?.rtt;
  }

  announce(terms: DrainTerms): void {
    this.#terms = terms;
    this.#drainBeganAt = now();
    this.#waitsToAnnounce = true;
    this.heard();
  }

  /** Something was received. */
  heard(): void {
    if (!this.#waitsToAnnounce) return;
    const at = this.#announceAt();
    if (at <= now()) this.#announce();
    else this.#announcement.set(at);
  }

  /**
   * Some clients send no request before they have read our SETTINGS, and fail those that wait for it if a GOAWAY comes
   * along. (HAProxy lost 5 in 1,000 requests at 300 drains a second, and loses none now.) So theirs go first.
   */
  #announceAt(): number {
    const { settingsAckedAt, highestStreamId } = this.#on.session;
    // This one has not waited.
    if (settingsAckedAt === Number.POSITIVE_INFINITY && highestStreamId > 0) return 0;
    const { settle = 0, deadline = 0 } = this.#terms ?? {};
    const lastMoment = this.#drainBeganAt + Math.min(settle, deadline - this.#drainBeganAt) / 2;
    return Math.min(settingsAckedAt + GRACE, lastMoment);
  }

  #announce(): void {
    const { session, wire } = this.#on;
    this.#dontAnnounce();
    wire.atFlush(() => {
      session.goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR, this.#terms?.reason);
      this.#ping();
    });
  }

  #dontAnnounce(): void {
    this.#waitsToAnnounce = false;
    this.#announcement.clear();
  }

  #ping(): void {
    this.#prefaceComplete = this.#on.session.prefaceComplete;
    this.#sent.push(this.#pings.send(() => this.#look()));
  }

  tighten(terms: DrainTerms): void {
    this.#terms = terms;
    this.#closing?.tighten(terms);
    this.heard();
    this.#look();
  }

  settle(): Promise<void> {
    return new Promise((resolve) => {
      this.#settled = resolve;
      this.#look();
    });
  }

  commit(): void {
    const { connection, session, wire } = this.#on;
    this.#alarm.clear();
    this.#dontAnnounce();
    // With nothing to finish, what lingering begins with goes out in the same write.
    this.#nothingToFinish = connection.active === 0 && session.active === 0 && wire.idle;
    session.goaway(session.highestStreamId, ErrorCode.NO_ERROR, this.#terms?.reason);
    if (this.#nothingToFinish) wire.schedule();
    else wire.flush();
  }

  finish(): Promise<void> {
    if (this.#nothingToFinish) return Promise.resolve();
    return new Promise((resolve) => {
      this.#finished = resolve;
      this.progressed();
    });
  }

  linger(): Promise<void> {
    this.#lingering ??= this.#linger();
    return this.#lingering;
  }

  async cut(): Promise<void> {
    const { session, wire } = this.#on;
    this.#alarm.clear();
    this.#dontAnnounce();
    this.#on.refuseLast();
    for (const user of [...this.#on.users()]) {
      // Whose answer is complete has been served, if it is flushed; only the rest of the request is cut.
      if (user.responded) this.#on.abandon(user, 'served', ErrorCode.NO_ERROR);
      else this.#on.abandon(user, 'aborted', ErrorCode.CANCEL);
    }
    session.goaway(session.highestStreamId, ErrorCode.NO_ERROR, this.#terms?.reason);
    // Resetting the socket throws away what the kernel still holds, answers that are complete among it: the peer has to
    // have read this far. One that doesn't answer gets the time that a cut may take.
    const read = new Promise<void>((resolve) => this.#pings.send(() => resolve()));
    wire.flush();
    await read;
  }

  /** There is no peer any more: what waits for it is over. */
  abandoned(): void {
    this.#over = true;
    this.#dontAnnounce();
    this.#look();
    this.progressed();
  }

  /** A request has ended, something was written out, or the preface has come: a phase may be over. */
  progressed(): void {
    if (!this.#prefaceComplete && this.#sent.length > 0 && this.#on.session.prefaceComplete) this.#ping();
    if (this.#settled !== undefined) this.#look();
    if (this.#finished === undefined) return;
    const { connection, session, wire } = this.#on;
    if (connection.active === 0 && session.active === 0 && (wire.idle || this.#over)) {
      this.#finished();
      this.#finished = undefined;
    } else if (connection.active > 0) {
      this.#stopUploads();
    }
  }

  /** What may have been a request has been read on. Behind one, what was sent after it is on its heels. */
  restCame(isRequest: boolean): void {
    if (this.#settled === undefined) return;
    if (isRequest) this.#headCameAt = now();
    this.#look();
  }

  /** Decides in a turn of its own, after everything that the kernel held has been read. */
  #look(): void {
    if (this.#settled !== undefined) this.#alarm.atMost(this.#settledAt());
  }

  #decide(): void {
    const at = this.#settledAt();
    if (this.#unread() && !this.#over) this.#holdUp(now());
    const until = Math.max(at, this.#over ? 0 : this.#heldUpUntil);
    if (now() < until) {
      this.#alarm.set(until);
      return;
    }
    this.#settled?.();
    this.#settled = undefined;
  }

  /** What handlers took of this process's time isn't held against the peer. */
  #holdUp(at: number): void {
    this.#heldUpFor += Math.min(GRACE, at - this.#heldUpAt);
    this.#heldUpAt = at;
  }

  /**
   * Behind what is received and not read the kernel may hold more. But a peer that sends more than a turn's work, again and
   * again, doesn't put it off for ever.
   */
  get #heldUpUntil(): number {
    const most = Math.max(LEAST_HELD_UP, this.#terms?.settle ?? 0);
    return this.#heldUpFor < most ? this.#heldUpAt + GRACE : 0;
  }

  /** When nothing that was sent before the peer heard us can be on its way any more, as far as is known now. */
  #settledAt(): number {
    const { connection, session } = this.#on;
    const terms = this.#terms;
    const last = this.#sent.at(-1);
    if (this.#over) return 0;
    if (last === undefined || terms === undefined) return Number.POSITIVE_INFINITY;
    let settledAt = Number.POSITIVE_INFINITY;
    for (const { ackedAt, rtt = 0 } of this.#sent) {
      if (ackedAt === undefined) continue;
      // While streams are open, waiting costs nothing.
      const grace = connection.active > 0 ? rtt : rtt * GRACE_PER_RTT;
      settledAt = Math.min(settledAt, ackedAt + Math.max(GRACE, grace));
    }
    const { writtenOutAt } = last;
    const latest =
      this.#prefaceComplete && writtenOutAt !== undefined ? writtenOutAt + terms.settle : Number.POSITIVE_INFINITY;
    if (settledAt === Number.POSITIVE_INFINITY) return latest;
    // What has begun to come was sent in time, as over HTTP/1.1; where a segment was lost, all behind it is late. But never
    // earlier than without it: the loop may have stood still for all of `settle`.
    return Math.max(settledAt, session.midRequest ? latest : Math.min(this.#headCameAt + GRACE, latest));
  }

  /**
   * Only requests are left whose answers are complete: their clients needn't send the rest (RFC 9113 §8.1). Of a tunnel
   * the other direction is in use still.
   */
  #stopUploads(): void {
    const users = [...this.#on.users()];
    if (users.length === 0 || !users.every((user) => user.responded && !user.stream.tunnel)) return;
    for (const user of users) this.#on.abandon(user, 'served', ErrorCode.NO_ERROR);
  }

  #linger(): Promise<void> {
    const { socket, wire } = this.#on;
    const terms = this.#terms ?? { linger: 2_000, lingerMax: 30_000 };
    return new Promise((resolve) => {
      // Whose ACK comes has read everything; its own close_notify and FIN are right behind, and a closed socket would
      // answer them with RST.
      const readAll = new Alarm(resolve);
      if (!this.#over) {
        const ping = this.#pings.send(() => readAll.set(now() + Math.max(GRACE, (ping.rtt ?? 0) * GRACE_PER_RTT)));
      }
      wire.flush();
      this.#closing = new LingeringClose(socket, terms);
      void this.#closing.over.then(() => {
        readAll.clear();
        resolve();
      });
    });
  }
}
