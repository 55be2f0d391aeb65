/**
 * The public surface of lastcall, nothing else.
 */
export type { Connection, ConnectionState, Protocol } from './core/connection.js';
export type { KeepAliveOptions } from './core/keep-alive.js';
export { connectionOf, drainSignal } from './core/lookup.js';
export type { ConnectionConditions, ConnectionFilter, Registry } from './core/registry.js';
export type { CutRequest, DrainOutcome, DrainReport, DrainSummary, RequestCounts } from './core/report.js';
export { type DrainOptions, gracefulShutdown } from './core/shutdown.js';
export type { H1Options } from './h1/options.js';
export type { H2Options } from './h2/options.js';
export type { ServerOptions } from './options.js';
export { createServer, type Server, type ShutdownOptions } from './server.js';
