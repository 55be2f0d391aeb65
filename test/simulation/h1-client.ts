/**
 * The client of a simulated HTTP/1.1 connection: sends the requests of its plan in order, pipelined or one after the
 * other, reads responses strictly, and closes as its plan says. It never retries.
 */
import { type H1Response, H1ResponseParser } from '../wire/h1-response.js';
import type { Random } from '../wire/random.js';
import { isPattern, pattern } from './bodies.js';
import type { Loop } from './loop.js';
import type { ConnectionPlan, RequestPlan } from './plan.js';
import { type ClientEvents, Tcp } from './tcp.js';

/** Pieces that a body is sent in are at most so long. */
const PIECE = 16_384;

/** A request as the client sent it. */
export interface ClientRequest {
  readonly plan: RequestPlan;
  /** how many bytes the client had sent when its head was complete */
  readonly headEnd: number;
  /** and its body; Infinity: it isn't */
  bodyEnd: number;
  status: number | undefined;
  /** Its response has been received in full. */
  answered: boolean;
  /** Its response said `Connection: close`. */
  close: boolean;
}

export class H1SimClient implements ClientEvents {
  readonly tcp: Tcp;
  readonly plan: ConnectionPlan;
  readonly requests: ClientRequest[] = [];
  /** What the server did that it must not do. */
  readonly violations: string[] = [];
  /** It has ended the connection itself, or broken it. */
  left = false;
  /** It has sent something that isn't a request. */
  broke = false;
  finReceived = false;
  wasReset = false;
  /** It closed its side before the server did. */
  closedBeforeFin = false;
  /** The most requests that were unanswered at once. */
  peakOpen = 0;
  readonly #loop: Loop;
  readonly #random: Random;
  readonly #trace: (line: string) => void;
  readonly #parser: H1ResponseParser;
  /** Requests whose time has come. */
  readonly #due: RequestPlan[] = [];
  #sending = false;
  /** Bytes that came out of the tunnel. */
  #givenBack = 0;
  /** Sends the body that waits for a 100 (Continue). */
  #goOn: (() => void) | undefined;
  #answered = 0;
  #closeSeenAt: number | undefined;
  #mute = false;
  /** It has said itself that it sends no further request. */
  #lastSent = false;
  #closed = false;

  constructor(loop: Loop, random: Random, plan: ConnectionPlan, port: number, trace: (line: string) => void) {
    this.#loop = loop;
    this.#random = random;
    this.plan = plan;
    this.#trace = trace;
    this.tcp = new Tcp(loop, random.fork(), plan.network, this, port);
    this.tcp.readDelay = plan.readDelay;
    this.#parser = new H1ResponseParser({
      head: (response) => this.#head(response),
      complete: (response) => this.#complete(response),
      informational: ({ status }) => {
        if (status !== 100) return;
        if (this.requests[this.#answered]?.plan.expects === 0) this.violations.push('a 100 that nobody asked for');
        this.#continue();
      },
      tunnelled: (bytes) => this.#tunnelled(bytes),
    });
  }

  start(): void {
    const { plan } = this;
    const loop = this.#loop;
    for (const { at, ms } of plan.readPauses) loop.at(at, () => this.tcp.pauseReading(at + ms));
    for (const request of plan.requests) {
      loop.at(Math.max(request.at, loop.time), () => {
        this.#due.push(request);
        this.#proceed();
      });
    }
    const { leaves } = plan;
    if (leaves !== undefined) {
      loop.at(leaves.at, () => {
        this.#trace(`client ${leaves.how}`);
        this.left = true;
        this.#mute = true;
        if (leaves.how === 'resets') this.tcp.reset();
        else if (leaves.how === 'closes') this.tcp.close();
        else this.tcp.finish();
      });
    }
  }

  /** It doesn't send another request for as long as one is unanswered. */
  get takesTurns(): boolean {
    return !this.plan.pipelines;
  }

  /** A response has said `Connection: close`. */
  get closeSeen(): boolean {
    return this.#closeSeenAt !== undefined;
  }

