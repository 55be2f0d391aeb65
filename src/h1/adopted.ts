/**
 * HTTP/1.1 connections of a server made elsewhere: their driver stands beside the parser that the server itself puts on
 * its sockets, before their first request or later. Which events of the server reach the driver is adopt/'s.
 */
import type { IncomingMessage } from 'node:http';
import type { Server as NetServer, Socket } from 'node:net';
import type { LiveConnection } from '../core/connection.js';
import {
  type ParsedSocket,
  type ResponseClass,
  requestOn,
  responseClassOf,
  responseOn,
  useResponseClass,
} from '../http-internals.js';
import { H1Connection, type H1Context, h1ConnectionOf } from './connection.js';

/** For each class of responses the one that reports; those report already that stand for themselves. */
const reporting = new WeakMap<ResponseClass, ResponseClass>();

/**
 * Has a server make its responses of its own class still, each of which tells its connection that it was made. A server
 * of node:http2 goes back to its own class at every HTTP/1.1 connection.
 */
export function reportResponses(server: NetServer): void {
  const own = responseClassOf(server);
  if (own !== undefined) useResponseClass(server, reporting.get(own) ?? reportingClass(own));
}

function reportingClass(own: ResponseClass): ResponseClass {
  class ReportingResponse extends own {
    constructor(req: IncomingMessage, options?: object) {
      super(req, options);
      h1ConnectionOf(req.socket)?.received(req, this);
    }
  }
  reporting.set(own, ReportingResponse).set(ReportingResponse, ReportingResponse);
  return ReportingResponse;
}

/** A parser has been put on the socket, and has read nothing yet. */
export function attachParsed(connection: LiveConnection, socket: Socket, context: H1Context): void {
  const driver = new H1Connection(connection, socket, context);
  connection.attach(driver);
  driver.attached();
}

/**
 * A socket that has been in use. With several requests in flight only the first and the last can be found; it can be
 * joined once one is left.
 *
 * @param rejoin called when it is worth another try
 */
export function canJoin({ socket }: ParsedSocket, rejoin: () => void): boolean {
  const answering = responseOn(socket);
  if (answering === undefined || requestOn(socket) === answering.req) return true;
  // node:http gives the socket to the next response first.
  answering.once('finish', () => setImmediate(rejoin));
  return false;
}

/** Drives a socket that has been in use, from whatever it is doing now. */
export function joinParsed(connection: LiveConnection, { socket, receives }: ParsedSocket, context: H1Context): void {
  const driver = new H1Connection(connection, socket, context);
  connection.attach(driver);
  driver.attached();
  const req = requestOn(socket);
  const res = responseOn(socket);
  if (res !== undefined) driver.inFlight(res.req, res);
  else if (req !== undefined && !req.complete) driver.answeredEarly(req);
  // Of a connection that is new nobody knows whether its first byte has come.
  if (receives && socket.bytesRead > 0 && (req === undefined || req.complete)) driver.headBegan();
}
