/**
 * The times HTTP/1.1 requests are held to: 408 once the first byte of a head has come, nothing before, and never for
 * what already waits in the kernel.
 */
import { expect } from 'chai';
import { gracefulShutdown, type H1Options } from '../../src/index.js';
import { encodeRequest, type H1Client } from '../wire/h1-client.js';
import { stall } from '../wire/waiting.js';
import { closeEverything, counters, delay, Site, standstill, TRANSPORTS } from './support.js';

for (const { name, tls } of TRANSPORTS) {
  describe(`timeouts of HTTP/1.1 requests (${name})`, () => {
    afterEach(closeEverything);

    const HEAD = 'POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n';

    async function open(h1: H1Options): Promise<Site> {
      return Site.open({ tls, options: { h1 } }, (req, res) => {
        req.on('data', () => {});
        req.on('end', () => res.end(req.url));
      });
    }

    for (const [what, bytes, h1] of [
      ['a head that stops after one byte (headersTimeout)', 'G', { headersTimeout: 100 }],
      ['a head that stops in a field (requestTimeout)', 'GET / HTTP/1.1\r\nHos', { requestTimeout: 100 }],
      ['a body that stops (bodyTimeout)', `${HEAD}half`, { bodyTimeout: 100 }],
      ['a body that never begins (bodyTimeout)', HEAD, { bodyTimeout: 100 }],
      ['a body that takes too long (requestTimeout)', `${HEAD}half`, { requestTimeout: 100 }],
    ] as const) {
      it(`answers 408 with close and lingers for ${what}`, async () => {
        const site = await open(h1);
        const client = await site.connect();
        const connection = await site.connection();
        await client.fetch({ path: '/first' });
        const from = performance.now();
        client.write(bytes, ['POST']);
        await client.until(() => client.responses.length === 2);
        expect(performance.now() - from).to.be.within(95, 4_000);
        const [, answer] = client.responses;
        expect([answer?.status, answer?.connectionHas('close')]).to.deep.equal([408, true]);
        expect(await client.ended()).to.equal('fin');
        expect(connection.state).to.equal('lingering');
        client.end();
        await connection.closed;
        expect(site.relay.resets['to-client']).to.equal(0);
      });
    }

    it('tells whoever forwards a body that it is aborted', async () => {
      const events: string[] = [];
      const site = await Site.open({ tls, options: { h1: { bodyTimeout: 100 } } }, (req) => {
        req.on('aborted', () => events.push(`aborted ${req.aborted}`));
        req.on('error', (error: NodeJS.ErrnoException) => events.push(`error ${error.code}`));
        req.on('close', () => events.push('close'));
        req.on('data', () => {});
      });
      const client = await site.connect();
      client.write(`${HEAD}half`, ['POST']);
      expect((await client.response()).status).to.equal(408);
      expect(await client.ended()).to.equal('fin');
      expect(events).to.deep.equal(['aborted true', 'error ECONNRESET', 'close']);
    });

    it('says nothing to a connection that says nothing, whatever the limits', async () => {
      const site = await open({ headersTimeout: 40, requestTimeout: 40, bodyTimeout: 40 });
      const silent = await site.connect();
      const idle = await site.connect();
      await idle.fetch();
      await delay(200);
      expect([silent.ending, idle.ending, silent.unsolicited, idle.unsolicited]).to.deep.equal(['open', 'open', 0, 0]);
      expect((await silent.fetch()).status).to.equal(200);
    });

    it('lets a slow body take as long as it likes while bytes come', async () => {
      const site = await open({ bodyTimeout: 800 });
      const client = await site.connectDirectly();
      client.write(HEAD, ['POST']);
      for (let i = 0; i < 10; i++) {
        await delay(120);
        client.write('x');
      }
      expect((await client.response()).status).to.equal(200);
    });

    it('does not time a body that the application holds back', async () => {
      const site = await Site.open({ tls, options: { h1: { bodyTimeout: 300 } } }, (req, res) => {
        req.pause();
        setTimeout(() => {
          req.resume();
          req.on('end', () => res.end('all'));
        }, 700);
      });
      const client = await site.connect();
      client.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n', ['POST']);
      client.write(Buffer.alloc(300_000));
      expect((await client.response()).text).to.equal('all');
    });

    it('times a body that was held back until the loop stood still from then on', async () => {
      const site = await Site.open({ tls, options: { h1: { bodyTimeout: 400 } } }, (req, res) => {
        req.pause();
        req.on('end', () => res.end('all'));
        setTimeout(() => {
          stall(900);
          req.resume();
        }, 150);
      });
      const client = await site.connectDirectly();
      client.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nx', ['POST']);
      await site.arrived();
      await delay(1_200);
      client.write('y');
      expect((await client.response()).text).to.equal('all');
    });

    it('does not time a body that was not asked for yet', async () => {
      const site = await Site.open({ tls, options: { h1: { bodyTimeout: 800 } } });
      site.server.on('checkContinue', (req, res) => {
        setTimeout(() => {
          res.writeContinue();
          req.resume();
          req.on('end', () => res.end('asked late'));
        }, 1_200);
      });
      const client = await site.connectDirectly();
      client.write('POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n', ['POST']);
      await client.until(() => client.informational.length === 1);
      client.write('body');
      expect((await client.response()).text).to.equal('asked late');
    });

    it('does not time the application', async () => {
      const site = await Site.open({
        tls,
        options: { h1: { headersTimeout: 50, bodyTimeout: 50, requestTimeout: 50 } },
      });
      const client = await site.connect();
      client.request({ path: '/park', method: 'POST', body: 'complete' });
      const res = await site.parked('/park');
      await delay(250);
      res.end('slow');
      expect((await client.response()).text).to.equal('slow');
    });

    for (const [what, first, rest, h1] of [
      ['the rest of a head', 'GET /late HTTP/1.1\r\nHos', 't: x\r\n\r\n', { headersTimeout: 400 }],
      ['the rest of a body', `${HEAD}half.`, 'half.', { bodyTimeout: 400 }],
    ] as const) {
      it(`serves ${what} that came while the loop was stalled past the limit, 50 times of 50`, async () => {
        const site = await Site.open({ tls, options: { h1 } }, (req, res) => {
          req.on('data', () => {});
          req.on('end', () => res.end());
        });
        const clients = await Promise.all(Array.from({ length: 50 }, () => site.connectDirectly()));
        for (const client of clients) client.write(first, ['POST']);
        await site.arrived();
        for (const client of clients) client.write(rest);
        stall(450);
        const answers = await Promise.all(clients.map((client) => client.response()));
        expect(answers.filter((answer) => answer.status === 200).length).to.equal(50);
      });
    }

    it('counts a refused request once, though its rest comes after the 408', async () => {
      const site = await open({ headersTimeout: 400 });
      const client = await site.connect();
      client.write('GET /half HTTP/1.1\r\nHos', ['GET']);
      await site.arrived();
      const drained = gracefulShutdown(await site.connection());
      expect((await client.response()).status).to.equal(408);
      client.write('t: x\r\n\r\n');
      client.request({ path: '/late' });
      await site.arrived();
      client.end();
      const report = await drained;
      expect([report.outcome, counters(report)]).to.deep.equal(['lossy', { malformed: 1, unserved: 1 }]);
      expect(site.handled).to.deep.equal([]);
    });

    it('refuses a head that stalls behind requests that are still being answered, after them', async () => {
      const site = await Site.open({ tls, options: { h1: { headersTimeout: 60 } } });
      const client = await site.connect();
      client.write('GET /park HTTP/1.1\r\nHost: x\r\n\r\nGET /half HT', ['GET', 'GET']);
      const res = await site.parked('/park');
      const drained = gracefulShutdown(await site.connection());
      await delay(150);
      expect(client.responses.length).to.equal(0);
      client.write('TP/1.1\r\nHost: x\r\n\r\n');
      await site.arrived();
      res.end('first');
      await client.until(() => client.responses.length === 2);
      expect(client.responses.map((answer) => [answer.status, answer.connectionHas('close')])).to.deep.equal([
        [200, false],
        [408, true],
      ]);
      expect(await client.ended()).to.equal('fin');
      client.end();
      expect(counters(await drained)).to.deep.equal({ served: 1, malformed: 1 });
      expect(site.handled).to.deep.equal(['/park']);
    });

    describe('a head behind an answer that is not read', () => {
      /** Its first part was read together with the request before it; then node:http has stopped reading. */
      async function unread(): Promise<{ site: Site; client: H1Client }> {
        const h1 = { headersTimeout: 100, bodyTimeout: 0, sendTimeout: 0 };
        const site = await Site.open({ tls, delayMs: 0, bufferBytes: 65_536, options: { h1 } }, (req, res) => {
          res.end(req.url === '/large' ? Buffer.alloc(16 * 1024 * 1024) : req.url);
        });
        const client = await site.connect();
        client.transport.socket.pause();
        client.request({ path: '/large' });
        await standstill(await site.connection());
        client.write(Buffer.concat([encodeRequest({ path: '/second' }), Buffer.from('GET /third HT')]), ['GET', 'GET']);
        await site.arrived();
        return { site, client };
      }

      it('is not timed while nothing is read', async () => {
        const { site, client } = await unread();
        client.write('TP/1.1\r\nHost: x\r\n\r\n');
        await delay(300);
        client.transport.socket.resume();
        await client.until(() => client.responses.length === 3);
        expect(client.responses.map((answer) => answer.status)).to.deep.equal([200, 200, 200]);
        expect(site.server.limits.headersTimeout).to.equal(0);
      });

      it('is timed from when reading goes on', async () => {
        const { client } = await unread();
        await delay(300);
        client.transport.socket.resume();
        await client.until(() => client.responses.length === 3);
        expect(client.responses.map((answer) => answer.status)).to.deep.equal([200, 200, 408]);
      });
    });

    it('does not time a head that comes after the last answer has begun', async () => {
      const site = await Site.open({ tls, options: { h1: { headersTimeout: 40, bodyTimeout: 80 } } });
      const client = await site.connect();
      client.request({ path: '/park' });
      const res = await site.parked('/park');
      const drained = gracefulShutdown(await site.connection());
      res.write('begun');
      await client.head();
      client.write('GET /late HTTP/1.1\r\nHos');
      await delay(200);
      res.end();
      await client.response();
      client.end();
      expect(counters(await drained)).to.deep.equal({ served: 1 });
      expect(site.server.limits.headersTimeout).to.equal(0);
    });

    it('counts a body that stops once, though its answer goes on', async () => {
      const h1 = { requestTimeout: 100, bodyTimeout: 40 };
      const site = await Site.open({ tls, options: { h1 } }, (req, res) => {
        req.resume();
        res.write('begun');
        setTimeout(() => res.end('over'), 500);
      });
      const client = await site.connect();
      client.write(`${HEAD}half`, ['POST']);
      await (await site.connection()).closed;
      expect(site.server.limits.bodyTimeout).to.equal(1);
    });

    it('leaves an answer alone that is corked for longer than sendTimeout', async () => {
      const site = await Site.open({ tls, options: { h1: { sendTimeout: 60 } } }, (_req, res) => {
        res.cork();
        res.write('corked');
        setTimeout(() => {
          res.uncork();
          res.end(' and sent');
        }, 300);
      });
      const client = await site.connect();
      expect((await client.fetch()).text).to.equal('corked and sent');
      expect(site.server.limits.sendTimeout).to.equal(0);
    });

    it("tells a 'clientError' listener instead, as node:http does", async () => {
      const site = await open({ headersTimeout: 60 });
      site.server.on('clientError', (error: Error & { code?: string }, socket) => {
        socket.end(`HTTP/1.1 418 ${error.code}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      });
      const client = await site.connect();
      client.write('GET', ['GET']);
      expect((await client.response()).reason).to.equal('ERR_HTTP_REQUEST_TIMEOUT');
    });

    it('closes a connection that stops in the middle of a body whose answer is complete, without a word', async () => {
      const site = await Site.open({ tls, options: { h1: { bodyTimeout: 80 } } });
      const client = await site.connect();
      client.write(`${HEAD}half`, ['POST']);
      expect((await client.response()).status).to.equal(200);
      expect(await client.ended()).to.equal('fin');
      client.end();
      await client.transport.closed;
      expect([client.unsolicited, site.relay.resets['to-client']]).to.deep.equal([0, 0]);
    });

    for (const setter of ['headersTimeout', 'requestTimeout'] as const) {
      it(`lets the setter of ${setter} work on live connections`, async () => {
        const site = await open({});
        const client = await site.connect();
        await client.fetch();
        site.server[setter] = 80;
        client.write('GET', ['GET']);
        await client.until(() => client.responses.length === 2);
        expect(client.responses[1]?.status).to.equal(408);
      });
    }

    describe('server.setTimeout', () => {
      it('resets an inactive request, and closes an idle connection with a lingering close', async () => {
        const site = await Site.open({ tls });
        site.server.setTimeout(400);
        const busy = await site.connect();
        busy.request({ path: '/park' });
        expect(await busy.ended()).to.equal('reset');
        const idle = await site.connectDirectly();
        await idle.fetch();
        expect(await idle.ended()).to.equal('fin');
        expect(idle.unsolicited).to.equal(0);
      });

      it('leaves it to a listener, on the server or on the response', async () => {
        const site = await Site.open({ tls });
        let heard = 0;
        const client = await site.connect();
        client.request({ path: '/park' });
        const res = await site.parked('/park');
        res.setTimeout(60, () => {
          heard++;
          res.end('timed out');
        });
        expect((await client.response()).text).to.equal('timed out');
        client.destroy();
        await (await site.connection()).closed;
        site.server.setTimeout(400, (socket) => {
          heard++;
          socket.end();
        });
        const other = await site.connectDirectly();
        await other.fetch();
        expect(await other.ended()).to.equal('fin');
        expect(heard).to.equal(2);
      });
    });
  });
}
