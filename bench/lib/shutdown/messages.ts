/**
 * The ways of shutting down that are compared, and what the bench tells the process of a server when it starts.
 */

/**
 * A server and whatever shuts it down on SIGTERM: lastcall's own; node:https, adopted by lastcall, with one of the
 * usual libraries, or with nothing but `server.close()`; node:http2 with `close()` of the server and of each session.
 */
export const SHUTDOWN_KINDS = [
  'lastcall',
  'adopted https',
  'http-terminator',
  'stoppable',
  'http-graceful-shutdown',
  '@godaddy/terminus',
  'https close()',
  'http-graceful-shutdown on http2',
  'http2 close()',
] as const;
export type ShutdownKind = (typeof SHUTDOWN_KINDS)[number];

/** Whether it is lastcall that shuts it down. */
export function isOurs(kind: ShutdownKind): boolean {
  return kind === 'lastcall' || kind === 'adopted https';
}

export type Spoken = 'h1' | 'h2';

/** What its clients speak. */
export function spokenBy(kind: ShutdownKind): readonly Spoken[] {
  if (kind === 'lastcall') return ['h1', 'h2'];
  return kind.includes('http2') ? ['h2'] : ['h1'];
}

export interface ShutdownConfig {
  readonly kind: ShutdownKind;
  readonly key: string;
  readonly cert: string;
  /** ms from SIGTERM until the shutdown itself begins: the same for all */
  readonly delayMs: number;
  /** ms from SIGTERM until the server cuts what is left */
  readonly timeoutMs: number;
  /** its event loop stalls for `ms`, `everyMs`, first after `firstMs` */
  readonly stalls: { readonly ms: number; readonly everyMs: number; readonly firstMs: number };
  /** break off every n-th request instead of answering it: for the control that must fail */
  readonly dropEvery: number | undefined;
}

export type FromShutdownServer =
  | { readonly type: 'listening'; readonly port: number }
  | { readonly type: 'failed'; readonly message: string };
