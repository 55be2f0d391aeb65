/**
 * What a measured server must be able to do, and the two sides of node:https and node:http2 that it takes.
 */
import type { Socket } from 'node:net';
import type { App } from './app.js';
import type { Drained, ReportSummary, ServerConfig } from './messages.js';

/** A server under measurement, in its child process. */
export interface MeasuredServer {
  /** listens on a free loopback port and says which */
  listen(): Promise<number>;
  /** Closes the connection from this remote port by the server's usual recipe; undefined if there is none. */
  drain(remotePort: number, options: object): Promise<Drained | undefined>;
  /** remote ports of the open connections */
  readonly ports: readonly number[];
  readonly ownDrains: readonly ReportSummary[];
}

export type MakeServer = (config: ServerConfig, app: App) => MeasuredServer;

/** Resolves when a socket is closed. */
export function closeOf(socket: Socket): Promise<void> {
  return socket.closed ? Promise.resolve() : new Promise((resolve) => socket.once('close', () => resolve()));
}
