/**
 * HTTP/2 on one connection: the socket's bytes go to the session and the session's output to the socket, for as long as
 * the connection lives. Requests are requests.ts's, the phases of a drain drain.ts's, times deadlines.ts's.
 */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { LiveConnection } from '../core/connection.js';
import type { DrainTerms, Driver } from '../core/driver.js';
import type { StreamHost } from '../core/host.js';
import type { KeepAliveSettings } from '../core/keep-alive.js';
import { lingeringClose } from '../core/linger.js';
import { rethrow } from '../core/rethrow.js';
import { type DrainSettings, drain } from '../core/shutdown.js';
import { now } from '../core/timing.js';
import { bytesTaken, type ResetWatcher, watchForReset } from '../socket-internals.js';
import { Deadlines, type Timed } from './deadlines.js';
import { H2Drain } from './drain.js';
import { ErrorCode, H2Error } from './errors.js';
import type { StreamUser } from './exchange.js';
import type { H2Settings } from './options.js';
import { type Ping, Pings } from './pings.js';
import { type BytesReader, Reading } from './reading.js';
import { Requests, type RequestsEvents } from './requests.js';
import type { Session } from './session.js';
import { FailedSocketView } from './socket-view.js';
import type { Wire } from './wire.js';

/** What all HTTP/2 connections of a server share. */
export interface H2Context {
  readonly host: StreamHost;
  readonly settings: H2Settings;
  readonly keepAlive: KeepAliveSettings;
  /** For drains that nobody waits for: an idle connection's time is over, or its client misbehaves. */
  readonly recycling: DrainSettings;
}

/** Nothing is read while more than this waits for a client to read it; reading goes on at half of it. */
const MAX_BACKLOG = 524_288;

/** How a connection ends that has failed or whose peer has closed: the peer may still be reading, or sending. */
const END_LINGER = { linger: 2_000, lingerMax: 10_000 };

/**
 * ```
 * open ──► ended ──► gone
 *   └────────────────▲
 * ```
 * - `ended`: the session has failed or the peer has closed; what is left is flushed and the socket ended.
 * - `gone`: the socket is closed.
 */
type State = 'open' | 'ended' | 'gone';

/** HTTP/2 begins on a connection whose protocol is known; bytes read already must have been unshifted. */
export function attachH2(connection: LiveConnection, socket: Socket, context: H2Context): H2Connection {
  const driver = new H2Connection(connection, socket, context);
  connection.attach(driver);
  driver.start();
  return driver;
}

export class H2Connection implements Driver, RequestsEvents, BytesReader, ResetWatcher, Timed {
  readonly protocol = 'h2';
  readonly session: Session;
  readonly #connection: LiveConnection;
  readonly #socket: Socket;
  readonly #context: H2Context;
  readonly #requests: Requests;
  readonly #wire: Wire;
  readonly #pings: Pings;
  readonly #drain: H2Drain;
  readonly #deadlines: Deadlines;
  readonly #reading: Reading;
  #state: State = 'open';

  constructor(connection: LiveConnection, socket: Socket, context: H2Context) {
    this.#connection = connection;
    this.#socket = socket;
    this.#context = context;
    this.#requests = new Requests(connection, socket, context, this);
    this.session = this.#requests.session;
    this.#wire = this.#requests.wire;
    this.#pings = new Pings(this.session, this.#wire);
    this.#reading = new Reading(socket, this);
    this.#drain = new H2Drain(this.#requests, this.#pings, () => this.#reading.waits);
    this.#deadlines = new Deadlines(this, context.settings);
  }

  /** Our SETTINGS go out at once, and reading begins. */
  start(): void {
    const socket = this.#socket;
    socket.allowHalfOpen = true;
    // A mere duplex has nothing of the kind.
    socket.setNoDelay?.(true);
    this.session.start();
    this.#wire.flush();
    this.#reading.start();
    watchForReset(socket, this);
    // 'close' follows, and tells the connection.
    socket.on('error', () => {});
  }

  // Bytes

