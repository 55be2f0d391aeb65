/**
 * A raw HTTP/1.1 client: it writes the bytes it is given, parses what comes back strictly and never retries,
 * reconnects or closes by itself.
 */
import { H1ParseError, type H1Response, H1ResponseParser } from './h1-response.js';
import { type Ending, Transport, type TransportOptions } from './transport.js';
import { Waiting } from './waiting.js';

export type { H1Response } from './h1-response.js';

/** One request in the words of RFC 9112; `host` is added when absent, `content-length` when there is a body. */
export interface H1Request {
  /** default GET */
  readonly method?: string;
  /** default / */
  readonly path?: string;
  /** default 1.1 */
  readonly version?: '1.0' | '1.1';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

/** The bytes of a request. */
export function encodeRequest(request: H1Request): Buffer {
  const { method = 'GET', path = '/', version = '1.1', headers = {}, body } = request;
  const names = new Set(Object.keys(headers).map((name) => name.toLowerCase()));
  let head = `${method} ${path} HTTP/${version}\r\n`;
  if (!names.has('host')) head += 'Host: localhost\r\n';
  for (const [name, value] of Object.entries(headers)) head += `${name}: ${value}\r\n`;
  const bytes = body === undefined ? undefined : Buffer.from(body);
  if (bytes !== undefined && !names.has('content-length') && !names.has('transfer-encoding')) {
    head += `Content-Length: ${bytes.length}\r\n`;
  }
  const headBytes = Buffer.from(`${head}\r\n`, 'latin1');
  return bytes === undefined ? headBytes : Buffer.concat([headBytes, bytes]);
}

export class H1Client {
  readonly transport: Transport;
  readonly #parser: H1ResponseParser;
  /** complete final responses, in order */
  readonly responses: H1Response[] = [];
  /** 1xx responses (not 101), in order */
  readonly informational: H1Response[] = [];
  /** requests sent by `request()` */
  requested = 0;
  /** final responses that began while no request of `request()` was waiting for one */
  unsolicited = 0;
  /** everything after a 101 or a 2xx to CONNECT */
  tunnelled: Buffer = Buffer.alloc(0);
  #headsRead = 0;
  #taken = 0;
  #parseError: H1ParseError | undefined;
  readonly #waiting = new Waiting();

  constructor(transport: Transport) {
    this.transport = transport;
    this.#parser = new H1ResponseParser({
      head: () => {
        this.#headsRead += 1;
        if (this.#headsRead > this.requested) this.unsolicited += 1;
      },
      complete: (response) => {
        this.responses.push(response);
      },
      informational: (response) => {
        this.informational.push(response);
      },
      tunnelled: (bytes) => {
        this.tunnelled = Buffer.concat([this.tunnelled, bytes]);
      },
    });
    transport.onBytes = (bytes) => this.#receive(bytes);
    transport.onEnding = () => {
      if (transport.ending === 'fin') this.#parser.end();
      this.look();
    };
  }

  /** Connects (TLS with ALPN `http/1.1` unless `tls: false`). */
  static async connect(options: TransportOptions): Promise<H1Client> {
    return new H1Client(await Transport.connect({ alpn: ['http/1.1'], ...options }));
  }

  get ending(): Ending {
    return this.transport.ending;
  }

  /** the response whose head was read and whose body is still coming */
  get current(): H1Response | undefined {
    return this.#parser.current;
  }

  /** set once the peer sent something that is no HTTP/1.1 response; nothing is parsed after it */
  get parseError(): H1ParseError | undefined {
    return this.#parseError;
  }

  /** Writes exactly these bytes (strings as latin1). `methods`: of the requests that begin in them, if not GET. */
  write(bytes: Buffer | string, methods: readonly string[] = []): boolean {
    for (const method of methods) this.#parser.expect(method);
    this.requested += methods.length;
    return this.transport.write(bytes);
  }

  /** Writes one request in one piece. False once the socket can't be written to. */
  request(request: H1Request = {}): boolean {
    return this.write(encodeRequest(request), [request.method ?? 'GET']);
  }

  /** The next complete response, in order; rejects when the connection ends, or nothing comes, before it. */
  async response(timeoutMs = 5_000): Promise<H1Response> {
    const index = this.#taken;
    this.#taken += 1;
    await this.until(() => this.responses.length > index || this.#isOver(), `response ${index + 1}`, timeoutMs);
    const response = this.responses[index];
    if (response === undefined) {
      throw new Error(`connection ended (${this.#endingInWords()}) before response ${index + 1}`);
    }
    return response;
  }

  /** The head of the response that follows those that are complete; its body may still be coming. */
  async head(timeoutMs = 5_000): Promise<H1Response> {
    const index = this.#taken;
    const found = (): H1Response | undefined =>
      this.responses[index] ?? (this.responses.length === index ? this.current : undefined);
    await this.until(() => found() !== undefined || this.#isOver(), `head ${index + 1}`, timeoutMs);
    const response = found();
    if (response === undefined) throw new Error(`connection ended (${this.#endingInWords()}) before head ${index + 1}`);
    return response;
  }

  /** Sends one request and waits for its response. */
  fetch(request: H1Request = {}): Promise<H1Response> {
    this.request(request);
    return this.response();
  }

  /** Waits until something holds; looked at again whenever bytes or the end of the connection come in. */
  async until(holds: () => boolean, what = 'condition', timeoutMs = 5_000): Promise<void> {
    if (await this.wait(holds, timeoutMs)) return;
    throw new Error(`no ${what} after ${timeoutMs} ms (${this.responses.length} responses, ${this.#endingInWords()})`);
  }

  /** As `until`, but says whether it holds instead of throwing. */
  wait(holds: () => boolean, timeoutMs: number): Promise<boolean> {
    return this.#waiting.wait(holds, timeoutMs);
  }

  /** Has everyone who waits look again, because something outside of the connection changed. */
  look(): void {
    this.#waiting.look();
  }

  /** Waits for the peer's FIN or a reset and says which. */
  async ended(timeoutMs = 5_000): Promise<Ending> {
    await this.until(() => this.ending !== 'open', 'end of the connection', timeoutMs);
    return this.ending;
  }

  /** FIN; reading goes on */
  end(): void {
    this.transport.end();
  }

  /** RST */
  reset(): void {
    this.transport.reset();
  }

  destroy(): void {
    this.transport.destroy();
  }

  #receive(bytes: Buffer): void {
    if (this.#parseError !== undefined) return;
    try {
      this.#parser.push(bytes);
    } catch (error) {
      if (!(error instanceof H1ParseError)) throw error;
      this.#parseError = error;
    }
    this.look();
  }

  #isOver(): boolean {
    return this.ending !== 'open' || this.#parseError !== undefined;
  }

  #endingInWords(): string {
    return this.#parseError?.message ?? this.transport.error?.code ?? this.ending;
  }
}
