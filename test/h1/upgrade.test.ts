/**
 * Connections that stop being HTTP/1.1: they wait for the answers before them, and a drain leaves them to the
 * application until its deadline.
 */
import type { Duplex } from 'node:stream';
import { expect } from 'chai';
import { connectionOf, drainSignal, gracefulShutdown } from '../../src/index.js';
import { encodeRequest, type H1Client } from '../wire/h1-client.js';
import { closeEverything, counters, Site, standstill, TRANSPORTS, until } from './support.js';

const SWITCH = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n';
const headers = { connection: 'upgrade', upgrade: 'echo' };
const upgrade = encodeRequest({ path: '/echo', headers });
const withBody = encodeRequest({ path: '/echo', headers: { ...headers, 'content-length': '1' } });

for (const { name, tls } of TRANSPORTS) {
  describe(`upgraded connections (${name})`, () => {
    afterEach(closeEverything);

    async function echoing(endOnDrain = false): Promise<{ site: Site; client: H1Client }> {
      const site = await Site.open({ tls });
      site.server.on('upgrade', (req, socket: Duplex, head: Buffer) => {
        socket.write(SWITCH);
        socket.write(head);
        socket.pipe(socket);
        if (!endOnDrain) return;
        const signal = drainSignal(req);
        if (signal.aborted) socket.end('bye');
        else signal.addEventListener('abort', () => socket.end('bye'));
      });
      return { site, client: await site.connect() };
    }

    it('hands the socket over, with the bytes that came along', async () => {
      const { site, client } = await echoing();
      client.write(Buffer.concat([upgrade, Buffer.from('hello')]), ['GET']);
      expect((await client.response()).status).to.equal(101);
      await client.until(() => client.tunnelled.toString() === 'hello');
      client.write(' again');
      await client.until(() => client.tunnelled.toString() === 'hello again');
      expect((await site.connection()).active).to.equal(1);
      client.end();
      await (await site.connection()).closed;
    });

    // Where it comes as the request's body, and where it comes behind the head, Node's versions don't agree.
    for (const [how, before] of [
      ['at once', []],
      ['behind one that waits', [encodeRequest({ path: '/park' })]],
    ] as const) {
      const methods = [...before.map(() => 'GET'), 'POST'];
      it(`hands over everything that comes behind the head of a request with a body, asked for ${how}`, async () => {
        const site = await Site.open({ tls });
        let body = '';
        let rest = '';
        site.server.on('upgrade', (req, socket: Duplex, head: Buffer) => {
          rest = head.toString();
          socket.write(SWITCH);
          req.on('data', (bytes: Buffer) => {
            body += bytes.toString();
          });
          socket.on('data', (bytes: Buffer) => {
            rest += bytes.toString();
          });
          socket.on('end', () => socket.end());
        });
        const client = await site.connect();
        const headers = { connection: 'upgrade', upgrade: 'echo', 'content-length': '3' };
        client.write(Buffer.concat([...before, encodeRequest({ method: 'POST', path: '/echo', headers })]), methods);
        const answer = before.length > 0 ? await site.parked('/park') : undefined;
        await site.arrived();
        for (const words of ['a', 'bc', 'later', ' still later']) {
          client.write(words);
          await site.arrived();
        }
        answer?.end();
        const all = 'abclater still later';
        await until(() => body + rest === all);
        const connection = await site.connection();
        client.end();
        await connection.closed;
        expect(body).to.be.oneOf(['', 'abc']);
      });
    }

    it('aborts drainSignal, and the application ends it', async () => {
      const { site, client } = await echoing(true);
      client.write(upgrade, ['GET']);
      await client.response();
      const drained = gracefulShutdown(await site.connection());
      await client.until(() => client.tunnelled.toString() === 'bye');
      expect(await client.ended()).to.equal('fin');
      client.end();
      const report = await drained;
      expect([report.outcome, counters(report)]).to.deep.equal(['drained', { served: 1 }]);
      expect(site.relay.resets['to-client']).to.equal(0);
    });

    it('is cut at the deadline, and named', async () => {
      const { site, client } = await echoing();
      client.write(upgrade, ['GET']);
      await client.response();
      const report = await gracefulShutdown(await site.connection(), { timeout: 60 });
      expect([report.outcome, counters(report)]).to.deep.equal(['forced', { aborted: 1 }]);
      expect(report.cut.map(({ method, path }) => [method, path])).to.deep.equal([['GET', '/echo']]);
      expect(await client.ended()).to.equal('reset');
    });

    it('is cut at the deadline though the application has ended it and the client takes nothing', async () => {
      const site = await Site.open({ tls, delayMs: 0, bufferBytes: 65_536 });
      site.server.on('upgrade', (_req, socket: Duplex) => {
        socket.write(SWITCH);
        socket.end(Buffer.alloc(32 * 1024 * 1024));
      });
      const client = await site.connect();
      client.transport.socket.pause();
      client.write(upgrade, ['GET']);
      const connection = await site.connection();
      await standstill(connection);
      const report = await gracefulShutdown(connection, { timeout: 60 });
      expect([report.outcome, counters(report)]).to.deep.equal(['forced', { aborted: 1 }]);
    });

    it('closes when it is destroyed just as the application has ended it', async () => {
      const site = await Site.open({ tls });
      site.server.on('upgrade', (req, socket: Duplex) => {
        socket.end(SWITCH);
        process.nextTick(() => connectionOf(req)?.destroy());
      });
      const client = await site.connect();
      client.write(upgrade, ['GET']);
      const connection = await site.connection();
      await connection.closed;
      expect(connection.state).to.equal('closed');
    });

    it('may still be asked for while a drain waits', async () => {
      const { site, client } = await echoing(true);
      const drained = gracefulShutdown(await site.connection());
      client.write(upgrade, ['GET']);
      expect((await client.response()).status).to.equal(101);
      expect(await client.ended()).to.equal('fin');
      client.end();
      expect(counters(await drained)).to.deep.equal({ served: 1 });
    });

    it('is refused when it has waited, and nobody listens any more', async () => {
      const { site, client } = await echoing();
      client.write(Buffer.concat([encodeRequest({ path: '/park' }), upgrade]), ['GET', 'GET']);
      const parked = await site.parked('/park');
      await site.arrived();
      site.server.removeAllListeners('upgrade');
      parked.end('answered');
      expect((await client.response()).text).to.equal('answered');
      expect((await client.response()).status).to.equal(501);
      expect(await client.ended()).to.equal('fin');
    });

    it('is served when a drain begins with it', async () => {
      const site = await Site.open({ tls, options: { recycle: { maxRequests: 2 } } }, (req, res) => {
        drainSignal(req).addEventListener('abort', () => res.end('first'));
      });
      site.server.on('upgrade', (_req, socket: Duplex) => void socket.end(SWITCH));
      const client = await site.connect();
      client.request({ path: '/a' });
      await until(() => site.handled.length === 1);
      client.write(upgrade, ['GET']);
      expect((await client.response()).text).to.equal('first');
      expect((await client.response()).status).to.equal(101);
    });

    it('waits for the requests before it, which do not say close', async () => {
      const { site, client } = await echoing(true);
      const body = Buffer.alloc(4 * 1024 * 1024, 'a');
      client.write(Buffer.concat([encodeRequest({ path: '/park' }), encodeRequest({ path: '/b' }), upgrade]), [
        'GET',
        'GET',
        'GET',
      ]);
      const res = await site.parked('/park');
      await site.arrived();
      const drained = gracefulShutdown(await site.connection());
      // More than the socket takes at once: its 'drain' must reach the response.
      for (let sent = 0; sent < body.length; sent += 65_536) {
        if (!res.write(body.subarray(sent, sent + 65_536))) await new Promise((resolve) => res.once('drain', resolve));
      }
      res.end();
      await client.until(() => client.tunnelled.toString() === 'bye');
      expect(client.responses.map((answer) => [answer.status, answer.connectionHas('close')])).to.deep.equal([
        [200, false],
        [200, false],
        [101, false],
      ]);
      expect(client.responses[0]?.body.equals(body)).to.equal(true);
      client.end();
      expect(counters(await drained)).to.deep.equal({ served: 3 });
    });

    it('hands over what comes later though more requests than may wait came before it', async () => {
      const { site, client } = await echoing();
      const before = Array.from({ length: 120 }, () => encodeRequest({}));
      client.write(Buffer.concat([encodeRequest({ path: '/park' }), ...before, upgrade, Buffer.from('one ')]), [
        ...Array(122).fill('GET'),
      ]);
      const res = await site.parked('/park');
      await site.arrived();
      client.write('two ');
      await site.arrived();
      res.end();
      await client.until(() => client.tunnelled.toString() === 'one two ');
      client.write('three');
      await client.until(() => client.tunnelled.toString() === 'one two three');
    });

    it('hands over what comes later though node:http stopped reading for an answer that is not read', async () => {
      const body = Buffer.alloc(8 * 1024 * 1024);
      const site = await Site.open({ tls, delayMs: 0, bufferBytes: 65_536 }, (_req, res) => res.end(body));
      site.server.on('upgrade', (_req, socket: Duplex) => {
        socket.write(SWITCH);
        socket.pipe(socket);
      });
      const client = await site.connect();
      client.transport.socket.pause();
      client.request();
      await standstill(await site.connection());
      client.write(Buffer.concat([encodeRequest({}), upgrade]), ['GET', 'GET']);
      await site.arrived();
      client.transport.socket.resume();
      await client.until(() => client.responses.length === 3);
      client.write('later');
      await client.until(() => client.tunnelled.toString() === 'later');
    });

    for (const [what, waiting] of [
      ['', upgrade],
      [', with a body that is still to come', withBody],
    ] as const) {
      it(`survives a client that resets while it waits${what}`, async () => {
        const { site, client } = await echoing();
        client.write(Buffer.concat([encodeRequest({ path: '/park' }), waiting]), ['GET', 'GET']);
        const res = await site.parked('/park');
        await site.arrived();
        const drained = gracefulShutdown(await site.connection(), { timeout: 8_000 });
        client.reset();
        await site.arrived();
        // Nobody reads from the socket now: writing finds out.
        const writing = setInterval(() => res.write('x'), 5);
        const report = await drained;
        clearInterval(writing);
        expect([report.outcome, counters(report)]).to.deep.equal(['peer', { aborted: 2 }]);
      });

      it(`survives a client that resets when it has been dropped${what}`, async () => {
        const { site, client } = await echoing();
        const drained = gracefulShutdown(await site.connection());
        client.write(Buffer.concat([Buffer.from('GET / HTTP/1.1\r\n\r\n'), waiting]), ['GET', 'GET']);
        expect((await client.response()).status).to.equal(400);
        expect(await client.ended()).to.equal('fin');
        client.reset();
        expect(counters(await drained)).to.deep.equal({ malformed: 1, unserved: 1 });
      });

      it(`reads and discards what comes behind it when it has been dropped${what}`, async () => {
        const { site, client } = await echoing();
        const drained = gracefulShutdown(await site.connection());
        client.write(Buffer.concat([Buffer.from('GET / HTTP/1.1\r\n\r\n'), waiting]), ['GET', 'GET']);
        expect((await client.response()).status).to.equal(400);
        client.write(Buffer.alloc(1_000_000));
        client.end();
        const { phases } = await drained;
        expect(phases.linger).to.be.below(1_500);
        expect(site.relay.resets['to-client']).to.equal(0);
      });
    }

    for (const [how, before] of [
      ['at once', []],
      ['behind one that waits', [encodeRequest({ path: '/park' })]],
    ] as const) {
      // Versions of Node that parse it refuse it; others hand it over as it is.
      it(`is over when its client leaves though its body was none, asked for ${how}`, async () => {
        const { site, client } = await echoing();
        const chunked = encodeRequest({ path: '/echo', headers: { ...headers, 'transfer-encoding': 'chunked' } });
        client.write(Buffer.concat([...before, chunked, Buffer.from('zz\r\n')]));
        if (before.length > 0) (await site.parked('/park')).end('first');
        await site.arrived();
        client.end();
        const connection = await site.connection();
        await connection.closed;
        const { served, aborted, malformed, unserved } = site.server.connections.requests;
        expect(served + aborted + malformed).to.equal(before.length + 1);
        expect(unserved).to.equal(0);
      });
    }

    it('counts one that comes behind an answer with close as unserved', async () => {
      const site = await Site.open({ tls }, (_req, res) => {
        setTimeout(() => res.writeHead(200, { Connection: 'close' }).end(), 30);
      });
      let upgrades = 0;
      site.server.on('upgrade', () => upgrades++);
      const client = await site.connect();
      const connection = await site.connection();
      client.write(Buffer.concat([encodeRequest({}), upgrade]), ['GET', 'GET']);
      await client.response();
      expect(await client.ended()).to.equal('fin');
      expect(connection.active).to.equal(0);
      client.end();
      await connection.closed;
      expect([upgrades, site.server.connections.requests.unserved]).to.deep.equal([0, 1]);
    });

    for (const [what, late] of [
      ['an upgrade', upgrade],
      ['an upgrade with a body', withBody],
      ['CONNECT', encodeRequest({ method: 'CONNECT', path: 'a:1' })],
    ] as const) {
      it(`lets the last answer go on when ${what} comes behind it`, async () => {
        const site = await Site.open({ tls, delayMs: 0, bufferBytes: 65_536 });
        site.server.on('upgrade', (_req, socket: Duplex) => socket.end(SWITCH));
        const client = await site.connect();
        client.request({ path: '/park' });
        const res = await site.parked('/park');
        const drained = gracefulShutdown(await site.connection());
        res.flushHeaders();
        await client.head();
        client.transport.socket.pause();
        const chunk = Buffer.alloc(65_536, 'a');
        let sent = 0;
        const send = (): void => {
          while (sent < 400) {
            sent++;
            if (!res.write(chunk)) {
              res.once('drain', send);
              return;
            }
          }
          res.end();
        };
        send();
        await standstill(await site.connection());
        client.transport.write(late);
        await site.arrived();
        client.transport.socket.resume();
        expect((await client.response()).body.length).to.equal(400 * chunk.length);
        client.end();
        expect(counters(await drained)).to.deep.equal({ served: 1, unserved: 1 });
      });
    }

    it('treats an upgrade that nobody listens for as an ordinary request', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      client.write(upgrade, ['GET']);
      expect((await client.response()).text).to.equal('/echo');
    });

    it('answers CONNECT with 501 when nobody listens for it', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      const connection = await site.connection();
      client.request({ method: 'CONNECT', path: 'example.org:443' });
      expect((await client.response()).status).to.equal(501);
      client.write('client hello');
      expect(await client.ended()).to.equal('fin');
      client.end();
      await connection.closed;
      expect(site.relay.resets['to-client']).to.equal(0);
    });

    it('gives a CONNECT tunnel to its listener', async () => {
      const site = await Site.open({ tls });
      site.server.on('connect', (req, socket: Duplex) => {
        expect(connectionOf(req)?.active).to.equal(1);
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        socket.pipe(socket);
      });
      const client = await site.connect();
      client.request({ method: 'CONNECT', path: 'example.org:443' });
      expect((await client.response()).status).to.equal(200);
      client.write('through');
      await client.until(() => client.tunnelled.toString() === 'through');
    });
  });
}
