/**
 * From an accepted socket to its protocol: by TLS and ALPN, or by the first bytes of a cleartext connection. What the
 * protocols do with their sockets is decided in h1/ and h2/.
 */
import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from 'node:tls';
import { claimSocket, connectionOfSocket, type LiveConnection, type Protocol } from './core/connection.js';
import { Alarm, now } from './core/timing.js';
import type { Forwarding } from './forward.js';
import { h1ConnectionOf } from './h1/connection.js';
import { rawSocketOf } from './node-internals.js';
import { type ServerSettings, tlsMaterialError } from './options.js';
import { overrideRemoteEnd, readProxyHeader } from './proxy-header.js';
import { sniffProtocol } from './sniff.js';

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
      failed: (error) => {
        if (reading.received > 0) this.#events.emit('proxyError', error, raw);
        connection.reset();
      },
    });
    connection.beforeProtocol = ({ idleWait = Infinity, deadline, linger }) =>
      reading.silentUntil(Math.min(now() + idleWait, deadline - linger));
  }

  #findProtocol(connection: LiveConnection, raw: Socket): void {
    if (this.tls !== undefined) {
      closeIfSilent(connection, raw);
      this.tls.emit('connection', raw);
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
      const connection = connectionOfSocket(rawSocketOf(socket));
      if (connection === undefined) {
        socket.destroy();
        return;
      }
      connection.secured(socket);
      events.emit('secureConnection', socket);
      if (!socket.destroyed) this.#begin(connection, socket, socket.alpnProtocol === 'h2' ? 'h2' : 'http/1.1');
    });
    // Node only tells; without this a stalled or failed handshake would keep its descriptor.
    tls.on('tlsClientError', (error: Error, socket: TLSSocket) => {
      const raw = rawSocketOf(socket);
      const connection = connectionOfSocket(raw);
      // OpenSSL's failure has taken the socket's addresses; its connection still knows them.
      if (connection !== undefined) claimSocket(socket, connection);
      // A balancer's TCP probe connects and leaves without a byte: no error.
      if (raw === undefined || raw.bytesRead > 0) events.emit('tlsClientError', error, socket);
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
 * While a drain is under way, a client that hasn't sent a byte of its handshake is as idle as one without a request,
 * and need not be waited for until the handshake times out.
 */
function closeIfSilent(connection: LiveConnection, raw: Socket): void {
  // A PROXY header is not the client's.
  const before = raw.bytesRead - raw.readableLength;
  const alarm = new Alarm(() => {
    if (connection.state !== 'closed' && raw.bytesRead === before) connection.reset();
  });
  connection.beforeProtocol = ({ idleWait = Infinity, deadline, linger }) =>
    alarm.atMost(Math.min(now() + idleWait, deadline - linger));
  void connection.closed.then(() => alarm.clear());
}
