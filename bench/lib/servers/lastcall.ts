/**
 * lastcall with `gracefulShutdown`, both protocols.
 */
import type { AddressInfo } from 'node:net';
import { type Connection, createServer, type DrainReport, gracefulShutdown } from '../../../src/index.js';
import { epochNow } from './app.js';
import type { ReportSummary } from './messages.js';
import type { MakeServer } from './server.js';

export const makeLastcall: MakeServer = (config, app) => {
  const server = createServer({ key: config.key, cert: config.cert, keepAlive: { ...config.keepAlive } }, app.listener);
  const byPort = new Map<number, Connection>();
  const ownDrains: ReportSummary[] = [];
  const commanded = new Set<Connection>();
  server.connections.on('open', (connection) => {
    const port = connection.remotePort ?? 0;
    byPort.set(port, connection);
    if (config.reportOwnDrains) watchForOwnDrain(connection);
  });
  server.connections.on('close', (connection) => {
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
};

function summary(report: DrainReport): ReportSummary {
  const { outcome, served, refused, aborted, unserved, cancelled, malformed, rtt, phases } = report;
  return { outcome, served, refused, aborted, unserved, cancelled, malformed, rtt, phases };
}
