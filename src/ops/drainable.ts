/** What the operator's tools need of a server: its connections, and ways to drain them. */
import type { ConnectionFilter } from '../core/filter.js';
import type { LimitCounts } from '../core/limits.js';
import type { Registry } from '../core/registry.js';
import type { DrainSummary } from '../core/report.js';
import type { DrainOptions } from '../core/shutdown.js';
import type { WaveOptions } from '../core/waves.js';
import type { ShutdownOptions } from '../stop.js';

/** What can be shut down on a signal. */
export interface Stoppable {
  readonly connections: Registry;
  /** Whether new connections are wanted. */
  readonly ready?: boolean;
  /** Its summary tells of a server made elsewhere how many connections were left that nobody knew. */
  shutdown(options?: ShutdownOptions): Promise<DrainSummary & { readonly unknown?: number }>;
  /** `stopping`: a shutdown has begun, whoever asked for it. */
  on?(event: 'stopping' | 'listening', listener: () => void): unknown;
  off?(event: 'stopping' | 'listening', listener: () => void): unknown;
}

/** What an operator can look at and drain: a server of `createServer`, or an adopted one. */
export interface Drainable extends Stoppable {
  readonly ready: boolean;
  /** How often each limit has fired; servers made elsewhere don't count. */
  readonly limits?: Readonly<LimitCounts>;
  drain(filter: ConnectionFilter, options?: Omit<DrainOptions, 'signal'> & WaveOptions): Promise<DrainSummary>;
}
