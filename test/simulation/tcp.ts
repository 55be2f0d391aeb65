/**
 * One TCP connection of the simulated world, between the server's socket and a client that is called back as bytes
 * arrive. Kernel rules that matter to a drain are kept: closing with unread bytes resets, bytes for a closed socket are
 * answered with a reset, and a reset destroys what its receiver has not read.
 */
import type { Random } from '../wire/random.js';
import type { Loop } from './loop.js';
import { type Network, Pipe } from './pipe.js';
import type { RequestPlan } from './plan.js';
import { SimSocket } from './socket.js';

/** What the client's end is told; all of it happens in the world, none of it in the server. */
export interface ClientEvents {
  bytes(bytes: Buffer): void;
  fin(): void;
  reset(): void;
}

export class Tcp {
  readonly loop: Loop;
  readonly network: Network;
  readonly socket: SimSocket;
  readonly toClient: Pipe;
  readonly toServer: Pipe;
  readonly #random: Random;
  readonly #client: ClientEvents;

  /** A reset has arrived at the server's kernel. */
  resetAtServer = false;
  #finAtServer = false;
  #serverHolds: Buffer[] = [];
  #serverClosed = false;
  #serverFinished = false;
  #serverReset = false;

  /** A reset has arrived at the client. */
  resetAtClient = false;
  #clientQueue: Buffer[] = [];
  /** What the client's program sends once it goes on, if it has stopped in the middle of something. */
  #clientKeeps: Buffer[] | undefined;
  #clientHolds: Buffer[] = [];
  #finAtClient = false;
  #clientFinishing = false;
  #clientFinished = false;
  #clientClosed = false;
  #clientReset = false;
  #clientPausedUntil = 0;
  #clientReadAt = Infinity;
  /** ms after their arrival at which the client reads */
  readDelay = 0;
  /** Bytes that the client has read. */
  clientRead = 0;
  /** Bytes that the client has given to its kernel, and the number of those that the server has read. */
  clientSent = 0;
  serverRead = 0;

