/**
 * A TCP balancer in front of the server: it passes bytes on as they are until it is told that the server isn't ready.
 * It counts the connections that the server's machine refused, and those that would have gone to another server:
 * a client behind it can't tell either from a reset.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export class Balancer {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** connections that the server's machine refused: nothing listened there */
  refused = 0;
  /** connections that came when the server was out of rotation */
  elsewhere = 0;
  routes = true;

  private constructor(server: Server, port: number) {
    this.#server = server;
    server.on('connection', (client) => this.#accept(client, port));
  }

  static async open(port: number): Promise<Balancer> {
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    const balancer = new Balancer(server, port);
    await new Promise<void>((resolve) => server.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 }, resolve));
    return balancer;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #accept(client: Socket, port: number): void {
    if (!this.routes) {
      this.elsewhere += 1;
      client.resetAndDestroy();
      return;
    }
    const upstream = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      this.#sockets.add(from);
      from.once('close', () => this.#sockets.delete(from));
      from.on('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'ECONNREFUSED') this.refused += 1;
        if (!to.destroyed) to.resetAndDestroy();
      });
      from.pipe(to);
    }
  }
}
