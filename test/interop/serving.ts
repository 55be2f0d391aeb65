/**
 * The server that the real clients talk to, and what it saw of them. One application for all: what each client asks of
 * it is the client's test's.
 */
import { once } from 'node:events';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createServer, type Server, type ServerOptions } from '../../src/index.js';
import { certificate } from '../wire/certificate.js';

/** What every client uploads, and has to get back. */
export const UPLOAD_BYTES = 1_048_576;

/** How many small requests each client sends, and how many of them at a time. */
export const MANY = 1_000;
export const AT_A_TIME = 50;

/** Both protocols, as a client asks for them and as `httpVersion` tells. */
export const PROTOCOLS = [
  { protocol: 'HTTP/2', allowH2: true, version: '2.0' },
  { protocol: 'HTTP/1.1', allowH2: false, version: '1.1' },
] as const;

/** A listening server. */
export interface Serving {
  readonly server: Server;
  readonly port: number;
  /** `https://localhost:<port>` */
  readonly origin: string;
  /** Requests by `httpVersion`. */
  readonly requests: Record<string, number>;
  /** What the server found wrong with its clients' HTTP, and what its handlers threw: nothing, here. */
  readonly errors: string[];
  stop(): Promise<void>;
}

/** Serves over TLS on a free port of loopback. */
export async function serve(listener: RequestListener = application, options: ServerOptions = {}): Promise<Serving> {
  const requests: Record<string, number> = {};
  const errors: string[] = [];
  const server = createServer({ ...(await certificate()), ...options }, (req, res) => {
    requests[req.httpVersion] = (requests[req.httpVersion] ?? 0) + 1;
    return listener(req, res);
  });
  server.on('clientError', (error: Error & { code?: string }) => {
    // Clients may leave when they have what they wanted.
    // A browser breaks off the handshake with a certificate that it doesn't know, and then takes it.
    if (error.code?.startsWith('ERR_SSL_') === true) return;
    if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') errors.push(`clientError: ${error.message}`);
  });
  server.on('handlerError', (error: Error) => errors.push(`handlerError: ${error.stack}`));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    server,
    port,
    origin: `https://localhost:${port}`,
    requests,
    errors,
    stop: async () => {
      server.closeAllConnections();
      await server.shutdown({ timeout: 1_000, linger: 100 });
    },
  };
}

/**
 * `/hello/<n>`: `hello <n>` · `/echo`: the request's body · `/trailers`: the body's length, and the trailer `x-sum` of
 * the request as that of the response · `/large/<bytes>`: that many octets.
 */
export function application(req: IncomingMessage, res: ServerResponse): void {
  const [, kind = '', argument = ''] = (req.url ?? '').split('/');
  switch (kind) {
    case 'hello':
      res.setHeader('content-type', 'text/plain');
      res.end(`hello ${argument}`);
      return;
    case 'echo':
      res.setHeader('content-type', req.headers['content-type'] ?? 'application/octet-stream');
      req.pipe(res);
      return;
    case 'trailers':
      answerWithTrailers(req, res);
      return;
    case 'large':
      res.end(Buffer.alloc(Number(argument), 'x'));
      return;
    default:
      res.writeHead(404).end();
  }
}

function answerWithTrailers(req: IncomingMessage, res: ServerResponse): void {
  let size = 0;
  req.on('data', (chunk: Buffer) => {
    size += chunk.length;
  });
  req.on('end', () => {
    res.writeHead(200, { trailer: 'x-sum' });
    res.write(`${size}`);
    res.addTrailers({ 'x-sum': String(req.trailers['x-sum'] ?? 'none') });
    res.end();
  });
}
