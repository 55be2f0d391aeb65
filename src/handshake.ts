/**
 * From an accepted socket to its protocol: by TLS and ALPN, or by the first bytes of a cleartext connection. What the
 * protocols do with their sockets is decided in h1/ and h2/.
 */
import type { EventEmitter } from 'node:events';
import { Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from 'node:tls';
import { claimSocket, connectionOfSocket, type LiveConnection, type Protocol } from './core/connection.js';
import { silentUntil } from './core/driver.js';
import { emitApart } from './core/rethrow.js';
import { Alarm, now } from './core/timing.js';
import { Share } from './core/turns.js';
import type { Forwarding } from './forward.js';
import { h1ConnectionOf } from './h1/connection.js';
import { type ServerSettings, tlsMaterialError } from './options.js';
import { overrideRemoteEnd, readProxyHeader } from './proxy-header.js';
import { sniffProtocol } from './sniff.js';
import { underTls } from './socket-internals.js';

/** A connection whose protocol is known. */
export type Begin = (connection: LiveConnection, socket: Socket, protocol: Protocol) => void;

/** Events of the TLS server whose mere listeners change what it does. */
const TLS_EVENTS = ['newSession', 'resumeSession', 'OCSPRequest', 'keylog'];

export class Handshakes {
  /** `undefined`: cleartext. It doesn't listen: sockets are handed to it. */
  readonly tls: TlsServer | undefined;
  readonly #settings: ServerSettings;
  readonly #events: EventEmitter;
  readonly #begin: Begin;

  /** @param events who is told of handshakes that succeed or fail */
  constructor(settings: ServerSettings, events: EventEmitter, forwarding: Forwarding, begin: Begin) {
    this.#settings = settings;
    this.#events = events;
    this.#begin = begin;
    this.tls = settings.tls && this.#createTls(settings, events, forwarding);
  }

  /** Calls `begin` once the protocol is known; a connection that never gets that far is closed. */
  start(connection: LiveConnection, raw: Socket): void {
    if (this.#settings.proxied?.(raw.remoteAddress) === true) this.#readHeader(connection, raw);
    else this.#findProtocol(connection, raw);
  }

  #readHeader(connection: LiveConnection, raw: Socket): void {
    const reading = readProxyHeader(raw, this.#settings.handshakeTimeout, {
      found: ({ source }) => {
        connection.beforeProtocol = undefined;
        if (source !== undefined) {
          connection.passedOnFor(source.address, source.port, (socket) => overrideRemoteEnd(socket, source));
        }
        this.#findProtocol(connection, raw);
      },
      failed: (error, late) => {
        if (late) connection.limited('handshakeTimeout');
        else if (reading.received > 0) connection.limited('handshakeErrors');
        if (reading.received > 0) emitApart(this.#events, 'proxyError', error, raw);
        connection.reset();
      },
    });
    connection.beforeProtocol = (terms) => reading.silentUntil(silentUntil(terms));
  }

  #findProtocol(connection: LiveConnection, raw: Socket): void {
    const { tls } = this;
    if (tls !== undefined) {
      whenSpoken(connection, raw, this.#settings.handshakeTimeout, () => tls.emit('connection', raw));
    } else if (!this.#settings.h2) {
      this.#begin(connection, raw, 'http/1.1');
      process.nextTick(() => raw.resume());
    } else {
      sniffProtocol(connection, raw, this.#settings.keepAlive.hold, (protocol, silentTooLong) => {
        this.#begin(connection, raw, protocol);
        if (silentTooLong) h1ConnectionOf(raw)?.silentTooLong();
        // A drain that waits for the protocol is announced first, in a tick of its own.
        process.nextTick(() => raw.resume());
      });
    }
  }

  #createTls(settings: ServerSettings, events: EventEmitter, forwarding: Forwarding): TlsServer {
    const tls = tlsServer(settings);
    tls.on('secureConnection', (socket) => {
      const connection = connectionOfSocket(underTls(socket));
      if (connection === undefined) {
        socket.destroy();
        return;
      }
      connection.secured(socket);
      emitApart(events, 'secureConnection', socket);
      if (!socket.destroyed) this.#begin(connection, socket, socket.alpnProtocol === 'h2' ? 'h2' : 'http/1.1');
    });
    // Node only tells; without this a stalled or failed handshake would keep its descriptor.
    tls.on('tlsClientError', (error: NodeJS.ErrnoException, socket: TLSSocket) => {
      const raw = underTls(socket);
      const connection = connectionOfSocket(raw);
      // OpenSSL's failure has taken the socket's addresses; its connection still knows them.
      if (connection !== undefined) claimSocket(socket, connection);
      // A balancer's TCP probe connects and leaves without a byte: no error.
      if (raw?.bytesRead !== 0) {
        emitApart(events, 'tlsClientError', error, socket);
        emitApart(events, 'clientError', error, socket);
      }
      if (error.code === 'ERR_TLS_HANDSHAKE_TIMEOUT') connection?.limited('handshakeTimeout');
      else if (raw !== undefined && raw.bytesRead > 0) connection?.limited('handshakeErrors');
      socket.destroy();
    });
    for (const event of TLS_EVENTS) forwarding.add(tls, event);
    return tls;
  }
}

