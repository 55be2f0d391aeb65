/** What adopt takes, and what an adopted server goes on doing as before, or does better. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { EventEmitter, once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type IncomingMessage, request, ServerResponse } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import { type AddressInfo, createServer as createNetServer } from 'node:net';
import { expect } from 'chai';
import express from 'express';
import { WebSocket, WebSocketServer } from 'ws';
import { adopt, connectionOf, createServer, drainSignal, gracefulShutdown } from '../../src/index.js';
import { startOperator } from '../../src/ops/operator.js';
import { FakeClock } from '../core/fake-clock.js';
import { eventually, silentClient, thrown } from '../server/support.js';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { AdoptedServers, Application, H1_SERVERS, h1Server, h2Server } from './support.js';

/** ms until the kernel sends its next keep-alive probe on a connection of the loopback, as proc(5) has it. */
function keepAliveTimer(from: number, to: number): number | undefined {
  const end = (port: number): string => `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const lines = readFileSync('/proc/net/tcp', 'utf8').split('\n');
  const fields = lines.map((line) => line.trim().split(/\s+/));
  const [, , , , , timer = ''] =
    fields.find(([, local, peer]) => local?.endsWith(end(from)) && peer?.endsWith(end(to))) ?? [];
  const [kind, left = ''] = timer.split(':');
  return kind === '02' ? Number.parseInt(left, 16) * 10 : undefined;
}

describe('adopt', () => {
  const refused: [name: string, server: unknown, message: RegExp][] = [
    ['nothing', undefined, /got undefined/],
    ['a port', 8080, /got 8080/],
    ['an Express app', express(), /got a function: of an Express app pass what app\.listen\(\) returns/],
    ['what has a server', { server: createHttpServer() }, /got an object with a server: pass its \.server/],
    ['an object', {}, /got an object$/],
    ['a net.Server', createNetServer(), /got another kind of net\.Server/],
    ["lastcall's own server", createServer({ cleartext: true }), /got a server of lastcall, which drains by itself/],
  ];
  for (const [name, server, message] of refused) {
    it(`refuses ${name}, by name`, async () => {
      const error = await thrown(() => adopt(server as never));
      expect(error).to.be.instanceOf(TypeError).and.include({ code: 'ERR_LASTCALL_OPTION' });
      expect(error.message)
        .to.match(/^argument server must be a server of node:http, node:https or node:http2/)
        .and.match(message);
    });
  }

  const wrongOptions: [name: string, options: object, message: RegExp][] = [
    ['unknown', { keepalive: {} }, /unknown option adopt\.keepalive/],
    ['unknown within', { recycle: { maxage: 1 } }, /unknown option recycle\.maxage/],
    ['out of range', { drain: { timeout: -1 } }, /drain\.timeout/],
    ['contradictory', { keepAlive: { advertise: 5_000, hold: 1_000 } }, /keepAlive\.hold must be longer/],
    ['contradicting the server', { keepAlive: { hold: 1_000 } }, /keepAlive\.hold must be longer than .*5000 ms/],
  ];
  for (const [name, options, message] of wrongOptions) {
    it(`refuses an option that is ${name}, and leaves the server alone`, async () => {
      const server = createHttpServer();
      expect((await thrown(() => adopt(server, options))).message).to.match(message);
      expect(Object.hasOwn(server, 'emit')).to.equal(false);
      expect(adopt(server, {}).server).to.equal(server);
    });
  }

  it('gives the same object again, and refuses other options then', async () => {
    const server = createHttpServer();
    const watch = adopt(server, { drain: { timeout: 1_000 } });
    expect(adopt(server)).to.equal(watch);
    expect(await thrown(() => adopt(server, { drain: { timeout: 1 } }))).to.include({ code: 'ERR_LASTCALL_ADOPTED' });
  });
});

for (const kind of H1_SERVERS) {
  const tls = kind !== 'http';

  describe(`an adopted server of ${kind}`, () => {
    const servers = new AdoptedServers();

    it('keeps an idle connection when the keepAliveTimeout of node:http is over', async () => {
      const app = new Application();
      const { promise: timedOut, resolve } = deferred<void>();
      const server = await h1Server(kind, (req, res) => {
        // Before the answer, which may be long in coming to the client.
        if (app.handled.length === 0) req.socket.once('timeout', resolve);
        app.listener(req, res);
      });
      Object.assign(server, { keepAliveTimeout: 20 });
      const { port } = await servers.start(server);
      const client = await H1Client.connect({ port, tls });
      await client.fetch();
      await timedOut;
      await new Promise((next) => setTimeout(next, 30));
      expect(client.ending).to.equal('open');
      expect((await client.fetch({ path: '/again' })).text).to.equal('/again');
      client.destroy();
    });

    it('advertises its keepAliveTimeout, also one that is set later', async () => {
      const app = new Application();
      const server = await h1Server(kind, app.listener);
      const { port } = await servers.start(server);
      Object.assign(server, { keepAliveTimeout: 7_000 });
      const client = await H1Client.connect({ port, tls });
      expect((await client.fetch()).header('keep-alive')).to.equal('timeout=7');
      client.destroy();
    });

    it('drains an idle connection when keepAlive.hold is over', async () => {
      const app = new Application();
      const server = await h1Server(kind, app.listener);
      const { port } = await servers.start(server, { keepAlive: { advertise: 0, hold: 100 } });
      const client = await H1Client.connect({ port, tls });
      expect((await client.fetch()).header('keep-alive')).to.equal(undefined);
      expect(await client.ended()).to.equal('fin');
      client.destroy();
    });

    it('drains an idle connection when keepAlive.hold is over since an answer that took longer', async () => {
      const app = new Application();
      const server = await h1Server(kind, app.listener);
      const { port } = await servers.start(server, { keepAlive: { advertise: 0, hold: 60 } });
      const client = await H1Client.connect({ port, tls });
      client.request({ path: '/held' });
      const res = await app.held();
      await new Promise((resolve) => setTimeout(resolve, 150));
      res.end();
      const answeredAt = performance.now();
      expect(await client.ended()).to.equal('fin');
      expect(performance.now() - answeredAt).to.be.at.least(55);
      client.destroy();
    });

    it('answers a client that has half-closed, and has TCP look for those that are gone', async () => {
      const app = new Application();
      const { port } = await servers.start(await h1Server(kind, app.listener));
      const client = await H1Client.connect({ port, tls });
      client.request({ path: '/held' });
      const res = await app.held();
      client.end();
      await eventually(() => keepAliveTimer(port, client.transport.localPort) !== undefined, 'a keep-alive timer');
      expect(keepAliveTimer(port, client.transport.localPort)).to.be.within(50_000, 60_000);
      res.end('all the same');
      expect((await client.response()).text).to.equal('all the same');
      client.destroy();
    });

    it('keeps its server.timeout', async () => {
      const app = new Application();
      const server = await h1Server(kind, app.listener);
      const { port } = await servers.start(server);
      Object.assign(server, { timeout: 60 });
      const client = await H1Client.connect({ port, tls });
      expect(await client.ended()).to.equal('fin');
      client.destroy();
    });

    it('gives a timeout to its own listeners', async () => {
      const responses: ServerResponse[] = [];
      const server = await h1Server(kind, (_req, res) => {
        responses.push(res);
        res.write('begun');
      });
      const { port } = await servers.start(server);
      Object.assign(server, { timeout: 60 });
      const timedOut = once(server, 'timeout');
      const client = await H1Client.connect({ port, tls });
      client.request();
      await timedOut;
      await new Promise((resolve) => setTimeout(resolve, 20));
      responses[0]?.end(' and ended');
      expect((await client.response()).text).to.equal('begun and ended');
      client.destroy();
    });

    it('holds requests to its headersTimeout at once, not only when Node looks', async () => {
      const app = new Application();
      const server = await h1Server(kind, app.listener);
      Object.assign(server, { headersTimeout: 80 });
      const { port } = await servers.start(server);
      const client = await H1Client.connect({ port, tls });
      client.write('GET / HTTP/1.1\r\nHost: x\r\n', ['GET']);
      expect((await client.response()).status).to.equal(408);
      client.destroy();
    });

    it('never tells a client that has sent nothing that its request took too long', async () => {
      const app = new Application();
      const server = await h1Server(kind, app.listener);
      Object.assign(server, { headersTimeout: 30, requestTimeout: 30, connectionsCheckingInterval: 20 });
      const { port } = await servers.start(server);
      const client = await H1Client.connect({ port, tls });
      await new Promise((resolve) => setTimeout(resolve, 120));
      expect(client.ending).to.equal('open');
      expect((await client.fetch({ path: '/first' })).text).to.equal('/first');
      client.destroy();
    });

    it('answers every request that was pipelined when maxRequestsPerSocket is reached', async () => {
      const app = new Application();
      const server = await h1Server(kind, app.listener);
      Object.assign(server, { maxRequestsPerSocket: 2 });
      const { port } = await servers.start(server);
      const client = await H1Client.connect({ port, tls });
      for (const path of ['/1', '/2', '/3']) client.request({ path });
      const answers = [await client.response(), await client.response(), await client.response()];
      expect(answers.map(({ status, text }) => [status, text])).to.deep.equal([
        [200, '/1'],
        [200, '/2'],
        [200, '/3'],
      ]);
      expect(answers.map((answer) => answer.connectionHas('close'))).to.deep.equal([false, false, true]);
      expect(await client.ended()).to.equal('fin');
      client.destroy();
    });

    it('passes malformed requests on to its own clientError listeners', async () => {
      const app = new Application();
      const server = await h1Server(kind, app.listener);
      server.on('clientError', (error: Error & { code?: string }, socket) => {
        socket.end(`HTTP/1.1 499 ${error.code}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      });
      const { port } = await servers.start(server);
      const client = await H1Client.connect({ port, tls });
      client.write('nonsense\r\n\r\n', ['GET']);
      expect((await client.response()).status).to.equal(499);
      expect(await client.ended()).to.equal('fin');
      client.destroy();
    });

    it('refuses malformed requests behind an answer that is still on its way, not instead of it', async () => {
      const app = new Application();
      const { port } = await servers.start(await h1Server(kind, app.listener));
      const client = await H1Client.connect({ port, tls });
      client.write('GET /held HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n', ['GET', 'GET']);
      (await app.held()).end('answered');
      expect((await client.response()).text).to.equal('answered');
      expect((await client.response()).status).to.equal(400);
      client.destroy();
    });

    it('passes checkContinue and checkExpectation to its own listeners', async () => {
      const app = new Application();
      const server = await h1Server(kind, app.listener);
      const seen: string[] = [];
      server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => {
        seen.push(`continue ${connectionOf(req)?.active}`);
        res.writeContinue();
        req.resume().once('end', () => res.end('continued'));
      });
      server.on('checkExpectation', (_req: IncomingMessage, res: ServerResponse) => {
        seen.push('expectation');
        res.writeHead(417).end();
      });
      const { port } = await servers.start(server);
      const client = await H1Client.connect({ port, tls });
      const headers = { expect: '100-continue', 'content-length': '2' };
      client.request({ method: 'POST', headers });
      await client.until(() => client.informational.length === 1, '100');
      client.write('ok');
      expect((await client.response()).text).to.equal('continued');
      expect((await client.fetch({ headers: { expect: 'wonders' } })).status).to.equal(417);
      expect(seen).to.deep.equal(['continue 1', 'expectation']);
      client.destroy();
    });

    it('gives pipelined requests one at a time to the application, each in a context of its own', async () => {
      const storage = new AsyncLocalStorage<string>();
      const stores: (string | undefined)[] = [];
      const server = await h1Server(kind, (req, res) => {
        stores.push(storage.getStore());
        storage.enterWith(req.url ?? '');
        setImmediate(() => res.end(storage.getStore()));
      });
      const { port } = await servers.start(server);
      const client = await H1Client.connect({ port, tls });
      for (const path of ['/1', '/2', '/3']) client.request({ path });
      for (const path of ['/1', '/2', '/3']) expect((await client.response()).text).to.equal(path);
      expect(stores).to.deep.equal([undefined, undefined, undefined]);
      client.destroy();
    });

    /** A client whose request waits for its answer. */
    async function withRequestInFlight() {
      const app = new Application();
      const server = await h1Server(kind, app.listener);
      const { watch, port } = await servers.start(server);
      const busy = await H1Client.connect({ port, tls });
      busy.transport.socket.once('end', () => busy.end());
      busy.request({ path: '/held' });
      const res = await app.held();
      return { server, watch, busy, res };
    }

    it('shuts down: stops accepting, serves what is in flight, closes everything', async () => {
      const { server, watch, busy, res } = await withRequestInFlight();
      const closed = once(server, 'close');
      const down = watch.shutdown();
      await eventually(() => !server.listening, 'the listener to close');
      res.end('served');
      expect((await busy.response()).connectionHas('close')).to.equal(true);
      expect(await down).to.include({ connections: 1, served: 1, aborted: 0, unserved: 0, unknown: 0 });
      await closed;
      expect(watch.connections.size).to.equal(0);
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const again = await H1Client.connect({ port: (server.address() as AddressInfo).port, tls });
      expect((await again.fetch({ path: '/again' })).text).to.equal('/again');
      again.destroy();
    });

    it('listens again while it still drains, and serves new clients', async () => {
      const { server, watch, busy, res } = await withRequestInFlight();
      const down = watch.shutdown();
      await eventually(() => !server.listening, 'the listener to close');
      const client = await H1Client.connect({ port: await servers.listen(server), tls });
      for (let i = 0; i < 2; i++) expect((await client.fetch()).connectionHas('close')).to.equal(false);
      res.end('served');
      expect((await busy.response()).text).to.equal('served');
      expect(await down).to.include({ connections: 1, served: 1, aborted: 0 });
      expect([client.ending, watch.ready]).to.deep.equal(['open', true]);
      client.destroy();
    });

    it('is not ready at once, and serves on as usual for the delay of its shutdown', async () => {
      const app = new Application();
      const { watch, port } = await servers.start(await h1Server(kind, app.listener));
      const client = await H1Client.connect({ port, tls });
      expect(watch.ready).to.equal(true);
      const stopping = once(watch, 'stopping');
      const down = watch.shutdown({ delay: 10_000 });
      await stopping;
      expect(watch.ready).to.equal(false);
      expect((await client.fetch()).connectionHas('close')).to.equal(false);
      const newcomer = await H1Client.connect({ port, tls });
      expect((await newcomer.fetch()).connectionHas('close')).to.equal(false);
      for (const each of [client, newcomer]) each.transport.socket.once('end', () => each.end());
      void watch.shutdown({ idleWait: 0 });
      expect(await down).to.include({ connections: 2, aborted: 0, unserved: 0 });
    });

    it('cuts what is left when the time for its shutdown is over', async () => {
      const app = new Application();
      const { watch, port } = await servers.start(await h1Server(kind, app.listener));
      const client = await H1Client.connect({ port, tls });
      client.request({ path: '/held' });
      await app.held();
      const summary = await watch.shutdown({ timeout: 80 });
      expect(summary).to.include({ aborted: 1 });
      expect(summary.notDrained[0]?.cut[0]).to.include({ path: '/held' });
      client.destroy();
    });

    it('close(cb) drains, with a second for idle connections to bring one more request', async () => {
      const app = new Application();
      const server = await h1Server(kind, app.listener);
      const { port } = await servers.start(server);
      const client = await H1Client.connect({ port, tls });
      client.transport.socket.once('end', () => client.end());
      await client.fetch();
      const closed = new Promise((resolve) => server.close(resolve));
      const last = await client.fetch({ path: '/last' });
      expect(last.text).to.equal('/last');
      expect(last.connectionHas('close')).to.equal(true);
      expect(await closed).to.equal(undefined);
    });

    it('close() waits for an answer as long as it takes', async () => {
      const app = new Application();
      const server = await h1Server(kind, app.listener);
      const { port } = await servers.start(server);
      const client = await H1Client.connect({ port, tls });
      client.request({ path: '/held' });
      const res = await app.held();
      const clock = new FakeClock();
      const closed = once(server, 'close');
      server.close();
      await clock.advance(3_600_000);
      clock.restore();
      res.end('served');
      expect((await client.response()).text).to.equal('served');
      client.end();
      await closed;
    });

    it('refuses what comes when it is full, makes no room, and has a place again when one is drained', async () => {
      const app = new Application();
      const server = await h1Server(kind, app.listener);
      server.maxConnections = 1;
      const { watch, port } = await servers.start(server);
      const client = await H1Client.connect({ port, tls });
      await client.fetch();
      const dropped = once(server, 'drop');
      const refused = await H1Client.connect({ port, tls }).catch((error: Error) => error);
      await dropped;
      if (!(refused instanceof Error)) expect(await refused.ended()).to.be.oneOf(['fin', 'reset']);
      const [connection] = watch.connections;
      expect([watch.connections.size, connection?.state]).to.deep.equal([1, 'open']);
      client.transport.socket.once('end', () => client.end());
      await watch.drain('all', { idleWait: 0 });
      await eventually(() => watch.connections.size === 0, 'a place');
      const next = await H1Client.connect({ port, tls });
      await next.fetch();
      next.destroy();
    });

    it('recycles connections', async () => {
      const app = new Application();
      const { port } = await servers.start(await h1Server(kind, app.listener), { recycle: { maxRequests: 2 } });
      const client = await H1Client.connect({ port, tls });
      expect((await client.fetch()).connectionHas('close')).to.equal(false);
      expect((await client.fetch()).connectionHas('close')).to.equal(true);
      client.destroy();
    });

    it('ends the silence of a client that is accepted while the server stops', async () => {
      const app = new Application();
      const { watch, port } = await servers.start(await h1Server(kind, app.listener));
      const connecting = silentClient(port);
      expect(watch.connections.size).to.equal(0);
      const stopped = watch.shutdown({ idleWait: 0, timeout: 8_000 });
      const client = await connecting;
      client.once('end', () => client.end());
      const summary = await stopped;
      expect(summary).to.include({ connections: 1, aborted: 0 });
      expect(summary.duration).to.be.below(7_000);
      client.destroy();
    });
  });
}

