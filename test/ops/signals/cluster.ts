/**
 * A cluster of one worker that serves by lastcall, or by node:http, adopted. On SIGUSR2 the primary disconnects it, and tells what became of it.
 */
import cluster from 'node:cluster';
import { createServer as createHttpServer, Server as HttpServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { adopt, createServer, drainSignal, onSignals } from '../../../src/index.js';

const say = (line: string): void => void process.stdout.write(`${line}\n`);

if (cluster.isPrimary) {
  const worker = cluster.fork();
  worker.on('listening', ({ port }) => say(`serving ${port} ${worker.process.pid} `));
  worker.on('exit', (code, signal) => {
    say(`worker ended with ${code ?? signal}, ${worker.exitedAfterDisconnect ? 'after' : 'without'} a disconnect`);
    process.exit(0);
  });
  process.on('SIGUSR2', () => worker.disconnect());
} else {
  const listener: RequestListener = (req, res) => {
    const [, what, ms] = req.url?.split('/') ?? [];
    if (what === 'leave') cluster.worker?.disconnect();
    const answer = (): void => void setTimeout(() => res.end('slow'), Number(ms));
    if (what === 'slow') answer();
    else if (what === 'drained') drainSignal(req).addEventListener('abort', answer);
    else res.end('ok');
    say(`request ${req.url}`);
  };
  const adopts = process.env.ADOPT === 'yes';
  const server = adopts ? createHttpServer(listener) : createServer({ cleartext: true }, listener);
  if (process.env.ON_SIGNALS !== 'off') {
    onSignals(server instanceof HttpServer ? adopt(server) : server, {
      timeout: Number(process.env.TIMEOUT ?? 25_000),
      signals: { SIGTERM: { delay: Number(process.env.DELAY ?? 0) } },
      onSignal: (cause, step) => say(`${cause} ${step}`),
      cleanup: (summary) => say(`cleanup, ${summary.served} served, ${(server.address() as AddressInfo | null)?.port}`),
    });
  }
  const { LISTEN } = process.env;
  if (LISTEN === 'never') {
    say('starting');
    setTimeout(() => say('started after all'), 30_000);
  } else if (LISTEN === 'exclusive') {
    // The primary hears nothing of it.
    server.listen({ port: 0, host: '127.0.0.1', exclusive: true }, () =>
      say(`serving ${(server.address() as AddressInfo).port} ${process.pid} `),
    );
  } else server.listen(0, '127.0.0.1');
}
