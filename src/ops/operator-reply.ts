/**
 * How the operator endpoint sends an answer: as text or as JSON, at once or after lines that tell how far a drain is.
 */
import type { ServerResponse } from 'node:http';
import type { DrainProgress } from '../core/waves.js';
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

  end({ status = 200, allow, text, json }: Answer): void {
    if (this.#res.headersSent) {
      this.#res.end(this.#wantsJson ? `${JSON.stringify(json)}\n` : text);
      return;
    }
    if (allow !== undefined) this.#res.setHeader('allow', allow);
    this.#head(status);
    this.#res.end(this.#wantsJson ? `${JSON.stringify(json, null, 2)}\n` : text);
  }

  #head(status: number, type = this.#wantsJson ? 'application/json' : 'text/plain; charset=utf-8'): void {
    this.#res.writeHead(status, {
      'content-type': type,
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
  }
}
