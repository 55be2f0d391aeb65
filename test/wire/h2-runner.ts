/**
 * A closed loop of HTTP/2 requests on one connection, N streams in flight, by a client that obeys GOAWAY to the
 * letter and never retries: it counts what became of every stream it opened.
 */
import { H2Client, type H2ClientOptions, type H2Stream } from './h2-client.js';
import {
  ErrorCode,
  encodeLiterals,
  errorName,
  type FieldList,
  type Frame,
  FrameType,
  MAX_STREAM_ID,
} from './h2-frames.js';
import { drawThinkTime, Random, type ThinkTime } from './random.js';
import type { Ending } from './transport.js';

/** One request and what its answer must be. */
export interface H2Exchange {
  /** default GET */
  readonly method?: string;
  readonly path: string;
  /** further fields, names in lower case */
  readonly headers?: FieldList;
  readonly body?: Buffer;
  /** the body is sent in two halves this far apart, in ms, so that uploads are open when a drain begins (default 0) */
  readonly bodyPauseMs?: number;
  /** default 200 */
  readonly expectedStatus?: number;
  /** default: any body */
  readonly expectedBody?: string;
}

export interface H2RunOptions extends H2ClientOptions {
  /** makes the n-th request (from 0) of this connection */
  readonly exchange: (n: number, random: Random) => H2Exchange;
  /** streams in flight (default 1) */
  readonly inFlight?: number;
  /** between the end of a stream and the next that takes its place (default: none) */
  readonly think?: ThinkTime;
  readonly seed?: number;
  /** aborted: no further stream; the client closes once the open ones are answered */
  readonly stop?: AbortSignal;
  /** default: until GOAWAY or the end */
  readonly maxRequests?: number;
  /**
   * A client whose writer runs apart from its reader: this many ms after the first GOAWAY was read (and its PING
   * acknowledged) it still opens one stream that it had allocated before, unless its timer was late (default: it doesn't).
   */
  readonly lateStreamMs?: number;
  /** With no stream open, close right after the first GOAWAY instead of waiting for the server (default false). */
  readonly closesWhenDone?: boolean;
  /** ms without any progress before the client gives the connection up (default 30,000) */
  readonly stallTimeoutMs?: number;
  readonly onConnected?: (client: H2Client) => void;
  readonly onAnswer?: (stream: H2Stream, n: number) => void;
  readonly onGoaway?: (goaway: { readonly lastStreamId: number; readonly errorCode: number }) => void;
  /** for timelines; a GOAWAY's number counts from 1 */
  readonly onEvent?: (what: 'sent' | 'answered' | 'goaway', n: number, at: number) => void;
}

export interface H2RunResult {
  readonly sent: number;
  /** with the expected status and body and END_STREAM */
  readonly answered: number;
  /** complete, but with another status or body */
  readonly wrong: number;
  /** RST_STREAM(REFUSED_STREAM), or above the last-stream-id of a GOAWAY: the client was told; retrying is safe */
  readonly refused: number;
  /** of the refused: opened after the first GOAWAY was read (`lateStreamMs`) */
  readonly refusedLate: number;
  /** RST_STREAM with any other code */
  readonly streamResets: number;
  /** at or below the last-stream-id, and the connection ended without a complete answer */
  readonly unserved: number;
  /** streams opened after the first GOAWAY was read (`lateStreamMs`) or was on its way, as far as the client can tell */
  readonly afterGoaway: number;
  readonly goaways: readonly number[];
  /** the connection was seen reset (ECONNRESET, EPIPE) */
  readonly reset: boolean;
  readonly ending: Ending;
  readonly stoppedBy: 'goaway' | 'server-closed' | 'stopped' | 'max-requests' | 'stalled';
  readonly localPort: number;
  readonly latencies: readonly number[];
  /** the longest of the latencies of the streams that were open when the first GOAWAY was read, ms; 0 if none was */
  readonly longestOpenMs: number;
  readonly violations: readonly string[];
  readonly firstFault: string | undefined;
}

interface Open {
  readonly n: number;
  readonly exchange: H2Exchange;
  readonly sentAt: number;
  /** whether the first GOAWAY had been read when it was opened, or came while it was open */
  goaway: 'after' | 'during' | 'none';
}

/** How much later than asked for a timer may fire, ms, for a late stream to be opened all the same. */
const LATE_TOLERANCE_MS = 2;

/** Runs one connection to its end; rejects only if it can't be made. */
export async function runH2Client(options: H2RunOptions): Promise<H2RunResult> {
  const client = await H2Client.connect({ record: false, ...options });
  return new H2Run(client, options).finished();
}

/** One run: its counters and the streams that are open. */
class H2Run {
  readonly #client: H2Client;
  readonly #options: H2RunOptions;
  readonly #random: Random;
  readonly #open = new Map<number, Open>();
  readonly #latencies: number[] = [];
  readonly #timers = new Set<NodeJS.Timeout>();
  #stoppedBy: H2RunResult['stoppedBy'] | undefined;
  #lateStreamDue = false;
  #progress = 0;
  #sent = 0;
  #answered = 0;
  #wrong = 0;
  #refused = 0;
  #refusedLate = 0;
  #streamResets = 0;
  #longestOpenMs = 0;
  #afterGoaway = 0;
  #firstFault: string | undefined;
  readonly #violations: string[] = [];

