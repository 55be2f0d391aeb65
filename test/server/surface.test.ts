import { once } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, Server as NetServer, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { expect } from 'chai';
import { WebSocket, WebSocketServer } from 'ws';
import { connectionOf, createServer, gracefulShutdown } from '../../src/index.js';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { MAX_STREAM_ID } from '../wire/h2-frames.js';
import { eventually, PORTS, Servers, thrown } from './support.js';

describe('what is written for http.Server', () => {
  const servers = new Servers();

  it('finds a net.Server: address, listening, ref, unref, getConnections', async () => {
    const { server, port } = await servers.start('cleartext');
    expect(server).to.be.instanceOf(NetServer);
    expect(server.listening).to.equal(true);
    expect((server.address() as AddressInfo).port).to.equal(port);
    expect(server.unref().ref()).to.equal(server);
    const client = await H1Client.connect({ port, tls: false });
    await eventually(() => server.connections.size === 1, 'one connection');
    const count = await new Promise((resolve) => server.getConnections((_error, n) => resolve(n)));
    expect(count).to.equal(1);
    client.destroy();
  });

  it('gets an error event for a port in use', async () => {
    const { port } = await servers.start('cleartext');
    const second = createServer({ cleartext: true });
    second.listen(port, '127.0.0.1');
    const [error] = (await once(second, 'error')) as [Error & { code?: string }];
    expect(error.code).to.equal('EADDRINUSE');
    expect(second.listening).to.equal(false);
  });

  for (const kind of PORTS) {
    const tls = kind === 'TLS';

    describe(kind, () => {
      it('hears of connections and handshakes', async () => {
        const { server, port } = await servers.start(kind);
        const connected = once(server, 'connection');
        const secured = once(server, 'secureConnection');
        const client = await H1Client.connect({ port, tls });
        const [socket] = (await connected) as [Socket];
        expect(socket.remotePort).to.equal(client.transport.localPort);
        if (tls) {
          const [secure] = (await secured) as [TLSSocket];
          expect(secure.encrypted).to.equal(true);
          expect(connectionOf(secure)).to.equal(connectionOf(socket));
        }
        client.destroy();
      });

      it('may replace the request listeners while the server runs', async () => {
        const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('first'));
        const h1 = await H1Client.connect({ port, tls });
        const h2 = await H2Client.connect({ port, tls });
        expect((await h1.fetch()).text).to.equal('first');
        server.removeAllListeners('request');
        server.on('request', (_req: IncomingMessage, res: ServerResponse) => res.end('second'));
        for (const client of [h1, h2]) expect((await client.fetch()).text).to.equal('second');
        server.removeAllListeners('request');
        expect((await h1.fetch()).status).to.equal(404);
        server.once('request', (_req: IncomingMessage, res: ServerResponse) => res.end('once'));
        expect((await h2.fetch()).text).to.equal('once');
        expect((await h2.fetch()).status).to.equal(404);
        h1.destroy();
        h2.destroy();
      });

      it('lets ws attach', async () => {
        const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('plain'));
        const sockets = new WebSocketServer({ server });
        sockets.on('connection', (socket) => socket.on('message', (text) => socket.send(`echo ${text}`)));
        const client = new WebSocket(`${tls ? 'wss' : 'ws'}://127.0.0.1:${port}`, { rejectUnauthorized: false });
        await once(client, 'open');
        client.send('hello');
        const [answer] = (await once(client, 'message')) as [Buffer];
        expect(String(answer)).to.equal('echo hello');
        const plain = await H1Client.connect({ port, tls });
        expect((await plain.fetch()).text).to.equal('plain');
        plain.destroy();
        client.close();
        await once(client, 'close');
        await eventually(() => server.connections.size === 0, 'no connection');
        sockets.close();
      });

      it('can end a WebSocket when its connection is drained', async () => {
        const { server, port } = await servers.start(kind);
        const sockets = new WebSocketServer({ server });
        sockets.on('connection', (socket, req) => {
          connectionOf(req)?.drainSignal.addEventListener('abort', () => socket.close(1001));
        });
        const client = new WebSocket(`${tls ? 'wss' : 'ws'}://127.0.0.1:${port}`, { rejectUnauthorized: false });
        await once(client, 'open');
        const [connection] = server.connections;
        if (connection === undefined) throw new Error('no connection');
        const drained = gracefulShutdown(connection);
        const [code] = (await once(client, 'close')) as [number];
        expect(code).to.equal(1001);
        expect(await drained).to.include({ outcome: 'drained', aborted: 0 });
        sockets.close();
      });

      describe('whose listeners change what Node does', () => {
        const upgrade = { Connection: 'Upgrade', Upgrade: 'echo' };

        it('upgrade: without a listener it is an ordinary request, also after the listener is gone', async () => {
          const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('ordinary'));
          const ordinary = async (): Promise<void> => {
            const client = await H1Client.connect({ port, tls });
            expect((await client.fetch({ headers: upgrade })).text).to.equal('ordinary');
            expect((await client.fetch()).text).to.equal('ordinary');
            client.destroy();
          };
          await ordinary();
          const listener = (_req: IncomingMessage, socket: Socket, head: Buffer): void => {
            socket.end(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n${head}`);
          };
          server.on('upgrade', listener);
          const client = await H1Client.connect({ port, tls });
          client.request({ headers: upgrade });
          client.transport.write('early');
          expect(await client.ended()).to.equal('fin');
          expect(client.parseError).to.equal(undefined);
          client.destroy();
          server.off('upgrade', listener);
          await ordinary();
        });

        for (const [event, asked] of [
          ['upgrade', { path: '/', headers: upgrade }],
          ['connect', { method: 'CONNECT', path: 'example.com:80' }],
        ] as const) {
          it(`${event}: a listener that throws loses its socket, not the process`, async () => {
            const { server, port } = await servers.start(kind);
            server.on(event, () => {
              throw new Error('mine');
            });
            const failed = once(server, 'handlerError');
            const client = await H1Client.connect({ port, tls });
            client.request(asked);
            const [error, req, res] = (await failed) as [Error, IncomingMessage, unknown];
            expect([error.message, req.url, res]).to.deep.equal(['mine', asked.path, undefined]);
            await client.ended();
            client.destroy();
          });
        }

        it('connect: without a listener it is refused, with one the socket is handed over', async () => {
          const { server, port } = await servers.start(kind);
          const refused = await H1Client.connect({ port, tls });
          refused.request({ method: 'CONNECT', path: 'example.com:80' });
          expect((await refused.response()).status).to.be.within(400, 599);
          refused.destroy();
          server.on('connect', (_req, socket: Socket) => socket.end('HTTP/1.1 200 OK\r\n\r\ntunnelled'));
          const client = await H1Client.connect({ port, tls });
          client.request({ method: 'CONNECT', path: 'example.com:80' });
          await client.until(() => String(client.tunnelled) === 'tunnelled', 'the tunnel');
          client.destroy();
        });

        it('checkContinue: without a listener 100 is sent at once, with one it is the listener’s', async () => {
          const read = (req: IncomingMessage, res: ServerResponse): void => {
            req.setEncoding('utf8').on('data', (text: string) => res.end(text));
          };
          const { server, port } = await servers.start(kind, {}, read);
          const ask = async (): Promise<{ continued: number; status: number }> => {
            const client = await H1Client.connect({ port, tls });
            client.write('POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n', [
              'POST',
            ]);
            await client.until(() => client.informational.length + client.responses.length > 0, 'an answer');
            if (client.informational.length > 0) client.write('hello');
            const { status } = await client.response();
            client.destroy();
            return { continued: client.informational.length, status };
          };
          expect(await ask()).to.deep.equal({ continued: 1, status: 200 });
          const refuse = (_req: IncomingMessage, res: ServerResponse): void => {
            res.writeHead(403, { Connection: 'close' }).end();
          };
          server.on('checkContinue', refuse);
          expect(await ask()).to.deep.equal({ continued: 0, status: 403 });
          server.off('checkContinue', refuse);
          expect(await ask()).to.deep.equal({ continued: 1, status: 200 });
        });

        it('checkExpectation: without a listener 417, with one it is the listener’s', async () => {
          const { server, port } = await servers.start(kind, {}, (_req, res) => res.end());
          const ask = async (): Promise<number[]> => {
            const h1 = await H1Client.connect({ port, tls });
            const h2 = await H2Client.connect({ port, tls });
            const statuses = [
              (await h1.fetch({ headers: { Expect: 'miracles' } })).status,
              (await h2.fetch({ headers: [['expect', 'miracles']] })).status ?? 0,
            ];
            h1.destroy();
            h2.destroy();
            return statuses;
          };
          expect(await ask()).to.deep.equal([417, 417]);
          server.on('checkExpectation', (_req, res) => res.writeHead(202).end());
          expect(await ask()).to.deep.equal([202, 202]);
          server.removeAllListeners('checkExpectation');
          expect(await ask()).to.deep.equal([417, 417]);
        });
      });

      it('ignores the fields of a head beyond h1.maxHeadersCount, or refuses them with 431, as this node:http does', async () => {
        const listener = (req: IncomingMessage, res: ServerResponse): void => {
          res.end(Object.keys(req.headers).join());
        };
        const plain = createHttpServer(listener);
        plain.maxHeadersCount = 3;
        plain.listen(0, '127.0.0.1');
        await once(plain, 'listening');
        const { port } = await servers.start(kind, { h1: { maxHeadersCount: 3 } }, listener);
        const answers: [number | undefined, string][] = [];
        for (const [to, secure] of [
          [(plain.address() as AddressInfo).port, false],
          [port, tls],
        ] as const) {
          const client = await H1Client.connect({ port: to, tls: secure });
          const { status, text } = await client.fetch({ headers: { Host: 'x', a: '1', b: '2', c: '3' } });
          answers.push([status, text]);
          client.destroy();
        }
        plain.close();
        expect(answers[1]).to.deep.equal(answers[0]);
        expect(answers[0]).to.be.deep.oneOf([
          [200, 'host,a,b'],
          [431, ''],
        ]);
      });

      it('hears of malformed requests with clientError and answers them itself', async () => {
        const { server, port } = await servers.start(kind);
        server.on('clientError', (error: Error & { code?: string }, socket: Socket) => {
          socket.end(`HTTP/1.1 418 ${error.code}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
        });
        const client = await H1Client.connect({ port, tls });
        client.write('GET / HTTP/1.1\r\nbroken head\r\n\r\n', ['GET']);
        const response = await client.response();
        expect([response.status, response.reason]).to.deep.equal([418, 'HPE_INVALID_HEADER_TOKEN']);
        client.destroy();
      });

      it('can time out quiet connections with setTimeout', async () => {
        const { server, port } = await servers.start(kind, {}, () => {});
        expect(server.setTimeout(400)).to.equal(server);
        const h1 = await H1Client.connect({ port, tls });
        const h2 = await H2Client.connect({ port, tls });
        h1.request();
        const id = h2.request();
        expect((await thrown(() => h1.response())).message).to.match(/ended/);
        const stream = await h2.response(id);
        expect(stream.reset).to.not.equal(undefined);
        h1.destroy();
        h2.destroy();
      });

      it('keeps a timeout that a request has asked for to that request', async () => {
        const { server, port } = await servers.start(kind, {}, (req, res) => {
          if (req.url === '/short') {
            req.setTimeout(50);
            res.end('short');
          } else setTimeout(() => res.end('long'), 200);
        });
        const client = await H1Client.connect({ port, tls });
        for (let i = 0; i < 2; i++) {
          expect((await client.fetch({ path: '/short' })).text).to.equal('short');
          // As it lies idle, and while another request is handled.
          await new Promise((resolve) => setTimeout(resolve, 150));
          expect((await client.fetch({ path: '/long' })).text).to.equal('long');
        }
        expect(server.connections.size).to.equal(1);
        client.destroy();
      });

      it('can decide itself what a timeout means', async () => {
        const held: ServerResponse[] = [];
        const { server, port } = await servers.start(kind, {}, (_req, res) => held.push(res));
        const timedOut = new Promise<void>((resolve) => {
          let heard = 0;
          server.setTimeout(100, (socket) => {
            expect(connectionOf(socket)).to.not.equal(undefined);
            if (++heard === 2) resolve();
          });
        });
        const h1 = await H1Client.connect({ port, tls });
        const h2 = await H2Client.connect({ port, tls });
        h1.request();
        const stream = h2.request();
        await timedOut;
        await new Promise((resolve) => setTimeout(resolve, 20));
        for (const res of held) res.end('answered');
        expect([(await h1.response()).text, (await h2.response(stream)).text]).to.deep.equal(['answered', 'answered']);
        h1.destroy();
        h2.destroy();
      });

      it('closeIdleConnections closes the idle ones only', async () => {
        const held: ServerResponse[] = [];
        const { server, port } = await servers.start(kind, {}, (req, res) => {
          if (req.url === '/held') held.push(res);
          else res.end();
        });
        const idle = await H1Client.connect({ port, tls });
        const busy = await H1Client.connect({ port, tls });
        await idle.fetch();
        busy.request({ path: '/held' });
        await eventually(() => held.length === 1, 'a request in flight');
        server.closeIdleConnections();
        expect(await idle.ended()).to.equal('fin');
        held[0]?.end('kept');
        expect((await busy.response()).text).to.equal('kept');
        expect(busy.ending).to.equal('open');
        idle.destroy();
        busy.destroy();
      });

      it('closeIdleConnections leaves a new connection time for its first request', async () => {
        const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('first'));
        const [h1, h2] = [await H1Client.connect({ port, tls }), await H2Client.connect({ port, tls })];
        await eventually(() => server.connections.size === 2, 'all connections');
        server.closeIdleConnections();
        await new Promise((resolve) => setTimeout(resolve, 50));
        expect((await h1.fetch()).text).to.equal('first');
        expect(await h1.ended()).to.equal('fin');
        // Over HTTP/2 there is somebody to tell.
        expect(await h2.ended()).to.equal('fin');
        expect(h2.goaways.map(({ lastStreamId }) => lastStreamId)).to.deep.equal([MAX_STREAM_ID, 0]);
        h2.destroy();
        h1.destroy();
      });

      it('closeIdleConnections tells many a few per turn of the loop', async () => {
        const { server, port } = await servers.start(kind);
        const clients = await Promise.all(Array.from({ length: 150 }, () => H1Client.connect({ port, tls })));
        await eventually(() => server.connections.size === clients.length, 'all connections');
        server.closeIdleConnections();
        expect([...server.connections].filter(({ state }) => state === 'draining')).to.have.length.within(1, 64);
        for (const client of clients) {
          expect(await client.ended()).to.equal('fin');
          client.destroy();
        }
      });

      it('closeAllConnections closes all', async () => {
        const { server, port } = await servers.start(kind, {}, () => {});
        const clients = [await H1Client.connect({ port, tls }), await H2Client.connect({ port, tls })];
        for (const client of clients) client.request();
        await eventually(() => [...server.connections].every(({ active }) => active === 1), 'requests in flight');
        server.closeAllConnections();
        for (const client of clients) await client.ended();
        await eventually(() => server.connections.size === 0, 'no connection');
        for (const client of clients) client.destroy();
      });
    });
  }
});
