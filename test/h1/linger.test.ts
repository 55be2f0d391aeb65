/**
 * The end of an HTTP/1.1 connection: nobody's answer is destroyed by a reset, and what comes too late is counted.
 */
import { Writable } from 'node:stream';
import { expect } from 'chai';
import { connectionOf, type DrainReport, gracefulShutdown } from '../../src/index.js';
import { encodeRequest } from '../wire/h1-client.js';
import { closeEverything, counters, delay, Site, TRANSPORTS } from './support.js';

const MEGABYTE = 1024 * 1024;

for (const { name, tls } of TRANSPORTS) {
  describe(`lingering close of HTTP/1.1 (${name})`, () => {
    afterEach(closeEverything);

    const upload = (path: string, length: number) =>
      `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\n`;

    const READERS = [
      'nobody reads',
      'body-parser gave up on',
      'the handler goes on reading',
      'the handler stopped reading',
      'a pipe is stuck with',
    ] as const;
    for (const reader of READERS) {
      it(`delivers the whole answer to a client that is still sending a body that ${reader}`, async () => {
        const answer = Buffer.alloc(2 * MEGABYTE, 'a');
        const reports: Promise<DrainReport>[] = [];
        const site = await Site.open({ tls, delayMs: 10 }, (req, res) => {
          if (reader === 'a pipe is stuck with') req.pipe(new Writable({ write() {} }));
          else if (reader !== 'nobody reads') req.on('data', () => {});
          if (reader === 'the handler stopped reading') req.once('data', () => req.pause());
          if (reader === 'body-parser gave up on') {
            req.once('data', () => {
              req.removeAllListeners('data');
              req.pause();
            });
          }
          reports.push(gracefulShutdown(connectionOf(req) as never));
          res.writeHead(413).end(answer);
        });
        const client = await site.connect();
        const size = 24 * MEGABYTE;
        client.write(upload('/', size), ['POST']);
        const chunk = Buffer.alloc(MEGABYTE / 4);
        const send = async (): Promise<void> => {
          for (let sent = 0; sent < size; sent += chunk.length) {
            if (!client.transport.write(chunk)) return;
            await delay(4);
          }
        };
        // Reads nothing at first, so that the answer's tail waits in the kernel while the upload goes on.
        client.transport.socket.pause();
        const sending = send();
        await delay(150);
        client.transport.socket.resume();
        const received = await client.response(10_000);
        expect([received.status, received.body.equals(answer), received.connectionHas('close')]).to.deep.equal([
          413,
          true,
          true,
        ]);
        expect(await client.ended()).to.equal('fin');
        await sending;
        client.end();
        expect(await client.transport.closed).to.equal('fin');
        expect(site.relay.resets['to-client']).to.equal(0);
        const report = await (reports[0] as Promise<DrainReport>);
        expect([report.outcome, counters(report)]).to.deep.equal(['drained', { served: 1 }]);
      });
    }

    it('lingers after an answer whose handler said close itself, without a drain', async () => {
      const site = await Site.open({ tls, delayMs: 10 }, (_req, res) =>
        res.writeHead(200, { Connection: 'close' }).end('done'),
      );
      const client = await site.connect();
      const connection = await site.connection();
      client.write(upload('/', 200_000), ['POST']);
      for (let i = 0; i < 20; i++) {
        client.transport.write(Buffer.alloc(10_000));
        await delay(5);
      }
      expect((await client.response()).text).to.equal('done');
      expect(connection.state).to.equal('lingering');
      client.end();
      await connection.closed;
      expect(site.relay.resets['to-client']).to.equal(0);
    });

    for (const draining of [false, true]) {
      it(`has nothing to reset once a request with close is answered, though one came after it (${draining ? 'draining' : 'open'})`, async () => {
        const site = await Site.open({ tls });
        const client = await site.connect();
        const connection = await site.connection();
        const last = encodeRequest({ path: '/park', headers: { connection: 'close' } });
        client.write(Buffer.concat([last, encodeRequest({ path: '/second' })]), ['GET']);
        const res = await site.parked('/park');
        await site.arrived();
        const drained = draining ? gracefulShutdown(connection) : undefined;
        res.end('first');
        expect((await client.response()).text).to.equal('first');
        expect(await client.ended()).to.equal('fin');
        // With a request in flight it would end in a RST.
        expect([connection.state, connection.active]).to.deep.equal(['lingering', 0]);
        client.end();
        await connection.closed;
        expect([connection.served, site.handled]).to.deep.equal([1, ['/park']]);
        if (drained !== undefined) expect(counters(await drained)).to.deep.equal({ served: 1, malformed: 1 });
      });
    }

    it('counts requests that come after its FIN, and answers none of them', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      await client.fetch();
      const drained = gracefulShutdown(await site.connection(), { idleWait: 0 });
      await client.ended();
      for (let i = 0; i < 3; i++) {
        client.request({ path: '/late' });
        await site.arrived();
      }
      client.end();
      const report = await drained;
      expect([report.outcome, counters(report)]).to.deep.equal(['lossy', { unserved: 3 }]);
      expect([site.handled, client.responses.length]).to.deep.equal([['/'], 1]);
      expect(site.relay.resets['to-client']).to.equal(0);
    });

    it('waits for `linger` of silence, and every byte starts it again', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      await client.fetch();
      const drained = gracefulShutdown(await site.connection(), { idleWait: 0, linger: 800 });
      await client.ended();
      const until = performance.now() + 1_200;
      while (performance.now() < until) {
        client.write('x');
        await delay(50);
      }
      const report = await drained;
      expect(report.phases.linger).to.be.within(1_200, 6_000);
    });

    it('lingers no longer than lingerMax', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      await client.fetch();
      const drained = gracefulShutdown(await site.connection(), { idleWait: 0, linger: 900, lingerMax: 1_000 });
      await client.ended();
      const trickle = setInterval(() => client.write('x'), 20);
      const report = await drained;
      clearInterval(trickle);
      expect(report.phases.linger).to.be.within(990, 5_000);
    });

    it('ends sooner when a second drain has less patience', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      await client.fetch();
      const connection = await site.connection();
      const drained = gracefulShutdown(connection, { idleWait: 0, linger: 10_000 });
      // It has seen our FIN, and keeps its side open.
      expect(await client.ended()).to.equal('fin');
      await gracefulShutdown(connection, { linger: 100 });
      expect((await drained).phases.linger).to.be.within(90, 5_000);
    });

    it('ends at once when the client closes', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      await client.fetch();
      const drained = gracefulShutdown(await site.connection(), { idleWait: 0 });
      await client.ended();
      client.end();
      expect((await drained).phases.linger).to.be.below(1_900);
    });

    it('gives up on a client that floods it with late requests', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      await client.fetch();
      const drained = gracefulShutdown(await site.connection(), { idleWait: 0 });
      await client.ended();
      client.write(Buffer.concat(Array.from({ length: 20_000 }, () => encodeRequest({ path: '/late' }))));
      const report = await drained;
      expect(report.unserved).to.be.within(1_001, 15_000);
      expect(report.phases.linger).to.be.below(1_900);
      expect(site.handled).to.deep.equal(['/']);
    });

    it('waits for the body of a request that was answered early before it calls the connection idle', async () => {
      const site = await Site.open({ tls }, (req, res) => {
        res.end(req.url);
      });
      const client = await site.connect();
      client.write(upload('/early', 6), ['POST']);
      await client.until(() => client.responses.length === 1);
      const drained = gracefulShutdown(await site.connection(), { idleWait: 60 });
      await delay(120);
      expect(client.ending).to.equal('open');
      client.write('body..');
      client.request({ path: '/next' });
      await client.until(() => client.responses.length === 2);
      expect(client.responses[1]?.connectionHas('close')).to.equal(true);
      expect(await client.ended()).to.equal('fin');
      client.end();
      expect(counters(await drained)).to.deep.equal({ served: 1 });
    });
  });
}
