/**
 * The operator endpoint: a small HTTP server on loopback that lists the connections of a server and drains them, one by
 * id or all. It stands on plain `node:http`, so that it answers whatever state the server is in. What the text looks
 * like is text.ts's, who may ask is operator-guard.ts's.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Connection } from '../core/connection.js';
import type { DrainReport, DrainSummary } from '../core/report.js';
import { type DrainOptions, drainSettings, gracefulShutdown } from '../core/shutdown.js';
import type { Drainable } from './drainable.js';
import { refusal } from './operator-guard.js';
import { type RequestTarget, targetOf } from './target.js';
import { formatConnections, formatReport, formatSummary } from './text.js';

export interface OperatorEndpoint {
  /** Where it listens, e.g. `http://127.0.0.1:8400`. */
  readonly url: string;
  /** Stops listening, lets answers under way finish, and resolves. */
  close(): Promise<void>;
}

/** How many drains `/reports` remembers. */
const KEPT_REPORTS = 100;

/** How long answers under way may take when the endpoint closes, in ms. */
const CLOSE_GRACE = 500;

const HELP = `GET  /connections            the live connections
GET  /connections/ID         one of them
POST /connections/ID/drain   drain one, answer with its report when it is closed
POST /drain                  drain all, answer with a summary
GET  /reports                the drains started here, latest first

POST takes ?timeout= ?idleWait= ?settle= ?linger= (ms) ?reason= and ?wait=0 (don't wait for the end).
JSON with ?json or "Accept: application/json".
`;

/** A drain that was started here, and what came of it. */
interface Started {
  readonly drain: string;
  readonly startedAt: string;
  result?: DrainReport | DrainSummary;
}

/** An answer in both its forms. */
interface Answer {
  readonly status?: number;
  readonly allow?: string;
  readonly text: string;
  readonly json: unknown;
}

/**
 * Starts the operator endpoint of a server on 127.0.0.1.
 *
 * @param port default 8400; 0: any free one
 * @throws what `listen` throws, e.g. EADDRINUSE
 */
export async function startOperator(server: Drainable, port = 8400): Promise<OperatorEndpoint> {
  const endpoint = createServer(operatorListener(server));
  endpoint.listen(port, '127.0.0.1');
  await once(endpoint, 'listening');
  return {
    url: `http://127.0.0.1:${(endpoint.address() as AddressInfo).port}`,
    async close() {
      const closed = new Promise<void>((resolve) => endpoint.close(() => resolve()));
      const timer = setTimeout(() => endpoint.closeAllConnections(), CLOSE_GRACE);
      await closed;
      clearTimeout(timer);
    },
  };
}

