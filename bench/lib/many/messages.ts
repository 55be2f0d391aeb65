/**
 * What the bench of many connections says over IPC to its server and to its clients, and what they answer.
 */
/** Servers broken on purpose, for the controls that must fail. */
export const BREAKAGES = ['stalls', 'never-finishes'] as const;
export type Breakage = (typeof BREAKAGES)[number];

/** What a drain of all connections came to, as the server saw it; ms throughout. */
export interface DrainResult {
  readonly connections: number;
  readonly outcomes: Readonly<Record<string, number>>;
  readonly duration: number;
  readonly p50: number;
  readonly p99: number;
  /** The largest event-loop delay, by perf_hooks.monitorEventLoopDelay at a resolution of 1 ms, which is part of it. */
  readonly loopDelay: number;
  /** The largest gap between two calls of an interval of 5 ms, those 5 ms included. */
  readonly intervalGap: number;
  /** CPU time of the server's process, user and system. */
  readonly cpuMs: number;
}

/** How many connections a filter selected, and how long that took, in ms: the first call of a filter and the slowest. */
export interface SelectResult {
  readonly selected: number;
  readonly first: number;
  readonly slowest: number;
}

export type ToManyServer =
  | {
      readonly type: 'start';
      readonly key: string;
      readonly cert: string;
      readonly cleartext: boolean;
      readonly breakage: Breakage | undefined;
    }
  | { readonly type: 'count' }
  | { readonly type: 'select'; readonly filter: object }
  | { readonly type: 'drain'; readonly how: 'drain' | 'shutdown'; readonly options: object };

export type FromManyServer =
  | { readonly type: 'listening'; readonly port: number }
  | { readonly type: 'counted'; readonly connections: number; readonly rss: number }
  | { readonly type: 'selected'; readonly result: SelectResult }
  | { readonly type: 'drained'; readonly result: DrainResult };

export type ToClients =
  | {
      readonly type: 'open';
      readonly port: number;
      readonly cleartext: boolean;
      readonly h1: number;
      readonly h2: number;
      readonly localAddress: string | undefined;
    }
  | { readonly type: 'count' };

/** How the connections of one client process stand. */
export interface ClientCounts {
  readonly open: number;
  /** Closed by FIN on both sides, after the announcement that their protocol has. */
  readonly ended: number;
  /** h2 connections that were ended without a GOAWAY. */
  readonly unannounced: number;
  /** Reset, or failed in any other way. */
  readonly failed: number;
  readonly firstFailure: string | undefined;
  /** CPU time of the process so far, user and system. */
  readonly cpuMs: number;
}

export type FromClients = { readonly type: 'opened' } | { readonly type: 'counted'; readonly counts: ClientCounts };
