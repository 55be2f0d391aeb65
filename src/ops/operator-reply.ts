/**
 * How the operator endpoint sends an answer: as text or as JSON, at once, in pieces, or after lines that tell how far a
 * drain is.
 */
import type { ServerResponse } from 'node:http';
import type { DrainProgress } from '../core/waves.js';
import type { Listing } from './connection-list.js';
import { formatProgress } from './text.js';

/** An answer in both its forms. */
export interface Answer {
  readonly status?: number;
  readonly allow?: string;
  readonly text: string;
  readonly json: unknown;
}

/** What the field Server says (RFC 9110 §10.2.4): the command asks whoever is at a port. */
export const OPERATOR = 'lastcall-operator';

/** Between two lines of progress, in ms. */
const PROGRESS_INTERVAL = 1_000;

export class Reply {
  readonly #res: ServerResponse;
  readonly #wantsJson: boolean;
  readonly #leaving = new AbortController();
  /** JSON, an object a line. */
  #inLines = false;
  /** The latest progress, unless it has been told. */
  #untold: DrainProgress | undefined;
  #telling: NodeJS.Timeout | undefined;

  constructor(res: ServerResponse, wantsJson: boolean) {
    this.#res = res;
    this.#wantsJson = wantsJson;
    res.once('close', () => {
      clearInterval(this.#telling);
      if (!res.writableFinished) this.#leaving.abort();
    });
  }

  /** Aborts when whoever asked leaves before the answer. */
  get left(): AbortSignal {
    return this.#leaving.signal;
  }

  /**
   * Whom to tell how far it is: the latest is told once a second, if it is news, in a line of text, or with JSON an object
   * with `progress`. The result is a line then, too, however soon it is there.
   */
  progress(): (progress: DrainProgress) => void {
    this.#inLines = this.#wantsJson;
    return (progress) => {
      if (this.#res.writableEnded || this.#res.destroyed) return;
      this.#untold = progress;
      this.#telling ??= setInterval(() => this.#tell(), PROGRESS_INTERVAL).unref();
    };
  }

  #tell(): void {
    const progress = this.#untold;
    if (progress === undefined) return;
    this.#untold = undefined;
    if (!this.#res.headersSent) this.#head(200);
    this.#res.write(this.#wantsJson ? `${JSON.stringify({ progress })}\n` : formatProgress(progress));
  }

  /** Rejects when the answer can't be made: then it is to `fail`. */
  async end(answer: Answer | Listing): Promise<void> {
    clearInterval(this.#telling);
    if ('pieces' in answer) await this.#send(answer.pieces(this.#wantsJson));
    else this.#end(answer);
  }

  /** Says what went wrong; whoever has a part of an answer must not take it for the whole. */
  fail(problem: Answer): void {
    clearInterval(this.#telling);
    if (this.#res.headersSent) this.#res.destroy();
    else this.#end(problem);
  }

  #end({ status = 200, allow, text, json }: Answer): void {
    const told = this.#res.headersSent;
    const body = this.#wantsJson ? `${JSON.stringify(json, null, this.#inLines ? 0 : 2)}\n` : text;
    if (!told) {
      if (allow !== undefined) this.#res.setHeader('allow', allow);
      this.#head(status);
    }
    this.#res.end(body);
  }

  /** As fast as whoever asked reads it. */
  async #send(pieces: AsyncIterable<string>): Promise<void> {
    const res = this.#res;
    for await (const piece of pieces) {
      if (res.destroyed) return;
      if (!res.headersSent) this.#head(200);
      if (!res.write(piece)) await written(res);
    }
    res.end();
  }

  #head(status: number): void {
    const json = this.#inLines ? 'application/x-ndjson' : 'application/json';
    this.#res.writeHead(status, {
      'content-type': this.#wantsJson ? json : 'text/plain; charset=utf-8',
      server: OPERATOR,
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
  }
}

/** Resolves when more may be written, or nobody reads it any more. */
function written(res: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      res.off('drain', done);
      res.off('close', done);
      resolve();
    };
    res.on('drain', done);
    res.on('close', done);
  });
}