describe('an adopted server of node:http', () => {
  const servers = new AdoptedServers();

  it('leaves the TCP keep-alive of a server as it is, where it has one', async () => {
    const options = { keepAlive: true, keepAliveInitialDelay: 20_000 };
    const { port } = await servers.start(createHttpServer(options, new Application().listener));
    const client = await H1Client.connect({ port, tls: false });
    await client.fetch();
    await eventually(() => keepAliveTimer(port, client.transport.localPort) !== undefined, 'a keep-alive timer');
    expect(keepAliveTimer(port, client.transport.localPort)).to.be.within(10_000, 20_000);
    client.destroy();
  });

  it('keeps the application class of responses', async () => {
    class OwnResponse extends ServerResponse {
      readonly own = true;
    }
    const server = createHttpServer({ ServerResponse: OwnResponse }, (_req, res) => res.end(String(res.own)));
    const { port } = await servers.start(server);
    const client = await H1Client.connect({ port, tls: false });
    expect((await client.fetch()).text).to.equal('true');
    client.destroy();
  });

  it('answers a rejecting handler as captureRejections has it', async () => {
    EventEmitter.captureRejections = true;
    const server = createHttpServer(async () => {
      throw new Error('rejected');
    });
    EventEmitter.captureRejections = false;
    const { port } = await servers.start(server);
    const client = await H1Client.connect({ port, tls: false });
    expect((await client.fetch()).status).to.equal(500);
    client.destroy();
  });

  it('is drained as an Express app, and tells its handlers', async () => {
    const app = express();
    const { promise, resolve } = deferred<void>();
    app.get('/events', (req, res) => {
      drainSignal(req).addEventListener('abort', () => res.end('over'));
      resolve();
    });
    const server = app.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const watch = adopt(server);
    const client = await H1Client.connect({ port: (server.address() as AddressInfo).port, tls: false });
    client.transport.socket.once('end', () => client.end());
    client.request({ path: '/events' });
    await promise;
    const down = watch.shutdown();
    const response = await client.response();
    expect(response.text).to.equal('over');
    expect(response.connectionHas('close')).to.equal(true);
    expect(await down).to.include({ served: 1, aborted: 0 });
  });

  it('hands WebSockets over, and tells them of a drain', async () => {
    const server = createHttpServer((_req, res) => res.end());
    const sockets = new WebSocketServer({ server });
    sockets.on('connection', (socket, req) => {
      drainSignal(req).addEventListener('abort', () => socket.close(1001, 'draining'));
      socket.on('message', (text) => socket.send(`echo ${text}`));
    });
    const { watch, port } = await servers.start(server);
    const ws = new WebSocket(`ws://127.0.0.1:${port}`);
    await once(ws, 'open');
    ws.send('hello');
    const [echo] = await once(ws, 'message');
    expect(String(echo)).to.equal('echo hello');
    expect([...watch.connections].map(({ active }) => active)).to.deep.equal([1]);
    const summary = watch.drain('all');
    const [code] = await once(ws, 'close');
    expect(code).to.equal(1001);
    expect(await summary).to.include({ served: 1, aborted: 0 });
  });

  it('passes on what another server hands it', async () => {
    const inner = createHttpServer((_req, res) => res.end('inner'));
    const watch = adopt(inner);
    const front = createNetServer((socket) => inner.emit('connection', socket));
    front.listen(0, '127.0.0.1');
    await once(front, 'listening');
    const client = await H1Client.connect({ port: (front.address() as AddressInfo).port, tls: false });
    client.transport.socket.once('end', () => client.end());
    expect((await client.fetch()).text).to.equal('inner');
    const drained = watch.drain('all');
    expect((await client.fetch()).connectionHas('close')).to.equal(true);
    expect(await drained).to.include({ served: 1 });
    front.close();
  });

  it('has an operator endpoint like any other', async () => {
    const app = new Application();
    const { watch, port } = await servers.start(createHttpServer(app.listener));
    const operator = await startOperator(watch, 0);
    const ask = async (path: string, method = 'GET'): Promise<string> =>
      (await fetch(`${operator.url}${path}`, { method })).text();
    const client = await H1Client.connect({ port, tls: false });
    client.transport.socket.once('end', () => client.end());
    await client.fetch();
    expect(await ask('/ready')).to.equal('ready\n');
    expect(await ask('/connections?filter=proto=h1')).to.contain('http/1.1');
    expect(await ask('/drain?filter=proto=h1&idleWait=0', 'POST')).to.match(/^1 of 1 connection drained/);
    await operator.close();
  });

  it('tells when its server listens', async () => {
    const server = createHttpServer();
    const listening = once(adopt(server), 'listening');
    await servers.listen(server);
    await listening;
  });

  it('closeIdleConnections drains the idle ones, closeAllConnections destroys the rest', async () => {
    const app = new Application();
    const server = createHttpServer(app.listener);
    const { port } = await servers.start(server);
    const [idle, busy] = [await H1Client.connect({ port, tls: false }), await H1Client.connect({ port, tls: false })];
    await idle.fetch();
    busy.request({ path: '/held' });
    await app.held();
    server.closeIdleConnections();
    expect(await idle.ended()).to.equal('fin');
    expect(busy.ending).to.equal('open');
    server.closeAllConnections();
    expect(await busy.ended()).to.match(/reset/);
    idle.destroy();
  });

  it('closeIdleConnections tells many a few per turn of the loop', async () => {
    const server = createHttpServer();
    const { watch, port } = await servers.start(server);
    const clients = await Promise.all(Array.from({ length: 150 }, () => silentClient(port)));
    await eventually(() => watch.connections.size === clients.length, 'all connections');
    server.closeIdleConnections();
    expect([...watch.connections].filter(({ state }) => state === 'draining')).to.have.length.within(1, 64);
    for (const client of clients) client.end();
    await eventually(() => watch.connections.size === 0, 'no connection');
  });

  it('takes in the connections that wait to be accepted before it closes', async () => {
    const app = new Application();
    const { watch, port } = await servers.start(createHttpServer(app.listener));
    const clients = await Promise.all(Array.from({ length: 20 }, () => silentClient(port)));
    const answers = clients.map((client) => once(client, 'data'));
    for (const client of clients) client.write('GET /waiting HTTP/1.1\r\nHost: x\r\n\r\n');
    const summary = watch.shutdown({ linger: 50 });
    for (const [bytes] of await Promise.all(answers)) {
      expect(String(bytes))
        .to.match(/^HTTP\/1\.1 200 OK\r\n/)
        .and.match(/Connection: close/);
    }
    for (const client of clients) client.end();
    expect(await summary).to.include({ served: 20, unserved: 0 });
  });

  it('finds its connections from requests, responses and their sockets', async () => {
    const server = createHttpServer((req, res) => {
      const [connection] = watch.connections;
      const found = [req, res, req.socket].map(
        (thing) => connection !== undefined && connectionOf(thing) === connection,
      );
      res.end(found.join());
    });
    const { watch, port } = await servers.start(server);
    const req = request({ port, host: '127.0.0.1' }).end();
    const [res] = (await once(req, 'response')) as [IncomingMessage];
    let text = '';
    for await (const chunk of res.setEncoding('utf8')) text += chunk;
    expect(text).to.equal('true,true,true');
  });
});

