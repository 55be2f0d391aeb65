/**
 * A closed loop of HTTP/1.1 requests on one connection, by a client that never retries: it counts what became of
 * every request it sent, until the server (or `stop`) ends the connection.
 */
import { encodeRequest, H1Client, type H1Request, type H1Response } from './h1-client.js';
import { drawThinkTime, Random, type ThinkTime } from './random.js';
import type { Ending, TransportOptions } from './transport.js';

/** One request and what its answer must be. */
export interface H1Exchange {
  readonly request: H1Request;
  /** default 200 */
  readonly expectedStatus?: number;
  /** default: any body */
  readonly expectedBody?: string;
}

export interface H1RunOptions extends TransportOptions {
  /** makes the n-th request (from 0) of this connection */
  readonly exchange: (n: number, random: Random) => H1Exchange;
  /** between the end of an answer and the next request (default: none) */
  readonly think?: ThinkTime;
  readonly seed?: number;
  /** Stop using the connection once it was idle for `Keep-Alive: timeout` seconds, as the server asked (default false). */
  readonly honourHint?: boolean;
  /** default: until the connection ends */
  readonly maxRequests?: number;
  /** aborted: no further request; the client closes once the current one is answered */
  readonly stop?: AbortSignal;
  /** ms for one answer before the client gives the connection up (default 30,000) */
  readonly answerTimeoutMs?: number;
  /** called once the connection stands, before the first request */
  readonly onConnected?: (client: H1Client) => void;
  /** called after each answer that was the expected one */
  readonly onAnswer?: (response: H1Response, n: number) => void;
  /** for timelines: when a request was written, and when its answer had been read */
  readonly onEvent?: (what: 'sent' | 'answered', n: number, at: number) => void;
}

/** Why the client stopped. */
export type H1Stop = 'close-announced' | 'server-closed' | 'hint' | 'stopped' | 'max-requests' | 'timed-out' | 'broken';

export interface H1RunResult {
  readonly sent: number;
  /** with the expected status and body, complete */
  readonly answered: number;
  /** complete, but with another status or body */
  readonly wrong: number;
  /** sent, and the connection ended without a complete answer */
  readonly unserved: number;
  /** the connection was seen reset (ECONNRESET, EPIPE) */
  readonly reset: boolean;
  readonly ending: Ending;
  readonly stoppedBy: H1Stop;
  /** the server's port for this client as the client's own port (`socket.localPort`) */
  readonly localPort: number;
  /** ms from request to complete answer, of those answered */
  readonly latencies: readonly number[];
  /** ms of idle time since the last answer when the last request was sent (0 for the first) */
  readonly lastThinkMs: number;
  /** what was wrong first, in words */
  readonly firstFault: string | undefined;
}

/** Runs one connection to its end; rejects only if it can't be made. */
export async function runH1Client(options: H1RunOptions): Promise<H1RunResult> {
  const client = await H1Client.connect(options);
  return runOn(client, options);
}

async function runOn(client: H1Client, options: H1RunOptions): Promise<H1RunResult> {
  const random = new Random(options.seed ?? 1);
  const maxRequests = options.maxRequests ?? Number.POSITIVE_INFINITY;
  const latencies: number[] = [];
  let sent = 0;
  let answered = 0;
  let wrong = 0;
  let lastThinkMs = 0;
  let firstFault: string | undefined;
  let stoppedBy: H1Stop | undefined;
  const lookAgain = (): void => client.look();
  options.stop?.addEventListener('abort', lookAgain);
  options.onConnected?.(client);

  while (stoppedBy === undefined) {
    const { request, expectedStatus = 200, expectedBody } = options.exchange(sent, random);
    const sentAt = performance.now();
    if (!client.write(encodeRequest(request), [request.method ?? 'GET'])) {
      stoppedBy = 'server-closed'; // never written, so nothing is owed
      break;
    }
    const n = sent;
    sent += 1;
    options.onEvent?.('sent', n, sentAt);
    const response = await answerTo(client, n, options.answerTimeoutMs ?? 30_000);
    if (!(typeof response === 'object')) {
      stoppedBy = response;
      firstFault ??= `request ${n} (${request.method ?? 'GET'} ${request.path ?? '/'}): ${faultInWords(client, response)}`;
      break;
    }
    if (response.status === expectedStatus && (expectedBody === undefined || response.text === expectedBody)) {
      answered += 1;
      latencies.push(performance.now() - sentAt);
      options.onEvent?.('answered', n, performance.now());
      options.onAnswer?.(response, n);
    } else {
      wrong += 1;
      firstFault ??= `request ${n}: ${response.status} ${JSON.stringify(response.text.slice(0, 80))}`;
    }
    if (response.connectionHas('close') || response.version === '1.0') stoppedBy = 'close-announced';
    else if (options.stop?.aborted) stoppedBy = 'stopped';
    else if (sent >= maxRequests) stoppedBy = 'max-requests';
    else {
      const thinkMs = options.think === undefined ? 0 : drawThinkTime(options.think, random);
      stoppedBy = await idle(client, thinkMs, response, options);
      if (stoppedBy === undefined) lastThinkMs = thinkMs;
    }
  }
  options.stop?.removeEventListener('abort', lookAgain);
  const ending = client.ending;
  await close(client);
  return {
    sent,
    answered,
    wrong,
    unserved: sent - answered - wrong,
    reset: client.transport.wasReset,
    ending: ending === 'open' ? client.ending : ending,
    stoppedBy,
    localPort: client.transport.localPort,
    latencies,
    lastThinkMs,
    firstFault,
  };
}

async function answerTo(client: H1Client, n: number, timeoutMs: number): Promise<H1Response | H1Stop> {
  const found = (): H1Response | undefined => client.responses[n];
  const over = (): boolean => client.ending !== 'open' || client.parseError !== undefined;
  await client.wait(() => found() !== undefined || over(), timeoutMs);
  const response = found();
  if (response !== undefined) return response;
  if (client.parseError !== undefined) return 'broken';
  return client.ending === 'open' ? 'timed-out' : 'server-closed';
}

/** Thinks; returns why to stop, if the server closed meanwhile or its hint ran out. */
async function idle(
  client: H1Client,
  thinkMs: number,
  last: H1Response,
  options: H1RunOptions,
): Promise<H1Stop | undefined> {
  const hintMs =
    (options.honourHint ?? false) && last.keepAliveTimeout !== undefined ? last.keepAliveTimeout * 1000 : undefined;
  const waitMs = hintMs === undefined ? thinkMs : Math.min(thinkMs, hintMs);
  const over = (): boolean =>
    client.ending !== 'open' || client.parseError !== undefined || options.stop?.aborted === true;
  if (waitMs > 0) await client.wait(over, waitMs);
  if (client.parseError !== undefined) return 'broken';
  if (client.ending !== 'open') return 'server-closed';
  if (options.stop?.aborted) return 'stopped';
  if (hintMs !== undefined && thinkMs >= hintMs) return 'hint';
  return undefined;
}

/** FIN, then reads until the server has closed as well; a server that never does is left after a second. */
async function close(client: H1Client): Promise<void> {
  client.end();
  await Promise.race([client.transport.closed, new Promise((resolve) => setTimeout(resolve, 1_000).unref())]);
  client.destroy();
}

function faultInWords(client: H1Client, stop: H1Stop): string {
  return client.parseError?.message ?? client.transport.error?.message ?? `${stop}, connection ${client.ending}`;
}
