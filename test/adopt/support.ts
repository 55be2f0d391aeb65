/**
 * Servers of Node's own modules for the tests of this folder: listening on a free port of the loopback, adopted before
 * or after, and gone when the test is over.
 */
import { once } from 'node:events';
import {
  createServer as createHttpServer,
  type RequestListener,
  type ServerOptions,
  type ServerResponse,
} from 'node:http';
import {
  createServer as createHttp2Server,
  createSecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { type AdoptableServer, type AdoptedServer, type AdoptOptions, adopt } from '../../src/index.js';
import { certificate } from '../wire/certificate.js';

/** The servers that HTTP/1.1 can come to. */
export const H1_SERVERS = ['http', 'https', 'http2 with allowHTTP1'] as const;
export type H1ServerKind = (typeof H1_SERVERS)[number];

export async function h1Server(
  kind: H1ServerKind,
  listener: RequestListener,
  options: ServerOptions = {},
): Promise<AdoptableServer> {
  if (kind === 'http') return createHttpServer(options, listener);
  if (kind === 'https') return createHttpsServer({ ...options, ...(await certificate()) }, listener);
  return createSecureServer({ ...(await certificate()), allowHTTP1: true }, compatible(listener));
}

export async function h2Server(tls: boolean, listener: RequestListener): Promise<AdoptableServer> {
  return tls ? createSecureServer(await certificate(), compatible(listener)) : createHttp2Server(compatible(listener));
}

/** node:http2's compatibility classes are not http's, only shaped alike. */
function compatible(listener: RequestListener): (req: Http2ServerRequest, res: Http2ServerResponse) => void {
  return listener as unknown as (req: Http2ServerRequest, res: Http2ServerResponse) => void;
}

export class AdoptedServers {
  readonly #open: AdoptableServer[] = [];

  /** Registers the hook that ends what a test has started. */
  constructor() {
    afterEach(async () => {
      for (const server of this.#open.splice(0)) {
        const watch = adopt(server);
        watch.closeAllConnections();
        await watch.shutdown({ timeout: 100 });
      }
    });
  }

  async listen(server: AdoptableServer): Promise<number> {
    this.#open.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  }

  /** Adopts before it listens. */
  async start(server: AdoptableServer, options?: AdoptOptions): Promise<{ watch: AdoptedServer; port: number }> {
    const watch = adopt(server, options);
    return { watch, port: await this.listen(server) };
  }
}

/** A listener whose `/held…` waits until the test answers; everything else is answered with its path. */
export class Application {
  readonly handled: string[] = [];
  readonly #held = new Map<string, ServerResponse>();
  readonly #awaited = new Map<string, (res: ServerResponse) => void>();

  readonly listener: RequestListener = (req, res) => {
    const path = req.url ?? '';
    this.handled.push(path);
    if (!path.startsWith('/held')) {
      res.end(path);
      return;
    }
    this.#held.set(path, res);
    this.#awaited.get(path)?.(res);
  };

  held(path = '/held'): Promise<ServerResponse> {
    const res = this.#held.get(path);
    if (res !== undefined) return Promise.resolve(res);
    return new Promise((resolve) => this.#awaited.set(path, resolve));
  }
}
