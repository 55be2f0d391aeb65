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

/** Between two lines of progress, in ms. */
const PROGRESS_INTERVAL = 1_000;

export class Reply {
  readonly #res: ServerResponse;
  readonly #wantsJson: boolean;
  readonly #leaving = new AbortController();
  #toldAt = performance.now();

  constructor(res: ServerResponse, wantsJson: boolean) {
    this.#res = res;
    this.#wantsJson = wantsJson;
    res.once('close', () => {
      if (!res.writableFinished) this.#leaving.abort();
    });
  }

  /** Aborts when whoever asked leaves before the answer. */
  get left(): AbortSignal {
    return this.#leaving.signal;
  }

  /** One line at most a second: text, or with JSON an object with `progress`. */
  readonly progress = (progress: DrainProgress): void => {
    const at = performance.now();
    if (at - this.#toldAt < PROGRESS_INTERVAL || this.#res.writableEnded) return;
    this.#toldAt = at;
    if (!this.#res.headersSent) this.#head(200, this.#wantsJson ? 'application/x-ndjson' : undefined);
    this.#res.write(this.#wantsJson ? `${JSON.stringify({ progress })}\n` : formatProgress(progress));
  };

  end(answer: Answer | Listing): void {
    if ('pieces' in answer) void this.#send(answer.pieces(this.#wantsJson));
    else this.#end(answer);
  }

  #end({ status = 200, allow, text, json }: Answer): void {
    if (this.#res.headersSent) {
      this.#res.end(this.#wantsJson ? `${JSON.stringify(json)}\n` : text);
      return;
    }
    if (allow !== undefined) this.#res.setHeader('allow', allow);
    this.#head(status);
    this.#res.end(this.#wantsJson ? `${JSON.stringify(json, null, 2)}\n` : text);
  }

  /** As fast as whoever asked reads it. */
  async #send(pieces: AsyncIterable<string>): Promise<void> {
    const res = this.#res;
    this.#head(200);
    try {
      for await (const piece of pieces) {
        if (res.destroyed) return;
        if (!res.write(piece)) await written(res);
      }
      res.end();
    } catch (error) {
      res.destroy(error as Error);
    }
  }

  #head(status: number, type = this.#wantsJson ? 'application/json' : 'text/plain; charset=utf-8'): void {
    this.#res.writeHead(status, {
      'content-type': type,
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
