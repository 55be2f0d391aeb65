/**
 * A server for the tests of the HTTP/2 connection layer: TLS (ALPN h2) or cleartext (prior knowledge) sockets, each with
 * an H2Connection, and the smallest application that a connection can talk to.
 */
import { AsyncResource } from 'node:async_hooks';
import { EventEmitter, once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createTcpServer, type Server as NetServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { LiveConnection } from '../../src/core/connection.js';
import type { RequestEvent, StreamHost } from '../../src/core/host.js';
import { type KeepAliveOptions, keepAliveSettings } from '../../src/core/keep-alive.js';
import { drainSettings } from '../../src/core/shutdown.js';
import { attachH2, type H2Connection, type H2Context } from '../../src/h2/connection.js';
import { type H2Options, h2Settings } from '../../src/h2/options.js';
import type { SessionOptions } from '../../src/h2/session.js';
import { certificate } from '../wire/certificate.js';

export interface HostOptions {
  readonly tls?: boolean;
  readonly h2?: H2Options;
  readonly keepAlive?: KeepAliveOptions;
  /** In the place of the server's own. */
  readonly session?: Partial<SessionOptions>;
}

/** Emits what a request host is told: 'request', 'checkContinue', 'connect', 'clientError' … */
export class TestHost extends EventEmitter implements StreamHost {
  readonly connections: LiveConnection[] = [];
  readonly drivers: H2Connection[] = [];
  readonly handlerErrors: unknown[] = [];
  port = 0;
  #server: NetServer | undefined;

  static async open(
    handler: (req: IncomingMessage, res: ServerResponse) => void,
    { tls = false, h2 = {}, keepAlive, session = {} }: HostOptions = {},
  ): Promise<TestHost> {
    const host = new TestHost();
    host.on('request', handler);
    const settings = h2Settings(h2);
    const context: H2Context = {
      host,
      settings: { ...settings, session: { ...settings.session, ...session } },
      keepAlive: keepAliveSettings(keepAlive),
      recycling: drainSettings({ timeout: Number.POSITIVE_INFINITY }),
    };
    if (tls) {
      const server = createTlsServer({ ...(await certificate()), ALPNProtocols: ['h2'], noDelay: true });
      const raws = new Map<string, LiveConnection>();
      server.on('connection', (raw: Socket) => {
        raws.set(`${raw.remoteAddress}:${raw.remotePort}`, new LiveConnection(raw, true));
      });
      server.on('secureConnection', (socket: TLSSocket) => {
        const connection = raws.get(`${socket.remoteAddress}:${socket.remotePort}`);
        if (connection === undefined) throw new Error('a TLS socket without its TCP socket');
        connection.secured(socket);
        host.#attach(connection, socket, context);
      });
      server.on('tlsClientError', (_error, socket) => socket.destroy());
      host.#server = server;
    } else {
      host.#server = createTcpServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
        host.#attach(new LiveConnection(socket, false), socket, context);
      });
    }
    host.#server.listen(0, '127.0.0.1');
    await once(host.#server, 'listening');
    const address = host.#server.address();
    host.port = typeof address === 'object' && address !== null ? address.port : 0;
    return host;
  }

  #attach(connection: LiveConnection, socket: Socket, context: H2Context): void {
    this.connections.push(connection);
    this.drivers.push(attachH2(connection, socket, context));
    this.emit('opened', connection);
  }

  /** The connection that was accepted last. */
  get connection(): LiveConnection {
    const last = this.connections.at(-1);
    if (last === undefined) throw new Error('no connection yet');
    return last;
  }

  request(connection: LiveConnection, event: RequestEvent, req: IncomingMessage, res: ServerResponse): AsyncResource {
    const context = new AsyncResource('TESTREQUEST');
    context.runInAsyncScope(this.deliver, this, connection, event, req, res);
    return context;
  }

  deliver(_connection: LiveConnection, event: RequestEvent, req: IncomingMessage, res: ServerResponse): void {
    try {
      this.emit(event, req, res);
    } catch (error) {
      this.handlerErrors.push(error);
      if (!res.headersSent) res.writeHead(500).end();
      else res.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  }

  upgrade(
    _connection: LiveConnection,
    event: 'upgrade' | 'connect',
    req: IncomingMessage,
    stream: Duplex,
    head: Buffer,
  ): boolean {
    return this.emit(event, req, stream, head);
  }

  clientError(_connection: LiveConnection, error: Error & { code?: string }, stream: Duplex): boolean {
    return this.emit('clientError', error, stream);
  }

  listensFor(event: string): boolean {
    return this.listenerCount(event) > 0;
  }

  async close(): Promise<void> {
    for (const connection of this.connections) connection.destroy();
    this.#server?.close();
    if (this.#server?.listening) await once(this.#server, 'close');
  }
}
