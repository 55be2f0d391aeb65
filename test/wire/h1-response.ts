/**
 * A strict parser of HTTP/1.1 responses (RFC 9112), independent of Node's and of anything under src: bytes in,
 * responses out. What a lenient parser would forgive is an error here.
 */

/** A response whose head has been read; `complete` once its body has ended as its framing says. */
export class H1Response {
  readonly version: '1.0' | '1.1';
  readonly status: number;
  readonly reason: string;
  /** name, value pairs in the order and the case in which they were sent */
  readonly headers: readonly (readonly [string, string])[];
  /** 1xx responses that came before this one */
  readonly informational: readonly H1Response[];
  readonly trailers: (readonly [string, string])[] = [];
  /** ms, `performance.now()`'s clock */
  readonly headAt: number;
  completeAt: number | undefined;
  readonly #chunks: Buffer[] = [];

  constructor(
    version: '1.0' | '1.1',
    status: number,
    reason: string,
    headers: readonly (readonly [string, string])[],
    informational: readonly H1Response[],
  ) {
    this.version = version;
    this.status = status;
    this.reason = reason;
    this.headers = headers;
    this.informational = informational;
    this.headAt = performance.now();
  }

  get complete(): boolean {
    return this.completeAt !== undefined;
  }

  get body(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  get text(): string {
    return this.body.toString('utf8');
  }

  /** The values of a field joined by `, `; undefined when it is absent. */
  header(name: string): string | undefined {
    const wanted = name.toLowerCase();
    const values = this.headers.filter(([field]) => field.toLowerCase() === wanted).map(([, value]) => value);
    return values.length === 0 ? undefined : values.join(', ');
  }

  /** Whether `Connection` holds this token, in any case. */
  connectionHas(token: string): boolean {
    const tokens = (this.header('connection') ?? '').toLowerCase().split(',');
    return tokens.some((each) => each.trim() === token.toLowerCase());
  }

  /** seconds, of `Keep-Alive: timeout=…` */
  get keepAliveTimeout(): number | undefined {
    const match = /(?:^|[,;\s])timeout=(\d+)/i.exec(this.header('keep-alive') ?? '');
    return match?.[1] === undefined ? undefined : Number(match[1]);
  }

  /** For the parser. */
  append(chunk: Buffer): void {
    this.#chunks.push(chunk);
  }
}

/** The peer sent something that is not an HTTP/1.1 response. */
export class H1ParseError extends Error {
  override readonly name = 'H1ParseError';
}

type Expecting =
  | 'status-line'
  | 'field-line'
  | 'body'
  | 'chunk-size'
  | 'chunk-data'
  | 'chunk-end'
  | 'trailer'
  | 'until-close'
  | 'tunnel';

const MAX_LINE = 256 * 1024;
const STATUS_LINE = /^HTTP\/(1\.[01]) ([1-9]\d\d) ([\t \x21-\x7e\x80-\xff]*)$/;
const FIELD_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*(.*?)[\t ]*$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what a field value must not hold
const FORBIDDEN_IN_VALUE = /[\x00-\x08\x0a-\x1f\x7f]/;
const CHUNK_SIZE = /^([0-9A-Fa-f]{1,12})(?:[\t ]*;.*)?$/;

export interface H1ParserEvents {
  /** a final head was read */
  head(response: H1Response): void;
  /** a final response ended as its framing says */
  complete(response: H1Response): void;
  informational(response: H1Response): void;
  /** bytes after 101 or a 2xx to CONNECT */
  tunnelled(bytes: Buffer): void;
}

export class H1ResponseParser {
  readonly #events: H1ParserEvents;
  readonly #methods: string[] = [];
  #expecting: Expecting = 'status-line';
  #rest: Buffer = Buffer.alloc(0);
  #statusLine: RegExpExecArray | undefined;
  #fields: [string, string][] = [];
  #informational: H1Response[] = [];
  #response: H1Response | undefined;
  #left = 0;

  constructor(events: H1ParserEvents) {
    this.#events = events;
  }

  /** The method of the next request: HEAD and CONNECT change how its response is framed. */
  expect(method: string): void {
    this.#methods.push(method);
  }

  /** the response whose head was read and whose body is still coming */
  get current(): H1Response | undefined {
    return this.#response;
  }

  /** whether part of a response, its head included, has been read */
  get inMidst(): boolean {
    return this.#expecting !== 'status-line' || this.#rest.length > 0;
  }

  /** @throws {H1ParseError} at the first octet that RFC 9112 doesn't allow */
  push(bytes: Buffer): void {
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    while (this.#step()) {
      // each step takes one line or one piece of a body
    }
  }