  #proceed(): void {
    while (!this.#sending && this.#due.length > 0) {
      if (this.#mute || this.#lastSent || this.#closed || this.finReceived || this.wasReset) return;
      if (this.#closeSeenAt !== undefined) {
        if (this.plan.afterGoaway === 'stops' || this.#loop.time > this.#closeSeenAt + this.plan.goesOnFor) return;
      }
      if (this.takesTurns && this.#answered < this.requests.length) return;
      const request = this.#due.shift();
      if (request !== undefined) this.#send(request);
    }
  }

  #send(plan: RequestPlan): void {
    const { tcp } = this;
    const { method, bodySize, tunnel, key, malformed, headPause, expects, closes } = plan;
    this.#trace(`client sends /${key}`);
    if (malformed) {
      this.broke = true;
      tcp.send(Buffer.from('GET\r\n\r\n'));
      this.#mute = true;
      return;
    }
    if (tunnel) {
      this.#connect(plan);
      return;
    }
    const chunked = bodySize > 0 && key % 3 === 0;
    let head = `${method} /${key} HTTP/1.1\r\nHost: simulation\r\n`;
    if (chunked) head += 'Transfer-Encoding: chunked\r\n';
    else if (method === 'POST') head += `Content-Length: ${bodySize}\r\n`;
    if (closes) {
      head += 'Connection: close\r\n';
      this.#lastSent = true;
    }
    if (expects > 0) head += 'Expect: 100-continue\r\n';
    this.#parser.expect(method);
    if (!tcp.sendHead(Buffer.from(`${head}\r\n`), headPause)) return;
    const hasBody = bodySize > 0;
    const request = this.#note(plan, hasBody);
    if (!hasBody) return;
    this.#sending = true;
    const goOn = (): void => this.#sendBody(request, bodySize, chunked);
    this.#goOn = goOn;
    if (expects === 0) this.#continue();
    else if (expects !== Infinity) this.#loop.after(expects, () => this.#goOn === goOn && this.#continue());
  }

  #note(plan: RequestPlan, hasBody: boolean): ClientRequest {
    const headEnd = this.tcp.clientSent;
    const bodyEnd = hasBody ? Infinity : headEnd;
    const request = { plan, headEnd, bodyEnd, status: undefined, answered: false, close: false };
    this.requests.push(request);
    this.peakOpen = Math.max(this.peakOpen, this.requests.length - this.#answered);
    return request;
  }

  /** Behind it there are no requests any more. */
  #connect(plan: RequestPlan): void {
    const target = `simulation:${plan.key}`;
    this.#lastSent = true;
    this.#parser.expect('CONNECT');
    if (this.tcp.send(Buffer.from(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`))) this.#note(plan, false);
  }

  /** Bytes that the tunnel gives back. */
  #tunnelled(bytes: Buffer): void {
    const last = this.requests.at(-1);
    if (last === undefined || !isPattern(last.plan.key, bytes)) {
      this.violations.push('the tunnel gives back what was not given to it');
      return;
    }
    this.#givenBack += bytes.length;
    if (this.#givenBack > last.plan.bodySize) this.violations.push('the tunnel gives back more than was given to it');
    if (this.#givenBack < last.plan.bodySize) return;
    last.answered = true;
    this.#loop.after(this.plan.closeDelay, () => this.#close());
  }

  /** The body may follow: the server has said so, or long nothing. */
  #continue(): void {
    const goOn = this.#goOn;
    this.#goOn = undefined;
    goOn?.();
  }

  #sendBody(request: ClientRequest, size: number, chunked: boolean): void {
    const { plan } = request;
    let left = size;
    const more = (): void => {
      do {
        if (this.#mute || this.#closed || this.wasReset) return;
        const room = Math.min(left, PIECE, plan.bodyStallsAt - (size - left));
        if (room <= 0) return;
        const length = 1 + this.#random.below(room);
        left -= length;
        const piece = pattern(plan.key, length);
        this.tcp.send(
          chunked ? Buffer.concat([Buffer.from(`${length.toString(16)}\r\n`), piece, Buffer.from('\r\n')]) : piece,
        );
      } while (left > 0 && plan.bodyPause === 0);
      if (left > 0) {
        this.#loop.after(plan.bodyPause, more);
        return;
      }
      if (chunked) this.tcp.send(Buffer.from('0\r\n\r\n'));
      if (!plan.tunnel) request.bodyEnd = this.tcp.clientSent;
      this.#sending = false;
      this.#proceed();
    };
    more();
  }

  // What comes

  bytes(bytes: Buffer): void {
    try {
      this.#parser.push(bytes);
    } catch (error) {
      this.violations.push(String(error));
      this.#mute = true;
    }
  }

  fin(): void {
    this.#trace('client reads FIN');
    this.finReceived = true;
    if (this.plan.closes === 'never') return;
    this.#loop.after(this.plan.closeDelay, () => this.#close());
  }

  reset(): void {
    this.#trace('client is reset');
    this.wasReset = true;
    this.#closed = true;
  }

  #close(): void {
    if (this.#closed) return;
    this.#trace('client closes');
    this.#closed = true;
    if (this.finReceived) {
      this.tcp.close();
    } else {
      this.closedBeforeFin = true;
      this.tcp.finish();
    }
  }

  #head(response: H1Response): void {
    const request = this.requests[this.#answered];
    const close = response.connectionHas('close');
    this.#trace(`client reads a head: ${response.status}${close ? ', close' : ''}`);
    if (this.closeSeen) this.violations.push('a response after the one that said close');
    if (close) this.#closeSeenAt = this.#loop.time;
    if (request === undefined) {
      if (!this.broke) this.violations.push(`status ${response.status} that answers nothing`);
      return;
    }
    request.status = response.status;
    request.close = close;
    const key = response.header('x-key');
    if (response.status === 200 && key !== String(request.plan.key)) {
      this.violations.push(`/${request.plan.key} got the answer for /${key}`);
    }
  }

  #complete(response: H1Response): void {
    const request = this.requests[this.#answered];
    if (request === undefined) return;
    this.#answered++;
    const { plan } = request;
    if (plan.tunnel && response.status === 200) {
      this.#sendBody(request, plan.bodySize, false);
      return;
    }
    request.answered = true;
    const { body } = response;
    const expected = plan.method === 'HEAD' ? 0 : plan.answer.size;
    if (response.status === 200 && body.length !== expected) {
      this.violations.push(`the answer for /${plan.key} has ${body.length} bytes instead of ${expected}`);
    }
    if (response.status === 200 && !isPattern(plan.key, body)) {
      this.violations.push(`the answer for /${plan.key} is not its own`);
    }
    if (request.close && this.plan.closes === 'idle' && this.plan.afterGoaway === 'stops') {
      this.#loop.after(this.plan.closeDelay, () => this.#close());
    }
    this.#proceed();
  }
}
