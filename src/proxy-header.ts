/**
 * The PROXY header on a socket: who must send one, reading it before anything else of the connection is read, and
 * what the socket says about its peer from then on. The header's bytes are proxy-protocol.ts's.
 */
import type { Socket } from 'node:net';
import { AddressSet } from './core/cidr.js';
import { optionTypeError } from './core/options.js';
import { Alarm, now } from './core/timing.js';
import { type ProxyEndpoint, type ProxyHeader, ProxyHeaderParser, ProxyProtocolError } from './proxy-protocol.js';

/** `true`: every connection begins with a PROXY header; addresses and CIDR ranges: those from there do. */
export type ProxyProtocolOption = boolean | readonly string[];

/** Whether a connection from this address must begin with a PROXY header. */
export type ProxyTrust = (remoteAddress: string | undefined) => boolean;

/**
 * Checks the option; `undefined` when no connection begins with a header.
 *
 * Who isn't trusted is never asked for a header, and one that it sends is what it is then: no TLS, and no HTTP.
 *
 * @throws {TypeError} ERR_LASTCALL_OPTION when it is of the wrong type
 * @throws {RangeError} ERR_LASTCALL_OPTION for a CIDR range that is none
 */
export function proxyTrust(option: ProxyProtocolOption | undefined): ProxyTrust | undefined {
  if (option === undefined || option === false) return undefined;
  if (option === true) return () => true;
  if (!Array.isArray(option) || option.length === 0) {
    throw optionTypeError('proxyProtocol', 'a boolean or a list of IP addresses and CIDR ranges', option);
  }
  const trusted = new AddressSet('proxyProtocol', option);
  return (remoteAddress) => trusted.has(remoteAddress);
}

/** What reading a header comes to. */
export interface ProxyHeaderEvents {
  /** The header is complete; what came after it is on the socket again, which is paused. */
  found(header: ProxyHeader): void;
  /**
   * No header came: malformed, too late, or the peer left in the middle. The socket is still open. Not called for a
   * peer that leaves without a byte (a balancer's probe), whose socket is destroyed.
   *
   * @param late whether the timeout was over
   */
  failed(error: ProxyProtocolError, late: boolean): void;
}

/** A header that is being read. */
export interface ProxyHeaderReading {
  /** Bytes that have come. */
  readonly received: number;
  /** Gives up at this time (on the `now()` clock) at the latest, unless a byte has come. */
  silentUntil(at: number): void;
}

/**
 * Reads the PROXY header of a connection that was just accepted.
 *
 * @param timeout ms until the header must be complete
 */
export function readProxyHeader(socket: Socket, timeout: number, events: ProxyHeaderEvents): ProxyHeaderReading {
  const parser = new ProxyHeaderParser();
  const until = now() + timeout;
  const done = (): void => {
    alarm.clear();
    socket.off('data', read);
    socket.off('end', ended);
    socket.off('close', done);
    socket.off('error', ignore);
  };
  const fail = (error: ProxyProtocolError, late = false): void => {
    done();
    // What the peer still sends must neither wait nor crash.
    socket.on('error', ignore);
    events.failed(error, late);
  };
  const alarm = new Alarm(() => {
    if (now() < until && parser.received > 0) alarm.set(until);
    else fail(new ProxyProtocolError('the header did not come in time'), now() >= until);
  });
  const read = (chunk: Buffer): void => {
    let result: ReturnType<ProxyHeaderParser['receive']>;
    try {
      result = parser.receive(chunk);
    } catch (error) {
      if (!(error instanceof ProxyProtocolError)) throw error;
      fail(error);
      return;
    }
    if (result === undefined) return;
    done();
    socket.pause();
    if (result.rest.length > 0) socket.unshift(result.rest);
    events.found(result.header);
  };
  const ended = (): void => {
    if (parser.received > 0) fail(new ProxyProtocolError('the peer left in the middle of the header'));
    else {
      done();
      socket.destroy();
    }
  };
  alarm.set(until);
  socket.on('data', read);
  socket.on('end', ended);
  socket.on('close', done);
  socket.on('error', ignore);
  return {
    get received() {
      return parser.received;
    },
    silentUntil(at) {
      if (parser.received === 0) alarm.atMost(at);
    },
  };
}

/**
 * From now on the socket says that its peer is `source`, before and after it is closed. A TLSSocket around it asks the
 * handle, not the socket: it needs a call of its own.
 */
export function overrideRemoteEnd(socket: Socket, { address, port, family }: ProxyEndpoint): void {
  Object.defineProperties(socket, {
    remoteAddress: { value: address, configurable: true, enumerable: true },
    remotePort: { value: port, configurable: true, enumerable: true },
    remoteFamily: { value: family, configurable: true, enumerable: true },
  });
}

/** A reset needs no words; 'close' follows. */
function ignore(): void {}
