/**
 * The application behind a simulated server: answers each request as its plan says, and remembers which requests
 * reached it. The same for both protocols.
 */
import { AsyncResource } from 'node:async_hooks';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { LiveConnection } from '../../src/core/connection.js';
import type { RequestEvent, StreamHost } from '../../src/core/host.js';
import { pattern } from './bodies.js';
import type { Loop } from './loop.js';
import type { AnswerPlan, RequestPlan } from './plan.js';

export class Application implements StreamHost {
  /** How often each request reached a handler. */
  readonly handled = new Map<number, number>();
  /** What the application was told wrongly. */
  readonly violations: string[] = [];
  /** Requests that came while their connection was being drained. */
  duringDrain = 0;
  readonly #loop: Loop;
  readonly #plans = new Map<number, RequestPlan>();
  readonly #drain: (connection: LiveConnection) => void;

  /** @param drain what a handler calls that drains its own connection */
  constructor(loop: Loop, plans: Iterable<RequestPlan>, drain: (connection: LiveConnection) => void) {
    this.#loop = loop;
    this.#drain = drain;
    for (const plan of plans) this.#plans.set(plan.key, plan);
  }

  request(connection: LiveConnection, event: RequestEvent, req: IncomingMessage, res: ServerResponse): AsyncResource {
    const context = new AsyncResource('SIMULATED');
    context.runInAsyncScope(this.deliver, this, connection, event, req, res);
    return context;
  }

  deliver(connection: LiveConnection, _event: RequestEvent, req: IncomingMessage, res: ServerResponse): void {
    const plan = this.#begin(connection, req);
    const { key, answer } = plan;
    if (answer.interim) res.writeEarlyHints({ link: '</style.css>; rel=preload' });
    const respond = (): void => this.#respond(key, answer, res);
    switch (answer.when) {
      case 'at once':
        respond();
        break;
      case 'later':
        this.#loop.applicationTimer(answer.latency, respond);
        break;
      case 'read': {
        let received = 0;
        req.on('data', (chunk: Buffer) => {
          received += chunk.length;
          if (answer.readPause === 0) return;
          req.pause();
          this.#loop.applicationTimer(answer.readPause, () => req.resume());
        });
        req.on('error', () => {});
        req.on('end', () => {
          if (received !== plan.bodySize) this.violations.push(`/${key} brought ${received} of ${plan.bodySize} bytes`);
          this.#loop.applicationTimer(answer.latency, respond);
        });
        break;
      }
      case 'never':
        break;
    }
  }

  #respond(key: number, answer: AnswerPlan, res: ServerResponse): void {
    const { size, destroys, headFirst } = answer;
    // HTTP/1.1 has trailers only behind chunks
    const trailers = answer.trailers && size > 0 && res.req.method !== 'HEAD';
    if (destroys === 'before the head') {
      res.destroy();
      return;
    }
    res.on('error', () => {});
    res.setHeader('x-key', key);
    if (answer.closes && res.req.httpVersionMajor === 1) res.setHeader('connection', 'close');
    if (trailers) res.setHeader('trailer', 'x-sum');
    if (headFirst === undefined) {
      this.#writeBody(key, answer, trailers, res);
      return;
    }
    res.writeHead(200);
    if (headFirst.flushed) res.flushHeaders();
    this.#loop.applicationTimer(headFirst.ms, () => this.#writeBody(key, answer, trailers, res));
  }

  #writeBody(key: number, answer: AnswerPlan, trailers: boolean, res: ServerResponse): void {
    const { size, writes, pause, obeysDrain, destroys } = answer;
    if (writes === 1 && destroys === 'no' && !trailers) {
      res.end(pattern(key, size));
      return;
    }
    const piece = Math.ceil(size / writes);
    let left = size;
    let part = 0;
    const next = (): void => {
      if (res.destroyed) return;
      if (left === 0) {
        if (trailers) res.addTrailers({ 'x-sum': String(size) });
        res.end();
        return;
      }
      if (destroys === 'in the body' && part > 0) {
        res.destroy();
        return;
      }
      const length = Math.min(left, piece);
      left -= length;
      part++;
      const more = res.write(pattern(key, length));
      if (!more && obeysDrain) res.once('drain', next);
      else if (pause > 0) this.#loop.applicationTimer(pause, next);
      else next();
    };
    next();
  }

  /** Its tunnel gives back what it is given. */
  upgrade(
    connection: LiveConnection,
    _event: 'upgrade' | 'connect',
    req: IncomingMessage,
    tunnel: Duplex,
    head: Buffer,
  ): boolean {
    const { key, answer } = this.#begin(connection, req);
    const { when, latency, destroys } = answer;
    const respond = (): void => {
      if (destroys === 'before the head') {
        tunnel.destroy();
        return;
      }
      tunnel.write(`HTTP/1.1 200 OK\r\nx-key: ${key}\r\n\r\n`);
      tunnel.unshift(head);
      if (destroys === 'in the body') tunnel.once('data', () => tunnel.destroy());
      tunnel.pipe(tunnel);
    };
    if (when === 'at once') respond();
    else if (when !== 'never') this.#loop.applicationTimer(latency, respond);
    return true;
  }

  /** A request has come: what is to become of it. */
  #begin(connection: LiveConnection, req: IncomingMessage): RequestPlan {
    const key = Number(/\d+$/.exec(req.url ?? ''));
    const plan = this.#plans.get(key);
    if (plan === undefined) throw new Error(`a request for ${req.url}, which nobody has made`);
    this.handled.set(key, (this.handled.get(key) ?? 0) + 1);
    if (connection.state === 'draining') this.duringDrain++;
    const { burns, drains } = plan.answer;
    if (burns > 0) this.#loop.burn(burns);
    if (drains) this.#drain(connection);
    return plan;
  }

  clientError(): boolean {
    return false;
  }

  listensFor(event: string): boolean {
    return event === 'connect';
  }
}
