/**
 * A TCP relay on loopback that makes the network between client and server: it delays bytes, half-closes and
 * resets alike, each way, in order, and can limit the rate. It knows nothing of TLS or HTTP.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** `'to-server'` is what the client sent, `'to-client'` what the server sent. */
export type Direction = 'to-server' | 'to-client';

/** Something that reached the relay (`'in'`) or left it after the delay (`'out'`). */
export interface RelayEvent {
  /** ms, on `performance.now()`'s clock */
  readonly at: number;
  /** number of the connection, from 1 in order of acceptance */
  readonly connection: number;
  readonly direction: Direction;
  readonly side: 'in' | 'out';
  readonly kind: 'data' | 'fin' | 'reset';
  /** of `'data'`; 0 otherwise */
  readonly bytes: number;
}

export interface RelayOptions {
  /** where to connect to for each client */
  readonly port: number;
  /** default 127.0.0.1 */
  readonly host?: string;
  /** one way, ms; the round trip is twice this (default 0: passed on at once) */
  readonly delayMs?: number;
  /** each way, per connection (default: no limit) */
  readonly bytesPerSecond?: number;
  /** bytes that one direction may hold before the relay stops reading (default 16 MiB) */
  readonly bufferBytes?: number;
  readonly onEvent?: (event: RelayEvent) => void;
}

/** A rate-limited direction passes bytes in slices of this long, so that the rate is even. */
const SLICE_MS = 5;

interface Item {
  readonly due: number;
  readonly kind: 'data' | 'fin' | 'reset';
  readonly chunk: Buffer | undefined;
}

/** One connection through the relay. */
export class RelayConnection {
  readonly id: number;
  /** the client's own port: `socket.localPort` of the client */
  readonly clientPort: number;
  readonly toServer: Pipe;
  readonly toClient: Pipe;
  readonly #upstream: Socket;
  readonly #client: Socket;

  constructor(relay: Relay, id: number, client: Socket, upstream: Socket) {
    this.id = id;
    this.clientPort = client.remotePort ?? 0;
    this.#client = client;
    this.#upstream = upstream;
    this.toServer = new Pipe(relay, id, 'to-server', client, upstream);
    this.toClient = new Pipe(relay, id, 'to-client', upstream, client);
    let closed = 0;
    const onClose = (): void => {
      closed += 1;
      if (closed === 2) relay.forget(this);
    };
    client.once('close', onClose);
    upstream.once('close', onClose);
  }

  /** the port that the server sees as `remotePort`; 0 until the relay is connected to it */
  get serverSidePort(): number {
    return this.#upstream.localPort ?? 0;
  }

