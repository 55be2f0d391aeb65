/**
 * The refusal of what is no valid request, or doesn't come in time: the server's own answer, once all that came before
 * has been answered, and then the end of the connection. What is refused is connection.ts's.
 */
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { LiveConnection } from '../core/connection.js';
import type { Limit } from '../core/limits.js';
import { rethrow } from '../core/rethrow.js';

const TIMED_OUT = 'ERR_HTTP_REQUEST_TIMEOUT';

const REQUEST_TIMEOUT = 408;
const HEAD_TOO_LARGE = 431;

/** The errors that have a better answer than 400. */
const STATUS_BY_CODE: Readonly<Record<string, number>> = {
  HPE_HEADER_OVERFLOW: HEAD_TOO_LARGE,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
  [TIMED_OUT]: REQUEST_TIMEOUT,
};

/** The status that an error of node:http's parser is answered with; `undefined` for errors of the transport. */
export function refusalFor(code: string | undefined): number | undefined {
  if (code === undefined || !/^(?:HPE_|ERR_HTTP_)/.test(code)) return undefined;
  return STATUS_BY_CODE[code] ?? 400;
}

/** The error that node:http reports for a request that doesn't come in time. */
export function requestTimeoutError(): Error & { code: string } {
  return Object.assign(new Error('Request timeout'), { code: TIMED_OUT });
}

/** The limit that such an answer tells of; a time that ran out has been counted by whoever kept it. */
export function limitBehind(status: number): Limit | undefined {
  if (status === REQUEST_TIMEOUT) return undefined;
  return status === HEAD_TOO_LARGE ? 'maxHeaderSize' : 'malformed';
}

export function refusalText(status: number): string {
  return `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`;
}

/** A refusal that waits for the answers before it. Nothing that comes after it is answered. */
export class Refusal {
  readonly #connection: LiveConnection;
  readonly #socket: Socket;
  readonly #status: number | undefined;
  readonly #end: () => void;
  #tell: (() => boolean) | undefined;
  #isPending: boolean;
  #headIsOpen: boolean;
  #isLeft = false;

  /**
   * @param status `undefined`: what is refused has its answer already, or the beginning of one
   * @param headIsOpen the head of what is refused isn't complete
   * @param tell tells the application; `true`: it answers instead
   * @param end ends the connection
   */
  constructor(
    connection: LiveConnection,
    socket: Socket,
    status: number | undefined,
    headIsOpen: boolean,
    tell: () => boolean,
    end: () => void,
  ) {
    this.#connection = connection;
    this.#socket = socket;
    this.#status = status;
    this.#isPending = status !== undefined;
    this.#headIsOpen = headIsOpen;
    this.#tell = tell;
    this.#end = end;
  }

  /** What is refused is in flight. */
  get isPending(): boolean {
    return this.#isPending;
  }

  /** A head that comes after it is complete: is it the refused one? That has been counted. */
  takesHead(): boolean {
    const isOwn = this.#headIsOpen;
    this.#headIsOpen = false;
    return isOwn;
  }

  /** Tells the application, once. `true`: it answers instead. */
  tell(): boolean {
    const tell = this.#tell;
    this.#tell = undefined;
    try {
      if (tell?.() !== true) return false;
    } catch (error) {
      rethrow(error);
      return false;
    }
    this.#isLeft = true;
    this.#settle();
    if (this.#socket.writableEnded) this.#end();
    else this.#socket.once('finish', this.#end);
    return true;
  }

  /** All that came before has been answered. */
  turn(): void {
    if (this.#isLeft || this.tell()) return;
    this.#settle();
    if (this.#status !== undefined) this.#socket.write(refusalText(this.#status));
    this.#end();
  }

  /** An answer before it has ended the connection. */
  passedOver(): void {
    this.#settle();
  }

  /** The connection is closed: nothing is to be answered any more, but somebody may count. */
  closed(): void {
    this.#settle();
    this.tell();
  }

  /** It is in flight no longer. */
  #settle(): void {
    if (this.#isPending) this.#connection.ended('malformed');
    this.#isPending = false;
  }
}
