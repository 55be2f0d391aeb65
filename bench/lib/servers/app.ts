/**
 * The application behind every measured server: a few kinds of answers whose bodies the clients can foretell.
 *
 * `/small/<n>/<ms>`: head and body after ms · `/early/<n>/<ms>`: head and a first part at once, the rest after ms ·
 * `/upload/<n>/<ms>`: the request's body read to its end, then as small · `/large/<n>/<bytes>`: that many octets.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse, IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import type { ServerConfig, TraceEntry } from './messages.js';

/** What a request asks for. */
export interface Task {
  readonly kind: string;
  readonly n: string;
  readonly amount: number;
}

export function taskOf(path: string): Task {
  const [, kind = '', n = '', amount = '0'] = path.split('/');
  return { kind, n, amount: Number(amount) };
}

/** The body that a task is answered with. */
export function bodyOf(task: Task, uploaded: number): string {
  switch (task.kind) {
    case 'early':
      return `begun ok ${task.n}`;
    case 'upload':
      return `ok ${task.n} ${uploaded}`;
    case 'large':
      return 'x'.repeat(task.amount);
    default:
      return `ok ${task.n}`;
  }
}

type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;

/** Counts, and answers: one per server. */
export class App {
  readonly #dropEvery: number;
  readonly #traces: boolean;
  readonly trace: TraceEntry[] = [];
  requests = 0;
  answered = 0;
  broken = 0;

  constructor(config: ServerConfig) {
    this.#dropEvery = config.dropEvery ?? Number.POSITIVE_INFINITY;
    this.#traces = config.trace ?? false;
  }

  /** For servers with requests and responses in Node's shape. */
  readonly listener = (req: Request, res: Response): void => {
    const path = req.url ?? '/';
    if (this.#arrived(path)) {
      req.socket.destroy();
      return;
    }
    res.once('finish', () => this.#done(path));
    res.once('close', () => {
      if (!res.writableFinished) this.broken += 1;
    });
    const task = taskOf(path);
    if (task.kind === 'upload') {
      let size = 0;
      req.on('data', (chunk: Buffer) => {
        size += chunk.length;
      });
      req.once('end', () => later(task.amount, () => res.end(bodyOf(task, size))));
    } else if (task.kind === 'early') {
      write(res, 'begun ');
      later(task.amount, () => res.end(`ok ${task.n}`));
    } else if (task.kind === 'large') res.end(largeBody(task.amount));
    else later(task.amount, () => res.end(bodyOf(task, 0)));
  };

  /** For node:http2's stream API. */
  readonly onStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void => {
    const path = String(headers[':path'] ?? '/');
    stream.on('error', () => {});
    if (this.#arrived(path)) {
      stream.close(0x2);
      return;
    }
    stream.once('finish', () => this.#done(path));
    const task = taskOf(path);
    const answer = (size: number): void => {
      if (stream.destroyed) return;
      stream.respond({ ':status': 200 });
      stream.end(task.kind === 'large' ? largeBody(task.amount) : bodyOf(task, size));
    };
    if (task.kind !== 'upload') {
      stream.resume();
      later(task.kind === 'large' ? 0 : task.amount, () => answer(0));
      return;
    }
    let size = 0;
    stream.on('data', (chunk: Buffer) => {
      size += chunk.length;
    });
    stream.once('end', () => later(task.amount, () => answer(size)));
  };

  /** Whether this request is to be broken off. */
  #arrived(path: string): boolean {
    this.requests += 1;
    if (this.#traces) this.trace.push({ at: epochNow(), what: 'arrived', path });
    return this.requests % this.#dropEvery === 0;
  }

  #done(path: string): void {
    this.answered += 1;
    if (this.#traces) this.trace.push({ at: epochNow(), what: 'answered', path });
  }
}

const largeBodies = new Map<number, Buffer>();

/** Made once per size: filling megabytes anew for each answer would measure that. */
function largeBody(size: number): Buffer {
  let body = largeBodies.get(size);
  if (body === undefined) {
    body = Buffer.alloc(size, 'x');
    if (largeBodies.size < MAX_KEPT_BODIES) largeBodies.set(size, body);
  }
  return body;
}

const MAX_KEPT_BODIES = 8;

/** ms since the epoch with fractions, on one clock for parent and child. */
export function epochNow(): number {
  return performance.timeOrigin + performance.now();
}

function later(ms: number, act: () => void): void {
  if (ms <= 0) act();
  // Who still waits when the server is gone must not keep its process.
  else setTimeout(act, ms).unref();
}

function write(res: Response, text: string): void {
  // The two response types have overloads of their own, and a union of them can't be called.
  if ('stream' in res) res.write(text);
  else res.write(text);
}
