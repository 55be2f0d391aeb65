/**
 * What a bench and its server child say to each other over IPC.
 */
import type { ServerLimits } from '../../../test/attacks/attack.js';
import type { CpuTime } from '../cpu.js';

/**
 * Every server that can be measured: lastcall; node:https with the usual recipe for closing a connection, without it, and
 * adopted by lastcall; node:http2's compatibility API with its two usual ways to close a session, its stream API; and the
 * floor, which is no server: frames cut from TLS and answered with fixed bytes.
 */
export type ServerKind =
  | 'lastcall'
  | 'node:https'
  | 'plain node:https'
  | 'adopted https'
  | 'node:http2 close()'
  | 'node:http2 two GOAWAYs'
  | 'node:http2 streams'
  | 'floor';

export interface ServerConfig {
  readonly kind: ServerKind;
  readonly key: string;
  readonly cert: string;
  /** lastcall and adopted https: `createServer`'s or `adopt`'s keepAlive */
  readonly keepAlive?: { readonly advertise?: number; readonly hold?: number };
  /** lastcall: `createServer`'s limits */
  readonly limits?: ServerLimits;
  /** break off every n-th request instead of answering it: for the control that must fail */
  readonly dropEvery?: number;
  /** lastcall: also send the reports of drains that the server began by itself (`hold`) */
  readonly reportOwnDrains?: boolean;
  /** note when each request arrived and was answered, for timelines */
  readonly trace?: boolean;
}

/** Of lastcall's DrainReport, what the benches use. */
export interface ReportSummary {
  readonly outcome: string;
  readonly served: number;
  readonly refused: number;
  readonly aborted: number;
  readonly unserved: number;
  readonly cancelled: number;
  readonly malformed: number;
  readonly rtt: number | undefined;
  readonly phases: {
    readonly announce: number;
    readonly settle: number;
    readonly finish: number;
    readonly linger: number;
  };
}

/** One drain as the server saw it. */
export interface Drained {
  /** ms from the command to the socket's `'close'` */
  readonly closedMs: number;
  /** ms since the epoch when it began */
  readonly beganAt: number;
  readonly report?: ReportSummary;
}

/** A moment in a server, ms since the epoch, for timelines. */
export interface TraceEntry {
  readonly at: number;
  readonly what: 'arrived' | 'answered';
  readonly path: string;
}

export type ToServer =
  | { readonly type: 'start'; readonly config: ServerConfig }
  | { readonly type: 'drain'; readonly call: number; readonly remotePort: number; readonly options?: object }
  | { readonly type: 'status'; readonly call: number }
  | { readonly type: 'stop' };

export interface ServerStatus {
  readonly cpu: CpuTime;
  /** resident set size in bytes, after a garbage collection where the process was started with one */
  readonly rss: number;
  /** requests handed to the application, and those whose answer was handed over to the socket in full */
  readonly requests: number;
  readonly answered: number;
  /** requests whose answer was cut off */
  readonly broken: number;
  /** remote ports of the open connections */
  readonly ports: readonly number[];
  readonly trace: readonly TraceEntry[];
  /** with `reportOwnDrains`: the drains that nobody commanded, so far */
  readonly ownDrains: readonly ReportSummary[];
}

export type FromServer =
  | { readonly type: 'listening'; readonly port: number }
  | { readonly type: 'failed'; readonly message: string }
  | { readonly type: 'drained'; readonly call: number; readonly drained: Drained | undefined }
  | { readonly type: 'status'; readonly call: number; readonly status: ServerStatus };