  constructor(loop: Loop, random: Random, network: Network, client: ClientEvents, port: number) {
    this.loop = loop;
    this.network = network;
    this.#random = random;
    this.#client = client;
    this.toClient = new Pipe(loop, random, network, network.towardsClient, (bytes) => this.#atClient(bytes));
    this.toServer = new Pipe(loop, random, network, network.towardsServer, (bytes) => this.#atServer(bytes));
    this.socket = new SimSocket(this, port);
  }

  // The server's kernel

  #atServer(bytes: Buffer): void {
    if (this.resetAtServer) return;
    if (this.#serverClosed) {
      // RFC 9293 §3.10.7.1: data for a socket that is gone
      this.serverResets();
      return;
    }
    this.#serverHolds.push(bytes);
    this.loop.mark(this.socket);
  }

  /** There is something to be read: bytes. */
  get readable(): boolean {
    return this.#serverHolds.length > 0;
  }

  /**
   * One read: what came is sometimes read in one piece, sometimes as it came.
   *
   * @param whole all of it, as a kernel gives it
   */
  serverReads(whole: boolean): Buffer | undefined {
    const holds = this.#serverHolds;
    let bytes = holds.shift();
    if (bytes === undefined) return undefined;
    if (holds.length > 0 && (whole || this.#random.chance(0.7))) {
      bytes = Buffer.concat([bytes, ...holds]);
      holds.length = 0;
    }
    this.serverRead += bytes.length;
    this.toServer.read(bytes.length);
    return bytes;
  }

  /** The client's FIN, once. */
  takeFin(): boolean {
    if (!this.#finAtServer) return false;
    this.#finAtServer = false;
    return true;
  }

  /** shutdown(2): everything written is with the kernel. */
  serverFinishes(): void {
    if (this.#serverFinished || this.resetAtServer) return;
    this.#serverFinished = true;
    this.toClient.fin(() => this.#finArrives());
  }

  /** close(2) */
  serverCloses(): void {
    if (this.#serverClosed) return;
    this.#serverClosed = true;
    if (this.resetAtServer || this.#serverReset) return;
    if (this.#serverHolds.length > 0) this.serverResets();
    else this.serverFinishes();
  }

  serverResets(): void {
    if (this.#serverReset || this.resetAtServer) return;
    this.#serverReset = true;
    this.toClient.reset(() => this.#resetArrives());
  }

  // The client's kernel

  #atClient(bytes: Buffer): void {
    if (this.resetAtClient) return;
    if (this.#clientClosed) {
      this.reset();
      return;
    }
    this.#clientHolds.push(bytes);
    this.#clientReads();
  }

  #finArrives(): void {
    if (this.resetAtClient || this.#clientClosed) return;
    this.#finAtClient = true;
    this.#clientReads();
  }

  #resetArrives(): void {
    if (this.resetAtClient) return;
    this.resetAtClient = true;
    this.#clientHolds = [];
    this.#clientQueue = [];
    if (!this.#clientClosed) this.#client.reset();
  }

  #clientReads(): void {
    const { time } = this.loop;
    const at = Math.max(time + this.readDelay, this.#clientPausedUntil);
    if (at <= time) this.#clientReadsNow();
    else if (at < this.#clientReadAt) {
      this.#clientReadAt = at;
      this.loop.at(at, () => {
        this.#clientReadAt = Infinity;
        this.#clientReadsNow();
      });
    }
  }

  #clientReadsNow(): void {
    if (this.resetAtClient || this.#clientClosed) return;
    if (this.loop.time < this.#clientPausedUntil) {
      this.#clientReads();
      return;
    }
    const holds = this.#clientHolds;
    this.#clientHolds = [];
    let length = 0;
    for (const bytes of holds) length += bytes.length;
    if (length > 0) this.toClient.read(length);
    this.clientRead += length;
    for (const bytes of holds) if (!this.#clientClosed) this.#client.bytes(bytes);
    if (this.#finAtClient && !this.#clientClosed) {
      this.#finAtClient = false;
      this.#client.fin();
    }
  }

  // What the client does

  /** The client reads nothing until then. */
  pauseReading(until: number): void {
    this.#clientPausedUntil = Math.max(this.#clientPausedUntil, until);
  }

  /** False: the client's side is closed or reset, and the bytes went nowhere. */
  send(bytes: Buffer): boolean {
    if (this.#clientClosed || this.#clientFinishing || this.resetAtClient) return false;
    this.clientSent += bytes.length;
    (this.#clientKeeps ?? this.#clientQueue).push(bytes);
    this.#flush();
    return true;
  }

  /** Sends a part of the bytes, if the client is to halt behind it, and the rest, like all that is sent meanwhile, `ms` later. */
  sendHead(bytes: Buffer, halts: RequestPlan['headPause']): boolean {
    if (halts === undefined || this.#clientKeeps !== undefined) return this.send(bytes);
    const { part, ms } = halts;
    const first = Math.ceil(part * bytes.length);
    if (!this.send(bytes.subarray(0, first))) return false;
    this.#clientKeeps = [];
    this.send(bytes.subarray(first));
    if (ms !== Infinity) {
      this.loop.after(ms, () => {
        const kept = this.#clientKeeps ?? [];
        this.#clientKeeps = undefined;
        if (this.#clientReset || this.resetAtClient) return;
        this.#clientQueue.push(...kept);
        this.#flush();
      });
    }
    return true;
  }

  #flush(): void {
    const queue = this.#clientQueue;
    for (let first = queue[0]; first !== undefined; first = queue[0]) {
      const taken = this.toServer.send(first);
      if (taken < first.length) {
        queue[0] = first.subarray(taken);
        this.toServer.wait(() => this.#flush());
        return;
      }
      queue.shift();
    }
    if (!this.#clientFinishing || this.#clientFinished || this.#clientKeeps !== undefined) return;
    this.#clientFinished = true;
    this.toServer.fin(() => {
      if (this.#serverClosed || this.resetAtServer) return;
      this.#finAtServer = true;
      this.loop.mark(this.socket);
    });
  }

  /** Half-closes. */
  finish(): void {
    if (this.#clientFinishing || this.resetAtClient || this.#clientClosed) return;
    this.#clientFinishing = true;
    this.#flush();
  }

  /** close(2): bytes that come later are answered with a reset. */
  close(): void {
    if (this.#clientClosed) return;
    if (this.#clientHolds.length > 0) {
      this.reset();
      return;
    }
    this.finish();
    this.#clientClosed = true;
  }

  reset(): void {
    if (this.#clientReset || this.resetAtClient) return;
    this.#clientReset = true;
    this.#clientClosed = true;
    this.#clientQueue = [];
    this.#clientHolds = [];
    this.toServer.reset(() => {
      if (this.resetAtServer || this.#serverClosed) return;
      this.resetAtServer = true;
      if (this.network.resetDropsUnread) this.#serverHolds = [];
      this.loop.mark(this.socket);
    });
  }
}
