/**
 * node:http2, by its compatibility API or its stream API, with its two usual ways to close one session:
 * `session.close()`, and `goaway(0, 2**31-1)` followed by `close()` a second later.
 */
import { createSecureServer, type ServerHttp2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { epochNow } from './app.js';
import type { MakeServer } from './server.js';

/** Between the two GOAWAYs, as Go and Cowboy have it. */
const GOAWAY_PAUSE_MS = 1_000;

export const makeNodeHttp2: MakeServer = (config, app) => {
  const sessions = new Map<number, ServerHttp2Session>();
  const server = createSecureServer({ key: config.key, cert: config.cert });
  if (config.kind === 'node:http2 streams') server.on('stream', app.onStream);
  else server.on('request', app.listener);
  server.on('session', (session) => {
    const port = session.socket.remotePort ?? 0;
    sessions.set(port, session);
    session.once('close', () => sessions.delete(port));
    session.on('error', () => {});
  });
  server.on('sessionError', () => {});
  return {
    ownDrains: [],
    get ports() {
      return [...sessions.keys()];
    },
    listen: () =>
      new Promise((resolve) => {
        server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () =>
          resolve((server.address() as AddressInfo).port),
        );
      }),
    async drain(remotePort) {
      const session = sessions.get(remotePort);
      if (session === undefined) return undefined;
      const beganAt = epochNow();
      const closed = new Promise((resolve) => session.once('close', resolve));
      if (config.kind === 'node:http2 two GOAWAYs') {
        session.goaway(0, 2 ** 31 - 1);
        await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, GOAWAY_PAUSE_MS))]);
      }
      if (!session.closed) session.close();
      await closed;
      return { beganAt, closedMs: epochNow() - beganAt };
    },
  };
};
