/**
 * A drain of one HTTP/1.1 connection, case by case, as its client sees it through a relay with a delay.
 */
import { expect } from 'chai';
import { connectionOf, type DrainReport, gracefulShutdown } from '../../src/index.js';
import type { H1Client } from '../wire/h1-client.js';
import { turns } from '../wire/waiting.js';
import { closeEverything, counters, delay, Site, standstill, TRANSPORTS } from './support.js';

for (const { name, tls } of TRANSPORTS) {
  describe(`draining an HTTP/1.1 connection (${name})`, () => {
    afterEach(closeEverything);

    /** The client sees our FIN, never a reset, and leaves. */
    async function leaves(site: Site, client: H1Client): Promise<void> {
      expect(await client.ended()).to.equal('fin');
      client.end();
      expect(await client.transport.closed).to.equal('fin');
      expect(site.relay.resets['to-client']).to.equal(0);
    }

    it('says close on the answer of the request that runs', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      client.request({ path: '/park' });
      const res = await site.parked('/park');
      const drained = gracefulShutdown(await site.connection());
      res.end('done');
      const answer = await client.response();
      expect([answer.status, answer.text, answer.connectionHas('close')]).to.deep.equal([200, 'done', true]);
      expect(answer.header('keep-alive')).to.equal(undefined);
      await leaves(site, client);
      const report = await drained;
      expect([report.outcome, report.protocol, counters(report)]).to.deep.equal(['drained', 'http/1.1', { served: 1 }]);
    });

    for (const framing of ['chunked', 'content-length'] as const) {
      it(`finishes a ${framing} answer whose head is sent, and says close on the next one`, async () => {
        const site = await Site.open({ tls });
        const client = await site.connect();
        client.request({ path: '/park' });
        const res = await site.parked('/park');
        res.writeHead(200, framing === 'chunked' ? {} : { 'content-length': 8 });
        res.write('half');
        expect((await client.head()).connectionHas('close')).to.equal(false);
        const drained = gracefulShutdown(await site.connection());
        res.end('half');
        await client.until(() => client.responses.length === 1);
        expect(client.responses[0]?.text).to.equal('halfhalf');
        expect(client.ending).to.equal('open');
        client.request({ path: '/next' });
        await client.until(() => client.responses.length === 2);
        expect(client.responses[1]?.text).to.equal('/next');
        expect(client.responses[1]?.connectionHas('close')).to.equal(true);
        await leaves(site, client);
        expect(counters(await drained)).to.deep.equal({ served: 2 });
      });
    }

    it('serves the request that was on the wire when an idle connection was drained, every time', async () => {
      const site = await Site.open({ tls, delayMs: 10 });
      const reports: Promise<DrainReport>[] = [];
      const runs = Array.from({ length: 40 }, async (_, i) => {
        const client = await site.connect();
        await client.fetch({ path: '/first' });
        const connection = [...site.server.connections].find(
          ({ remotePort }) => remotePort === site.relay.byClientPort(client.transport.localPort)?.serverSidePort,
        );
        if (connection === undefined) throw new Error('connection not found');
        client.request({ path: '/second' });
        // From before it has left the relay until after it was answered.
        await delay((i / 40) * 25);
        reports.push(gracefulShutdown(connection));
        const answer = await client.response();
        expect(answer.text).to.equal('/second');
        if (!answer.connectionHas('close')) expect((await client.fetch({ path: '/third' })).text).to.equal('/third');
        await leaves(site, client);
      });
      await Promise.all(runs);
      for (const report of await Promise.all(reports)) {
        expect([report.outcome, report.unserved, report.aborted]).to.deep.equal(['drained', 0, 0]);
      }
    });

    it('half-closes an idle connection that brings no request in idleWait', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      await client.fetch();
      const drained = gracefulShutdown(await site.connection(), { idleWait: 60 });
      await leaves(site, client);
      const report = await drained;
      expect([report.outcome, counters(report)]).to.deep.equal(['drained', {}]);
      expect(report.phases.settle).to.be.within(50, 4_000);
      expect(client.unsolicited).to.equal(0);
    });

    it('closes an idle connection at once for idleWait 0', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      await client.fetch();
      const drained = gracefulShutdown(await site.connection(), { idleWait: 0 });
      await leaves(site, client);
      const report = await drained;
      expect(report.outcome).to.equal('drained');
      expect(report.phases.settle).to.be.below(2_000);
    });

    for (const idleWait of [undefined, Infinity]) {
      for (const [linger, waited] of [
        [100, 700],
        [2_000, 600],
      ] as const) {
        it(`of a timeout of 800 ms waits ${waited} with a linger of ${linger} and idleWait ${idleWait}`, async () => {
          const site = await Site.open({ tls });
          const client = await site.connect();
          await client.fetch();
          const options = { timeout: 800, linger, ...(idleWait !== undefined && { idleWait }) };
          const drained = gracefulShutdown(await site.connection(), options);
          await leaves(site, client);
          const report = await drained;
          expect([report.outcome, counters(report)]).to.deep.equal(['drained', {}]);
          expect(report.phases.settle).to.be.within(waited - 5, waited + 80);
        });
      }
    }

    it('hands over nothing that comes behind a FIN of the application’s own', async () => {
      const site = await Site.open({ tls }, (req, res) => {
        res.end('last');
        req.socket.end();
      });
      const client = await site.connect();
      const connection = await site.connection();
      expect((await client.fetch({ path: '/first' })).text).to.equal('last');
      expect(await client.ended()).to.equal('fin');
      client.request({ path: '/late' });
      client.end();
      await gracefulShutdown(connection, { timeout: 5_000 });
      expect(site.handled).to.deep.equal(['/first']);
      expect(site.server.connections.requests).to.include({ served: 1, unserved: 1, aborted: 0 });
    });

    it('waits no longer than hold when idleWait is left out', async () => {
      const site = await Site.open({ tls, options: { keepAlive: { advertise: 0, hold: 600 } } });
      const client = await site.connect();
      await client.fetch();
      const drained = gracefulShutdown(await site.connection());
      await leaves(site, client);
      expect((await drained).phases.settle).to.be.within(50, 4_000);
    });

    it('counts the idleWait of a call that joins from that call', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      await client.fetch();
      const connection = await site.connection();
      const drained = gracefulShutdown(connection, { idleWait: 5_000 });
      await new Promise((resolve) => setTimeout(resolve, 300));
      const from = performance.now();
      void gracefulShutdown(connection, { idleWait: 200 });
      void gracefulShutdown(connection, { idleWait: 4_000 });
      await leaves(site, client);
      await drained;
      expect(performance.now() - from).to.be.within(195, 2_000);
    });

    it('waits no longer for a call that joins than for the one before', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      await client.fetch();
      const connection = await site.connection();
      const drained = gracefulShutdown(connection, { idleWait: 1_000 });
      await delay(900);
      void gracefulShutdown(connection, { idleWait: 990 });
      await leaves(site, client);
      expect((await drained).phases.settle).to.be.within(950, 1_850);
    });

    it('counts an answer as served whose socket the application has destroyed soon', async () => {
      const site = await Site.open({ tls }, (req, res) => {
        res.end('whole');
        req.socket.destroySoon();
      });
      const client = await site.connect();
      const drained = gracefulShutdown(await site.connection());
      expect((await client.fetch()).text).to.equal('whole');
      client.end();
      const report = await drained;
      expect([report.outcome, counters(report)]).to.deep.equal(['drained', { served: 1 }]);
    });

    it('joins the drain under way, and the shorter idleWait wins', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      await client.fetch();
      const connection = await site.connection();
      const first = gracefulShutdown(connection);
      const second = gracefulShutdown(connection, { idleWait: 0 });
      await leaves(site, client);
      expect(await first).to.equal(await second);
    });

    it('takes half a head for a request in flight', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      await client.fetch();
      client.write('GET /split HTTP/1.1\r\nHos', ['GET']);
      await site.arrived();
      const drained = gracefulShutdown(await site.connection(), { idleWait: 0 });
      await delay(40);
      expect(client.ending).to.equal('open');
      client.write('t: x\r\n\r\n');
      const answer = await client.response();
      expect([answer.text, answer.connectionHas('close')]).to.deep.equal(['/split', true]);
      await leaves(site, client);
      expect(counters(await drained)).to.deep.equal({ served: 1 });
    });

    it('leaves close to the request whose head has begun to arrive', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      client.request({ path: '/park' });
      const res = await site.parked('/park');
      client.write('G', ['GET']);
      await site.arrived();
      const drained = gracefulShutdown(await site.connection());
      res.end('one');
      const first = await client.response();
      expect([first.text, first.connectionHas('close')]).to.deep.equal(['one', false]);
      client.write('ET /two HTTP/1.1\r\nHost: x\r\n\r\n');
      const second = await client.response();
      expect([second.text, second.connectionHas('close')]).to.deep.equal(['/two', true]);
      await leaves(site, client);
      expect(counters(await drained)).to.deep.equal({ served: 2 });
    });

    it('takes half a body for a request in flight', async () => {
      const site = await Site.open({ tls }, (req, res) => {
        let body = '';
        req.setEncoding('utf8');
        req.on('data', (chunk: string) => {
          body += chunk;
        });
        req.on('end', () => res.end(body));
      });
      const client = await site.connect();
      client.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf', ['POST']);
      await site.arrived();
      const drained = gracefulShutdown(await site.connection(), { idleWait: 0 });
      await delay(20);
      client.write('half');
      const answer = await client.response();
      expect([answer.text, answer.connectionHas('close')]).to.deep.equal(['halfhalf', true]);
      await leaves(site, client);
      expect(counters(await drained)).to.deep.equal({ served: 1 });
    });

    it('sends 100 (Continue) and then an answer with close', async () => {
      const site = await Site.open({ tls }, (req, res) => {
        req.resume();
        req.on('end', () => res.end('got it'));
      });
      const client = await site.connect();
      client.write('POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n', ['POST']);
      await client.until(() => client.informational.length === 1);
      const drained = gracefulShutdown(await site.connection());
      client.write('body');
      const answer = await client.response();
      expect([answer.text, answer.connectionHas('close')]).to.deep.equal(['got it', true]);
      await leaves(site, client);
      expect(counters(await drained)).to.deep.equal({ served: 1 });
    });

    it('ends an HTTP/1.0 answer as HTTP/1.0 does', async () => {
      const site = await Site.open({ tls }, (req, res) => {
        res.write('un');
        void gracefulShutdown(req.socket && (connectionOf(req) as never));
        res.end('til close');
      });
      const client = await site.connect();
      const answer = await client.fetch({ version: '1.0' });
      expect([answer.text, answer.connectionHas('close')]).to.deep.equal(['until close', true]);
      await leaves(site, client);
    });

    it('overrules an HTTP/1.0 client that asks for keep-alive', async () => {
      const site = await Site.open({ tls }, (req, res) => {
        const body = req.url ?? '';
        res.setHeader('content-length', body.length);
        if (body === '/last') void gracefulShutdown(connectionOf(req) as never);
        res.end(body);
      });
      const client = await site.connect();
      const headers = { Connection: 'keep-alive' };
      const first = await client.fetch({ version: '1.0', headers, path: '/first' });
      expect(first.connectionHas('keep-alive')).to.equal(true);
      const last = await client.fetch({ version: '1.0', headers, path: '/last' });
      expect([last.connectionHas('close'), last.connectionHas('keep-alive')]).to.deep.equal([true, false]);
      await leaves(site, client);
    });

    for (const [method, status] of [
      ['HEAD', 200],
      ['GET', 204],
      ['GET', 304],
    ] as const) {
      it(`says close on the answer to ${method} with ${status}`, async () => {
        const site = await Site.open({ tls }, (req, res) => {
          void gracefulShutdown(connectionOf(req) as never);
          res.writeHead(status);
          res.end(method === 'HEAD' ? 'not sent' : undefined);
        });
        const client = await site.connect();
        const answer = await client.fetch({ method });
        expect([answer.status, answer.body.length, answer.connectionHas('close')]).to.deep.equal([status, 0, true]);
        await leaves(site, client);
      });
    }

    it('cuts a request whose handler never answers, with a reset, and names it', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      client.request({ path: '/park' });
      await site.parked('/park');
      const report = await gracefulShutdown(await site.connection(), { timeout: 80 });
      expect([report.outcome, counters(report)]).to.deep.equal(['forced', { aborted: 1 }]);
      expect(report.cut.map(({ method, path }) => [method, path])).to.deep.equal([['GET', '/park']]);
      expect(report.cut[0]?.ageMs).to.be.within(70, 5_000);
      expect(await client.ended()).to.equal('reset');
    });

    it('never lets an answer that is cut look complete', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      client.request({ path: '/park', version: '1.0' });
      const res = await site.parked('/park');
      res.write('only half');
      await client.head();
      const signal = new AbortController();
      const drained = gracefulShutdown(await site.connection(), { signal: signal.signal });
      signal.abort();
      expect((await drained).outcome).to.equal('forced');
      expect(await client.ended()).to.equal('reset');
      expect(client.responses).to.deep.equal([]);
    });

    it('answers a client that half-closed first', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      client.request({ path: '/park' });
      client.end();
      const res = await site.parked('/park');
      await site.arrived();
      const drained = gracefulShutdown(await site.connection());
      res.end('still here');
      expect((await client.response()).text).to.equal('still here');
      expect(await client.ended()).to.equal('fin');
      const report = await drained;
      expect([report.outcome, counters(report)]).to.deep.equal(['drained', { served: 1 }]);
      expect(report.duration).to.be.below(1_500);
    });

    it("counts a client that leaves without its answer as the peer's doing", async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      client.request({ path: '/park' });
      await site.parked('/park');
      const drained = gracefulShutdown(await site.connection());
      client.reset();
      const report = await drained;
      expect([report.outcome, counters(report)]).to.deep.equal(['peer', { aborted: 1 }]);
    });

    it('counts an answer that the client never took as aborted', async () => {
      const site = await Site.open({ tls, delayMs: 0, bufferBytes: 65_536 }, (_req, res) =>
        res.end(Buffer.alloc(32 * 1024 * 1024)),
      );
      const client = await site.connect();
      client.transport.socket.pause();
      client.request();
      const connection = await site.connection();
      await standstill(connection);
      const drained = gracefulShutdown(connection);
      client.reset();
      const report = await drained;
      expect([report.outcome, counters(report)]).to.deep.equal(['peer', { aborted: 1 }]);
    });

    it('says close when the drain is called in the handler, before and after writeHead', async () => {
      const site = await Site.open({ tls }, (req, res) => {
        if (req.url === '/formatted') res.writeHead(200, { Connection: 'keep-alive, foo', 'X-A': 'b' });
        void gracefulShutdown(connectionOf(req) as never);
        res.end('x');
      });
      for (const path of ['/', '/formatted']) {
        const client = await site.connect();
        const answer = await client.fetch({ path });
        expect([answer.text, answer.connectionHas('close'), answer.connectionHas('keep-alive')], path).to.deep.equal([
          'x',
          true,
          false,
        ]);
        if (path === '/formatted')
          expect([answer.connectionHas('foo'), answer.header('x-a')]).to.deep.equal([true, 'b']);
        await leaves(site, client);
      }
    });

    it('serves the first request of a connection that has sent none', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      const drained = gracefulShutdown(await site.connection());
      await turns();
      const answer = await client.fetch({ path: '/first' });
      expect([answer.text, answer.connectionHas('close')]).to.deep.equal(['/first', true]);
      await leaves(site, client);
      expect(counters(await drained)).to.deep.equal({ served: 1 });
    });

    it('closes a connection that has sent nothing when idleWait is over', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      const drained = gracefulShutdown(await site.connection(), { idleWait: 30 });
      await leaves(site, client);
      expect([(await drained).outcome, client.unsolicited]).to.deep.equal(['drained', 0]);
    });

    it('counts the request that crosses the FIN of a connection that had sent nothing', async () => {
      // Far: on a machine that is busy it must not arrive before the FIN goes out.
      const site = await Site.open({ tls, delayMs: 150 });
      const client = await site.connect();
      await site.arrived();
      const drained = gracefulShutdown(await site.connection(), { idleWait: 0 });
      client.request({ path: '/late' });
      expect(await client.ended()).to.equal('fin');
      client.end();
      const report = await drained;
      expect([report.outcome, counters(report)]).to.deep.equal(['lossy', { unserved: 1 }]);
      expect(site.handled).to.deep.equal([]);
    });
  });
}

describe('draining a connection in its TLS handshake', () => {
  afterEach(closeEverything);

  it('shakes hands, serves one request with close, and ends', async () => {
    const site = await Site.open({ tls: true, delayMs: 20 });
    const connecting = site.connect();
    const connection = await site.connection();
    expect(connection.state).to.equal('handshaking');
    const drained = gracefulShutdown(connection);
    const client = await connecting;
    const answer = await client.fetch({ path: '/first' });
    expect([answer.text, answer.connectionHas('close')]).to.deep.equal(['/first', true]);
    expect(await client.ended()).to.equal('fin');
    client.end();
    const report = await drained;
    expect([report.outcome, counters(report), report.protocol]).to.deep.equal(['drained', { served: 1 }, 'http/1.1']);
    expect(site.relay.resets['to-client']).to.equal(0);
  });
});
