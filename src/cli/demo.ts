/** The built-in app of `lastcall serve`: small routes to be in flight with while a connection is drained. */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { connectionOf, drainSignal } from '../index.js';
import { type RequestTarget, targetOf } from '../ops/target.js';
import { landingPage } from './landing.js';

/** The longest `/slow`, in ms. */
const MAX_SLOW = 600_000;

/** ms between events of `/events`, and before a client comes back after its end. */
const EVENT_INTERVAL = 1_000;
const RETRY = 500;

type Route = (req: IncomingMessage, res: ServerResponse, target: RequestTarget) => void;

/** @param operator where the operator endpoint is, for the landing page; `undefined`: there is none */
export function demo(operator: () => string | undefined): RequestListener {
  const routes: Readonly<Record<string, Readonly<Record<string, Route>>>> = {
    '/': { GET: (req, res) => home(req, res, operator()) },
    '/slow': { GET: slow },
    '/events': { GET: events },
    '/upload': { POST: upload, PUT: upload },
  };

  return (req, res) => {
    const target = targetOf(req);
    const { path } = target;
    const methods = Object.hasOwn(routes, path) ? routes[path] : undefined;
    if (methods === undefined) {
      text(res, 404, `nothing at ${path}; there is ${Object.keys(routes).join(', ')}\n`);
      return;
    }
    const method = req.method === 'HEAD' ? 'GET' : (req.method ?? 'GET');
    const route = Object.hasOwn(methods, method) ? methods[method] : undefined;
    if (route === undefined) {
      res.setHeader('allow', Object.keys(methods).join(', '));
      text(res, 405, `${path} takes ${Object.keys(methods).join(' or ')}\n`);
      return;
    }
    route(req, res, target);
  };
}

function home(req: IncomingMessage, res: ServerResponse, operator: string | undefined): void {
  const conn = connectionOf(req);
  const accept = req.headers.accept ?? '';
  res.setHeader('vary', 'accept');
  res.setHeader('cache-control', 'no-store');
  if (accept.includes('text/html')) {
    res.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(landingPage(operator));
  } else if (accept.includes('application/json')) {
    const { protocol, id, served } = conn ?? {};
    res
      .writeHead(200, { 'content-type': 'application/json' })
      .end(JSON.stringify({ protocol, connection: id, served }));
  } else {
    text(res, 200, `${conn?.protocol}, connection ${conn?.id}\n`);
  }
}

function slow(req: IncomingMessage, res: ServerResponse, { query }: RequestTarget): void {
  const asked = query.get('ms') ?? '5000';
  const ms = /^\d{1,9}$/.test(asked) ? Number(asked) : Number.NaN;
  if (!(ms <= MAX_SLOW)) {
    text(res, 400, `ms must be a whole number up to ${MAX_SLOW}\n`);
    return;
  }
  const timer = setTimeout(
    () => text(res, 200, `answered after ${ms} ms on connection ${connectionOf(req)?.id}\n`),
    ms,
  );
  res.on('close', () => clearTimeout(timer));
}

/** Server-sent events. A drain ends the stream; `retry` tells the client when to come back, on a connection of its own. */
function events(req: IncomingMessage, res: ServerResponse): void {
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  const draining = drainSignal(req);
  let count = 0;
  const timer = setInterval(send, EVENT_INTERVAL);
  draining.addEventListener('abort', finish, { once: true });
  res.on('close', stop);
  send();
  if (draining.aborted) finish();

  function send(): void {
    count++;
    res.write(`id: ${count}\ndata: event ${count} on connection ${connectionOf(req)?.id}\n\n`);
  }
  function finish(): void {
    stop();
    res.end(`retry: ${RETRY}\nevent: drain\ndata: connection ${connectionOf(req)?.id} is being drained, come back\n\n`);
  }
  function stop(): void {
    clearInterval(timer);
    draining.removeEventListener('abort', finish);
  }
}

function upload(req: IncomingMessage, res: ServerResponse): void {
  let bytes = 0;
  req.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  req.on('end', () => text(res, 200, `received ${bytes} bytes\n`));
}

function text(res: ServerResponse, status: number, body: string): void {
  res.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(body);
}
