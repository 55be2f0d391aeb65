/** What a schedule came to. */

/** What happened in a schedule. Some of it has to happen often enough, else the schedules test too little. */
export type Feature =
  | 'drained'
  | 'lossy'
  | 'forced'
  | 'peer'
  | 'streams between the GOAWAYs'
  | 'streams after the final GOAWAY'
  | 'requests while draining'
  | 'requests after the last answer'
  | 'several requests in flight'
  | 'requests cut by the deadline'
  | 'streams blocked on flow control'
  | 'uploads open'
  | 'a crowd of requests'
  | 'prefaceTimeout fired'
  | 'headersTimeout fired'
  | 'sendTimeout fired'
  | 'bodyTimeout fired'
  | 'ping fired'
  | 'a tunnel'
  | 'a stalled loop';

export interface Result {
  /** What was wrong, in words; empty: nothing. */
  readonly violations: readonly string[];
  readonly features: ReadonlySet<Feature>;
  readonly connections: number;
  readonly requests: number;
  /** Callbacks of the server that ran. */
  readonly callbacks: number;
}
