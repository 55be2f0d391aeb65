/** What clients see between the call of `shutdown` and the end: readiness, the delay, and connections that come late. */
import { expect } from 'chai';
import { createServer } from '../../src/index.js';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { eventually, PORTS, Servers, silentClient, thrown } from './support.js';

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

for (const kind of PORTS) {
  const tls = kind === 'TLS';

  describe(`the delay of a shutdown (${kind})`, () => {
    const servers = new Servers();

    it('is not ready from the call on, and tells once', async () => {
      let told = 0;
      const { server } = await servers.start(kind);
      server.on('stopping', () => {
        told++;
        expect(server.ready).to.equal(false);
      });
      expect(server.ready).to.equal(true);
      const stopped = server.shutdown({ delay: 100 });
      expect(server.ready).to.equal(false);
      expect(server.listening).to.equal(true);
      void server.shutdown({ delay: 50 });
      await stopped;
      expect(told).to.equal(1);
      expect(server.ready).to.equal(false);
      await servers.listen(server);
      expect(server.ready).to.equal(true);
    });

    it('goes on as usual: keep-alive and new connections, of both protocols', async () => {
      const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('as usual'));
      const old = [await H1Client.connect({ port, tls }), await H2Client.connect({ port, tls })] as const;
      for (const client of old) await client.fetch();
      const stopped = server.shutdown({ delay: 2_000, idleWait: 0 });
      const young = [await H1Client.connect({ port, tls }), await H2Client.connect({ port, tls })] as const;
      for (const client of [old[0], young[0]]) {
        for (let i = 0; i < 2; i++) {
          const response = await client.fetch();
          expect(response.text).to.equal('as usual');
          expect(response.connectionHas('close')).to.equal(false);
          expect(response.keepAliveTimeout).to.equal(5);
        }
      }
      for (const client of [old[1], young[1]]) {
        for (let i = 0; i < 2; i++) expect((await client.fetch()).text).to.equal('as usual');
        expect(client.goaways).to.deep.equal([]);
      }
      expect([...server.connections].map(({ state }) => state)).to.deep.equal(['open', 'open', 'open', 'open']);
      for (const client of [...old, ...young]) client.transport.socket.once('end', () => client.end());
      const summary = await stopped;
      expect(summary).to.include({ connections: 4 });
      expect(summary.outcomes.drained).to.equal(4);
      expect(summary.duration).to.be.at.least(1_990);
    });

    it('is part of the budget', async () => {
      const { server, port } = await servers.start(kind, {}, () => {});
      const client = await H1Client.connect({ port, tls });
      client.request();
      await eventually(() => [...server.connections].some(({ active }) => active === 1), 'a request in flight');
      const summary = await server.shutdown({ delay: 1_500, timeout: 2_000, linger: 0 });
      expect(summary.outcomes.forced).to.equal(1);
      expect(summary.duration).to.be.within(1_950, 3_450);
      client.destroy();
    });

    it('is cut short by a second call with a shorter one', async () => {
      const { server } = await servers.start(kind);
      const began = performance.now();
      const stopped = server.shutdown({ delay: 20_000 });
      await pause(20);
      void server.shutdown({ delay: 100 });
      await stopped;
      expect(performance.now() - began).to.be.within(100, 2_000);
    });

    it('is ended by close()', async () => {
      const { server } = await servers.start(kind);
      const stopped = server.shutdown({ delay: 20_000 });
      server.close();
      expect((await stopped).duration).to.be.below(2_000);
    });

    it('is ended by the signal that cuts', async () => {
      const { server, port } = await servers.start(kind, {}, () => {});
      const client = await H1Client.connect({ port, tls });
      client.request();
      await eventually(() => [...server.connections].some(({ active }) => active === 1), 'a request in flight');
      const cut = new AbortController();
      const stopped = server.shutdown({ delay: 20_000, signal: cut.signal });
      cut.abort();
      const summary = await stopped;
      expect(summary.outcomes.forced).to.equal(1);
      expect(summary.duration).to.be.below(2_000);
      client.destroy();
    });

    it('does not delay a server that is not listening', async () => {
      const server = createServer(tls ? { SNICallback: () => {} } : { cleartext: true });
      expect((await server.shutdown({ delay: 20_000 })).duration).to.be.below(1_000);
    });

    it('a shutdown while listen() is pending leaves nothing listening', async () => {
      const server = createServer(tls ? { SNICallback: () => {} } : { cleartext: true });
      server.listen(0, 'localhost');
      await server.shutdown({ delay: 1_000 });
      await pause(50);
      expect(server.listening).to.equal(false);
    });

    it('drains a connection that is accepted before the listener closes after its first response, idleWait 0 or not', async () => {
      const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('served'));
      const late = H1Client.connect({ port, tls });
      // The kernel has the connection, the server not yet.
      const stopped = server.shutdown({ idleWait: 0 });
      const client = await late;
      await eventually(() => !server.listening, 'a closed listener');
      const response = await client.fetch();
      expect(response.text).to.equal('served');
      expect(response.connectionHas('close')).to.equal(true);
      client.end();
      expect((await stopped).outcomes).to.deep.equal({ drained: 1, lossy: 0, forced: 0, peer: 0 });
    });

    it('announces the end to an HTTP/2 connection that is accepted late, and serves its streams', async () => {
      const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('served'));
      const late = H2Client.connect({ port, tls });
      const stopped = server.shutdown({ idleWait: 0 });
      const client = await late;
      const streams = [client.request(), client.request()];
      for (const stream of streams) expect((await client.response(stream)).text).to.equal('served');
      await client.until(() => client.goaways.length > 0, 'GOAWAY');
      expect(client.goaways[0]?.lastStreamId).to.equal(2 ** 31 - 1);
      expect(await client.ended()).to.equal('fin');
      client.end();
      expect(await stopped).to.include({ served: 2, refused: 0 });
    });

    it('closes an idle connection at once with idleWait 0, and a silent new one after a second', async () => {
      const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('ok'));
      const idle = await H1Client.connect({ port, tls });
      await idle.fetch();
      const silent = await silentClient(port);
      silent.once('end', () => silent.end());
      await eventually(() => server.connections.size === 2, 'both connections');
      const began = performance.now();
      const stopped = server.shutdown({ idleWait: 0 });
      expect(await idle.ended()).to.equal('fin');
      expect(silent.readableEnded).to.equal(false);
      idle.end();
      await stopped;
      expect(performance.now() - began).to.be.within(500, 5_000);
    });
  });
}