/** The endpoint's request listener. */
export function operatorListener(server: Drainable): (req: IncomingMessage, res: ServerResponse) => void {
  const started: Started[] = [];

  async function answer(req: IncomingMessage, { path, query }: RequestTarget): Promise<Answer> {
    const [collection, id, action, ...rest] = path.split('/').slice(1);
    if (rest.length > 0) return notFound(path);
    if (collection === '' && id === undefined) {
      return get(req, () => ({
        text: `${formatConnections([...server.connections])}\n${HELP}`,
        json: connectionsJson(server),
      }));
    }
    if (collection === 'connections' && id === undefined) {
      return get(req, () => ({ text: formatConnections([...server.connections]), json: connectionsJson(server) }));
    }
    if (collection === 'reports' && id === undefined) {
      return get(req, () => ({
        text: started.map(startedText).join('') || 'no drains yet\n',
        json: { drains: started },
      }));
    }
    if (collection === 'drain' && id === undefined) {
      return post(req, () => drainAll(query));
    }
    if (collection === 'connections' && (action === undefined || action === 'drain')) {
      const conn = /^\d{1,15}$/.test(id ?? '') ? server.connections.get(Number(id)) : undefined;
      if (conn === undefined) return problem(404, `no connection ${id} is open`);
      if (action === undefined)
        return get(req, () => ({ text: formatConnections([conn]), json: connectionJson(conn) }));
      return post(req, () => drainOne(conn, query));
    }
    return notFound(path);
  }

  function drainOne(conn: Connection, query: URLSearchParams): Promise<Answer> {
    const options = drainOptions(query);
    return follow(`connection ${conn.id}`, gracefulShutdown(conn, options), query);
  }

  function drainAll(query: URLSearchParams): Promise<Answer> {
    const options = drainOptions(query);
    return follow('all connections', server.drain('all', options), query);
  }

  async function follow(
    drain: string,
    running: Promise<DrainReport | DrainSummary>,
    query: URLSearchParams,
  ): Promise<Answer> {
    const entry: Started = { drain, startedAt: new Date().toISOString() };
    started.unshift(entry);
    started.length = Math.min(started.length, KEPT_REPORTS);
    const ended = running.then((result) => {
      entry.result = result;
      return result;
    });
    if (query.get('wait') === '0') return { status: 202, text: `draining ${drain}; see /reports\n`, json: entry };
    const result = await ended;
    return { text: resultText(result), json: result };
  }

  return (req, res) => {
    req.resume();
    const target = targetOf(req);
    const wantsJson = target.query.has('json') || /\bapplication\/json\b/.test(req.headers.accept ?? '');
    const refused = refusal(req);
    const answered = refused === undefined ? answer(req, target) : Promise.resolve(problem(403, refused));
    void answered
      .catch((error: unknown) => fromError(error))
      .then(({ status = 200, allow, text, json }) => {
        if (allow !== undefined) res.setHeader('allow', allow);
        res.writeHead(status, {
          'content-type': wantsJson ? 'application/json' : 'text/plain; charset=utf-8',
          'cache-control': 'no-store',
          'x-content-type-options': 'nosniff',
        });
        res.end(wantsJson ? `${JSON.stringify(json, null, 2)}\n` : text);
      });
  };
}

function get(req: IncomingMessage, make: () => Answer): Answer {
  return req.method === 'GET' || req.method === 'HEAD' ? make() : notAllowed(req, 'GET');
}

async function post(req: IncomingMessage, make: () => Promise<Answer>): Promise<Answer> {
  return req.method === 'POST' ? make() : notAllowed(req, 'POST');
}

function problem(status: number, message: string): Answer {
  return { status, text: `${message}\n`, json: { error: message } };
}

function notFound(path: string): Answer {
  return problem(404, `there is no ${path}; GET / lists what there is`);
}

function notAllowed({ method }: IncomingMessage, allow: string): Answer {
  return {
    ...problem(405, `${method} is not allowed here, ${allow} is`),
    allow: allow === 'GET' ? 'GET, HEAD' : allow,
  };
}

/** Options that are out of their range are the caller's mistake; anything else is ours. */
function fromError(error: unknown): Answer {
  const { code, message } = error as { code?: string; message: string };
  return problem(code === 'ERR_LASTCALL_OPTION' ? 400 : 500, message);
}

const DURATIONS = ['timeout', 'idleWait', 'settle', 'linger', 'lingerMax'] as const;
const FLAGS = ['json', 'wait'];

/** Drain options from a query; a key that means nothing is a typo and refused. */
function drainOptions(query: URLSearchParams): DrainOptions {
  const given: Record<string, unknown> = {};
  for (const [key, value] of query) {
    if (FLAGS.includes(key)) continue;
    given[key] = (DURATIONS as readonly string[]).includes(key) && value !== '' ? Number(value) : value;
  }
  drainSettings(given);
  return given;
}

function connectionJson(conn: Connection) {
  const { id, protocol = null, secure, state, remoteAddress, remotePort, localAddress, localPort, servername } = conn;
  const { openedAt, lastActiveAt, active, served } = conn;
  const peer = { remoteAddress, remotePort, localAddress, localPort, servername };
  return {
    id,
    protocol,
    secure,
    state,
    ...peer,
    openedAt,
    lastActiveAt,
    active,
    served,
    tags: Object.fromEntries(conn.tags),
  };
}

function connectionsJson(server: Drainable) {
  return { connections: [...server.connections].map(connectionJson) };
}

function resultText(result: DrainReport | DrainSummary): string {
  return 'outcome' in result ? formatReport(result) : formatSummary(result);
}

function startedText({ drain, startedAt, result }: Started): string {
  return `${startedAt} ${drain}\n${result === undefined ? 'still draining\n' : resultText(result)}\n`;
}
