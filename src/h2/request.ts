/**
 * A request on a stream, as http.IncomingMessage. Frameworks replace the prototype of requests, so what makes it HTTP/2
 * are own properties. What happens to its stream comes from exchange.ts.
 */
import { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { RequestHead } from './fields.js';
import type { RequestInternals } from './message-internals.js';
import type { SocketView } from './socket-view.js';

/** Where requests and responses keep their exchange. */
export const kExchange: unique symbol = Symbol('lastcall.h2.exchange') as never;

const proto = IncomingMessage.prototype as unknown as {
  _destroy(error: Error | null, callback: (error?: Error | null) => void): void;
};

/** What a request asks of its stream. */
export interface Requested {
  readonly view: SocketView;
  /** Neither body nor trailers follow the head. */
  readonly bodyless: boolean;
  /** The application takes more of the body. */
  wanted(): void;
}

type Destroyed = (error?: Error | null) => void;

/** The application wants more of the body. */
function read(this: H2Request): void {
  this._consuming = true;
  const exchange = this[kExchange];
  if (exchange.bodyless) this.push(null);
  else exchange.wanted();
}

function destroy(this: H2Request, error: Error | null, callback: Destroyed): void {
  // An unfinished request takes its stream with it, as node:http's takes its socket. Whoever merely stops reading
  // (pipeline(), for await, Readable.toWeb()) has taken its socket away before: it may still be answered.
  if (this.socket !== null && (!this.readableEnded || !this.complete)) {
    this[kExchange].view.destroy(error ?? undefined);
  }
  proto._destroy.call(this, error, callback);
}

export interface H2Request extends RequestInternals {}

// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: the interface only names what IncomingMessage really has
export class H2Request extends IncomingMessage {
  declare readonly [kExchange]: Requested;

  constructor(exchange: Requested, head: RequestHead) {
    // Without a socket the constructor takes the default high-water mark; the view comes after.
    super(undefined as unknown as Socket);
    (this as { [kExchange]: Requested })[kExchange] = exchange;
    const socket = exchange.view as unknown as Socket;
    this.socket = socket;
    (this as unknown as { client: Socket }).client = socket;
    this._read = read;
    this._destroy = destroy;
    this.httpVersion = '2.0';
    this.httpVersionMajor = 2;
    // http.ServerResponse takes anything below 1.1 for a client that knows no chunks; 0 comes after it was made.
    this.httpVersionMinor = 1;
    this.method = head.method;
    // In the place of a path the target of a CONNECT is its authority. (RFC 9112 §3.2.3)
    this.url = head.path === '' ? (head.authority ?? '') : head.path;
    this._addHeaderLines(head.rawHeaders, head.rawHeaders.length);
    this.complete = head.endStream;
  }
}