describe('an adopted server of node:http2', () => {
  const servers = new AdoptedServers();

  it('serves both protocols on one port, and drains each in its way', async () => {
    const app = new Application();
    const server = await h1Server('http2 with allowHTTP1', app.listener);
    const { watch, port } = await servers.start(server);
    const h1 = await H1Client.connect({ port, tls: true });
    const h2 = await H2Client.connect({ port, tls: true });
    for (const client of [h1, h2]) client.transport.socket.once('end', () => client.end());
    await h1.fetch();
    const stream = h2.request({ path: '/held' });
    const res = await app.held();
    expect([...watch.connections].map(({ protocol }) => protocol)).to.deep.equal(['http/1.1', 'h2']);
    const down = watch.shutdown();
    await h2.until(() => h2.goaways.length > 0, 'GOAWAY');
    res.end('over h2');
    expect((await h2.response(stream)).text).to.equal('over h2');
    expect((await h1.fetch()).connectionHas('close')).to.equal(true);
    expect(await down).to.include({ connections: 2, served: 2, unknown: 0 });
  });

  it('asked for again while it lingers, with less patience, closes sooner', async () => {
    const { watch, port } = await servers.start(createHttp2Server((_req, res) => res.end('ok')));
    const client = await H2Client.connect({ port, tls: false });
    await client.fetch();
    const [connection] = watch.connections;
    if (connection === undefined) throw new Error('no connection');
    const drained = gracefulShutdown(connection, { linger: 10_000 });
    // The client doesn't close.
    await eventually(() => connection.state === 'lingering', 'lingering');
    await gracefulShutdown(connection, { linger: 100 });
    expect((await drained).phases.linger).to.be.within(90, 5_000);
    client.destroy();
  });

  it('makes the responses of all its HTTP/1.1 connections of one class', async () => {
    const classes = new Set<unknown>();
    const server = await h1Server('http2 with allowHTTP1', (_req, res) => {
      classes.add(res.constructor);
      res.end();
    });
    const { port } = await servers.start(server);
    for (let i = 0; i < 3; i++) {
      const client = await H1Client.connect({ port, tls: true });
      await client.fetch();
      client.destroy();
    }
    expect(classes.size).to.equal(1);
  });

  it('counts streams of the stream API, and finds their connection', async () => {
    const server = createHttp2Server();
    server.on('stream', (stream) => {
      connectionOf(stream)?.tags.set('api', 'stream');
      stream.respond({ ':status': 204 }, { endStream: true });
    });
    const { watch, port } = await servers.start(server);
    const client = await H2Client.connect({ port, tls: false });
    expect((await client.fetch({ authority: 'example.com' })).status).to.equal(204);
    const [connection] = watch.connections.select({ tags: { api: 'stream' } });
    await eventually(() => connection?.served === 1, 'the stream to be counted');
    expect([...(connection?.authorities ?? [])]).to.deep.equal(['example.com']);
    client.destroy();
  });

  it('recycles sessions that are idle', async () => {
    const app = new Application();
    const { port } = await servers.start(await h2Server(true, app.listener), { recycle: { maxIdle: 100 } });
    const client = await H2Client.connect({ port, tls: true });
    await client.fetch();
    await client.until(() => client.goaways.length > 0, 'GOAWAY');
    client.destroy();
  });

  it('ends the silence of a TLS client that never shakes hands when it is drained', async () => {
    const app = new Application();
    const { watch, port } = await servers.start(await h2Server(true, app.listener));
    const opened = once(watch.connections, 'open');
    const client = await silentClient(port);
    await opened;
    expect(await watch.drain('all', { idleWait: 30 })).to.include({ connections: 1, aborted: 0 });
    client.destroy();
  });

  it('leaves gracefulShutdown its options', async () => {
    const app = new Application();
    const { watch, port } = await servers.start(await h2Server(true, app.listener), { drain: { timeout: 50 } });
    const client = await H2Client.connect({ port, tls: true });
    client.request({ path: '/held' });
    await app.held();
    const [connection] = watch.connections;
    if (connection === undefined) throw new Error('no connection');
    expect(await gracefulShutdown(connection)).to.include({ outcome: 'forced', aborted: 1 });
    client.destroy();
  });
});

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
