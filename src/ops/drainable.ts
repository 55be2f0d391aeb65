/** What the operator's tools need of a server: its connections, and ways to drain them. */
import type { ConnectionFilter } from '../core/filter.js';
import type { Registry } from '../core/registry.js';
import type { DrainSummary } from '../core/report.js';
import type { DrainOptions } from '../core/shutdown.js';
import type { WaveOptions } from '../core/waves.js';

export interface Drainable {
  readonly connections: Registry;
  drain(filter: ConnectionFilter, options?: Omit<DrainOptions, 'signal'> & WaveOptions): Promise<DrainSummary>;
  shutdown(options?: DrainOptions): Promise<DrainSummary>;
  closeAllConnections(): void;
}