  /** The connection ended; returns whether that completed a response that is delimited by it. */
  end(): boolean {
    if (this.#expecting !== 'until-close') return false;
    this.#complete();
    return true;
  }

  #step(): boolean {
    switch (this.#expecting) {
      case 'status-line':
        return this.#readStatusLine();
      case 'field-line':
      case 'trailer':
        return this.#readFieldLine();
      case 'body':
      case 'chunk-data':
        return this.#readCounted();
      case 'chunk-size':
        return this.#readChunkSize();
      case 'chunk-end':
        return this.#readChunkEnd();
      case 'until-close':
        if (this.#rest.length > 0) this.#response?.append(this.#rest);
        this.#rest = Buffer.alloc(0);
        return false;
      case 'tunnel':
        if (this.#rest.length > 0) this.#events.tunnelled(this.#rest);
        this.#rest = Buffer.alloc(0);
        return false;
    }
  }

  #line(): string | undefined {
    const end = this.#rest.indexOf(0x0a);
    if (end === -1) {
      if (this.#rest.length > MAX_LINE) throw new H1ParseError(`no line end in ${MAX_LINE} bytes`);
      return undefined;
    }
    if (end === 0 || this.#rest[end - 1] !== 0x0d) {
      throw new H1ParseError(`bare LF after ${JSON.stringify(this.#rest.toString('latin1', 0, end))}`);
    }
    const line = this.#rest.toString('latin1', 0, end - 1);
    this.#rest = this.#rest.subarray(end + 1);
    return line;
  }

  #readStatusLine(): boolean {
    const line = this.#line();
    if (line === undefined) return false;
    const match = STATUS_LINE.exec(line);
    if (match === null) throw new H1ParseError(`not a status line: ${JSON.stringify(line.slice(0, 200))}`);
    this.#statusLine = match;
    this.#fields = [];
    this.#expecting = 'field-line';
    return true;
  }

  #readFieldLine(): boolean {
    const line = this.#line();
    if (line === undefined) return false;
    const isTrailer = this.#expecting === 'trailer';
    if (line === '') {
      if (isTrailer) this.#complete();
      else this.#headRead();
      return true;
    }
    const match = FIELD_LINE.exec(line);
    const [, name, value] = match ?? [];
    if (name === undefined || value === undefined || FORBIDDEN_IN_VALUE.test(value)) {
      throw new H1ParseError(`not a field line: ${JSON.stringify(line.slice(0, 200))}`);
    }
    if (isTrailer) this.#response?.trailers.push([name, value]);
    else this.#fields.push([name, value]);
    return true;
  }

  #headRead(): void {
    const [, version, code, reason] = this.#statusLine ?? [];
    const status = Number(code);
    const isFinal = status >= 200 || status === 101;
    const response = new H1Response(
      version === '1.0' ? '1.0' : '1.1',
      status,
      reason ?? '',
      this.#fields,
      isFinal ? this.#informational : [],
    );
    if (!isFinal) {
      this.#informational.push(response);
      this.#expecting = 'status-line';
      this.#events.informational(response);
      return;
    }
    this.#informational = [];
    this.#response = response;
    const method = this.#methods.shift() ?? 'GET';
    const framing = frame(response, method);
    this.#events.head(response);
    this.#left = framing.length;
    this.#expecting = framing.expecting;
    if (framing.expecting === 'tunnel' || (framing.expecting === 'body' && framing.length === 0)) {
      this.#complete();
      if (framing.expecting === 'tunnel') this.#expecting = 'tunnel';
    }
  }

  #readCounted(): boolean {
    if (this.#rest.length === 0) return false;
    const part = this.#rest.subarray(0, this.#left);
    this.#rest = this.#rest.subarray(part.length);
    this.#left -= part.length;
    this.#response?.append(part);
    if (this.#left > 0) return false;
    if (this.#expecting === 'body') this.#complete();
    else this.#expecting = 'chunk-end';
    return true;
  }

  #readChunkSize(): boolean {
    const line = this.#line();
    if (line === undefined) return false;
    const size = CHUNK_SIZE.exec(line)?.[1];
    if (size === undefined) throw new H1ParseError(`not a chunk size: ${JSON.stringify(line.slice(0, 200))}`);
    this.#left = Number.parseInt(size, 16);
    this.#expecting = this.#left === 0 ? 'trailer' : 'chunk-data';
    return true;
  }

  #readChunkEnd(): boolean {
    const line = this.#line();
    if (line === undefined) return false;
    if (line !== '') throw new H1ParseError(`chunk longer than its size: ${JSON.stringify(line.slice(0, 200))}`);
    this.#expecting = 'chunk-size';
    return true;
  }

  #complete(): void {
    const response = this.#response;
    this.#response = undefined;
    this.#expecting = 'status-line';
    if (response === undefined) return;
    response.completeAt = performance.now();
    this.#events.complete(response);
  }
}

/** How the message body is delimited (RFC 9112 §6.3). */
function frame(response: H1Response, method: string): { expecting: Expecting; length: number } {
  const codings = response.header('transfer-encoding');
  const lengths = response.headers
    .filter(([name]) => name.toLowerCase() === 'content-length')
    .map(([, value]) => value);
  if (codings !== undefined && lengths.length > 0) {
    throw new H1ParseError('both Transfer-Encoding and Content-Length');
  }
  if (new Set(lengths).size > 1) throw new H1ParseError(`several Content-Length: ${lengths.join(' and ')}`);
  if (lengths[0] !== undefined && !/^\d{1,15}$/.test(lengths[0])) {
    throw new H1ParseError(`Content-Length is ${JSON.stringify(lengths[0])}`);
  }
  if (response.status === 101) return { expecting: 'tunnel', length: 0 };
  if (method === 'CONNECT' && response.status < 300) return { expecting: 'tunnel', length: 0 };
  if (method === 'HEAD' || response.status === 204 || response.status === 304) return { expecting: 'body', length: 0 };
  if (codings !== undefined) {
    if (codings.toLowerCase() !== 'chunked') throw new H1ParseError(`Transfer-Encoding is ${codings}`);
    if (response.version === '1.0') throw new H1ParseError('Transfer-Encoding in an HTTP/1.0 response');
    return { expecting: 'chunk-size', length: 0 };
  }
  if (lengths[0] !== undefined) return { expecting: 'body', length: Number(lengths[0]) };
  return { expecting: 'until-close', length: 0 };
}