  /** Resets both sides at once, with no delay. */
  destroy(): void {
    reset(this.#client);
    reset(this.#upstream);
  }
}

/** One direction of one connection: what `from` sent waits here until it is due, then goes to `to`. */
class Pipe {
  readonly #relay: Relay;
  readonly #connection: number;
  readonly #direction: Direction;
  readonly #from: Socket;
  readonly #to: Socket;
  #queue: Item[] = [];
  #queuedBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #lastDue = 0;
  #rateBusyUntil = 0;
  #state: 'flowing' | 'fin-passed' | 'reset-passed' = 'flowing';
  #resetQueued = false;

  constructor(relay: Relay, connection: number, direction: Direction, from: Socket, to: Socket) {
    this.#relay = relay;
    this.#connection = connection;
    this.#direction = direction;
    this.#from = from;
    this.#to = to;
    from.on('data', (chunk) => this.#received('data', chunk));
    from.on('end', () => this.#received('fin', undefined));
    from.on('error', () => this.resetSeen());
    to.on('drain', () => this.#read());
  }

  /** `from` was reset (or a write to it found it reset): the other side learns it after what is already queued. */
  resetSeen(): void {
    if (this.#resetQueued) return;
    this.#resetQueued = true;
    this.#received('reset', undefined);
  }

  /** True once the source's FIN has been passed on. */
  get finPassed(): boolean {
    return this.#state !== 'flowing';
  }

  /** Whether the receiver's kernel has all that reached the relay. */
  get idle(): boolean {
    if (this.#to.destroyed) return true;
    return this.#queue.length === 0 && !this.#to.connecting && this.#to.writableLength === 0;
  }

  #received(kind: Item['kind'], chunk: Buffer | undefined): void {
    const relay = this.#relay;
    this.#report('in', kind, chunk?.length ?? 0);
    const rate = relay.bytesPerSecond;
    if (rate !== undefined && chunk !== undefined) {
      const slice = Math.max(1, Math.floor((rate * SLICE_MS) / 1000));
      for (let offset = 0; offset < chunk.length; offset += slice) {
        const part = chunk.subarray(offset, offset + slice);
        this.#rateBusyUntil = Math.max(this.#rateBusyUntil, performance.now()) + (part.length / rate) * 1000;
        this.#enqueue(this.#rateBusyUntil + relay.delayMs, kind, part);
      }
    } else {
      this.#enqueue(performance.now() + relay.delayMs, kind, chunk);
    }
    if (this.#queuedBytes > relay.bufferBytes) this.#from.pause();
  }

  #enqueue(due: number, kind: Item['kind'], chunk: Buffer | undefined): void {
    // A delay that was lowered at run time must not let later bytes overtake earlier ones.
    this.#lastDue = Math.max(this.#lastDue, due);
    const item: Item = { due: this.#lastDue, kind, chunk };
    if (this.#queue.length === 0 && item.due <= performance.now()) {
      this.#pass(item);
      return;
    }
    this.#queue.push(item);
    this.#queuedBytes += chunk?.length ?? 0;
    if (this.#timer === undefined) this.#arm();
  }

  #arm(): void {
    const first = this.#queue[0];
    if (first === undefined) return;
    // A timer may fire early by as much as the loop's clock is stale, hence the second look in #passDue.
    this.#timer = setTimeout(() => this.#passDue(), Math.max(1, Math.ceil(first.due - performance.now())));
  }

  #passDue(): void {
    this.#timer = undefined;
    const now = performance.now();
    let passed = 0;
    for (const item of this.#queue) {
      if (item.due > now) break;
      passed += 1;
      this.#queuedBytes -= item.chunk?.length ?? 0;
      this.#pass(item);
    }
    this.#queue = this.#queue.slice(passed);
    this.#read();
    this.#arm();
  }

  #read(): void {
    if (this.#queuedBytes <= this.#relay.bufferBytes && !this.#to.writableNeedDrain) this.#from.resume();
  }

  #pass(item: Item): void {
    // Nobody is left to see what comes for a socket that has closed.
    if (this.#state === 'reset-passed' || this.#to.destroyed) return;
    this.#report('out', item.kind, item.chunk?.length ?? 0);
    if (item.kind === 'reset') {
      this.#state = 'reset-passed';
      reset(this.#to);
    } else if (item.kind === 'fin') {
      this.#state = 'fin-passed';
      this.#to.end();
    } else if (this.#to.writable && item.chunk !== undefined) {
      if (!this.#to.write(item.chunk)) this.#from.pause();
      if (this.#relay.hasEnded(this.#connection, this.#direction)) this.#probe();
    }
  }

  /**
   * `to` has already sent its FIN, so nobody reads it any more, and a reset that answers these bytes would only be
   * found by the next write. A write of nothing finds it (EPIPE), and the relay passes it on as a network would.
   */
  #probe(): void {
    this.#to.write('');
  }

  #report(side: 'in' | 'out', kind: RelayEvent['kind'], bytes: number): void {
    this.#relay.report({
      at: performance.now(),
      connection: this.#connection,
      direction: this.#direction,
      side,
      kind,
      bytes,
    });
  }
}

/** The listening relay; one upstream connection per client. */
export class Relay {
  readonly #server: Server;
  readonly #connections = new Map<number, RelayConnection>();
  readonly #byClientPort = new Map<number, RelayConnection>();
  readonly #onEvent: ((event: RelayEvent) => void) | undefined;
  #accepted = 0;
  /** one way, ms; a change holds for what arrives from now on */
  delayMs: number;
  bytesPerSecond: number | undefined;
  readonly bufferBytes: number;
  /** resets passed on so far, by the direction they travelled */
  readonly resets: Record<Direction, number> = { 'to-server': 0, 'to-client': 0 };
  /** client ports of the connections whose client was sent a reset */
  readonly resetClientPorts = new Set<number>();

  private constructor(server: Server, options: RelayOptions) {
    this.#server = server;
    this.#onEvent = options.onEvent;
    this.delayMs = options.delayMs ?? 0;
    this.bytesPerSecond = options.bytesPerSecond;
    this.bufferBytes = options.bufferBytes ?? 16 * 1024 * 1024;
    const host = options.host ?? '127.0.0.1';
    server.on('connection', (client) => this.#accept(client, options.port, host));
  }

  /** Listens on a free loopback port and connects each client to `options.port`. */
  static async open(options: RelayOptions): Promise<Relay> {
    const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true });
    const relay = new Relay(server, options);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, resolve);
    });
    return relay;
  }

  /** where clients connect to */
  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** open connections, oldest first */
  get connections(): IterableIterator<RelayConnection> {
    return this.#connections.values();
  }

  /** The connection of the client whose own port is `clientPort`. */
  byClientPort(clientPort: number): RelayConnection | undefined {
    return this.#byClientPort.get(clientPort);
  }

  /** Whether all that reached the relay from its clients has left it: the server's kernel has it. */
  get passedOn(): boolean {
    return [...this.#connections.values()].every(({ toServer }) => toServer.idle);
  }

  /** Stops listening and resets whatever is still open. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of this.#connections.values()) connection.destroy();
    await closed;
  }

  /** For the pipes: counts and hands an event on. */
  report(event: RelayEvent): void {
    if (event.kind === 'reset' && event.side === 'out') {
      this.resets[event.direction] += 1;
      const port = this.#connections.get(event.connection)?.clientPort;
      if (event.direction === 'to-client' && port !== undefined) this.resetClientPorts.add(port);
    }
    this.#onEvent?.(event);
  }

  /** For the pipes: whether the receiver of `direction` has itself sent a FIN that was passed on. */
  hasEnded(connection: number, direction: Direction): boolean {
    const both = this.#connections.get(connection);
    return (direction === 'to-server' ? both?.toClient.finPassed : both?.toServer.finPassed) ?? false;
  }

  /** For the connections: both sides have closed. */
  forget(connection: RelayConnection): void {
    this.#connections.delete(connection.id);
    if (this.#byClientPort.get(connection.clientPort) === connection) this.#byClientPort.delete(connection.clientPort);
  }

  #accept(client: Socket, port: number, host: string): void {
    this.#accepted += 1;
    const upstream = connect({ port, host, allowHalfOpen: true, noDelay: true });
    const connection = new RelayConnection(this, this.#accepted, client, upstream);
    this.#connections.set(connection.id, connection);
    this.#byClientPort.set(connection.clientPort, connection);
    client.resume();
  }
}

function reset(socket: Socket): void {
  if (socket.destroyed) return;
  // While a FIN is about to go out libuv refuses to reset, and Node would never close the socket.
  if (socket.writableEnded && !socket.writableFinished && socket.writableLength === 0) socket.destroy();
  else socket.resetAndDestroy();
}