  received(bytes: Buffer, end: number): number {
    if (this.#state !== 'open') return end;
    const { session } = this;
    const wire = this.#wire;
    // No request needs to be open for it not to read what it provokes.
    if (this.waiting > 0) this.#deadlines.busy();
    if (wire.backlog > MAX_BACKLOG) {
      this.#reading.pause();
      return 0;
    }
    const { prefaceComplete, midRequest, highestStreamId } = session;
    let read: number;
    try {
      read = session.receive(bytes, end, this.#reading);
    } catch (error) {
      rethrow(error);
      this.#end();
      return end;
    }
    if (session.output.size > 0 || session.wantsPump) wire.schedule();
    this.#deadlines.midBlock(session.midBlock);
    if (!prefaceComplete && session.prefaceComplete) this.#drain.progressed();
    if (midRequest && !session.midRequest) this.#drain.restCame(session.highestStreamId > highestStreamId);
    this.#drain.heard();
    return this.#state === 'open' ? read : end;
  }

  writtenOut(): void {
    if (this.#wire.backlog < MAX_BACKLOG / 2) this.#reading.resume();
    this.#drain.progressed();
  }

  peerReset(isTaken: boolean): void {
    if (isTaken) this.#wire.taken();
  }

  overwritten(): void {
    this.session.destroy();
    this.#connection.reset();
  }

  // What requests tell

  busy(): void {
    this.#deadlines.busy();
  }

  progressed(): void {
    this.#drain.progressed();
  }

  watch(ms: number): void {
    this.#deadlines.watch(ms);
  }

  pong(bytes: Buffer, start: number): void {
    this.#pings.acknowledge(bytes, start, now());
  }

  drainWanted(): void {
    // Joining the drain that is under way changes nothing, and would cost us more than a flood of GOAWAY costs the client.
    if (this.#connection.state === 'open') void drain(this.#connection, this.#context.recycling);
  }

  readLater(ms: number): void {
    this.#reading.delay(ms);
  }

  failed(error: H2Error): void {
    this.#end();
    const connection = this.#connection;
    const view = new FailedSocketView({
      socket: this.#socket,
      connection,
      queuedBytes: 0,
      endsByItself: false,
      destroyed: () => connection.destroy(),
      timeoutChanged: () => {},
    });
    try {
      this.#context.host.clientError(connection, error, view as unknown as Duplex);
    } catch (thrown) {
      rethrow(thrown);
    }
  }

  // The end of the connection

  /** The peer will send nothing more: no window for what is queued, no rest of a request. */
  peerEnded(): void {
    if (this.#state !== 'open') return;
    // Who has left is waited for no longer.
    this.#deadlines.stop();
    // What was read together with its FIN is answered first, as far as handlers answer at once.
    setImmediate(() => {
      if (this.#state !== 'open') return;
      this.#wire.flush(true);
      this.#requests.markCut();
      this.#end();
      this.session.destroy();
    });
  }

  /** Nothing is received any more: flushes, half-closes and waits for the peer. */
  #end(): void {
    if (this.#state !== 'open') return;
    this.#state = 'ended';
    this.#deadlines.stop();
    setImmediate(() => {
      this.#wire.flush();
      this.#drain.abandoned();
      this.#reading.discard();
      void lingeringClose(this.#socket, END_LINGER).then(() => this.#connection.reset());
    });
  }

  closed(): void {
    if (this.#state === 'gone') return;
    this.#state = 'gone';
    this.#deadlines.stop();
    this.#reading.discard();
    this.#requests.gone();
    this.#drain.abandoned();
  }

  // Drains

  /** The round trip that the drain measured, in ms. */
  get rtt(): number | undefined {
    return this.#drain.rtt;
  }

  /** The smoothed estimate of all round trips that were measured, in ms. */
  get smoothedRtt(): number | undefined {
    return this.#pings.smoothed;
  }

  /** Measures the round trip now, in ms; stays pending when the connection closes before. */
  measureRtt(): Promise<number> {
    return new Promise((resolve) => {
      const ping = this.#pings.send(() => resolve(ping.rtt ?? 0));
    });
  }

  announce(terms: DrainTerms): void {
    this.#drain.announce(terms);
  }
  tighten(terms: DrainTerms): void {
    this.#drain.tighten(terms);
  }
  settle(): Promise<void> {
    return this.#drain.settle();
  }
  commit(): void {
    this.#drain.commit();
  }
  finish(): Promise<void> {
    return this.#drain.finish();
  }
  linger(): Promise<void> {
    return this.#drain.linger();
  }
  cut(): Promise<void> {
    return this.#drain.cut();
  }

  // Times

  get over(): boolean {
    return this.#state !== 'open' || this.#connection.state === 'lingering' || this.#socket.destroyed;
  }
  get idle(): boolean {
    return this.#connection.active === 0 && this.#connection.state === 'open';
  }
  get hold(): number {
    return this.#context.keepAlive.hold;
  }
  get idleUntil(): number {
    return this.#connection.activeAt + this.hold;
  }
  get bytesRead(): number {
    return this.#socket.bytesRead;
  }
  get reads(): boolean {
    return !this.#reading.paused && !this.#reading.waits;
  }
  get waiting(): number {
    return this.#socket.writableLength;
  }
  get progress(): number {
    return bytesTaken(this.#socket);
  }
  users(): Iterable<StreamUser> {
    return this.#requests.users();
  }

  idleExpired(): void {
    this.drainWanted();
  }

  prefaceTimedOut(): void {
    this.#connection.limited('prefaceTimeout');
    this.#connection.reset();
  }

  headTimedOut(): void {
    this.#connection.limited('headersTimeout');
    const { headersTimeout } = this.#context.settings;
    const error = new H2Error(ErrorCode.ENHANCE_YOUR_CALM, `request head not complete after ${headersTimeout} ms`);
    this.session.goaway(this.session.highestStreamId, error.errorCode, error.message);
    this.#requests.failed(error);
    this.session.destroy();
  }

  bodyTimedOut(user: StreamUser): void {
    this.#connection.limited('bodyTimeout');
    if (user.responded) this.#requests.abandon(user, 'served', ErrorCode.NO_ERROR);
    else this.#requests.abandon(user, 'malformed', ErrorCode.CANCEL);
  }

  sendTimedOut(user: StreamUser): void {
    this.#connection.limited('sendTimeout');
    this.#requests.abandon(user, 'aborted', ErrorCode.CANCEL);
  }

  gone(limit: 'sendTimeout' | 'ping'): void {
    this.#connection.limited(limit);
    this.#connection.reset();
  }

  silent(user: StreamUser): void {
    try {
      if (user.timedOut() || user.fate !== 'open') return;
      if (user.responded) this.#requests.abandon(user, 'served', ErrorCode.NO_ERROR);
      else this.#requests.abandon(user, 'aborted', ErrorCode.CANCEL);
    } catch (error) {
      rethrow(error);
    }
  }

  sendPing(): Ping {
    return this.#pings.send();
  }
}
