/**
 * What the bench of recycling and rotating says to its server over IPC, and what it answers.
 */
import type { Certificate } from '../../../test/wire/certificate.js';

export interface RecycleServerConfig extends Certificate {
  /** ms; `undefined`: nothing is recycled */
  readonly maxAge: number | undefined;
  /** break off every n-th request instead of answering it: for the control that must fail */
  readonly dropEvery: number | undefined;
}

/** What the server knows of its drains. */
export interface RecycleStatus {
  /** ms that each drained connection was old when its drain began */
  readonly ages: readonly number[];
  readonly outcomes: Readonly<Record<string, number>>;
  readonly aborted: number;
  readonly unserved: number;
  /** the longest that its event loop was late */
  readonly loopDelayMs: number;
}

/** What became of one rotation. */
export interface Rotated {
  /** ms from the call to the last older connection's end */
  readonly duration: number;
  readonly connections: number;
  readonly outcomes: Readonly<Record<string, number>>;
  /** live connections with an older certificate, `lookAfterMs` after the call */
  readonly stale: number;
}

export type ToRecycleServer =
  | { readonly type: 'start'; readonly config: RecycleServerConfig }
  | {
      readonly type: 'rotate';
      readonly certificate: Certificate;
      readonly spread: number;
      readonly lookAfterMs: number;
    }
  | { readonly type: 'status' };

export type FromRecycleServer =
  | { readonly type: 'listening'; readonly port: number }
  | { readonly type: 'rotated'; readonly rotated: Rotated }
  | { readonly type: 'status'; readonly status: RecycleStatus }
  | { readonly type: 'failed'; readonly message: string };