function tlsServer({ tls, h2 }: ServerSettings): TlsServer {
  try {
    return createTlsServer({ ...tls, ALPNProtocols: h2 ? ['h2', 'http/1.1'] : ['http/1.1'] });
  } catch (error) {
    throw tlsMaterialError(error);
  }
}

/**
 * What a turn of the event loop begins of handshakes. Each takes half a millisecond and more, then and there; a crowd of
 * clients that come at once would have the loop for itself.
 */
const beginnings = new Share(0.5);

/** Less than what Node's buffer for encrypted bytes holds at least (1,024): filled to the brim, it gets a larger one. */
const PIECE = 1_000;

/** In the place of a socket's read(): without a size, no more than a piece. */
function readPiece(this: Socket, size?: number): Buffer | null {
  return Socket.prototype.read.call(this, size ?? (Math.min(PIECE, this.readableLength) || undefined));
}

/**
 * Begins TLS with the client's first byte, and not before: who says nothing costs no TLS state, and Node makes its
 * buffer for encrypted bytes as large as what it is handed first. Reading by itself it takes 64 KiB, of which some
 * 20 KiB stay resident as long as the connection lives, and it lives idle. Handed over in pieces, a ClientHello of any
 * size goes through 1 KiB.
 *
 * @param timeout ms until the first byte must have come
 */
function whenSpoken(connection: LiveConnection, raw: Socket, timeout: number, begin: () => void): void {
  const done = (): void => {
    alarm.clear();
    connection.beforeProtocol = undefined;
    raw.off('readable', read);
    raw.off('close', done);
  };
  const read = (): void => {
    // It is idle no longer, and still has no more than its time.
    connection.beforeProtocol = undefined;
    raw.off('readable', read);
    if (alarm.at !== until) alarm.set(until);
    if (raw.readableLength === 0) raw.destroy();
    else {
      raw.read = readPiece;
      beginnings.do(() => {
        done();
        if (!raw.destroyed) begin();
      });
    }
  };
  const until = now() + timeout;
  const alarm = new Alarm(() => {
    if (now() >= until) connection.limited('handshakeTimeout');
    connection.reset();
  });
  alarm.set(until);
  connection.beforeProtocol = (terms) => alarm.atMost(silentUntil(terms));
  raw.on('readable', read);
  raw.on('close', done);
}

/**
 * While a drain is under way, a client that hasn't sent a byte of its handshake is as idle as one without a request,
 * and need not be waited for until the handshake times out.
 */
export function closeIfSilent(connection: LiveConnection, raw: Socket): void {
  // A PROXY header is not the client's.
  const before = raw.bytesRead - raw.readableLength;
  const alarm = new Alarm(() => {
    if (connection.state !== 'closed' && raw.bytesRead === before) connection.reset();
  });
  connection.beforeProtocol = (terms) => alarm.atMost(silentUntil(terms));
  void connection.closed.then(() => alarm.clear());
}
