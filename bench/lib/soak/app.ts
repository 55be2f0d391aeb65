/**
 * The application behind the soaked servers: the answers of the measured servers' application, event streams and
 * WebSocket echoes that end when they are told of a drain, and a count of what became of every request.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { connectionOf, drainSignal } from '../../../src/index.js';
import { App } from '../servers/app.js';
import type { Kind, RequestTally } from './messages.js';

/** The field in which clients say whose they are. */
export const KIND_FIELD = 'x-soak';

const KINDS: readonly Kind[] = ['good', 'foreign', 'faulty', 'undrained'];

/** Between two events of a stream, ms. */
const EVENT_MS = 50;

export class SoakApp {
  readonly requests: Record<Kind, RequestTally> = {
    good: { requests: 0, answered: 0, broken: 0 },
    foreign: { requests: 0, answered: 0, broken: 0 },
    faulty: { requests: 0, answered: 0, broken: 0 },
    undrained: { requests: 0, answered: 0, broken: 0 },
    unknown: { requests: 0, answered: 0, broken: 0 },
  };
  readonly #onBroken: (what: string) => void;
  readonly #answers: App;
  readonly #sockets = new WebSocketServer({ noServer: true });

  /**
   * @param dropEvery break off every n-th request
   * @param onBroken a good client's answer was not written out
   */
  constructor(dropEvery: number, onBroken: (what: string) => void) {
    this.#onBroken = onBroken;
    this.#answers = new App({ kind: 'lastcall', key: '', cert: '', dropEvery });
  }

  readonly listener = (req: IncomingMessage, res: ServerResponse): void => {
    const kind = kindOf(req);
    const tally = this.requests[kind];
    tally.requests++;
    connectionOf(req)?.tags.set('kind', kind);
    res.once('close', () => {
      if (res.writableFinished) tally.answered++;
      else {
        tally.broken++;
        if (kind === 'good') this.#onBroken(`${req.method} ${req.url} (HTTP/${req.httpVersion}) was not written out`);
      }
    });
    if (req.url?.startsWith('/events/') === true) streamEvents(req, res);
    else this.#answers.listener(req, res);
  };

  readonly upgrade = (req: IncomingMessage, socket: Duplex, head: Buffer): void => {
    const kind = kindOf(req);
    connectionOf(req)?.tags.set('kind', kind);
    this.requests[kind].requests++;
    this.#sockets.handleUpgrade(req, socket, head, (peer) => {
      peer.on('error', () => {});
      peer.on('message', (data, binary) => peer.send(data, { binary }));
      const restart = (): void => peer.close(1012, 'restarting');
      const signal = drainSignal(req);
      signal.addEventListener('abort', restart, { once: true });
      peer.once('close', () => {
        this.requests[kind].answered++;
        signal.removeEventListener('abort', restart);
      });
      if (signal.aborted) restart();
    });
  };

  /** WebSockets that are open. */
  get sockets(): ReadonlySet<WebSocket> {
    return this.#sockets.clients;
  }
}

function kindOf(req: IncomingMessage): Kind {
  const said = req.headers[KIND_FIELD];
  return KINDS.find((kind) => kind === said) ?? 'unknown';
}

/** `/events/<n>`: n events, or fewer when a drain begins; the last says how many there were. */
function streamEvents(req: IncomingMessage, res: ServerResponse): void {
  const wanted = Number(req.url?.split('/')[2]);
  const signal = drainSignal(req);
  let sent = 0;
  const end = (): void => {
    clearInterval(timer);
    signal.removeEventListener('abort', end);
    res.end(`data: end ${sent}\n\n`);
  };
  const timer = setInterval(() => {
    if (sent >= wanted) end();
    else res.write(`data: ${sent++}\n\n`);
  }, EVENT_MS);
  res.writeHead(200, { 'content-type': 'text/event-stream' });
  res.write(': hello\n\n');
  signal.addEventListener('abort', end, { once: true });
  res.once('close', () => {
    clearInterval(timer);
    signal.removeEventListener('abort', end);
  });
}
