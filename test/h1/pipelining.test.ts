/**
 * Pipelined requests and a drain: which answer says close, and that nothing at all runs for what comes after it.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { expect } from 'chai';
import { connectionOf, type DrainReport, gracefulShutdown } from '../../src/index.js';
import { encodeRequest } from '../wire/h1-client.js';
import { closeEverything, counters, Site, TRANSPORTS } from './support.js';

for (const { name, tls } of TRANSPORTS) {
  describe(`pipelined requests and a drain (${name})`, () => {
    afterEach(closeEverything);

    const three = (...paths: string[]) => Buffer.concat(paths.map((path) => encodeRequest({ path })));

    it('answers all that were received in order, close on the last only', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      client.write(three('/park', '/b', '/c'), ['GET', 'GET', 'GET']);
      const res = await site.parked('/park');
      const drained = gracefulShutdown(await site.connection());
      res.end('/a');
      await client.until(() => client.responses.length === 3);
      expect(client.responses.map((answer) => answer.text)).to.deep.equal(['/a', '/b', '/c']);
      expect(client.responses.map((answer) => answer.connectionHas('close'))).to.deep.equal([false, false, true]);
      expect(await client.ended()).to.equal('fin');
      client.end();
      expect(counters(await drained)).to.deep.equal({ served: 3 });
      expect(site.relay.resets['to-client']).to.equal(0);
    });

    for (const transport of ['in one packet', 'one after the other'] as const) {
      it(`answers what came behind an expectation that it can't meet, ${transport}`, async () => {
        const site = await Site.open({ tls });
        const client = await site.connect();
        const drained = gracefulShutdown(await site.connection());
        const odd = encodeRequest({ headers: { expect: 'a miracle' } });
        const next = encodeRequest({ path: '/next' });
        if (transport === 'in one packet') client.write(Buffer.concat([odd, next]), ['GET', 'GET']);
        else {
          client.write(odd, ['GET']);
          await client.response();
          client.write(next, ['GET']);
        }
        await client.until(() => client.responses.length === 2);
        expect(client.responses.map((answer) => [answer.status, answer.connectionHas('close')])).to.deep.equal([
          [417, false],
          [200, true],
        ]);
        client.end();
        expect(counters(await drained)).to.deep.equal({ served: 1, malformed: 1 });
      });
    }

    it('counts what came behind a request without Host, which node:http answers with close', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      const drained = gracefulShutdown(await site.connection());
      client.write(Buffer.concat([Buffer.from('GET / HTTP/1.1\r\n\r\n'), encodeRequest({ path: '/next' })]), ['GET']);
      const answer = await client.response();
      expect([answer.status, answer.connectionHas('close')]).to.deep.equal([400, true]);
      expect(await client.ended()).to.equal('fin');
      client.end();
      expect([counters(await drained), site.handled]).to.deep.equal([{ malformed: 1, unserved: 1 }, []]);
    });

    it('finds the last one when the drain begins between the answers', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      client.write(three('/a', '/park', '/c'), ['GET', 'GET', 'GET']);
      const res = await site.parked('/park');
      const drained = gracefulShutdown(await site.connection());
      res.end('/b');
      await client.until(() => client.responses.length === 3);
      expect(client.responses.map((answer) => answer.connectionHas('close'))).to.deep.equal([false, false, true]);
      expect(await client.ended()).to.equal('fin');
      client.end();
      expect(counters(await drained)).to.deep.equal({ served: 2 });
    });

    it('lets the next request say close when the drain begins after the last head', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      client.write(three('/a', '/park'), ['GET', 'GET']);
      const res = await site.parked('/park');
      res.write('begun');
      await client.until(() => client.current?.text === 'begun');
      const drained = gracefulShutdown(await site.connection());
      client.request({ path: '/c' });
      await site.arrived();
      res.end();
      await client.until(() => client.responses.length === 3);
      expect(client.responses.map((answer) => answer.connectionHas('close'))).to.deep.equal([false, false, true]);
      expect(await client.ended()).to.equal('fin');
      client.end();
      expect(counters(await drained)).to.deep.equal({ served: 2 });
    });

    it('gives the application one request at a time, with its body', async () => {
      let running = 0;
      const site = await Site.open({ tls }, (req, res) => {
        expect(++running).to.equal(1);
        let body = '';
        req.on('data', (chunk: Buffer) => {
          body += chunk.toString();
        });
        req.on('end', () =>
          setImmediate(() => {
            running--;
            res.end(body);
          }),
        );
      });
      const client = await site.connect();
      const posts = ['one', 'two', 'three'].map((body) => encodeRequest({ method: 'POST', body }));
      client.write(Buffer.concat(posts), ['POST', 'POST', 'POST']);
      await client.until(() => client.responses.length === 3);
      expect(client.responses.map((answer) => answer.text)).to.deep.equal(['one', 'two', 'three']);
    });

    it("keeps one request's async context out of the next one's", async () => {
      const storage = new AsyncLocalStorage<string>();
      const seen: (string | undefined)[] = [];
      const site = await Site.open({ tls }, (req, res) => {
        seen.push(storage.getStore());
        storage.enterWith(req.url ?? '');
        res.end();
      });
      const client = await site.connect();
      client.write(three('/a', '/b', '/c'), ['GET', 'GET', 'GET']);
      await client.until(() => client.responses.length === 3);
      client.request({ path: '/d' });
      await client.until(() => client.responses.length === 4);
      expect(seen).to.deep.equal([undefined, undefined, undefined, undefined]);
    });

    for (const how of ['enterWith', 'run'] as const) {
      it(`has what a handler enters by ${how} at the end of its request, too`, async () => {
        const storage = new AsyncLocalStorage<string>();
        const atEnd: (string | undefined)[] = [];
        const site = await Site.open({ tls }, (req, res) => {
          const path = req.url ?? '';
          const handle = (): void => {
            req.on('data', () => {});
            req.on('end', () => {
              atEnd.push(storage.getStore());
              res.end();
            });
          };
          if (how === 'run') storage.run(path, handle);
          else {
            storage.enterWith(path);
            handle();
          }
        });
        const client = await site.connectDirectly();
        const sent = Array.from({ length: 20 }, (_, i) => `/${i}`);
        for (const path of sent) {
          client.request({ path });
          await client.until(() => client.responses.length === atEnd.length && atEnd.length > sent.indexOf(path));
        }
        expect(atEnd).to.deep.equal(sent);
      });
    }

    describe('after the head that says close', () => {
      const late = {
        request: encodeRequest({ path: '/late' }),
        'request with a body': encodeRequest({ method: 'POST', path: '/late', body: 'x'.repeat(100_000) }),
        'Expect: 100-continue': encodeRequest({
          path: '/late',
          method: 'POST',
          headers: { expect: '100-continue', 'content-length': '3' },
        }),
        'Expect: something': encodeRequest({ path: '/late', headers: { expect: 'something' } }),
        upgrade: encodeRequest({ path: '/late', headers: { connection: 'upgrade', upgrade: 'websocket' } }),
        connect: encodeRequest({ method: 'CONNECT', path: 'late:443' }),
      };
      const none = {
        'malformed request': Buffer.from('NONSENSE\r\n\r\n'),
        'half a request': Buffer.from('GET /late HT'),
      };

      for (const [what, bytes] of Object.entries({ ...late, ...none })) {
        it(`no handler of any kind runs for: ${what}`, async () => {
          const site = await Site.open({ tls });
          const ran: string[] = [];
          for (const event of ['request', 'checkContinue', 'checkExpectation', 'upgrade', 'connect', 'clientError']) {
            site.server.on(event, (thing: { url?: string }) => {
              if (thing.url !== '/park') ran.push(event);
            });
          }
          const client = await site.connect();
          client.request({ path: '/park' });
          const res = await site.parked('/park');
          const drained = gracefulShutdown(await site.connection());
          res.flushHeaders();
          expect((await client.head()).connectionHas('close')).to.equal(true);
          client.write(bytes);
          await site.arrived();
          res.end('last');
          expect(await client.ended()).to.equal('fin');
          client.write(bytes);
          await site.arrived();
          client.end();
          const report = await drained;
          expect(ran).to.deep.equal([]);
          expect(client.responses.map((answer) => answer.text)).to.deep.equal(['last']);
          // What can't be told apart isn't counted: a body never came, the parser stopped at an upgrade or an error.
          const unserved =
            { request: 2, 'request with a body': 2, 'Expect: something': 2 }[what] ?? (what in late ? 1 : 0);
          expect(counters(report)).to.deep.equal(unserved > 0 ? { served: 1, unserved } : { served: 1 });
          expect(report.outcome).to.equal(unserved > 0 ? 'lossy' : 'drained');
          expect(site.relay.resets['to-client']).to.equal(0);
        });
      }

      it('counts what crosses the answer on the wire, every one', async () => {
        const site = await Site.open({ tls, delayMs: 20 });
        const reports: Promise<DrainReport>[] = [];
        let sent = 0;
        let answered = 0;
        await Promise.all(
          Array.from({ length: 30 }, async (_, i) => {
            const path = `/park${i}`;
            const client = await site.connect();
            client.request({ path });
            const res = await site.parked(path);
            reports.push(gracefulShutdown(connectionOf(res) as never));
            const crossing = i % 4;
            setTimeout(() => {
              for (let n = 0; n < crossing; n++) client.request({ path: '/crossing' });
            }, i);
            setTimeout(() => res.end('last'), i + 10);
            expect(await client.ended()).to.equal('fin');
            client.end();
            sent += 1 + crossing;
            answered += client.responses.length;
          }),
        );
        const all = await Promise.all(reports);
        const total = (key: 'served' | 'unserved' | 'aborted'): number => all.reduce((sum, each) => sum + each[key], 0);
        expect(total('served')).to.equal(answered);
        expect(total('unserved')).to.equal(sent - answered);
        expect(total('unserved')).to.be.above(0);
        expect(total('aborted')).to.equal(0);
        expect(site.relay.resets['to-client']).to.equal(0);
      });
    });

    it('runs nothing behind an answer whose handler said close itself', async () => {
      const site = await Site.open({ tls }, (req, res) => {
        res.setHeader('Connection', 'close');
        setTimeout(() => res.end(req.url), 20);
      });
      const client = await site.connect();
      const connection = await site.connection();
      client.write(three('/a', '/b', '/c'), ['GET', 'GET', 'GET']);
      expect(await client.ended()).to.equal('fin');
      client.end();
      await connection.closed;
      expect(site.handled).to.deep.equal(['/a']);
      expect(client.responses.map((answer) => answer.text)).to.deep.equal(['/a']);
      const report = await gracefulShutdown(connection);
      expect(report.outcome).to.equal('drained');
    });
  });
}
