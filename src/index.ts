/**
 * The public surface of lastcall, nothing else.
 */

export type { AdoptableServer, AdoptOptions } from './adopt/options.js';
export { type AdoptedServer, type AdoptedSummary, adopt } from './adopt/server.js';
export type { Authorities } from './core/authorities.js';
export type { Connection, ConnectionState, Protocol } from './core/connection.js';
export type { Bounds, ConnectionConditions, ConnectionFilter, OneOf, Sample } from './core/filter.js';
export { FilterSyntaxError, parseFilter } from './core/filter-text.js';
export type { KeepAliveOptions } from './core/keep-alive.js';
export type { Limit, LimitCounts } from './core/limits.js';
export { connectionOf, drainSignal } from './core/lookup.js';
export type { RecycleOptions } from './core/recycle.js';
export type { Registry } from './core/registry.js';
export type { CutRequest, DrainOutcome, DrainReport, DrainSummary, RequestCounts } from './core/report.js';
export { type DrainOptions, gracefulShutdown } from './core/shutdown.js';
export type { DrainProgress, WaveOptions } from './core/waves.js';
export type { H1Options } from './h1/options.js';
export type { H2Options, H2PingOptions } from './h2/options.js';
export type { H2Tunnel } from './h2/tunnel.js';
export type { Drainable, Stoppable } from './ops/drainable.js';
export { type OperatorEndpoint, startOperator } from './ops/operator.js';
export { type Cleanup, onSignals, type ShutdownCause, type SignalOptions } from './ops/signals.js';
export type { ServerOptions } from './options.js';
export type { ProxyProtocolOption } from './proxy-header.js';
export { ProxyProtocolError } from './proxy-protocol.js';
export { createServer, type DrainManyOptions, type RotateOptions, type Server } from './server.js';
export type { ShutdownOptions } from './stop.js';
