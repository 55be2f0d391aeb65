/**
 * What the contract suite runs against: a listening server whose connections are of one implementation, and a client
 * for it. Where an implementation is weaker than the contract, its `promises` say so.
 */
import { once } from 'node:events';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import {
  createServer as createHttp2Server,
  createSecureServer as createSecureHttp2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type SecureServerOptions,
} from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Protocol } from '../../src/core/connection.js';
import type { Registry } from '../../src/core/registry.js';
import { type AdoptableServer, adopt, createServer, type ServerOptions } from '../../src/index.js';
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
  /** Draining loaded connections doesn't bring the process down: Node 20's own sessions corrupt its heap. */
  readonly survivesLoad: boolean;
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
  /** Nothing else can come: the protocol is known when a connection is accepted. */
  readonly knownAtOnce?: true;
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

const KEEPS_ALL: Promises = {
  servesWhatIsOnTheWire: true,
  tellsIdleClients: true,
  drainsUnderLoad: true,
  survivesLoad: true,
};

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

/** How a server made elsewhere comes under lastcall: before it listens, or when it listens already. */
type AdoptedWhen = 'before it listens' | 'later';

async function startAdopted(server: AdoptableServer, when: AdoptedWhen): Promise<Running> {
  const before = when === 'before it listens' ? adopt(server) : undefined;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { connections } = before ?? adopt(server);
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

export const adoptedHttps = (when: AdoptedWhen): Implementation => ({
  ...h1OverTls,
  name: `HTTP/1.1 of node:https, adopted ${when}`,
  start: async (listener) => startAdopted(createHttpsServer(await certificate(), listener), when),
});

/** Nothing but HTTP/1.1 can come. */
export const adoptedHttp = (when: AdoptedWhen): Implementation => ({
  ...h1Cleartext,
  name: `HTTP/1.1 of node:http, adopted ${when}`,
  knownAtOnce: true,
  start: (listener) => startAdopted(createHttpServer(listener), when),
});

export const adoptedAllowHttp1: Implementation = {
  ...h1OverTls,
  name: 'HTTP/1.1 of node:http2 with allowHTTP1, adopted',
  start: async (listener) => startAdopted(await http2Server(listener, { allowHTTP1: true }), 'before it listens'),
};

const BUILTIN: Promises = {
  ...KEEPS_ALL,
  servesWhatIsOnTheWire: false,
  drainsUnderLoad: false,
  survivesLoad: Number.parseInt(process.versions.node, 10) > 20,
};

export const adoptedHttp2: Implementation = {
  ...h2OverTls,
  name: 'HTTP/2 of node:http2 over TLS, adopted',
  promises: BUILTIN,
  start: async (listener) => startAdopted(await http2Server(listener), 'before it listens'),
};

export const adoptedHttp2Cleartext: Implementation = {
  ...h2Cleartext,
  name: 'HTTP/2 of node:http2 in cleartext, adopted',
  promises: BUILTIN,
  knownAtOnce: true,
  start: (listener) => startAdopted(createHttp2Server(compatible(listener)), 'before it listens'),
};

async function http2Server(listener: RequestListener, options: SecureServerOptions = {}): Promise<AdoptableServer> {
  return createSecureHttp2Server({ ...(await certificate()), ...options }, compatible(listener));
}

/** The compatibility classes are not http's, only shaped alike. */
function compatible(listener: RequestListener): (req: Http2ServerRequest, res: Http2ServerResponse) => void {
  return listener as unknown as (req: Http2ServerRequest, res: Http2ServerResponse) => void;
}
