/**
 * The http.Server behind HTTP/1.1 connections. It never listens: sockets are handed to it, it parses them with Node's
 * hardened parser, and every event it has goes to the connection's driver.
 */
import { createServer, type IncomingMessage, type Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { LiveConnection } from '../core/connection.js';
import { allowHalfOpenRequests, UnreadRequest } from '../http-internals.js';
import { H1Connection, type H1Context, h1ConnectionOf } from './connection.js';
import type { H1Settings } from './options.js';

/** With the options that Node passes on as a second argument, and its types don't know. */
const NodeResponse = ServerResponse as unknown as new (req: IncomingMessage, options?: object) => ServerResponse;

/** node:http makes one for every head that it parses, also for those it answers by itself: that is where a request begins. */
class H1Response extends NodeResponse {
  constructor(req: IncomingMessage, options?: object) {
    super(req, options);
    h1ConnectionOf(req.socket)?.received(req, this);
  }
}

/** Smuggling is refused as Node's strict parser refuses it; there is no option to be lenient. */
export function createH1Server(settings: H1Settings): Server {
  const server = createServer({
    IncomingMessage: UnreadRequest,
    ServerResponse: H1Response as unknown as typeof ServerResponse,
    maxHeaderSize: settings.maxHeaderSize,
    insecureHTTPParser: false,
    keepAliveTimeout: 0,
    headersTimeout: 0,
    requestTimeout: 0,
  });
  server.maxHeadersCount = settings.maxHeadersCount;
  server.timeout = 0;
  allowHalfOpenRequests(server);
  server.on('clientError', (error: Error & { code?: string }, socket) => {
    const driver = h1ConnectionOf(socket as Socket);
    if (driver !== undefined) driver.clientError(error);
    // It was upgraded, but the body of that request, which some versions of Node still parse then, is none.
    else socket.destroy(error);
  });
  // Without a listener node:http would reset the connection; what to answer is decided per connection.
  server.on('connect', (req: IncomingMessage, stream, head: Buffer) =>
    h1ConnectionOf(req.socket)?.upgrade('connect', req, stream, head),
  );
  return server;
}

/** HTTP/1.1 begins on a connection. */
export function attachH1(server: Server, connection: LiveConnection, socket: Socket, context: H1Context): void {
  const driver = new H1Connection(connection, socket, context);
  connection.attach(driver);
  server.emit('connection', socket);
  driver.attached();
}
