/**
 * Every undocumented member of node:http and node:http2 that lastcall touches, each behind a typed function, and all of
 * them probed once when this module loads. Those of sockets are socket-internals.ts's.
 */
import type { AsyncResource } from 'node:async_hooks';
import type { EventEmitter } from 'node:events';
import { createServer, IncomingMessage, OutgoingMessage, ServerResponse } from 'node:http';
import type { ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import type { Server as NetServer, Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { rethrow } from './core/rethrow.js';
import { Needs, symbolOf } from './node-needs.js';

interface HttpParser {
  readonly constructor: { readonly kOnMessageBegin?: unknown };
  readonly socket: Socket | null;
  readonly incoming?: IncomingMessage | null;
  onIncoming?: OnIncoming | null;
  resume(): void;
  execute(bytes: Buffer): unknown;
  [callback: number]: unknown;
}

/** Takes a request whose head is complete, and tells the parser how to go on: 0 for as usual. */
type OnIncoming = (req: IncomingMessage, keepAlive: boolean) => number;

type SocketInternals = {
  parser?: HttpParser | null;
  _httpMessage?: ServerResponse | null;
  _paused?: boolean;
};
type ServerInternals = { httpAllowHalfOpen?: boolean; keepAlive?: boolean };
type RequestInternals = {
  _dump?: () => void;
  _dumped?: boolean;
  upgrade?: boolean;
  readonly _events: { readonly end?: unknown };
  readonly _readableState: {
    ended: boolean;
    endEmitted: boolean;
    destroyed: boolean;
    closed: boolean;
    closeEmitted: boolean;
  };
};
type ResponseInternals = {
  _keepAliveTimeout?: number;
  _sent100?: boolean;
  _last?: boolean;
  _header?: string | null;
  _headerSent?: boolean;
  _contentLength?: number | null;
  _hasBody?: boolean;
  _storeHeader?: StoreHeader;
  _send?: (data: string, encoding?: string, callback?: () => void) => boolean;
  _writeRaw?: (data: unknown) => boolean;
};

/** Formats a response head; every way to write one ends here. */
export type StoreHeader = (this: ServerResponse, firstLine: string, headers: unknown) => void;

/** Lets a client that half-closes get its answers all the same. */
export function allowHalfOpenRequests(server: NetServer): void {
  (server as unknown as ServerInternals).httpAllowHalfOpen = true;
}

/** Whether a server turns on TCP keep-alive for its sockets by itself. */
export function keepsAlive(server: NetServer): boolean {
  return (server as unknown as ServerInternals).keepAlive === true;
}

/** Calls `listener(socket)` when the first byte of a request's head has been parsed. The listener must be shared: it is set on a pooled parser. */
export function onMessageBegin(socket: Socket, listener: (this: { readonly socket: Socket | null }) => void): void {
  const parser = (socket as unknown as SocketInternals).parser;
  if (parser) parser[Number(parser.constructor.kOnMessageBegin)] = listener;
}

/** The parser's own code for a pause. */
const HPE_PAUSED = 21;

/**
 * Has the parser of a socket stop behind a head, in the middle of what was read, whenever `pauses()` then; it reports
 * that as an error, see {@link unparsed}.
 */
export function pauseParserWhile(socket: Socket, pauses: () => boolean): void {
  const { parser } = socket as unknown as SocketInternals;
  const onIncoming = parser?.onIncoming;
  if (!parser || !onIncoming) return;
  parser.onIncoming = (req: IncomingMessage & Pick<RequestInternals, 'upgrade'>, keepAlive) => {
    const goesOn = onIncoming(req, keepAlive);
    return goesOn === 0 && req.upgrade !== true && pauses() ? HPE_PAUSED : goesOn;
  };
}

/** Not even its memory may be missing: that would mean the end of all. */
const NOTHING = Buffer.alloc(1).subarray(0, 0);

/** Undoes the pause of a socket's parser, which takes a request without a body for read then. */
export function resumeParser(socket: Socket): void {
  const { parser } = socket as unknown as SocketInternals;
  parser?.resume();
  parser?.execute(NOTHING);
}

/**
 * What a parser that is paused has not parsed of what was read; `undefined`: the error is another.
 *
 * @param midway whether it stopped in the middle of it, and was not paused before
 */
export function unparsed(error: Error & { code?: string }, midway: boolean): Buffer | undefined {
  if (error.code !== 'HPE_PAUSED') return undefined;
  const { rawPacket, bytesParsed } = error as unknown as { rawPacket: Buffer; bytesParsed: number };
  return midway ? rawPacket.subarray(bytesParsed) : rawPacket;
}

/** Whether node:http reads nothing from a socket, because of an answer that the client doesn't read. */
export function isHeldBack(socket: Socket): boolean {
  return (socket as unknown as SocketInternals)._paused === true;
}

/** From now on node:http's parser gets what comes as 'data', as any listener: what is put back comes first. */
export function feedByData(socket: Socket): void {
  // It takes a listener of somebody else's for the wish that it does.
  socket.on('data', swallow).off('data', swallow);
}

/** node:http reports the first error of a socket only: the next one, too. */
export function keepReporting(socket: Socket): void {
  if (onSocketError !== undefined && !socket.listeners('error').includes(onSocketError)) {
    socket.on('error', onSocketError);
  }
}

let onSocketError: ((error: Error) => void) | undefined;

/** Reads and discards what is left of a request's body, its listeners notwithstanding. */
export function discardBody(req: IncomingMessage): void {
  (req as unknown as Required<RequestInternals>)._dump();
}

/** What comes of a request from now on is told to its listeners in an async context. */
export function receiveWithin(req: IncomingMessage, context: AsyncResource): void {
  const { push } = req;
  req.push = (chunk, encoding) => context.runInAsyncScope(push, req, chunk, encoding);
}

/**
 * Reads and discards what is left of a request that its application has destroyed, as pipeline() and for await do where
 * they stop: node:http has stopped reading for it, and would go on when somebody reads it.
 *
 * @param ended called at the end of the request
 */
export function discardDestroyed(req: IncomingMessage, socket: Socket, ended: () => void): void {
  (req as unknown as RequestInternals)._dumped = true;
  req.push = (chunk) => {
    if (chunk === null) ended();
    return true;
  };
  if (socket.readable && !isHeldBack(socket)) socket.resume();
}

/** How many events somebody listens to: asking for each costs more than most requests' events do. */
function eventsOf(emitter: EventEmitter): number {
  return (emitter as unknown as { _eventsCount: number })._eventsCount;
}

/** Whether nobody listens to anything. */
export function hasNoListeners(emitter: EventEmitter): boolean {
  return eventsOf(emitter) === 0;
}

/**
 * What a head that could not be formatted has left in its response doesn't hold for the next one.
 *
 * @returns whether the connection ends with the answer all the same: that head may have said so, or the client
 */
export function forgetHead(res: ServerResponse): boolean {
  const internals = res as unknown as ResponseInternals;
  internals._contentLength = null;
  internals._hasBody = res.req.method !== 'HEAD';
  res.chunkedEncoding = false;
  return internals._last === true;
}

/** Has a request that was received in full, and that nobody listens to, end here and now: the end of a stream takes four ticks. */
export function endUnnoticed(req: IncomingMessage): void {
  const internals = req as unknown as RequestInternals;
  internals._dumped = true;
  const state = internals._readableState;
  state.ended = true;
  state.endEmitted = true;
  state.destroyed = true;
  state.closed = true;
  state.closeEmitted = true;
}

const [MAJOR = 0, MINOR = 0] = process.versions.node.split('.').map(Number);

/** Whether Node has a request flow that was received in full, to end it some ticks later: up to Node 24.21, and Node 25. */
const FLOWS_FIRST = MAJOR < 24 || (MAJOR === 24 && MINOR < 22) || MAJOR === 25;

/**
 * A request of node:http that was received in full and that nobody reads or listens to ends by itself, soon after its
 * answer: Node has it flow first, for nobody.
 */
export class UnreadRequest extends IncomingMessage {
  /** What node:http does with a request that nobody has read, before anybody else knows that its answer is out. */
  _dump(): void {
    const internals = this as unknown as RequestInternals;
    if (internals._dumped) return;
    if (!FLOWS_FIRST || !this.complete || this.readableLength > 0 || !hasNoListeners(this)) {
      dump.call(this);
      return;
    }
    internals._dumped = true;
    // Whoever hears that the answer is out, or closed, may listen to the request then, or in ticks that follow: all of
    // them come before what a promise does.
    void SETTLED.then(() => endAlone(this));
  }
}

const { _dump: dump } = IncomingMessage.prototype as unknown as Required<RequestInternals>;

const SETTLED = Promise.resolve();

function endAlone(req: UnreadRequest): void {
  const internals = req as unknown as RequestInternals;
  const { end } = internals._events;
  // node:http itself listens, unless the head of the next request has come.
  if (hasNoListeners(req) || (eventsOf(req) === 1 && end === clearIncoming && clearIncoming !== undefined)) {
    endUnnoticed(req);
    clearIncoming?.call(req);
    return;
  }
  internals._dumped = false;
  dump.call(req);
}

/** node:http's listener of a request's end, which lets its parser go of it. */
let clearIncoming: ((this: IncomingMessage) => void) | undefined;

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

/** Whether somebody wants the body. (body-parser pauses a body that is too large, and lets go of it.) */
export function isRead(req: IncomingMessage): boolean {
  return req.listenerCount('data') > 0 || req.listenerCount('readable') > 0;
}

/** Ends a request's body as if its connection had broken, which goes on all the same. */
export function cutBody(req: IncomingMessage): void {
  const error = Object.assign(new Error('aborted'), { code: 'ECONNRESET' });
  req._destroy = (_error, done) => {
    req.aborted = true;
    try {
      req.emit('aborted');
    } catch (thrown) {
      rethrow(thrown);
    }
    done(req.listenerCount('error') > 0 ? error : null);
  };
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

/** Hands a formatted head to the socket instead of with the first body bytes, as Node does with the end of an empty body. */
export function sendHead(res: ServerResponse): void {
  (res as unknown as Required<ResponseInternals>)._send('', 'latin1');
}

function swallow(): boolean {
  return false;
}

/** Nothing that this response writes from now on reaches the socket. */
export function silence(res: ServerResponse): void {
  (res as unknown as ResponseInternals)._writeRaw = swallow;
  res.assignSocket = swallow as unknown as ServerResponse['assignSocket'];
}

/** Whether it was silenced. */
export function isSilenced(res: ServerResponse): boolean {
  return (res as unknown as ResponseInternals)._writeRaw === swallow;
}

/** Makes responses, as a server's own class does. */
export type ResponseClass = new (req: IncomingMessage, options?: object) => ServerResponse;

const kServerResponse = symbolOf(createServer(), 'ServerResponse');

/** The class of a server's responses; `undefined` while a server of node:http2 has had no HTTP/1.1 connection. */
export function responseClassOf(server: NetServer): ResponseClass | undefined {
  return member<ResponseClass>(server, kServerResponse);
}

/** From now on the server makes its responses of this class, on connections that are open already, too. */
export function useResponseClass(server: NetServer, responses: ResponseClass): void {
  if (kServerResponse !== undefined) Object.assign(server, { [kServerResponse]: responses });
}

/** Whether node:http parses what comes on a socket. */
export function isParsed(socket: Socket): boolean {
  return Boolean((socket as unknown as SocketInternals).parser);
}

/** The response that node:http is writing to a socket. */
export function responseOn(socket: Socket): ServerResponse | undefined {
  return (socket as unknown as SocketInternals)._httpMessage ?? undefined;
}

/** The request whose head was parsed last on a socket; `undefined` once it is over. */
export function requestOn(socket: Socket): IncomingMessage | undefined {
  return (socket as unknown as SocketInternals).parser?.incoming ?? undefined;
}

/** A socket that an http.Server parses. */
export interface ParsedSocket {
  readonly socket: Socket;
  /** Whether it is between the first byte of a request, or the beginning of the connection, and a request's end. */
  readonly receives: boolean;
}

interface ConnectionsList {
  all(): HttpParser[];
  active(): HttpParser[];
}

/** The sockets that a listening server of node:http, or one of node:http2 that allows HTTP/1.1, has parsers for. */
export function parsedSocketsOf(server: NetServer): ParsedSocket[] {
  const list = member<ConnectionsList>(server, symbolOf(server, 'http.server.connections'));
  if (list === undefined) return [];
  const active = new Set(list.active());
  return list.all().flatMap((parser) => {
    const { socket } = parser;
    return socket === null ? [] : [{ socket, receives: active.has(parser) }];
  });
}

/** The open sessions of a node:http2 server: from Node 24 on it knows them. */
export function sessionsOf(server: NetServer): ServerHttp2Session[] {
  return [...(member<Set<ServerHttp2Session>>(server, symbolOf(server, 'sessions')) ?? [])];
}

/** The open streams of a node:http2 session. */
export function streamsOf(session: ServerHttp2Session): ServerHttp2Stream[] {
  const state = member<{ streams?: Map<number, ServerHttp2Stream> }>(session, symbolOf(session, 'state'));
  return [...(state?.streams?.values() ?? [])];
}

/** The socket itself under a node:http2 session, which shows only a view of it; methods of that view return it. */
export function socketUnder(session: ServerHttp2Session): Socket {
  return session.socket.off('close', swallow);
}

function member<T>(thing: object, key: symbol | undefined): T | undefined {
  return key === undefined ? undefined : (thing as Record<symbol, T | undefined>)[key];
}

function probe(): void {
  const { need, check } = new Needs();
  const server = createServer((req, res) => {
    need(responseOn(req.socket) === res, 'Socket._httpMessage');
    need(typeof (req as unknown as RequestInternals)._dump === 'function', 'IncomingMessage._dump');
    need('_dumped' in req, 'IncomingMessage._dumped');
    for (const name of ['ended', 'endEmitted', 'destroyed', 'closed', 'closeEmitted']) {
      need(name in (req as unknown as RequestInternals)._readableState, `ReadableState.${name}`);
    }
    const { _eventsCount } = req.on('end', swallow) as unknown as { readonly _eventsCount?: number };
    need(_eventsCount === 1, 'EventEmitter._eventsCount');
    req.off('end', swallow);
    const internals = res as unknown as ResponseInternals;
    for (const name of ['_storeHeader', '_send', '_writeRaw'] as const) {
      need(typeof internals[name] === 'function', `OutgoingMessage.${name}`);
    }
    const members = ['_keepAliveTimeout', '_sent100', '_last', '_header', '_headerSent', '_contentLength', '_hasBody'];
    for (const name of members) {
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
  need('keepAlive' in server, 'net.Server.keepAlive');
  need(typeof responseClassOf(server) === 'function', "http.Server's class of responses");
  // What makes a server list its connections; closing it stops the timer that looks at them.
  server.emit('listening');
  const wire = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
  server.emit('connection', wire);
  const parser = (wire as unknown as SocketInternals).parser;
  need(typeof parser?.constructor.kOnMessageBegin === 'number', 'HTTPParser.kOnMessageBegin');
  [onSocketError] = wire.listeners('error') as [typeof onSocketError];
  need(typeof onSocketError === 'function', "http.Server's listener of a socket's errors");
  need('_paused' in wire, 'Socket._paused');
  need(parsedSocketsOf(server)[0]?.socket === (wire as unknown), "http.Server's list of connections");
  let answered = false;
  let detached = false;
  server.on('request', (req, res) => {
    answered = true;
    need(requestOn(req.socket) === req, 'HTTPParser.incoming');
    // It comes after this module is loaded: here it comes early, and once.
    res.emit('finish');
    res.removeAllListeners('finish');
    need(detached, "ServerResponse.detachSocket called before 'finish' ends");
    [clearIncoming] = req.listeners('end') as [typeof clearIncoming];
    need(typeof clearIncoming === 'function', "http.Server's listener of a request's end");
    need((req as unknown as RequestInternals)._events.end === clearIncoming, 'EventEmitter._events');
  });
  wire.emit('data', Buffer.from('GET / HTTP/1.1\r\nHost: probe\r\n\r\n'));
  need(answered, "http.Server's 'connection' event");
  let rest: Buffer | undefined;
  let complete = false;
  pauseParserWhile(wire as Socket, () => true);
  server.once('request', (req) => {
    server.once('clientError', (error) => {
      rest = unparsed(error, true);
      keepReporting(wire as Socket);
      resumeParser(wire as Socket);
      complete = req.complete;
    });
  });
  wire.emit('data', Buffer.from('GET /2 HTTP/1.1\r\nHost: probe\r\n\r\nGET'));
  need(rest?.toString() === 'GET' && complete, 'HTTPParser.onIncoming that pauses');
  need(wire.listeners('error').includes(onSocketError as () => void), "http.Server's listener of a socket's errors");
  wire.destroy();
  server.close();
  check();
}

probe();
