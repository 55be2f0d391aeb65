/**
 * The server whose connections are recycled by age, and whose certificate is rotated on command.
 *
 * Beside the usual application it serves `/events/<n>/<ms>`: that many events in that time.
 */
import { X509Certificate } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { TLSSocket } from 'node:tls';
import { type Connection, connectionOf, createServer, gracefulShutdown, type Server } from '../../../src/index.js';
import { App, taskOf } from '../servers/app.js';
import type { FromRecycleServer, RecycleServerConfig, ToRecycleServer } from './messages.js';

const outcomes: Record<string, number> = {};
const ages: number[] = [];
let aborted = 0;
let unserved = 0;
/** By connection, which certificate it was shown. */
const certificates = new WeakMap<Connection, string>();
let server: Server | undefined;
const loopDelay = monitorEventLoopDelay({ resolution: 10 });

process.on('message', (message: ToRecycleServer) => {
  handle(message).then(send, (error: unknown) => send({ type: 'failed', message: String(error) }));
});
process.on('disconnect', () => process.exit(0));

async function handle(message: ToRecycleServer): Promise<FromRecycleServer> {
  if (message.type === 'start') return { type: 'listening', port: await start(message.config) };
  if (message.type === 'status') {
    return { type: 'status', status: { ages, outcomes, aborted, unserved, loopDelayMs: loopDelay.max / 1e6 } };
  }
  if (server === undefined) throw new Error('not started');
  const { certificate, spread, lookAfterMs } = message;
  const older = new Set([...server.connections]);
  const summary = server.rotate(certificate, { spread });
  await new Promise((resolve) => setTimeout(resolve, lookAfterMs));
  const { fingerprint256: newest } = new X509Certificate(certificate.cert);
  const isStale = (each: Connection): boolean => older.has(each) || (certificates.get(each) ?? newest) !== newest;
  const stale = [...server.connections].filter(isStale);
  const { duration, connections, outcomes: ended } = await summary;
  return { type: 'rotated', rotated: { duration, connections, outcomes: ended, stale: stale.length } };
}

async function start(config: RecycleServerConfig): Promise<number> {
  const { key, cert, maxAge, dropEvery } = config;
  const app = new App({ kind: 'lastcall', key, cert, ...(dropEvery !== undefined && { dropEvery }) });
  const started = createServer({ key, cert, ...(maxAge !== undefined && { recycle: { maxAge } }) }, (req, res) => {
    if (taskOf(req.url ?? '').kind === 'events') streamEvents(req, res);
    else app.listener(req, res);
  });
  started.on('secureConnection', (socket: TLSSocket) => {
    const connection = connectionOf(socket);
    const certificate = socket.getCertificate();
    if (connection !== undefined && certificate !== null && 'fingerprint256' in certificate) {
      certificates.set(connection, certificate.fingerprint256);
    }
  });
  started.connections.on('open', (connection) => {
    const openedAt = performance.now();
    connection.drainSignal.addEventListener('abort', () => {
      // A connection that its client closes aborts it, too.
      if (connection.state !== 'draining' || maxAge === undefined) return;
      ages.push(performance.now() - openedAt);
      // Joins the drain that the server began by itself; Infinity leaves its deadline alone.
      void gracefulShutdown(connection, { timeout: Infinity }).then((report) => {
        outcomes[report.outcome] = (outcomes[report.outcome] ?? 0) + 1;
        aborted += report.aborted;
        unserved += report.unserved;
      });
    });
  });
  server = started;
  loopDelay.enable();
  await new Promise<void>((resolve) => started.listen({ port: 0, host: '127.0.0.1' }, resolve));
  return (started.address() as AddressInfo).port;
}

/** It goes on to its end, drain signal or not: what is shown is that nobody cuts it. */
function streamEvents(req: IncomingMessage, res: ServerResponse): void {
  const [, , count = '0', ms = '0'] = req.url?.split('/') ?? [];
  res.writeHead(200, { 'content-type': 'text/event-stream' });
  let n = 0;
  const timer = setInterval(() => {
    n += 1;
    res.write(`data: ${n}\n\n`);
    if (n < Number(count)) return;
    clearInterval(timer);
    res.end();
  }, Number(ms) / Number(count));
  res.once('close', () => clearInterval(timer));
}

function send(message: FromRecycleServer): void {
  process.send?.(message);
}
