/**
 * node:https with the usual recipe for closing one connection, `Connection: close` on the response that is running, or
 * `socket.end()` when none is; and without any, as the measure of speed.
 */
import type { ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { epochNow } from './app.js';
import { closeOf, type MakeServer } from './server.js';

interface Open {
  readonly running: Set<ServerResponse>;
  closing: boolean;
}

export const makeNodeHttps: MakeServer = (config, app) => {
  const open = new Map<Socket, Open>();
  const server = createServer({ key: config.key, cert: config.cert, keepAliveTimeout: 620_000 }, (req, res) => {
    const connection = open.get(req.socket);
    connection?.running.add(res);
    res.once('close', () => {
      connection?.running.delete(res);
      // The recipe's second half: a response whose head was out already when the drain began.
      if (connection?.closing && connection.running.size === 0) req.socket.end();
    });
    if (connection?.closing) res.setHeader('Connection', 'close');
    app.listener(req, res);
  });
  server.on('secureConnection', (socket) => {
    open.set(socket, { running: new Set(), closing: false });
    socket.once('close', () => open.delete(socket));
    socket.on('error', () => {});
  });
  return {
    ownDrains: [],
    get ports() {
      return [...open.keys()].map((socket) => socket.remotePort ?? 0);
    },
    listen: () => listening(server),
    async drain(remotePort) {
      const [socket, connection] = [...open].find(([each]) => each.remotePort === remotePort) ?? [];
      if (socket === undefined || connection === undefined) return undefined;
      const beganAt = epochNow();
      const closed = closeOf(socket);
      connection.closing = true;
      for (const res of connection.running) if (!res.headersSent) res.setHeader('Connection', 'close');
      if (connection.running.size === 0) socket.end();
      await closed;
      return { beganAt, closedMs: epochNow() - beganAt };
    },
  };
};

export const makePlainHttps: MakeServer = (config, app) => {
  const server = createServer({ key: config.key, cert: config.cert }, app.listener);
  return {
    ownDrains: [],
    ports: [],
    listen: () => listening(server),
    drain: () => Promise.resolve(undefined),
  };
};

function listening(server: Server): Promise<number> {
  return new Promise((resolve) => {
    server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => resolve((server.address() as AddressInfo).port));
  });
}
