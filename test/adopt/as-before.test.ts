/**
 * What applications have Node's own servers do, and what these do with clients that stop in the middle: each case is
 * tried on a server that is left alone, too, and comes to the same.
 */
import { once } from 'node:events';
import { createServer as createHttpServer, IncomingMessage, type ServerOptions, ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { connect as connectTcp } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { expect } from 'chai';
import { type AdoptableServer, adopt } from '../../src/index.js';
import { eventually } from '../server/support.js';
import { certificate } from '../wire/certificate.js';

const SWITCH = 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n';
const UPGRADE = 'GET /up HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n';

/** What a client has seen. */
class Client {
  readonly socket: Socket;
  text = '';

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (bytes: Buffer) => {
      this.text += bytes.toString();
    });
    socket.on('error', () => {});
  }

  async says(what: RegExp): Promise<void> {
    await eventually(() => what.test(this.text), `${what} in ${JSON.stringify(this.text)}`, 3_000);
  }

  async closes(): Promise<void> {
    await eventually(() => this.socket.closed || this.socket.readableEnded, 'the end of the connection', 3_000);
  }
}

for (const adopted of [false, true]) {
  describe(`a server of Node's that ${adopted ? 'is adopted' : 'is left alone'}`, () => {
    const servers: AdoptableServer[] = [];
    const clients: Client[] = [];
    afterEach(async () => {
      for (const { socket } of clients.splice(0)) socket.destroy();
      for (const server of servers.splice(0)) if (server.listening) await new Promise((done) => server.close(done));
    });

    function made<S extends AdoptableServer>(server: S): S {
      if (adopted) adopt(server);
      return server;
    }

    async function talk(server: AdoptableServer, words: string, tls = false): Promise<Client> {
      if (!servers.includes(server)) {
        servers.push(server);
        server.listen(0, '127.0.0.1');
        await once(server, 'listening');
      }
      const { port } = server.address() as AddressInfo;
      const socket = tls
        ? connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false })
        : connectTcp({ port, host: '127.0.0.1', allowHalfOpen: true });
      const client = new Client(socket);
      clients.push(client);
      await once(socket, tls ? 'secureConnect' : 'connect');
      socket.write(words);
      return client;
    }

    const impatient: ServerOptions = {
      connectionsCheckingInterval: 100,
      keepAliveTimeout: 200,
      headersTimeout: 400,
      requestTimeout: 500,
    };

    it('closes a connection whose request was answered and never comes to its end', async () => {
      const server = made(createHttpServer(impatient, (_req, res) => res.writeHead(404).end()));
      const client = await talk(server, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx');
      await client.says(/ 404 /);
      await client.closes();
    });

    it('holds a request whose answer has begun to requestTimeout', async () => {
      const server = made(
        createHttpServer(impatient, (req, res) => {
          res.write('.');
          req.on('data', () => {}).on('error', () => {});
        }),
      );
      const client = await talk(server, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx');
      await client.says(/ 200 /);
      await client.closes();
    });

    it('passes a request on to another server', async () => {
      let front = 0;
      const inner = made(createHttpServer((req, res) => res.end(`inner ${req.url}`)));
      const outer = made(
        createHttpServer((req, res) => {
          if (++front < 5) inner.emit('request', req, res);
        }),
      );
      await (await talk(outer, 'GET /a HTTP/1.1\r\nHost: x\r\n\r\n')).says(/inner \/a/);
      expect(front).to.equal(1);
    });

    it('passes an upgrade on to another server', async () => {
      let front = 0;
      const inner = made(createHttpServer());
      const outer = made(createHttpServer());
      inner.on('upgrade', (_req: IncomingMessage, socket: Duplex) => socket.end(`${SWITCH}inner`));
      outer.on('upgrade', (...args: unknown[]) => {
        if (++front < 5) inner.emit('upgrade', ...args);
      });
      await (await talk(outer, UPGRADE)).says(/inner/);
      expect(front).to.equal(1);
    });

    it('emits a request that somebody has made up', async () => {
      const server = made(
        createHttpServer((req, res) => {
          if (req.url === '/sub') {
            res.statusCode = 204;
            res.emit('made-up');
            return;
          }
          const sub = new IncomingMessage(req.socket);
          Object.assign(sub, { method: 'GET', url: '/sub', headers: {} });
          server.emit(
            'request',
            sub,
            new ServerResponse(sub).on('made-up', () => res.end('sub was asked')),
          );
        }),
      );
      await (await talk(server, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n')).says(/sub was asked/);
    });

    it('has a listener for checkContinue that goes on with request', async () => {
      const server = made(createHttpServer((_req, res) => res.end('continued')));
      server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => {
        res.writeContinue();
        server.emit('request', req, res);
      });
      const words = 'POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n';
      const client = await talk(server, words);
      await client.says(/ 100 /);
      client.socket.write('x');
      await client.says(/continued/);
    });

    it('serves HTTP in a tunnel of its own', async () => {
      const server = made(createHttpServer((req, res) => res.end(`inner ${req.url}`)));
      server.on('connect', (_req: IncomingMessage, socket: Duplex) => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        server.emit('connection', socket);
      });
      const client = await talk(server, 'CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n');
      await client.says(/ 200 OK/);
      client.socket.write('GET /a HTTP/1.1\r\nHost: x\r\n\r\n');
      await client.says(/inner \/a/);
    });

    it('ends an upgraded TLS connection with its client', async () => {
      const server = made(createHttpsServer(await certificate()));
      let closed = false;
      server.on('upgrade', (_req: IncomingMessage, socket: Duplex) => {
        socket.write(SWITCH);
        socket
          .on('data', () => {})
          .on('close', () => {
            closed = true;
          });
      });
      const client = await talk(server, UPGRADE, true);
      await client.says(/ 101 /);
      client.socket.end();
      await eventually(() => closed, 'the socket to close', 3_000);
    });

    it('leaves upgraded connections to the application when it closes all', async () => {
      const server = made(createHttpServer((_req, res) => res.end('ok')));
      server.on('upgrade', (_req: IncomingMessage, socket: Duplex) => {
        socket.write(SWITCH);
        socket.pipe(socket);
      });
      const idle = await talk(server, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n');
      await idle.says(/ok/);
      const upgraded = await talk(server, UPGRADE);
      await upgraded.says(/ 101 /);
      server.closeAllConnections();
      await idle.closes();
      upgraded.socket.write('still there');
      await upgraded.says(/still there/);
    });
  });
}
