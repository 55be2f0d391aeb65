/**
 * One client socket, plain or TLS, as the raw clients need it: exact bytes out, bytes in as they come, and a
 * record of how the connection ended. It never reconnects and never retries.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';

/**
 * How the connection stands, as this side has seen it:
 * `'fin'`: the peer's FIN was read; `'reset'`: ECONNRESET or EPIPE, `'fin-then-reset'`: that after its FIN;
 * `'failed'`: any other error; `'destroyed'`: closed from here before the peer said anything.
 */
export type Ending = 'open' | 'fin' | 'reset' | 'fin-then-reset' | 'failed' | 'destroyed';

export interface TransportOptions {
  readonly port: number;
  /** default 127.0.0.1 */
  readonly host?: string;
  /** default true; certificates are not verified: they are made at run time */
  readonly tls?: boolean;
  /** offered by ALPN, in order (default none) */
  readonly alpn?: readonly string[];
  /** default `localhost` */
  readonly servername?: string;
  /** ms until connecting and shaking hands is given up (default 10,000) */
  readonly connectTimeoutMs?: number;
}

export class Transport {
  readonly socket: Socket | TLSSocket;
  readonly #raw: Socket;
  #ending: Ending = 'open';
  #error: NodeJS.ErrnoException | undefined;
  /** bytes came in */
  onBytes: (bytes: Buffer) => void = () => {};
  /** `ending` changed, or the socket closed */
  onEnding: () => void = () => {};
  /** resolves when the socket is closed, both ways, however it came to that */
  readonly closed: Promise<Ending>;
  /** ms, `performance.now()`'s clock, when the FIN or the reset was read */
  endedAt: number | undefined;
  readonly localPort: number;

  private constructor(socket: Socket | TLSSocket, raw: Socket) {
    this.socket = socket;
    this.#raw = raw;
    this.localPort = raw.localPort ?? 0;
    socket.on('data', (bytes: Buffer) => this.onBytes(bytes));
    socket.on('end', () => this.#end('fin'));
    socket.on('error', (error: NodeJS.ErrnoException) => this.#fail(error));
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        if (this.#ending === 'open') this.#ending = 'destroyed';
        this.onEnding();
        resolve(this.#ending);
      });
    });
  }

  /** Connects, and shakes hands when TLS is wanted; rejects with the socket's error or after the timeout. */
  static connect(options: TransportOptions): Promise<Transport> {
    // The raw socket is made here, because a TLS socket can't reset (RST) what it stands on.
    const raw = connectTcp({
      port: options.port,
      host: options.host ?? '127.0.0.1',
      allowHalfOpen: true,
      noDelay: true,
    });
    const useTls = options.tls ?? true;
    const socket = useTls
      ? connectTls({
          socket: raw,
          rejectUnauthorized: false,
          servername: options.servername ?? 'localhost',
          ...(options.alpn && { ALPNProtocols: [...options.alpn] }),
        })
      : raw;
    return new Promise((resolve, reject) => {
      const timeoutMs = options.connectTimeoutMs ?? 10_000;
      const timer = setTimeout(() => fail(new Error(`no connection after ${timeoutMs} ms`)), timeoutMs);
      const fail = (error: Error): void => {
        clearTimeout(timer);
        socket.removeAllListeners();
        socket.on('error', () => {});
        socket.destroy();
        reject(error);
      };
      const closedEarly = (): void => fail(new Error('closed by the peer before the handshake was done'));
      socket.once('error', fail);
      socket.once('close', closedEarly);
      socket.once(useTls ? 'secureConnect' : 'connect', () => {
        clearTimeout(timer);
        socket.off('error', fail);
        socket.off('close', closedEarly);
        resolve(new Transport(socket, raw));
      });
    });
  }

  get ending(): Ending {
    return this.#ending;
  }

  /** the error behind `'reset'` and `'failed'` */
  get error(): NodeJS.ErrnoException | undefined {
    return this.#error;
  }

  /** whether a reset was seen, after a FIN or without one */
  get wasReset(): boolean {
    return this.#ending === 'reset' || this.#ending === 'fin-then-reset';
  }

  /** the protocol that ALPN chose; undefined without TLS or without agreement */
  get alpn(): string | undefined {
    return 'alpnProtocol' in this.socket && this.socket.alpnProtocol ? this.socket.alpnProtocol : undefined;
  }

  /** Writes these bytes and nothing else. False once the socket can't be written to any more. */
  write(bytes: Buffer | string): boolean {
    if (!this.socket.writable) return false;
    this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
    return true;
  }

  /** close_notify and FIN; reading goes on */
  end(): void {
    this.socket.end();
  }

  /** RST, at once */
  reset(): void {
    this.#raw.resetAndDestroy();
    this.socket.destroy();
  }

  /** Gives the socket up without ceremony (FIN, or RST when unread bytes wait in the kernel). */
  destroy(): void {
    this.socket.destroy();
  }

  #end(ending: 'fin'): void {
    if (this.#ending !== 'open') return;
    this.#ending = ending;
    this.endedAt = performance.now();
    this.onEnding();
  }

  #fail(error: NodeJS.ErrnoException): void {
    this.#error ??= error;
    const isReset = error.code === 'ECONNRESET' || error.code === 'EPIPE';
    if (this.#ending === 'fin' && isReset) this.#ending = 'fin-then-reset';
    else if (this.#ending === 'open') this.#ending = isReset ? 'reset' : 'failed';
    this.endedAt ??= performance.now();
    this.onEnding();
  }
}
