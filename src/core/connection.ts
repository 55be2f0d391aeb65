/**
 * The Connection interface and its life. It knows no protocol: a driver is attached once the protocol is known, and
 * reports to it every request that begins and ends. How a connection is drained is decided in shutdown.ts.
 */
import { setMaxListeners } from 'node:events';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { endedInOrder, resetAndDestroy } from '../socket-internals.js';
import { Authorities } from './authorities.js';
import type { DrainTerms, Driver } from './driver.js';
import type { Limit, LimitCounts } from './limits.js';
import type { RequestObserver } from './recycle.js';
import { type CutRequest, noRequests, type RequestCounts } from './report.js';
import type { DrainOptions } from './shutdown.js';
import { epochAt, now } from './timing.js';

export type Protocol = 'http/1.1' | 'h2';

/**
 * ```
 * handshaking ──► open ──► draining ──► lingering ──► closed
 *      └────────────┴───────────┴───────────┴───────────▲
 * ```
 * A connection only ever moves to the right; it may skip states.
 *
 * - `handshaking`: accepted, protocol not known yet (TLS handshake, or the first byte of a cleartext connection).
 * - `draining`: the peer is being told, or has been; accepted requests are served.
 * - `lingering`: our FIN is out; what still arrives is read and discarded.
 */
export type ConnectionState = 'handshaking' | 'open' | 'draining' | 'lingering' | 'closed';

const ORDER: Readonly<Record<ConnectionState, number>> = {
  handshaking: 0,
  open: 1,
  draining: 2,
  lingering: 3,
  closed: 4,
};

/** One live connection of a client. */
export interface Connection {
  /** Unique in this process, counting from 1. */
  readonly id: number;
  /** `undefined` while `handshaking`. */
  readonly protocol: Protocol | undefined;
  /** Whether it is TLS. */
  readonly secure: boolean;
  readonly state: ConnectionState;
  /** The TLS socket once its handshake is done, else the TCP socket. Reading from or writing to it breaks the protocol. */
  readonly socket: Socket;
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;
  readonly localAddress: string | undefined;
  readonly localPort: number | undefined;
  /** The host name of the TLS handshake (SNI), `undefined` without one. */
  readonly servername: string | undefined;
  /** The hosts that its requests named, the last 64 of them. */
  readonly authorities: Authorities;
  /** ms since the epoch, by the system's clock as it was when the process began: setting it later changes nothing. */
  readonly openedAt: number;
  /** When a request last began or ended, in ms since the epoch; at first `openedAt`. */
  readonly lastActiveAt: number;
  /** Requests in flight. */
  readonly active: number;
  /** Requests answered in full. */
  readonly served: number;
  /** h2: the round trip in ms, smoothed, once a PING of ours has been answered; `undefined` before. */
  readonly rtt: number | undefined;
  /** The application's own labels, for selecting connections. */
  readonly tags: Map<string, string>;
  /** Aborted when a drain of this connection begins: "finish soon", never "cancel". */
  readonly drainSignal: AbortSignal;
  /** Resolves when the connection is closed. */
  readonly closed: Promise<void>;
  /** Closes the connection now; requests in flight are cut. For a close that loses nothing see `gracefulShutdown`. */
  destroy(error?: Error): void;
}

/** How many of the aborted requests a report describes, */
const MAX_CUT = 16;

/** and with how many characters of what the client chose. */
const MAX_CUT_TEXT = 200;

/** A copy: a slice would keep the whole alive. */
function shortened(text: string): string {
  if (text.length <= MAX_CUT_TEXT) return text;
  return `${Buffer.from(text.slice(0, MAX_CUT_TEXT), 'utf16le').toString('utf16le')}…`;
}

let lastId = 0;

/** Where a socket keeps its connection. */
const kConnection = Symbol('lastcall.connection');
type OwnedSocket = Socket & { [kConnection]?: LiveConnection };

/** The connection that a socket belongs to, or `undefined` if it isn't ours. */
export function connectionOfSocket(socket: unknown): LiveConnection | undefined {
  return typeof socket === 'object' && socket !== null ? (socket as OwnedSocket)[kConnection] : undefined;
}

/** Marks a socket, or a view of one, as belonging to a connection. */
export function claimSocket(socket: object, connection: LiveConnection): void {
  (socket as OwnedSocket)[kConnection] = connection;
}

const NO_TAGS: ReadonlyMap<string, string> = new Map();

