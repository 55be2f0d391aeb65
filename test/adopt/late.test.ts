/** Connections that were open when their server was adopted: found at once, or later, or told as unknown. */
import { once } from 'node:events';
import { type AddressInfo, createServer as createNetServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { expect } from 'chai';
import { WebSocket, WebSocketServer } from 'ws';
import { type AdoptedServer, adopt, type Connection, connectionOf, gracefulShutdown } from '../../src/index.js';
import { eventually, silentClient } from '../server/support.js';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { AdoptedServers, Application, H1_SERVERS, h1Server, h2Server } from './support.js';

/** From Node 24 on a server of node:http2 knows its sessions. */
const KNOWS_SESSIONS = Number(process.versions.node.split('.')[0]) >= 24;

function only(watch: AdoptedServer): Connection {
  const [connection, ...others] = watch.connections;
  expect(others).to.deep.equal([]);
  if (connection === undefined) throw new Error('no connection is known');
  return connection;
}

for (const kind of H1_SERVERS) {
  const tls = kind !== 'http';

  describe(`a server of ${kind}, adopted with connections open`, () => {
    const servers = new AdoptedServers();

    const open = async () => {
      const app = new Application();
      const server = await h1Server(kind, app.listener);
      const port = await servers.listen(server);
      const client = await H1Client.connect({ port, tls });
      client.transport.socket.once('end', () => client.end());
      return { app, server, port, client };
    };

    it('finds one that is idle, and drains it with its next request', async () => {
      const { server, client } = await open();
      await client.fetch({ path: '/before' });
      const watch = adopt(server);
      const connection = only(watch);
      expect(connection).to.include({ state: 'open', protocol: 'http/1.1', secure: tls, active: 0 });
      expect(await watch.unknown()).to.equal(0);
      const drained = gracefulShutdown(connection);
      const response = await client.fetch({ path: '/last' });
      expect(response.text).to.equal('/last');
      expect(response.connectionHas('close')).to.equal(true);
      expect(await drained).to.include({ outcome: 'drained', served: 1 });
    });

    it('finds one that has not sent a byte', async () => {
      const { server, client } = await open();
      await eventually(() => client.transport.socket.readyState === 'open', 'the connection');
      await new Promise((resolve) => server.getConnections(resolve));
      const watch = adopt(server);
      await eventually(() => watch.connections.size === 1, 'the connection to be known');
      const drained = watch.drain('all');
      expect((await client.fetch({ path: '/first' })).connectionHas('close')).to.equal(true);
      expect(await drained).to.include({ connections: 1, served: 1 });
    });

    it('announces the end of one with the answer to the request in flight', async () => {
      const { app, server, client } = await open();
      client.request({ path: '/held' });
      const res = await app.held();
      const connection = only(adopt(server));
      expect(connection.active).to.equal(1);
      expect(connectionOf(res)).to.equal(connection);
      const drained = gracefulShutdown(connection);
      res.end('answered');
      const response = await client.response();
      expect(response.text).to.equal('answered');
      expect(response.connectionHas('close')).to.equal(true);
      expect(await drained).to.include({ outcome: 'drained', served: 1 });
      expect(await client.ended()).to.equal('fin');
    });

    it('cuts the request in flight at the deadline, and names it', async () => {
      const { app, server, client } = await open();
      client.request({ path: '/held' });
      await app.held();
      const report = await gracefulShutdown(only(adopt(server)), { timeout: 50 });
      expect(report).to.include({ outcome: 'forced', aborted: 1 });
      expect(report.cut[0]).to.include({ method: 'GET', path: '/held' });
    });

    it('waits for one more request where the head of the answer was out', async () => {
      const { app, server, client } = await open();
      client.request({ path: '/held' });
      const res = await app.held();
      res.write('begun ');
      await client.head();
      const drained = gracefulShutdown(only(adopt(server)));
      res.end('and done');
      expect((await client.response()).text).to.equal('begun and done');
      expect((await client.fetch({ path: '/last' })).connectionHas('close')).to.equal(true);
      expect(await drained).to.include({ outcome: 'drained', served: 2 });
    });

    it('serves a request whose head had come in part', async () => {
      const { app, server, client } = await open();
      client.request({ path: '/held' });
      const res = await app.held();
      const { socket } = res;
      res.end();
      await client.response();
      const before = socket?.bytesRead ?? 0;
      client.write('GET /slow HTTP/1.1\r\nHost: x\r\n', ['GET']);
      await eventually(() => (socket?.bytesRead ?? 0) > before, 'the bytes to arrive');
      const drained = gracefulShutdown(only(adopt(server)), { idleWait: 0 });
      await new Promise((resolve) => setTimeout(resolve, 20));
      client.write('\r\n');
      expect((await client.response()).text).to.equal('/slow');
      expect(await drained).to.include({ outcome: 'drained', served: 1 });
    });

    it('serves a request whose body had come in part', async () => {
      const { app, server, client } = await open();
      client.write('POST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345', ['POST']);
      const res = await app.held();
      const drained = gracefulShutdown(only(adopt(server)));
      let body = '';
      res.req.setEncoding('utf8').on('data', (text: string) => {
        body += text;
      });
      res.req.once('end', () => res.end(body));
      client.write('67890');
      expect((await client.response()).text).to.equal('1234567890');
      expect(await drained).to.include({ outcome: 'drained', served: 1 });
    });

    it('finds one with several requests in flight once one of them is left', async () => {
      const { app, server, client } = await open();
      client.request({ path: '/held1' });
      client.request({ path: '/held2' });
      client.request({ path: '/held3' });
      await app.held('/held3');
      const watch = adopt(server);
      expect(watch.connections.size).to.equal(0);
      expect(await watch.unknown()).to.equal(1);
      const drained = watch.drain('all', { follow: true, spread: 500 });
      for (const path of ['/held1', '/held2']) {
        (await app.held(path)).end(path);
        expect((await client.response()).text).to.equal(path);
      }
      await eventually(() => watch.connections.size === 1, 'the connection to be known');
      expect(only(watch).active).to.equal(1);
      await eventually(() => only(watch).state === 'draining', 'the drain');
      (await app.held('/held3')).end('third');
      const third = await client.response();
      expect(third.text).to.equal('third');
      expect(third.connectionHas('close')).to.equal(true);
      expect(await drained).to.include({ served: 1, unserved: 0 });
    });

    it('drains what comes though its shutdown is over but for connections that nobody knew', async () => {
      const { app, server, client } = await open();
      server.on('upgrade', (_req: unknown, socket: Duplex) => socket.write('HTTP/1.1 101 Switching Protocols\r\n\r\n'));
      client.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n', ['GET']);
      await client.until(() => client.informational.length + client.responses.length > 0);
      const watch = adopt(server);
      expect(await watch.shutdown({ timeout: 100 })).to.include({ unknown: 1 });
      const front = createNetServer((socket) => server.emit('connection', socket)).listen(0, '127.0.0.1');
      await once(front, 'listening');
      const late = await H1Client.connect({ port: (front.address() as AddressInfo).port, tls });
      late.transport.socket.once('end', () => late.end());
      late.request({ path: '/held' });
      const res = await app.held();
      const again = watch.shutdown();
      res.end('late');
      expect((await late.response()).connectionHas('close')).to.equal(true);
      expect(await again).to.include({ connections: 1, served: 1, unknown: 1 });
      front.close();
      client.destroy();
    });

    // `ws` takes no server of node:http2.
    if (kind === 'http2 with allowHTTP1') return;
    it('says with its shutdown how many connections nobody knew', async () => {
      const { server, port } = await open();
      const sockets = new WebSocketServer({ server: server as never });
      const ws = new WebSocket(`${tls ? 'wss' : 'ws'}://127.0.0.1:${port}`, { rejectUnauthorized: false });
      await once(ws, 'open');
      const watch = adopt(server);
      expect(await watch.unknown()).to.equal(1);
      const summary = await watch.shutdown({ timeout: 300, idleWait: 0 });
      expect(summary).to.include({ unknown: 1, connections: 1 });
      for (const client of sockets.clients) client.terminate();
      await once(ws, 'close');
    });
  });
}

describe('a server of https, adopted while a client is in its TLS handshake', () => {
  const servers = new AdoptedServers();

  it('knows the connection once the handshake is done', async () => {
    const app = new Application();
    const server = await h1Server('https', app.listener);
    const port = await servers.listen(server);
    const raw = await silentClient(port);
    await eventually(() => raw.readyState === 'open', 'the connection');
    const accepted = once(server, 'connection');
    const probe = await silentClient(port);
    await accepted;
    const watch = adopt(server);
    expect(await watch.unknown()).to.equal(2);
    const known = once(watch.connections, 'open');
    const client = await H1Client.connect({ port, tls: true });
    await known;
    expect((await client.fetch({ path: '/ok' })).text).to.equal('/ok');
    for (const socket of [raw, probe] as Socket[]) socket.destroy();
    client.destroy();
  });
});

for (const tls of [true, false]) {
  describe(`a server of http2 (${tls ? 'TLS' : 'cleartext'}), adopted with sessions open`, () => {
    const servers = new AdoptedServers();

    it(`finds them ${KNOWS_SESSIONS ? 'at once' : 'at their next stream, and tells until then that one is missing'}`, async () => {
      const app = new Application();
      const server = await h2Server(tls, app.listener);
      const port = await servers.listen(server);
      const client = await H2Client.connect({ port, tls });
      client.transport.socket.once('end', () => client.end());
      await client.fetch({ path: '/before' });
      const held = client.request({ path: '/held' });
      const res = await app.held();
      const watch = adopt(server);
      if (!KNOWS_SESSIONS) {
        expect(await watch.unknown()).to.equal(1);
        expect((await client.fetch({ path: '/next' })).text).to.equal('/next');
      }
      expect(await watch.unknown()).to.equal(0);
      const connection = only(watch);
      expect(connection).to.include({ protocol: 'h2', secure: tls, active: 1, remotePort: client.transport.localPort });
      const drained = gracefulShutdown(connection);
      res.end('answered');
      expect((await client.response(held)).text).to.equal('answered');
      expect(await drained).to.include({ outcome: 'drained', served: 1, aborted: 0 });
    });
  });
}