describe('the options of a shutdown', () => {
  const server = createServer({ cleartext: true });
  const bad: [options: object, name: string, kind: string][] = [
    [{ delay: -1 }, 'shutdown.delay', 'RangeError'],
    [{ delay: '5s' }, 'shutdown.delay', 'TypeError'],
    [{ delay: Infinity }, 'shutdown.delay', 'RangeError'],
    [{ delay: 25_001 }, 'shutdown.delay', 'RangeError'],
    [{ delay: 2_000, timeout: 1_999 }, 'shutdown.delay', 'RangeError'],
    [{ timeout: -1 }, 'shutdown.timeout', 'RangeError'],
    [{ linger: 'long' }, 'shutdown.linger', 'TypeError'],
    [{ dealy: 1 }, 'shutdown.dealy', 'TypeError'],
  ];
  for (const [options, name, kind] of bad) {
    it(`${JSON.stringify(options)} is refused, and nothing is shut down`, async () => {
      const error = await thrown(() => server.shutdown(options));
      expect(error.name).to.equal(kind);
      expect(error.code).to.equal('ERR_LASTCALL_OPTION');
      expect(error.message).to.contain(name);
    });
  }

  it('a delay as long as the timeout is allowed', async () => {
    await server.shutdown({ delay: 100, timeout: 100 });
  });
});