/** The tags of a connection, to be read: most connections have none, and needn't get a map for being asked. */
export function tagsOf(connection: Connection): ReadonlyMap<string, string> {
  return connection instanceof LiveConnection ? (connection.givenTags ?? NO_TAGS) : connection.tags;
}

export class LiveConnection implements Connection {
  readonly id = ++lastId;
  /** When a request last began or ended, on the `now()` clock; at first when it was accepted. */
  activeAt = now();
  readonly openedAt = epochAt(this.activeAt);
  remoteAddress: string | undefined;
  remotePort: number | undefined;
  readonly localAddress: string | undefined;
  readonly localPort: number | undefined;
  readonly authorities = new Authorities();
  active = 0;
  /** Told of every request that begins and ends. */
  observer: RequestObserver | undefined;
  /** Its server's counters. */
  limitCounts: LimitCounts | undefined;
  /** How every request of this connection ended so far. */
  readonly counts: RequestCounts = noRequests();
  /** The first aborted requests. */
  readonly cutRequests: CutRequest[] = [];
  /** Whether we ended it by force: a deadline, a signal, or destroy(). */
  destroyedHere = false;
  readonly closed: Promise<void>;
  /** What its drains take from its server's `drain` option. */
  drainDefaults: DrainOptions = {};

  /** The accepted socket, TCP as a rule: the only one that can be reset. */
  readonly #raw: Socket;
  #tags: Map<string, string> | undefined;
  #overrideEnd: ((socket: Socket) => void) | undefined;
  #socket: Socket;
  #secure: boolean;
  #servername: string | undefined;
  #state: ConnectionState = 'handshaking';
  #driver: Driver | undefined;
  #beforeProtocol: ((terms: DrainTerms) => void) | undefined;
  #drainTerms: DrainTerms | undefined;
  #drainController: AbortController | undefined;
  /** A drain has begun, whatever came after. */
  #drained = false;
  readonly #waiting: ((driver: Driver) => void)[] = [];
  #resolveClosed: () => void = () => {};

