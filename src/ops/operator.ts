/**
 * The operator endpoint: a small HTTP server on loopback that lists the connections of a server and drains them, one by
 * id, those that a filter names, or all. It stands on plain `node:http`, so that it answers whatever state the server is
 * in. What a query asks for is operator-query.ts's, how an answer is sent operator-reply.ts's, what the list looks like
 * connection-list.ts's, other text text.ts's, who may ask operator-guard.ts's.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Connection } from '../core/connection.js';
import { FilterSyntaxError } from '../core/filter-text.js';
import type { DrainReport, DrainSummary } from '../core/report.js';
import { gracefulShutdown } from '../core/shutdown.js';
import { connectionJson, type Listing, listing } from './connection-list.js';
import type { Drainable } from './drainable.js';
import { refusal } from './operator-guard.js';
import { drainManyQuery, drainOneQuery, flagOf, listQuery } from './operator-query.js';
import { type Answer, Reply } from './operator-reply.js';
import { type RequestTarget, targetOf } from './target.js';
import { formatConnection, formatLimits, formatReport, formatSummary } from './text.js';

/** An operator endpoint that listens. */
export interface OperatorEndpoint {
  /** Where it listens, e.g. `http://127.0.0.1:8400`. */
  readonly url: string;
  /** Stops listening, lets answers under way finish, and resolves. */
  close(): Promise<void>;
}

/** How many drains `/reports` remembers, */
const KEPT_REPORTS = 100;

/** and of each how many reports of connections that were not drained: clients choose how much these say. */
const KEPT_NOT_DRAINED = 20;

/** How long answers under way may take when the endpoint closes, in ms. */
const CLOSE_GRACE = 500;

const HELP = `GET  /ready                  200 while new connections are wanted, else 503
GET  /connections            the live connections, or ?filter=FILTER
GET  /connections/ID         one of them
POST /connections/ID/drain   drain one, answer with its report when it is closed
POST /drain?filter=FILTER    drain those, answer with a summary; ?filter=all for all
GET  /reports                the drains started here, latest first
GET  /limits                 how often each limit has fired

FILTER: conditions that must all hold, such as tag.tenant=acme+age>1h+proto=h2
POST takes ?timeout= ?idleWait= ?settle= ?linger= ?lingerMax= (10s, or ms) ?reason= ?wait=0 (don't wait for the end),
/drain also ?spread= ?concurrency= ?follow and ?progress (tells how far it is).
JSON with ?json or "Accept: application/json".
`;

/** A drain that was started here, and what came of it. */
interface Started {
  readonly drain: string;
  readonly startedAt: string;
  result?: DrainReport | DrainSummary;
}

/**
 * Starts the operator endpoint of a server: a small HTTP server on 127.0.0.1 that lists the connections and drains them,
 * for `curl` and for the commands `lastcall list` and `lastcall drain`.
 *
 * ```ts
 * const operator = await startOperator(server);
 * onSignals(server, { cleanup: () => operator.close() });
 * ```
 *
 * It asks for no password: whoever can connect to this machine's loopback can drain. What a browser sends on behalf of
 * another site is refused. It keeps the process alive until it is closed, and answers while the server stops. Each worker
 * of a `node:cluster` needs a port of its own.
 *
 * @param server a server of `createServer`, or an adopted one
 * @param port default 8400; 0: any free one
 * @returns the endpoint, once it listens
 * @throws {Error} EADDRINUSE when the port is taken, EACCES when this process may not listen on it
 * @throws {RangeError} ERR_SOCKET_BAD_PORT when the port is none
 */
