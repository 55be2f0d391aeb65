/**
 * lastcall with `gracefulShutdown`: its own server, both protocols, and one of node:https that it has adopted.
 */
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import {
  adopt,
  type Connection,
  createServer,
  type DrainReport,
  gracefulShutdown,
  type Registry,
} from '../../../src/index.js';
import { epochNow } from './app.js';
import type { ReportSummary, ServerConfig } from './messages.js';
import type { MakeServer, MeasuredServer } from './server.js';

export const makeLastcall: MakeServer = (config, app) => {
  const { key, cert, keepAlive, limits } = config;
  const server = createServer({ key, cert, keepAlive: { ...keepAlive }, ...limits }, app.listener);
  return measured(config, server, server.connections);
};

export const makeAdoptedHttps: MakeServer = (config, app) => {
  const { key, cert, keepAlive } = config;
  const server = createHttpsServer({ key, cert }, app.listener);
  const { connections } = adopt(server, { keepAlive: { ...keepAlive } });
  return measured(config, server, connections);
};

function measured(config: ServerConfig, server: Server, connections: Registry): MeasuredServer {
  const byPort = new Map<number, Connection>();
  const ownDrains: ReportSummary[] = [];
  const commanded = new Set<Connection>();
  connections.on('open', (connection) => {
    const port = connection.remotePort ?? 0;
    byPort.set(port, connection);
    if (config.reportOwnDrains) watchForOwnDrain(connection);
  });
  connections.on('close', (connection) => {
    byPort.delete(connection.remotePort ?? 0);
    commanded.delete(connection);
  });

  function watchForOwnDrain(connection: Connection): void {
    connection.drainSignal.addEventListener('abort', () => {
      if (commanded.has(connection)) return;
      // Joins the drain that the server began by itself; Infinity leaves its deadline alone.
      void gracefulShutdown(connection, { timeout: Infinity }).then((report) => ownDrains.push(summary(report)));
    });
  }

  return {
    ownDrains,
    get ports() {
      return [...byPort.keys()];
    },
    listen: () =>
      new Promise((resolve) => {
        server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () =>
          resolve((server.address() as AddressInfo).port),
        );
      }),
    async drain(remotePort, options) {
      const connection = byPort.get(remotePort);
      if (connection === undefined) return undefined;
      commanded.add(connection);
      const beganAt = epochNow();
      const report = await gracefulShutdown(connection, options);
      return { beganAt, closedMs: epochNow() - beganAt, report: summary(report) };
    },
  };
}

function summary(report: DrainReport): ReportSummary {
  const { outcome, served, refused, aborted, unserved, cancelled, malformed, rtt, phases } = report;
  return { outcome, served, refused, aborted, unserved, cancelled, malformed, rtt, phases };
}
