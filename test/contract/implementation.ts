/**
 * What the contract suite runs against: a listening server whose connections are of one implementation, and a client
 * for it. Where an implementation is weaker than the contract, its `promises` say so.
 */
import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import { type AddressInfo, Server as NetServer, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { connectionOfSocket, LiveConnection, type Protocol } from '../../src/core/connection.js';
import { Registry } from '../../src/core/registry.js';
import { createBuiltinH2Server } from '../../src/h2/builtin.js';
import { createServer, type ServerOptions } from '../../src/index.js';
import { rawSocketOf } from '../../src/node-internals.js';
import { Application } from '../../src/requests.js';
import { certificate } from '../wire/certificate.js';
import { runH1Client } from '../wire/h1-runner.js';
import { runH2Client } from '../wire/h2-runner.js';
import { type ConnectPeer, connectH1, connectH2 } from './peer.js';

/** What not every implementation can promise. */
export interface Promises {
  /** A request that was on the wire when the drain began is served. */
  readonly servesWhatIsOnTheWire: boolean;
  /** An idle client is told at once, not with the answer to its next request. */
  readonly tellsIdleClients: boolean;
  /** A connection whose client asks again and again while it is drained loses none of its requests. */
  readonly drainsUnderLoad: boolean;
}

export interface Running {
  readonly port: number;
  readonly connections: Registry;
  /** Closes the listener and destroys what is left. */
  stop(): Promise<void>;
}

/** What clients that never retry have seen. */
export interface Tally {
  readonly sent: number;
  readonly answered: number;
  /** Neither answered nor told that retrying is safe. */
  readonly lost: number;
}

export interface Implementation {
  readonly name: string;
  readonly protocol: Protocol;
  readonly tls: boolean;
  readonly promises: Promises;
  start(listener: RequestListener): Promise<Running>;
  readonly connect: ConnectPeer;
  /** One client that asks for `path` until its connection ends. */
  run(port: number, path: string, inFlight: number): Promise<Tally>;
}

async function startServer(options: ServerOptions, listener: RequestListener): Promise<Running> {
  const server = createServer(options, listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    connections: server.connections,
    stop: async () => {
      const closed = server.listening && once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

const KEEPS_ALL: Promises = { servesWhatIsOnTheWire: true, tellsIdleClients: true, drainsUnderLoad: true };

const h1 = {
  protocol: 'http/1.1' as const,
  promises: { ...KEEPS_ALL, tellsIdleClients: false },
  connect: connectH1,
};

async function runH1(port: number, path: string, tls: boolean): Promise<Tally> {
  const { sent, answered, wrong, unserved } = await runH1Client({ port, tls, exchange: () => ({ request: { path } }) });
  return { sent, answered, lost: wrong + unserved };
}

const h2 = { protocol: 'h2' as const, promises: KEEPS_ALL, connect: connectH2 };

async function runH2(port: number, path: string, tls: boolean, inFlight: number): Promise<Tally> {
  const { sent, answered, wrong, unserved, streamResets } = await runH2Client({
    port,
    tls,
    inFlight,
    exchange: () => ({ path }),
  });
  return { sent, answered, lost: wrong + unserved + streamResets };
}

export const h1OverTls: Implementation = {
  ...h1,
  name: 'HTTP/1.1 over TLS',
  tls: true,
  start: async (listener) => startServer({ ...(await certificate()) }, listener),
  run: (port, path) => runH1(port, path, true),
};

export const h1Cleartext: Implementation = {
  ...h1,
  name: 'HTTP/1.1 in cleartext',
  tls: false,
  start: (listener) => startServer({ cleartext: true }, listener),
  run: (port, path) => runH1(port, path, false),
};

export const h2OverTls: Implementation = {
  ...h2,
  name: 'HTTP/2 over TLS',
  tls: true,
  start: async (listener) => startServer({ ...(await certificate()) }, listener),
  run: (port, path, inFlight) => runH2(port, path, true, inFlight),
};

export const h2Cleartext: Implementation = {
  ...h2,
  name: 'HTTP/2 in cleartext',
  tls: false,
  start: (listener) => startServer({ cleartext: true }, listener),
  run: (port, path, inFlight) => runH2(port, path, false, inFlight),
};

/** node:http2's own sessions, as a server that runs on them already has them. */
export const builtinH2: Implementation = {
  ...h2,
  name: 'HTTP/2 on node:http2 over TLS',
  tls: true,
  promises: { ...KEEPS_ALL, servesWhatIsOnTheWire: false, drainsUnderLoad: false },
  start: startBuiltin,
  run: (port, path, inFlight) => runH2(port, path, true, inFlight),
};

async function startBuiltin(listener: RequestListener): Promise<Running> {
  const connections = new Registry();
  const server = new NetServer();
  const sessions = createBuiltinH2Server(new Application(server));
  const tls = createTlsServer({ ...(await certificate()), ALPNProtocols: ['h2'] });
  tls.on('secureConnection', (socket) => {
    connectionOfSocket(rawSocketOf(socket))?.secured(socket);
    sessions.emit('connection', socket);
  });
  tls.on('tlsClientError', (_error, socket) => socket.destroy());
  server.on('connection', (raw: Socket) => {
    connections.add(new LiveConnection(raw, true));
    tls.emit('connection', raw);
  });
  server.on('request', listener);
  server.on('handlerError', () => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    connections,
    stop: async () => {
      const closed = once(server, 'close');
      server.close();
      for (const connection of connections) connection.destroy();
      await closed;
    },
  };
}
