/**
 * One stream: its protocol state, its windows, and what waits to be sent on it. Moving between states is done here;
 * when to move, and the frames that go with it, is `session.ts` (receiving) and `send.ts` (sending).
 *
 * RFC 9113 §5.1, as far as it concerns a server that never pushes:
 *
 *            recv HEADERS              ES: END_STREAM   R: RST_STREAM
 *    idle ───────────────► open
 *     (no object)        ╱  │  ╲
 *              recv ES  ╱   │   ╲  send ES
 *                      ▼    │    ▼
 *      half-closed (remote) │  half-closed (local)
 *                      ╲    │    ╱
 *     send ES, send R,  ╲   │   ╱  recv ES, send R,
 *              recv R    ▼  ▼  ▼              recv R
 *                        closed  ──► forgotten, but for what `closed.ts` remembers
 */

import type { Windows } from './flow.js';
import { DEFAULT_URGENCY } from './priority.js';

/** RFC 9113 §5.1. An idle stream has no object. */
export type StreamState = 'open' | 'half-closed (local)' | 'half-closed (remote)' | 'closed';

/**
 * How far the response is: no final head yet; head sent, body may follow; everything is known, but bytes or trailers
 * still wait; END_STREAM framed; cut short before that.
 */
export type Sending = 'nothing' | 'body' | 'ending' | 'ended' | 'cut';

/**
 * What comes behind a response head: whatever the application says; what it has said already, a body or trailers; or
 * nothing.
 */
export type Rest = 'open' | 'said' | 'none';

/** Whatever the connection hangs on a stream. */
export type StreamOwner = object;

/** Called once a chunk has been framed, or with an error when it never will be. */
export type Framed = (error?: Error) => void;

/** Body bytes that wait for window or turn. */
export interface QueuedChunk {
  readonly bytes: Buffer;
  readonly done: Framed | undefined;
  next: QueuedChunk | undefined;
}

export class Stream implements Windows {
  readonly id: number;
  /** Written by the session only. */
  state: StreamState = 'open';
  /** Written by the sender only. */
  sending: Sending = 'nothing';
  /** Free for the layer above. */
  owner: StreamOwner | undefined = undefined;

  /** A CONNECT that hasn't been rejected: bytes both ways, each direction with an end of its own. (RFC 9113 §8.5) */
  tunnel: boolean;
  /** The response has no body whatever its head says: it answers HEAD, or is a 204 or 304. (RFC 9110 §6.4.1) */
  withoutBody: boolean;
  /** When the request arrived, by the session's clock. */
  readonly openedAt: number;
  /** What content-length promised, or -1. */
  readonly contentLength: number;

  sendWindow: number;
  receiveWindow: number;
  credit = 0;
  /** DATA octets delivered, but not yet reported as consumed. */
  unread = 0;
  /** Body octets received, without padding: those of a frame under way that have come. */
  bytesReceived = 0;
  /** Body octets framed. */
  bytesSent = 0;
  /** What may still arrive after the response has ended, before the request is cut. */
  discardLeft = 0;

  /** The queue of the body. */
  firstChunk: QueuedChunk | undefined = undefined;
  lastChunk: QueuedChunk | undefined = undefined;
  /** How much of `firstChunk` is framed already. */
  firstOffset = 0;
  queuedBytes = 0;
  /** write() has returned false and writable() is owed. */
  needsDrain = false;
  /** Name, value… to send after the queue. */
  trailers: readonly string[] | undefined = undefined;

  /** RFC 9218 §4.1, and whether DATA takes turns with its equals. Written by `priority.ts` only, as are the links. */
  urgency = DEFAULT_URGENCY;
  incremental = true;
  scheduled = false;
  previousInTurn: Stream | undefined = undefined;
  nextInTurn: Stream | undefined = undefined;

  constructor(
    id: number,
    tunnel: boolean,
    withoutBody: boolean,
    contentLength: number,
    openedAt: number,
    sendWindow: number,
    receiveWindow: number,
  ) {
    this.id = id;
    this.tunnel = tunnel;
    this.withoutBody = withoutBody;
    this.contentLength = contentLength;
    this.openedAt = openedAt;
    this.sendWindow = sendWindow;
    this.receiveWindow = receiveWindow;
  }

  /** The peer may still send DATA and trailers. */
  get receiving(): boolean {
    return this.state === 'open' || this.state === 'half-closed (local)';
  }

  /** END_STREAM received. */
  endRemote(): void {
    this.state = this.state === 'open' ? 'half-closed (remote)' : 'closed';
  }

  /** END_STREAM sent. */
  endLocal(): void {
    this.sending = 'ended';
    this.state = this.state === 'open' ? 'half-closed (local)' : 'closed';
  }

  /** RST_STREAM sent or received, or the connection is gone. */
  close(): void {
    if (this.sending !== 'ended') this.sending = 'cut';
    this.state = 'closed';
  }
}
