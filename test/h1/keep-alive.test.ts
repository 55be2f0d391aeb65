/**
 * Keep-alive without the race: what responses advertise, how long connections are really held, and how the end of an
 * idle connection is an ordinary drain.
 */
import { expect } from 'chai';
import { gracefulShutdown } from '../../src/index.js';
import { stall } from '../wire/waiting.js';
import { closeEverything, delay, Site, TRANSPORTS } from './support.js';

for (const { name, tls } of TRANSPORTS) {
  describe(`keep-alive (${name})`, () => {
    afterEach(closeEverything);

    it('advertises 5 s by default, and what is asked for otherwise', async () => {
      for (const [keepAlive, advertised] of [
        [undefined, 5],
        [{ advertise: 7_000 }, 7],
        [{ advertise: 0 }, undefined],
      ] as const) {
        const site = await Site.open({ tls, options: keepAlive === undefined ? {} : { keepAlive } });
        const client = await site.connect();
        expect((await client.fetch()).keepAliveTimeout).to.equal(advertised);
      }
    });

    it('keeps an idle connection for hold, then drains it with a lingering close', async () => {
      const site = await Site.open({
        tls,
        options: { keepAlive: { advertise: 0, hold: 200 } },
      });
      const client = await site.connectDirectly();
      const askedAt = performance.now();
      await client.fetch();
      const connection = await site.connection();
      expect(await client.ended()).to.equal('fin');
      expect(performance.now() - askedAt).to.be.within(195, 4_000);
      expect(connection.state).to.equal('lingering');
      expect(connection.drainSignal.aborted).to.equal(true);
      client.request({ path: '/late' });
      client.end();
      const { outcome, unserved } = await gracefulShutdown(connection);
      expect([outcome, unserved, site.handled]).to.deep.equal(['lossy', 1, ['/']]);
      expect([client.unsolicited, site.relay.resets['to-client']]).to.deep.equal([0, 0]);
    });

    it('keeps it no longer, whatever a drain may wait', async () => {
      const options = { keepAlive: { advertise: 0, hold: 200 }, drain: { idleWait: Infinity } };
      const site = await Site.open({ tls, options });
      const client = await site.connect();
      expect((await client.fetch({ path: '/a' })).text).to.equal('/a');
      expect(await client.ended()).to.equal('fin');
    });

    it('starts hold again with each answer', async () => {
      const hold = 800;
      const site = await Site.open({ tls, options: { keepAlive: { advertise: 0, hold } } });
      const client = await site.connect();
      const until = performance.now() + 1.5 * hold;
      while (performance.now() < until) {
        await client.fetch();
        await delay(hold / 8);
      }
      expect(client.ending).to.equal('open');
      expect(await client.ended()).to.equal('fin');
    });

    it('does not close a connection whose answer takes longer than hold', async () => {
      const site = await Site.open({ tls, options: { keepAlive: { advertise: 0, hold: 400 } } });
      const client = await site.connectDirectly();
      client.request({ path: '/park' });
      const res = await site.parked('/park');
      await delay(600);
      res.end('at last');
      const answer = await client.response();
      expect([answer.text, answer.connectionHas('close')]).to.deep.equal(['at last', false]);
    });

    for (const [limits, h1] of [
      ['the usual limits', {}],
      ['no limit for bodies and for sending', { bodyTimeout: 0, sendTimeout: 0 }],
    ] as const) {
      it(`closes a connection hold after an answer that took longer than hold, with ${limits}`, async () => {
        const site = await Site.open({ tls, options: { h1, keepAlive: { advertise: 0, hold: 400 } } });
        const client = await site.connectDirectly();
        client.request({ path: '/park' });
        const res = await site.parked('/park');
        await delay(600);
        res.end();
        const answeredAt = performance.now();
        expect(await client.ended()).to.equal('fin');
        expect(performance.now() - answeredAt).to.be.at.least(390);
      });

      it(`closes a connection hold after the late end of a request that was answered early, with ${limits}`, async () => {
        const site = await Site.open({ tls, options: { h1, keepAlive: { advertise: 0, hold: 400 } } });
        const client = await site.connectDirectly();
        client.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n', ['POST']);
        await client.response();
        await delay(600);
        client.write('body');
        const endedAt = performance.now();
        expect(await client.ended()).to.equal('fin');
        expect(performance.now() - endedAt).to.be.at.least(390);
      });
    }

    it('closes a connection that never asks for anything after hold, without a word', async () => {
      const site = await Site.open({ tls, options: { keepAlive: { advertise: 0, hold: 100 } } });
      const client = await site.connect();
      expect(await client.ended()).to.equal('fin');
      expect([client.unsolicited, client.parseError]).to.deep.equal([0, undefined]);
    });

    it('serves the request that came while the loop was stalled past hold, 50 times of 50', async () => {
      const hold = 1_500;
      const site = await Site.open({ tls, options: { keepAlive: { advertise: 0, hold } } });
      const clients = await Promise.all(
        Array.from({ length: 50 }, async () => {
          const client = await site.connectDirectly();
          await client.fetch({ path: '/first' });
          return client;
        }),
      );
      for (const client of clients) client.request({ path: '/second' });
      stall(hold + 50);
      await Promise.all(clients.map((client) => client.until(() => client.responses.length === 2)));
      expect(site.handled.filter((path) => path === '/second').length).to.equal(50);
    });

    it('serves the request that came while the loop was stalled past idleWait, 50 times of 50', async () => {
      const site = await Site.open({ tls });
      const clients = await Promise.all(Array.from({ length: 50 }, () => site.connectDirectly()));
      await Promise.all(clients.map((client) => client.fetch({ path: '/first' })));
      // Each by itself: server.drain tells only some of them in this turn.
      const live = [...site.server.connections];
      const drained = Promise.all(live.map((one) => gracefulShutdown(one, { idleWait: 40 })));
      for (const client of clients) client.request({ path: '/second' });
      stall(80);
      await Promise.all(clients.map((client) => client.until(() => client.responses.length === 2)));
      for (const client of clients) {
        expect(client.responses[1]?.connectionHas('close')).to.equal(true);
        await client.ended();
        client.end();
      }
      const reports = await drained;
      expect(reports.map(({ outcome, served }) => `${outcome} ${served}`)).to.deep.equal(Array(50).fill('drained 1'));
    });

    it('drains a connection whose requests are used up', async () => {
      const site = await Site.open({ tls, options: { h1: { maxRequestsPerSocket: 3 } } });
      const client = await site.connect();
      for (let i = 0; i < 3; i++) await client.fetch({ path: `/${i}` });
      expect(client.responses.map((answer) => answer.connectionHas('close'))).to.deep.equal([false, false, true]);
      expect(await client.ended()).to.equal('fin');
      client.end();
      await client.transport.closed;
      expect(site.relay.resets['to-client']).to.equal(0);
    });

    it('lets the setters of keepAliveTimeout and maxRequestsPerSocket work on live connections', async () => {
      const site = await Site.open({ tls });
      const client = await site.connect();
      await client.fetch();
      site.server.keepAliveTimeout = 9_000;
      expect((await client.fetch()).keepAliveTimeout).to.equal(9);
      site.server.maxRequestsPerSocket = 1;
      expect((await client.fetch()).connectionHas('close')).to.equal(true);
    });
  });
}