  constructor(raw: Socket, secure: boolean) {
    this.#raw = raw;
    this.#socket = raw;
    this.#secure = secure;
    this.remoteAddress = raw.remoteAddress;
    this.remotePort = raw.remotePort;
    this.localAddress = raw.localAddress;
    this.localPort = raw.localPort;
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
    claimSocket(raw, this);
    raw.on('error', ignore);
    raw.on('close', this.#onClose);
  }

  get protocol(): Protocol | undefined {
    return this.#driver?.protocol;
  }

  get driver(): Driver | undefined {
    return this.#driver;
  }

  /**
   * While the protocol is unknown: told of a drain, because nobody else would end a connection that says nothing. Who
   * comes when one is under way is told at once.
   */
  set beforeProtocol(tell: ((terms: DrainTerms) => void) | undefined) {
    this.#beforeProtocol = tell;
    if (this.#drainTerms !== undefined) tell?.(this.#drainTerms);
  }

  /** The terms of the drain under way, while no driver can be told of them. */
  set drainTerms(terms: DrainTerms) {
    this.#drainTerms = terms;
    this.#beforeProtocol?.(terms);
  }

  get secure(): boolean {
    return this.#secure;
  }

  get state(): ConnectionState {
    return this.#state;
  }

  get socket(): Socket {
    return this.#socket;
  }

  get servername(): string | undefined {
    return this.#servername;
  }

  get lastActiveAt(): number {
    return epochAt(this.activeAt);
  }

  get served(): number {
    return this.counts.served;
  }

  get rtt(): number | undefined {
    return this.#driver?.smoothedRtt;
  }

  /** Most connections have none. */
  get tags(): Map<string, string> {
    this.#tags ??= new Map();
    return this.#tags;
  }

  /** `undefined` as long as nobody has asked for `tags`. */
  get givenTags(): ReadonlyMap<string, string> | undefined {
    return this.#tags;
  }

  get drainSignal(): AbortSignal {
    if (this.#drainController === undefined) {
      this.#drainController = new AbortController();
      // Of every request in flight there may be one.
      setMaxListeners(0, this.#drainController.signal);
      if (this.#drained) this.#drainController.abort();
    }
    return this.#drainController.signal;
  }

  /**
   * A balancer said whose connection it passes on, before anything else was read.
   *
   * @param override makes a socket say so; called for the TLS socket too, once there is one
   */
  passedOnFor(address: string, port: number, override: (socket: Socket) => void): void {
    this.remoteAddress = address;
    this.remotePort = port;
    this.#overrideEnd = override;
    override(this.#raw);
  }

  /** The TLS handshake is done: from here on the connection's socket is the encrypted one. */
  secured(socket: TLSSocket): void {
    const { servername } = socket as TLSSocket & { servername?: string | false | null };
    this.#servername = servername || undefined;
    this.#socket = socket;
    this.#overrideEnd?.(socket);
    claimSocket(socket, this);
    socket.on('error', ignore);
    this.#raw.off('close', this.#onClose);
    socket.on('close', this.#onClose);
    socket.once('end', this.#onSecureEnd);
  }

  /**
   * A RST that comes right behind bytes is reported as the peer's FIN. If TLS had something of its own to write just
   * then, a session ticket or a key update, Node forgets that it failed, and completes no later write: the connection
   * would stay for ever. A write of nothing, past TLS, meets the error and closes it.
   */
  readonly #onSecureEnd = (): void => {
    // With our own FIN on its way a write would be a mistake; after a real FIN it would be for nothing.
    if (!this.#socket.writableEnded && !this.#raw.destroyed && !endedInOrder(this.#raw)) this.#raw.write('');
  };

  /** The protocol is known. */
  attach(driver: Driver): void {
    this.#driver = driver;
    this.beforeProtocol = undefined;
    this.moveTo('open');
    // In a tick of its own: the driver has begun by then, and has not read anything yet.
    process.nextTick(() => {
      for (const established of this.#waiting.splice(0)) established(driver);
    });
  }

  /** Calls back once the protocol is known, before its first request is read; never when the connection closes before. */
  whenEstablished(established: (driver: Driver) => void): void {
    this.#waiting.push(established);
  }

  /** Moves on in its life; moving back is ignored. */
  moveTo(state: Exclude<ConnectionState, 'handshaking' | 'closed'>): void {
    if (ORDER[state] <= ORDER[this.#state]) return;
    this.#state = state;
  }

  /** Whoever waits for its drain is told. */
  drainBegan(): void {
    this.#drained = true;
    this.#drainController?.abort();
  }

  /**
   * A request was accepted.
   *
   * @param authority the host that it named
   * @param at when, on the `now()` clock
   */
  began(authority?: string, at = now()): void {
    this.authorities.note(authority);
    this.active++;
    // What is given may be its first byte, which came while another request was being answered.
    if (at > this.activeAt) this.activeAt = at;
    this.observer?.began();
  }

  /**
   * A request that `began` is over.
   *
   * @param at when, on the `now()` clock
   */
  ended(how: keyof RequestCounts, at = now()): void {
    this.active--;
    this.activeAt = at;
    this.counts[how]++;
    this.observer?.ended();
  }

  /** A limit has fired. */
  limited(limit: Limit): void {
    if (this.limitCounts !== undefined) this.limitCounts[limit]++;
  }

  /** A request that `began` was not answered in full. */
  aborted(method: string, path: string, startedAt: number): void {
    this.ended('aborted');
    if (this.cutRequests.length === MAX_CUT) return;
    this.cutRequests.push({ method: shortened(method), path: shortened(path), ageMs: now() - startedAt });
  }

  destroy(error?: Error): void {
    this.destroyedHere = true;
    this.reset(error);
  }

  /**
   * Closes at once. An unfinished answer must not look complete: with requests in flight the peer gets a RST.
   *
   * @param cut whether answers were cut, by default: whether there are requests in flight
   */
  reset(error?: Error, cut = this.active > 0): void {
    if (this.#state === 'closed') return;
    if (cut && !this.#raw.destroyed && !this.#finPending) resetAndDestroy(this.#raw);
    this.#socket.destroy(error);
  }

  /** All is written, and the FIN is about to go out: libuv refuses to reset then, and Node would never close the socket. */
  get #finPending(): boolean {
    const { writableEnded, writableFinished, writableLength } = this.#socket;
    return writableEnded && !writableFinished && writableLength === 0;
  }

  readonly #onClose = (): void => {
    if (this.#state === 'closed') return;
    this.#driver?.closed();
    this.#state = 'closed';
    this.#resolveClosed();
  };
}

/**
 * What a peer does to its connection must never crash the process, not even after the socket was handed to an
 * application that doesn't listen for its errors; 'close' always follows.
 */
export function ignore(): void {}