  constructor(client: H2Client, options: H2RunOptions) {
    this.#client = client;
    this.#options = options;
    this.#random = new Random(options.seed ?? 1);
    client.onStreamEnd = (stream) => this.#streamEnded(stream);
    client.onFrame = (frame) => this.#received(frame);
    client.onEnding = () => this.#stop('server-closed');
  }

  async finished(): Promise<H2RunResult> {
    const client = this.#client;
    const onStop = (): void => {
      this.#stop('stopped');
      client.look();
    };
    this.#options.stop?.addEventListener('abort', onStop);
    this.#options.onConnected?.(client);
    // Told to stop while it still connected.
    if (this.#options.stop?.aborted) this.#stop('stopped');
    else for (let i = 0; i < (this.#options.inFlight ?? 1); i += 1) this.#openStream();
    await this.#untilOver();
    this.#options.stop?.removeEventListener('abort', onStop);
    for (const timer of this.#timers) clearTimeout(timer);
    const ending = client.ending;
    await close(client);
    this.#refuseAboveLast();
    const unserved = this.#open.size;
    for (const [id, open] of this.#open) {
      this.#fault(
        `stream ${id} (request ${open.n}, ${open.exchange.path}) unserved, connection ${this.#endingInWords()}`,
      );
    }
    return {
      sent: this.#sent,
      answered: this.#answered,
      wrong: this.#wrong,
      refused: this.#refused,
      refusedLate: this.#refusedLate,
      streamResets: this.#streamResets,
      unserved,
      afterGoaway: this.#afterGoaway,
      goaways: client.goaways.map((goaway) => goaway.lastStreamId),
      reset: client.transport.wasReset,
      ending: ending === 'open' ? client.ending : ending,
      stoppedBy: this.#stoppedBy ?? 'server-closed',
      localPort: client.transport.localPort,
      latencies: this.#latencies,
      longestOpenMs: this.#longestOpenMs,
      violations: [...client.violations, ...this.#violations],
      firstFault: this.#firstFault,
    };
  }

  /** Until every stream is settled (after a stop), the connection ended, or nothing moves any more. */
  async #untilOver(): Promise<void> {
    const client = this.#client;
    const stallMs = this.#options.stallTimeoutMs ?? 30_000;
    const waitsForServer = (): boolean => this.#stoppedBy === 'goaway' && !(this.#options.closesWhenDone ?? false);
    const isOver = (): boolean =>
      client.ending !== 'open' ||
      (this.#stoppedBy !== undefined && !this.#lateStreamDue && !waitsForServer() && this.#owed() === 0);
    for (;;) {
      const before = this.#progress;
      if (await client.wait(isOver, stallMs)) return;
      if (this.#progress === before) {
        this.#stop('stalled');
        return;
      }
    }
  }

  /** Streams whose answer may still come: those above the last-stream-id are settled, they were refused. */
  #owed(): number {
    const last = this.#client.goaways.at(-1)?.lastStreamId ?? MAX_STREAM_ID;
    let owed = 0;
    for (const id of this.#open.keys()) if (id <= last) owed += 1;
    return owed;
  }

  #refuseAboveLast(): void {
    const last = this.#client.goaways.at(-1)?.lastStreamId ?? MAX_STREAM_ID;
    for (const [id, open] of this.#open) {
      if (id <= last) continue;
      this.#countRefused(open);
      this.#open.delete(id);
      this.#fault(
        `stream ${id} (request ${open.n}) above last-stream-id ${last}${open.goaway === 'after' ? ', opened late' : ''}`,
      );
    }
  }

  #countRefused(open: Open): void {
    this.#refused += 1;
    if (open.goaway === 'after') this.#refusedLate += 1;
  }

  #openStream(): void {
    const { exchange: make, maxRequests = Number.POSITIVE_INFINITY } = this.#options;
    if (this.#sent >= maxRequests) {
      this.#stop('max-requests');
      return;
    }
    if (!this.#client.transport.socket.writable) return;
    const n = this.#sent;
    const exchange = make(n, this.#random);
    const { body } = exchange;
    const id = this.#client.requestBlock(encodeLiterals(this.#fields(exchange)), body === undefined);
    this.#sent += 1;
    const sentAt = performance.now();
    this.#open.set(id, { n, exchange, sentAt, goaway: this.#client.goaways.length > 0 ? 'after' : 'none' });
    this.#options.onEvent?.('sent', n, sentAt);
    if (body !== undefined) this.#upload(id, body, exchange.bodyPauseMs ?? 0);
  }

  #fields(exchange: H2Exchange): FieldList {
    return [
      [':method', exchange.method ?? (exchange.body === undefined ? 'GET' : 'POST')],
      [':scheme', (this.#options.tls ?? true) ? 'https' : 'http'],
      [':authority', 'localhost'],
      [':path', exchange.path],
      ...(exchange.headers ?? []),
    ];
  }

  #upload(id: number, body: Buffer, pauseMs: number): void {
    if (pauseMs === 0) {
      this.#client.upload(id, body);
      return;
    }
    const middle = Math.ceil(body.length / 2);
    this.#client.upload(id, body.subarray(0, middle), false);
    this.#after(pauseMs, () => {
      if (!this.#open.has(id)) return;
      const heldBack = this.#client.uploadLeft(id);
      this.#client.upload(id, body.subarray(middle - heldBack));
    });
  }

  #streamEnded(stream: H2Stream): void {
    const open = this.#open.get(stream.id);
    // An answer that came before the request had ended: the rest of the upload is of no use (RFC 9113 §8.1).
    if (stream.ended && !stream.requestEnded) this.#client.rst(stream.id, ErrorCode.CANCEL);
    this.#client.forget(stream.id);
    if (open === undefined) return;
    this.#open.delete(stream.id);
    this.#progress += 1;
    this.#classify(stream, open);
    if (this.#stoppedBy !== undefined) return;
    if (this.#options.think === undefined) this.#openStream();
    else this.#after(drawThinkTime(this.#options.think, this.#random), () => this.#openUnlessStopped());
  }

  #openUnlessStopped(): void {
    if (this.#stoppedBy === undefined) this.#openStream();
  }

  #classify(stream: H2Stream, open: Open): void {
    const { n, exchange, sentAt } = open;
    const { expectedStatus = 200, expectedBody } = exchange;
    // node:http2 now and then closes a stream with RST_STREAM(NO_ERROR) where END_STREAM belongs, all of the body sent.
    const endedByReset = !stream.ended && stream.reset === ErrorCode.NO_ERROR && expectedBody !== undefined;
    if ((stream.ended || endedByReset) && stream.status === expectedStatus) {
      const text = expectedBody === undefined ? undefined : Buffer.concat(stream.body).toString('utf8');
      if (text === expectedBody) {
        this.#answered += 1;
        if (endedByReset) this.#violations.push(`stream ${stream.id} ended by RST_STREAM(NO_ERROR), not by END_STREAM`);
        const latency = performance.now() - sentAt;
        this.#latencies.push(latency);
        if (open.goaway === 'during') this.#longestOpenMs = Math.max(this.#longestOpenMs, latency);
        this.#options.onEvent?.('answered', n, performance.now());
        this.#options.onAnswer?.(stream, n);
        return;
      }
    }
    if (stream.reset === ErrorCode.REFUSED_STREAM) this.#countRefused(open);
    else if (stream.reset !== undefined) this.#streamResets += 1;
    else this.#wrong += 1;
    const what = stream.reset === undefined ? `status ${stream.status}` : errorName(stream.reset);
    this.#fault(`stream ${stream.id} (request ${n}, ${exchange.path}): ${what}`);
  }

  #received(frame: Frame): void {
    this.#progress += 1;
    if (frame.type !== FrameType.GOAWAY) return;
    const goaway = this.#client.goaways.at(-1);
    if (goaway !== undefined) this.#options.onGoaway?.(goaway);
    this.#options.onEvent?.('goaway', this.#client.goaways.length, frame.at);
    if (this.#client.goaways.length === 1) {
      for (const open of this.#open.values()) open.goaway = 'during';
    }
    if (this.#stoppedBy !== undefined) return;
    this.#stop('goaway');
    const { lateStreamMs } = this.#options;
    if (lateStreamMs === undefined) return;
    this.#lateStreamDue = true;
    const readAt = performance.now();
    this.#after(lateStreamMs, () => {
      this.#lateStreamDue = false;
      // A loop that stalled meanwhile would make it later than it claims to be.
      const isInTime = performance.now() - readAt <= lateStreamMs + LATE_TOLERANCE_MS;
      if (isInTime && this.#client.ending === 'open' && this.#client.goaways.length === 1) {
        this.#afterGoaway += 1;
        this.#openStream();
      }
      this.#client.look();
    });
  }

  #after(ms: number, act: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, ms);
    this.#timers.add(timer);
  }

  #stop(by: H2RunResult['stoppedBy']): void {
    this.#stoppedBy ??= by;
    if (by === 'stalled') this.#fault(`no progress with ${this.#open.size} streams open`);
  }

  #fault(what: string): void {
    this.#firstFault ??= what;
  }

  #endingInWords(): string {
    return this.#client.transport.error?.code ?? this.#client.ending;
  }
}

/** FIN, then reads until the server has closed as well; a server that never does is left after a second. */
async function close(client: H2Client): Promise<void> {
  client.end();
  await Promise.race([client.transport.closed, new Promise((resolve) => setTimeout(resolve, 1_000).unref())]);
  client.destroy();
}
