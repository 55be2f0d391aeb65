/**
 * What a protocol's driver hands its requests to. The server implements it; the drivers of both protocols and the
 * tests know nothing more of the server than this.
 */
import type { AsyncResource } from 'node:async_hooks';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { LiveConnection } from './connection.js';

/** The http.Server events that carry a request and its response. */
export type RequestEvent = 'request' | 'checkContinue' | 'checkExpectation';

/** The type of the async resources that requests run in. */
export const REQUEST_RESOURCE = 'LASTCALLREQUEST';

export interface RequestHost {
  /**
   * Gives a request to the application: the event, in the async context of the caller. What a handler throws or rejects
   * is the host's business.
   */
  deliver(connection: LiveConnection, event: RequestEvent, req: IncomingMessage, res: ServerResponse): void;
  /** Gives a connection or stream that stops being HTTP to the application; `false`: nobody listens for the event. */
  upgrade(
    connection: LiveConnection,
    event: 'upgrade' | 'connect',
    req: IncomingMessage,
    stream: Duplex,
    head: Buffer,
  ): boolean;
  /** Tells the application of a peer's error; `false`: nobody listens for 'clientError'. */
  clientError(connection: LiveConnection, error: Error & { code?: string }, stream: Duplex): boolean;
  /** Whether the application listens for an event. */
  listensFor(event: string): boolean;
}

/** A host of requests that come by many in one read. */
export interface StreamHost extends RequestHost {
  /**
   * `deliver`, in an async context of its own.
   *
   * @returns that context, for the request's later events
   */
  request(connection: LiveConnection, event: RequestEvent, req: IncomingMessage, res: ServerResponse): AsyncResource;
}
