/** What the operator's tools need of a server: its connections, and ways to drain them. */
import type { ConnectionFilter, Registry } from '../core/registry.js';
import type { DrainSummary } from '../core/report.js';
import type { DrainOptions } from '../core/shutdown.js';

export interface Drainable {
  readonly connections: Registry;
  drain(filter: ConnectionFilter, options?: DrainOptions): Promise<DrainSummary>;
  shutdown(options?: DrainOptions): Promise<DrainSummary>;
  closeAllConnections(): void;
}