export async function startOperator(server: Drainable, port = 8400): Promise<OperatorEndpoint> {
  const endpoint = createServer(operatorListener(server));
  // Workers of a cluster would share the port, and who asks would meet any of them.
  endpoint.listen({ port, host: '127.0.0.1', exclusive: true });
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

  async function answer(req: IncomingMessage, { path, query }: RequestTarget, reply: Reply): Promise<Answer | Listing> {
    const [collection, id, action, ...rest] = path.split('/').slice(1);
    if (rest.length > 0) return notFound(path);
    if (collection === '' && id === undefined) {
      return get(req, () => list(query, `\n${HELP}`));
    }
    if (collection === 'connections' && id === undefined) return get(req, () => list(query));
    if (collection === 'ready' && id === undefined) {
      return get(req, () => ({
        status: server.ready ? 200 : 503,
        text: server.ready ? 'ready\n' : 'not ready\n',
        json: { ready: server.ready },
      }));
    }
    if (collection === 'reports' && id === undefined) {
      return get(req, () => ({
        text: started.map(startedText).join('') || 'no drains yet\n',
        json: { drains: started },
      }));
    }
    if (collection === 'limits' && id === undefined) {
      return get(req, () => ({ text: formatLimits(server.limits), json: { limits: server.limits ?? {} } }));
    }
    if (collection === 'drain' && id === undefined) return post(req, () => drainMany(query, reply));
    if (collection === 'connections' && (action === undefined || action === 'drain')) {
      const conn = /^\d{1,15}$/.test(id ?? '') ? server.connections.get(Number(id)) : undefined;
      if (conn === undefined) return problem(404, `no connection ${id} is open`);
      if (action === undefined) return get(req, () => ({ text: formatConnection(conn), json: connectionJson(conn) }));
      return post(req, () => drainOne(conn, query));
    }
    return notFound(path);
  }

  function list(query: URLSearchParams, after?: string): Listing {
    return listing(server.connections.select(listQuery(query).filter), after);
  }

  function drainOne(conn: Connection, query: URLSearchParams): Promise<Answer> {
    const options = drainOneQuery(query);
    return follow(`connection ${conn.id}`, gracefulShutdown(conn, options), query);
  }

  function drainMany(query: URLSearchParams, reply: Reply): Promise<Answer> {
    const { what, options } = drainManyQuery(query);
    const name = what.text === 'all' ? 'all connections' : what.text;
    const told = flagOf(query, 'progress') ? { onProgress: reply.progress() } : {};
    // Who waits for the end and leaves has changed their mind: what has begun goes on, and nothing more begins.
    const waited = query.get('wait') === '0' ? {} : { signal: reply.left };
    return follow(name, server.drain(what.filter, { ...options, ...waited, ...told }), query);
  }

  async function follow(
    drain: string,
    running: Promise<DrainReport | DrainSummary>,
    query: URLSearchParams,
  ): Promise<Answer> {
    const entry: Started = { drain, startedAt: new Date().toISOString() };
    const ended = running.then((result) => {
      entry.result = kept(result);
      return result;
    });
    if (query.get('wait') === '0') {
      // What fails at once is told.
      await Promise.race([ended, new Promise(setImmediate)]);
      remember(entry);
      return { status: 202, text: `draining ${drain}; see /reports\n`, json: entry };
    }
    remember(entry);
    const result = await ended.catch((error: unknown) => {
      started.splice(started.indexOf(entry), 1);
      throw error;
    });
    return { text: resultText(result), json: result };
  }

  function remember(entry: Started): void {
    started.unshift(entry);
    started.length = Math.min(started.length, KEPT_REPORTS);
  }

  return (req, res) => {
    req.resume();
    const target = targetOf(req);
    const wantsJson = flagOf(target.query, 'json') || /\bapplication\/json\b/.test(req.headers.accept ?? '');
    const reply = new Reply(res, wantsJson);
    const refused = refusal(req);
    const answered = refused === undefined ? answer(req, target, reply) : Promise.resolve(problem(403, refused));
    void answered.then((answer) => reply.end(answer)).catch((error: unknown) => reply.fail(fromError(error)));
  };
}

function get<A extends Answer | Listing>(req: IncomingMessage, make: () => A): A | Answer {
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

/** A filter that can't be parsed and options out of their range are the caller's mistake; anything else is ours. */
function fromError(error: unknown): Answer {
  const { code, message = String(error) } = Object(error) as { code?: string; message?: string };
  if (error instanceof FilterSyntaxError) {
    const { excerpt, position } = error;
    return { status: 400, text: `${message}\n${excerpt}\n`, json: { error: message, position } };
  }
  return problem(code === 'ERR_LASTCALL_OPTION' ? 400 : 500, message);
}

/** What is remembered of a result; whoever waits for it gets the whole. */
function kept(result: DrainReport | DrainSummary): DrainReport | DrainSummary {
  return 'outcome' in result ? result : { ...result, notDrained: result.notDrained.slice(0, KEPT_NOT_DRAINED) };
}

function resultText(result: DrainReport | DrainSummary): string {
  return 'outcome' in result ? formatReport(result) : formatSummary(result);
}

function startedText({ drain, startedAt, result }: Started): string {
  return `${startedAt} ${drain}\n${result === undefined ? 'still draining\n' : resultText(result)}\n`;
}
