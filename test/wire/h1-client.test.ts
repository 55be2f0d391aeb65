import { once } from 'node:events';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { expect } from 'chai';
import { certificate } from './certificate.js';
import { H1Client } from './h1-client.js';
import { runH1Client } from './h1-runner.js';
import { Relay } from './relay.js';

describe('raw HTTP/1.1 client', () => {
  const cleanups: (() => unknown)[] = [];

  afterEach(async () => {
    for (const clean of cleanups.splice(0).reverse()) await clean();
  });

  async function listen(server: Server): Promise<number> {
    const sockets = new Set<Socket>();
    server.on('connection', (socket: Socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanups.push(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    return (server.address() as AddressInfo).port;
  }

  /** A plain server that answers the first bytes of each connection with these bytes, one write per element. */
  async function scripted(...writes: (string | 'FIN' | 'RST')[]): Promise<number> {
    return listen(
      createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
        socket.once('data', async () => {
          for (const write of writes) {
            if (write === 'FIN') socket.end();
            else if (write === 'RST') socket.resetAndDestroy();
            else socket.write(write, 'latin1');
            await new Promise((next) => setTimeout(next, 3));
            // After a stall timers come first: the client, who is of this process, reads before the next.
            for (let turn = 0; turn < 2; turn += 1) await new Promise((next) => setImmediate(next));
          }
        });
      }),
    );
  }

  async function connect(port: number, tls = false): Promise<H1Client> {
    const client = await H1Client.connect({ port, tls });
    cleanups.push(() => client.destroy());
    return client;
  }

  const chunked =
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nDigest: x\r\n\r\n';

  it('reads a response that comes octet by octet', async () => {
    const client = await connect(await scripted(...chunked));
    const response = await client.fetch();
    expect(response.status).to.equal(200);
    expect(response.text).to.equal('hello world');
    expect(response.trailers).to.deep.equal([['Digest', 'x']]);
  });

  it('reads pipelined responses of every framing out of one piece', async () => {
    const port = await scripted(
      `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok${chunked}HTTP/1.1 204 No Content\r\n\r\n` +
        'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n' +
        'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end',
      'FIN',
    );
    const client = await connect(port);
    const methods = ['GET', 'GET', 'GET', 'HEAD', 'GET', 'GET'];
    client.write('all of them', methods);
    const responses = [];
    for (const _ of methods) responses.push(await client.response());
    expect(responses.map((response) => response.text)).to.deep.equal(['ok', 'hello world', '', '', '', 'to the end']);
    expect(responses.map((response) => response.status)).to.deep.equal([200, 200, 204, 200, 304, 200]);
    expect(responses[0]?.informational.map((response) => response.status)).to.deep.equal([100]);
    expect(await client.ended()).to.equal('fin');
    expect(client.unsolicited).to.equal(0);
  });

  const malformed: readonly (readonly [what: string, bytes: string])[] = [
    ['a bare LF', 'HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n'],
    ['both lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n'],
    ['two lengths that differ', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n'],
    ['obsolete folding', 'HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n'],
    ['a space before the colon', 'HTTP/1.1 200 OK\r\nX : a\r\n\r\n'],
    ['a chunk that is longer than its size', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n'],
    ['text that is no status line', 'hello\r\n'],
  ];
  for (const [what, bytes] of malformed) {
    it(`refuses ${what}`, async () => {
      const client = await connect(await scripted(bytes));
      client.request();
      await client.until(() => client.parseError !== undefined);
      expect(client.responses).to.have.length(0);
    });
  }

  it('tells a FIN from a reset, and neither counts as an answer', async () => {
    const partial = 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf';
    for (const [how, ending] of [
      ['FIN', 'fin'],
      ['RST', 'reset'],
    ] as const) {
      const client = await connect(await scripted(partial, how));
      client.request();
      expect(await client.ended()).to.equal(ending);
      expect(client.responses).to.have.length(0);
      expect(client.current?.status).to.equal(200);
      await client.response().then(
        () => expect.fail('answered'),
        (error: Error) => expect(error.message).to.contain('connection ended'),
      );
    }
  });

  it('counts a response that nobody asked for', async () => {
    const client = await connect(await scripted('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'.repeat(2)));
    client.request();
    await client.until(() => client.responses.length === 2);
    expect(client.unsolicited).to.equal(1);
  });

  it('half-closes over TLS and still reads the answer', async () => {
    const server = createHttpsServer(await certificate(), (_req, res) =>
      setTimeout(() => res.end('after your FIN'), 20),
    );
    // node:https gives no answer to a client that has half-closed unless told so
    (server as { httpAllowHalfOpen?: boolean }).httpAllowHalfOpen = true;
    server.on('secureConnection', (socket) => {
      socket.allowHalfOpen = true;
    });
    const client = await connect(await listen(server), true);
    client.request();
    client.end();
    expect((await client.response()).text).to.equal('after your FIN');
  });

  it('resets over TLS, and the server sees ECONNRESET', async () => {
    const server = createHttpsServer(await certificate(), (_req, res) => res.end());
    const seen = new Promise<NodeJS.ErrnoException>((resolve) => {
      server.on('clientError', resolve);
      server.on('secureConnection', (socket) => socket.on('error', resolve));
    });
    const client = await connect(await listen(server), true);
    // Behind an answer nothing is left to be read together with the reset.
    await client.fetch();
    client.reset();
    expect((await seen).code).to.equal('ECONNRESET');
  });

  describe('in a closed loop', () => {
    it('counts every request answered by a server that answers', async () => {
      const server = createHttpsServer(await certificate(), (req, res) => res.end(`ok ${req.url}`));
      const result = await runH1Client({
        port: await listen(server),
        exchange: (n) => ({ request: { path: `/${n}` }, expectedBody: `ok /${n}` }),
        maxRequests: 50,
      });
      expect(result).to.include({
        sent: 50,
        answered: 50,
        wrong: 0,
        unserved: 0,
        reset: false,
        stoppedBy: 'max-requests',
      });
      expect(result.latencies).to.have.length(50);
    });

    it('stops at `Connection: close` with nothing lost', async () => {
      let served = 0;
      const server = createHttpsServer(await certificate(), (_req, res) => {
        served += 1;
        if (served === 7) res.setHeader('Connection', 'close');
        res.end('ok');
      });
      const result = await runH1Client({ port: await listen(server), exchange: () => ({ request: {} }) });
      expect(result).to.include({ sent: 7, answered: 7, unserved: 0, stoppedBy: 'close-announced' });
    });

    it('counts the request that crossed the FIN of a server that just closes', async () => {
      const server = createHttpsServer(await certificate(), (req, res) => {
        res.end('ok', () => req.socket.end());
      });
      const relay = await Relay.open({ port: await listen(server), delayMs: 5 });
      cleanups.push(() => relay.close());
      // The server's FIN comes with the answer: with no think time the next request is written before it is read.
      let result = { sent: 0, answered: 0, unserved: 0 };
      for (let tries = 0; tries < 20 && result.unserved === 0; tries += 1) {
        result = await runH1Client({ port: relay.port, exchange: () => ({ request: {} }) });
        expect(result.sent).to.equal(result.answered + result.unserved);
        expect(result.answered).to.equal(1);
      }
      expect(result.unserved).to.equal(1);
    });

    it('counts a dropped request as unserved and a reset as a reset', async () => {
      let served = 0;
      const server = createHttpsServer(await certificate(), (req, res) => {
        served += 1;
        if (served % 10 === 0) req.socket.destroy();
        else res.end('ok');
      });
      const result = await runH1Client({ port: await listen(server), exchange: () => ({ request: {} }) });
      expect(result).to.include({ sent: 10, answered: 9, unserved: 1, stoppedBy: 'server-closed' });
      expect(result.firstFault).to.contain('request 9');
      const resetting = await listen(
        createServer((socket) => socket.once('data', () => socket.resetAndDestroy()).on('error', () => {})),
      );
      const reset = await runH1Client({ port: resetting, tls: false, exchange: () => ({ request: {} }) });
      expect(reset).to.include({ sent: 1, answered: 0, unserved: 1, reset: true, ending: 'reset' });
    });

    it('takes another status or body for no answer', async () => {
      const server = createHttpsServer(await certificate(), (req, res) => {
        res.statusCode = req.url === '/1' ? 503 : 200;
        res.end(req.url === '/2' ? 'other' : 'ok');
      });
      const result = await runH1Client({
        port: await listen(server),
        exchange: (n) => ({ request: { path: `/${n}` }, expectedBody: 'ok' }),
        maxRequests: 4,
      });
      expect(result).to.include({ sent: 4, answered: 2, wrong: 2, unserved: 0 });
    });

    it('honours `Keep-Alive: timeout` when told to', async () => {
      const server = createHttpsServer({ ...(await certificate()), keepAliveTimeout: 1_000 }, (_req, res) =>
        res.end('ok'),
      );
      const startedAt = performance.now();
      const result = await runH1Client({
        port: await listen(server),
        exchange: () => ({ request: {} }),
        think: { kind: 'fixed', ms: 60_000 },
        honourHint: true,
      });
      expect(result).to.include({ sent: 1, answered: 1, unserved: 0, stoppedBy: 'hint' });
      expect(performance.now() - startedAt).to.be.at.least(900);
    });

    it('stops thinking when it is told to stop', async () => {
      const server = createHttpsServer(await certificate(), (_req, res) => res.end('ok'));
      const stop = new AbortController();
      setTimeout(() => stop.abort(), 30);
      const result = await runH1Client({
        port: await listen(server),
        exchange: () => ({ request: {} }),
        think: { kind: 'fixed', ms: 60_000 },
        stop: stop.signal,
      });
      expect(result).to.include({ sent: 1, answered: 1, stoppedBy: 'stopped' });
    });
  });
});
