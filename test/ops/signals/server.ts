/**
 * A process that serves and ends by signals, as its OPTIONS (JavaScript) say. It answers /slow/MS after that time,
 * /drained/MS that long after its drain has begun, anything else at once, and writes what happens to stdout.
 */
import { pbkdf2 } from 'node:crypto';
import { get, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createServer, drainSignal, onSignals, type Server, type SignalOptions } from '../../../src/index.js';

const { OPTIONS = '{}', BEFORE = '', LISTEN = 'yes', LATE = '/' } = process.env;
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const evaluate = (text: string): unknown => new Function('say', 'process', `return (${text})`)(say, process);

const listener: RequestListener = (req, res) => {
  const [, what, ms] = req.url?.split('/') ?? [];
  const answer = (): void => void setTimeout(() => res.end('slow'), Number(ms));
  if (what === 'slow') answer();
  else if (what === 'drained') drainSignal(req).addEventListener('abort', answer);
  else res.end('ok');
  say(`request ${req.url}`);
};
const server = createServer({ cleartext: true }, listener);
process.on('warning', (warning) => say(`warning ${(warning as Error & { code?: string }).code}: ${warning.message}`));
server.on('stopping', () => say(`stopping, ready ${server.ready}`));
if (BEFORE !== '') evaluate(BEFORE);
const dispose = onSignals(server, {
  onSignal: (cause, step) => say(`${cause} ${step}`),
  ...(evaluate(OPTIONS) as SignalOptions),
});

const second = createServer({ cleartext: true }, (_req, res) => {
  second.once('stopping', () => setTimeout(() => res.end('second'), 600));
  say('request of the second');
});
if (LISTEN === 'two') {
  onSignals(second, evaluate(OPTIONS) as SignalOptions);
  await new Promise<void>((resolve) => second.listen(0, '127.0.0.1', resolve));
}

/** Listens although it is being shut down, or has been, and has a client at once. */
function listenLate(late: Server): void {
  const listen = (): void => {
    if (late.listening) {
      setTimeout(listen, 20);
      return;
    }
    late.listen(0, '127.0.0.1', () => {
      say(`late, ready ${late.ready}`);
      get({ host: '127.0.0.1', port: portOf(late), path: LATE, agent: false }, (res) => {
        say(`answered with ${res.headers.connection}`);
        res.resume();
      }).on('error', () => {});
    });
  };
  late.once('stopping', () => setTimeout(listen, 100));
}

const portOf = (each: Server): number => (each.address() as AddressInfo).port;
if (LISTEN === 'another late') {
  const another = createServer({ cleartext: true }, listener);
  onSignals(another, evaluate(OPTIONS) as SignalOptions);
  listenLate(another);
}
if (LISTEN === 'never') {
  say('starting');
  setTimeout(() => say('started after all'), 30_000);
} else if (LISTEN === 'late') {
  listenLate(server);
  process.kill(process.pid, 'SIGTERM');
} else if (LISTEN === 'pending') {
  // The lookup of the name waits for a thread.
  for (let i = 0; i < 8; i++) pbkdf2('', '', 100_000, 64, 'sha512', () => {});
  server.listen(0, 'localhost', () => say('listening after all'));
  process.kill(process.pid, 'SIGTERM');
} else if (LISTEN === 'disposed') {
  dispose();
  server.listen(0, '127.0.0.1', () => say(`serving ${process.listenerCount('SIGTERM')}`));
} else {
  if (LISTEN === 'again') listenLate(server);
  if (LISTEN === 'always') server.on('close', () => server.listen(0, '127.0.0.1'));
  server.listen(0, '127.0.0.1', () => {
    const ports = [server, ...(LISTEN === 'two' ? [second] : [])].map(portOf);
    say(`serving ${ports.join(' ')} `);
  });
}
