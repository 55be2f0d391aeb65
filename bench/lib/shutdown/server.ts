/**
 * The process of a server that is shut down: told by IPC what to be, shut down by SIGTERM, each in the way that its
 * library's own documentation shows. Where a library has no delay of its own, a timer before its call makes one.
 */
import { createSecureServer, type ServerHttp2Session } from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Server as NetServer } from 'node:net';
import * as lastcall from '../../../src/index.js';
import { App } from '../servers/app.js';
import type { FromShutdownServer, ShutdownConfig } from './messages.js';

type Make = (config: ShutdownConfig, app: App) => NetServer | Promise<NetServer>;

const BACKLOG = 4_096;

process.once('message', (config: ShutdownConfig) => {
  // From here on only the server keeps the process alive.
  process.channel?.unref();
  void start(config).then(
    (port) => send({ type: 'listening', port }),
    (error: unknown) => send({ type: 'failed', message: error instanceof Error ? String(error.stack) : String(error) }),
  );
});
process.on('disconnect', () => process.exit(0));

async function start(config: ShutdownConfig): Promise<number> {
  const { key, cert, dropEvery } = config;
  const app = new App({ kind: 'lastcall', key, cert, ...(dropEvery !== undefined && { dropEvery }) });
  const server = await MAKERS[config.kind](config, app);
  await new Promise<void>((resolve) => server.listen({ port: 0, host: '127.0.0.1', backlog: BACKLOG }, resolve));
  const { ms, everyMs, firstMs } = config.stalls;
  if (ms > 0) setTimeout(() => stallEvery(ms, everyMs), firstMs).unref();
  return (server.address() as AddressInfo).port;
}

function stallEvery(ms: number, everyMs: number): void {
  setTimeout(() => stallEvery(ms, everyMs), everyMs).unref();
  for (const until = performance.now() + ms; performance.now() < until; );
}

const MAKERS: Readonly<Record<ShutdownConfig['kind'], Make>> = {
  lastcall: ({ key, cert, delayMs, timeoutMs }, app) => {
    const server = lastcall.createServer({ key, cert }, app.listener);
    lastcall.onSignals(server, { timeout: timeoutMs, signals: { SIGTERM: { delay: delayMs } } });
    return server;
  },
  'adopted https': (config, app) => {
    const server = https(config, app);
    const watch = lastcall.adopt(server);
    lastcall.onSignals(watch, { timeout: config.timeoutMs, signals: { SIGTERM: { delay: config.delayMs } } });
    return server;
  },
  'http-terminator': async (config, app) => {
    const { createHttpTerminator } = await import('http-terminator');
    const server = https(config, app);
    const gracefulTerminationTimeout = config.timeoutMs - config.delayMs;
    const terminator = createHttpTerminator({ server, gracefulTerminationTimeout });
    onSigterm(config, () => void terminator.terminate().then(() => process.exit(0)));
    return server;
  },
  stoppable: async (config, app) => {
    const { default: stoppable } = await import('stoppable');
    const server = stoppable(https(config, app), config.timeoutMs - config.delayMs);
    onSigterm(config, () => server.stop(() => process.exit(0)));
    return server;
  },
  'http-graceful-shutdown': (config, app) => gracefulShutdown(config, https(config, app)),
  '@godaddy/terminus': async (config, app) => {
    const { createTerminus } = await import('@godaddy/terminus');
    const server = https(config, app);
    createTerminus(server, {
      signals: ['SIGTERM'],
      useExit0: true,
      timeout: config.timeoutMs - config.delayMs,
      beforeShutdown: () => pause(config.delayMs),
    });
    return server;
  },
  'https close()': (config, app) => {
    const server = https(config, app);
    onSigterm(config, () => server.close(() => process.exit(0)));
    return server;
  },
  'http-graceful-shutdown on http2': (config, app) => gracefulShutdown(config, http2(config, app)),
  'http2 close()': (config, app) => {
    const sessions = new Set<ServerHttp2Session>();
    const server = http2(config, app);
    server.on('session', (session) => {
      sessions.add(session);
      session.once('close', () => sessions.delete(session));
    });
    onSigterm(config, () => {
      server.close(() => process.exit(0));
      for (const session of sessions) session.close();
    });
    return server;
  },
};

async function gracefulShutdown(config: ShutdownConfig, server: NetServer): Promise<NetServer> {
  const { default: shutdown } = await import('http-graceful-shutdown');
  shutdown(server, {
    signals: 'SIGTERM',
    timeout: config.timeoutMs - config.delayMs,
    preShutdown: () => pause(config.delayMs),
  });
  return server;
}

function https({ key, cert }: ShutdownConfig, app: App) {
  return createHttpsServer({ key, cert }, app.listener);
}

function http2({ key, cert }: ShutdownConfig, app: App) {
  const server = createSecureServer({ key, cert }, app.listener);
  server.on('session', (session) => session.on('error', () => {}));
  server.on('sessionError', () => {});
  return server;
}

function onSigterm({ delayMs }: ShutdownConfig, act: () => void): void {
  process.once('SIGTERM', () => void pause(delayMs).then(act));
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function send(message: FromShutdownServer): void {
  process.send?.(message);
}
