/**
 * Every undocumented member of Node that lastcall touches, each behind a typed function, and all of them probed once
 * when this module loads: on a Node where one is missing there is one clear error instead of a lost request.
 */
import { createServer, type IncomingMessage, OutgoingMessage, type Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';

interface HttpParser {
  readonly constructor: { readonly kOnMessageBegin?: unknown };
  readonly socket: Socket | null;
  [callback: number]: unknown;
}

type SocketInternals = { parser?: HttpParser | null; _parent?: Socket };
type ServerInternals = { httpAllowHalfOpen?: boolean };
type RequestInternals = { _dump?: () => void };
type ResponseInternals = {
  _keepAliveTimeout?: number;
  _sent100?: boolean;
  _last?: boolean;
  _header?: string | null;
  _headerSent?: boolean;
  _storeHeader?: StoreHeader;
  _send?: (data: string, encoding?: string, callback?: () => void) => boolean;
  _writeRaw?: (data: unknown) => boolean;
};

/** Formats a response head; every way to write one ends here. */
export type StoreHeader = (this: ServerResponse, firstLine: string, headers: unknown) => void;

/** The TCP socket under a TLS socket. */
export function rawSocketOf(socket: TLSSocket): Socket | undefined {
  return (socket as unknown as SocketInternals)._parent;
}

/** Lets a client that half-closes get its answers all the same. */
export function allowHalfOpenRequests(server: Server): void {
  (server as unknown as ServerInternals).httpAllowHalfOpen = true;
}

/** Calls `listener(socket)` when the first byte of a request's head has been parsed. The listener must be shared: it is set on a pooled parser. */
export function onMessageBegin(socket: Socket, listener: (this: { readonly socket: Socket | null }) => void): void {
  const parser = (socket as unknown as SocketInternals).parser;
  if (parser) parser[Number(parser.constructor.kOnMessageBegin)] = listener;
}

/** Reads and discards what is left of a request's body, its listeners notwithstanding. */
export function discardBody(req: IncomingMessage): void {
  (req as unknown as Required<RequestInternals>)._dump();
}

/** Lets go of the socket of a response that has been written out, or was dropped with its socket. */
export type DetachSocket = (this: ServerResponse, socket: Socket) => void;

/** Puts `hook` in the place of a response's detachSocket(). An own property, which costs less than one more listener. */
export function hookDetachSocket(res: ServerResponse, hook: DetachSocket): void {
  res.detachSocket = hook;
}

/** Detaches as Node does. */
export function detachSocket(res: ServerResponse, socket: Socket): void {
  ServerResponse.prototype.detachSocket.call(res, socket);
}

/** Ends a request's body as if its connection had broken, which goes on all the same. */
export function cutBody(req: IncomingMessage): void {
  const error = Object.assign(new Error('aborted'), { code: 'ECONNRESET' });
  req._destroy = (_error, done) => done(req.listenerCount('error') > 0 ? error : null);
  req.destroy(error);
}

/** What a response's `Keep-Alive: timeout` says, in ms. Node's own timer behind that header stays off. */
export function advertiseKeepAlive(res: ServerResponse, ms: number): void {
  (res as unknown as ResponseInternals)._keepAliveTimeout = ms;
}

/**
 * Puts `hook` before the formatting of this response's head. It is an own property, because frameworks replace the
 * prototype of a response.
 */
export function hookStoreHeader(res: ServerResponse, hook: StoreHeader): void {
  (res as unknown as ResponseInternals)._storeHeader = hook;
}

/** The names of the fields set on a response, in the case they were set with (public, but missing from its types). */
export function rawHeaderNames(res: ServerResponse): string[] {
  return (res as unknown as { getRawHeaderNames(): string[] }).getRawHeaderNames();
}

/** Formats a head as Node does. */
export function storeHeader(res: ServerResponse, firstLine: string, headers: unknown): void {
  (OutgoingMessage.prototype as unknown as { _storeHeader: StoreHeader })._storeHeader.call(res, firstLine, headers);
}

/** A head that has been formatted but waits to be sent with the first body bytes; `undefined`: there is none. */
export function formattedHead(res: ServerResponse): string | undefined {
  const { _header, _headerSent } = res as unknown as ResponseInternals;
  return _header && !_headerSent ? _header : undefined;
}

/** Puts another head in the place of the formatted one. After this response the connection ends. */
export function replaceHead(res: ServerResponse, head: string): void {
  res.shouldKeepAlive = false;
  Object.assign(res as unknown as ResponseInternals, { _header: head, _last: true });
}

/** Whether a 100 (Continue) was sent for this response's request. */
export function sentContinue(res: ServerResponse): boolean {
  return (res as unknown as ResponseInternals)._sent100 === true;
}

/** Hands a formatted head to the socket at once instead of with the first body bytes. */
export function sendHead(res: ServerResponse): void {
  (res as unknown as Required<ResponseInternals>)._send('');
}

function swallow(): boolean {
  return false;
}

/** Nothing that this response writes from now on reaches the socket. */
export function silence(res: ServerResponse): void {
  (res as unknown as ResponseInternals)._writeRaw = swallow;
  res.assignSocket = swallow as unknown as ServerResponse['assignSocket'];
}

/** Names what this Node lacks; empty on one that lastcall can run on. */
function missingInternals(): string[] {
  const missing: string[] = [];
  const need = (present: boolean, name: string): void => {
    if (!present) missing.push(name);
  };
  const server = createServer((req, res) => {
    need(typeof (req as unknown as RequestInternals)._dump === 'function', 'IncomingMessage._dump');
    const internals = res as unknown as ResponseInternals;
    for (const name of ['_storeHeader', '_send', '_writeRaw'] as const) {
      need(typeof internals[name] === 'function', `OutgoingMessage.${name}`);
    }
    for (const name of ['_keepAliveTimeout', '_sent100', '_last', '_header', '_headerSent']) {
      need(name in res, `ServerResponse.${name}`);
    }
    hookDetachSocket(res, function (this: ServerResponse, socket) {
      detached = true;
      detachSocket(this, socket);
    });
    let hooked = false;
    hookStoreHeader(res, function (this: ServerResponse, firstLine, headers) {
      hooked = true;
      storeHeader(this, firstLine, headers);
    });
    res.end();
    need(hooked, 'OutgoingMessage._storeHeader called for each head');
  });
  need('httpAllowHalfOpen' in server, 'http.Server.httpAllowHalfOpen');
  const wire = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
  server.emit('connection', wire);
  const parser = (wire as unknown as SocketInternals).parser;
  need(typeof parser?.constructor.kOnMessageBegin === 'number', 'HTTPParser.kOnMessageBegin');
  let answered = false;
  let detached = false;
  server.on('request', (_req, res) => {
    answered = true;
    // It comes after this module is loaded: here it comes early, and once.
    res.emit('finish');
    res.removeAllListeners('finish');
    need(detached, "ServerResponse.detachSocket called before 'finish' ends");
  });
  wire.emit('data', Buffer.from('GET / HTTP/1.1\r\nHost: probe\r\n\r\n'));
  need(answered, "http.Server's 'connection' event");
  wire.destroy();
  const underTls = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
  const tlsSocket = new TLSSocket(underTls as Socket, { isServer: true });
  need((tlsSocket as unknown as SocketInternals)._parent !== undefined, 'TLSSocket._parent');
  tlsSocket.destroy();
  return missing;
}

const missing = missingInternals();
if (missing.length > 0) {
  throw Object.assign(new Error(`lastcall can't run on Node ${process.version}: it lacks ${missing.join(', ')}`), {
    code: 'ERR_LASTCALL_NODE',
  });
}
