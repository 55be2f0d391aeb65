import { spawn } from 'node:child_process';
import { getEventListeners, once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createNetServer } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { createServer, type DrainSummary } from '../../src/index.js';
import { FakeClock } from '../core/fake-clock.js';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { Random } from '../wire/random.js';
import { Relay } from '../wire/relay.js';
import { stall } from '../wire/waiting.js';
import { eventually, PORTS, Servers, silentClient, thrown } from './support.js';

for (const kind of PORTS) {
  const tls = kind === 'TLS';

  describe(`stopping a server (${kind})`, () => {
    const servers = new Servers();

    it('shutdown serves what is in flight on both protocols, then closes everything', async () => {
      const held: ServerResponse[] = [];
      const { server, port } = await servers.start(kind, {}, (_req, res) => held.push(res));
      const h1 = await H1Client.connect({ port, tls });
      const h2 = await H2Client.connect({ port, tls });
      h1.request();
      const stream = h2.request();
      await eventually(() => held.length === 2, 'two requests in flight');
      const closed = once(server, 'close');
      const stopped = server.shutdown();
      for (const res of held) res.end('served');
      expect((await h1.response()).text).to.equal('served');
      expect((await h2.response(stream)).text).to.equal('served');
      for (const client of [h1, h2]) {
        expect(await client.ended()).to.equal('fin');
        client.end();
      }
      const summary = await stopped;
      await closed;
      expect(summary).to.include({ connections: 2, served: 2, aborted: 0, unserved: 0 });
      expect(summary.outcomes).to.deep.equal({ drained: 2, lossy: 0, forced: 0, peer: 0 });
      expect(summary.notDrained).to.deep.equal([]);
      expect(server.connections.size).to.equal(0);
      expect(server.listening).to.equal(false);
    });

    it('close(cb) does the same, and waits at most a second for idle connections', async () => {
      const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('ok'));
      const idle = await H1Client.connect({ port, tls });
      idle.transport.socket.once('end', () => idle.end());
      await idle.fetch();
      const began = performance.now();
      await new Promise<void>((resolve, reject) => server.close((error) => (error ? reject(error) : resolve())));
      expect(performance.now() - began).to.be.within(900, 4_000);
      expect(idle.ending).to.equal('fin');
      idle.destroy();
    });

    it('close() serves the request that an idle connection brings within that second', async () => {
      const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('one more'));
      const client = await H1Client.connect({ port, tls });
      await client.fetch();
      const closed = once(server, 'close');
      server.close();
      await new Promise((resolve) => setTimeout(resolve, 200));
      const response = await client.fetch();
      expect(response.text).to.equal('one more');
      expect(response.connectionHas('close')).to.equal(true);
      client.end();
      await closed;
    });

    it('close() waits for an answer as long as it takes', async () => {
      const held: ServerResponse[] = [];
      const { server, port } = await servers.start(kind, {}, (_req, res) => held.push(res));
      const client = await H1Client.connect({ port, tls });
      client.request();
      await eventually(() => held.length === 1, 'a request in flight');
      const clock = new FakeClock();
      const closed = once(server, 'close');
      server.close();
      await clock.advance(3_600_000);
      clock.restore();
      held[0]?.end('served');
      expect((await client.response()).text).to.equal('served');
      client.end();
      await closed;
    });

    it('tells many connections a few per turn of the loop, and serves those that it has not told yet', async () => {
      const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('served'));
      const clients = await Promise.all(
        Array.from({ length: 150 }, async () => {
          const client = await H1Client.connect({ port, tls });
          client.transport.socket.once('end', () => client.end());
          await client.fetch();
          return client;
        }),
      );
      const connections = [...server.connections];
      const untold = (): number => connections.filter(({ state }) => state === 'open').length;
      const stopped = server.shutdown({ idleWait: 2_000 });
      const left: number[] = [untold()];
      const requests = clients.map((client) => client.fetch());
      while (untold() > 0) {
        await new Promise((resolve) => setImmediate(resolve));
        left.push(untold());
      }
      for (const [i, count] of left.entries()) expect((left[i - 1] ?? connections.length) - count).to.be.at.most(64);
      for (const { text } of await Promise.all(requests)) expect(text).to.equal('served');
      await Promise.all(clients.map(async (client) => client.ending === 'open' && (await client.ended())));
      const summary = await stopped;
      expect(summary.outcomes).to.deep.equal({ drained: 150, lossy: 0, forced: 0, peer: 0 });
      expect(summary).to.include({ connections: 150, unserved: 0, aborted: 0 });
      for (const client of clients) expect(client.transport.wasReset).to.equal(false);
    });

    it('listens to its signal once for all connections, and no longer than there are any', async () => {
      const { server, port } = await servers.start(kind, {}, () => {});
      const clients = await Promise.all(Array.from({ length: 12 }, () => H1Client.connect({ port, tls })));
      for (const client of clients) client.request();
      await eventually(
        () => [...server.connections].filter(({ active }) => active === 1).length === clients.length,
        'requests in flight',
      );
      const controller = new AbortController();
      const stopped = server.shutdown({ signal: controller.signal });
      expect(getEventListeners(controller.signal, 'abort')).to.have.length(1);
      controller.abort();
      expect((await stopped).outcomes).to.include({ forced: 12 });
      expect(getEventListeners(controller.signal, 'abort')).to.have.length(0);
      for (const client of clients) client.destroy();
    });

    it('takes no new connections afterwards', async () => {
      const { server, port } = await servers.start(kind);
      await server.shutdown();
      expect((await thrown(() => H1Client.connect({ port, tls }))).code).to.equal('ECONNREFUSED');
    });

    for (const how of ['shutdown', 'close'] as const) {
      it(`serves all of a burst that connects right before ${how}()`, async () => {
        const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('served'));
        const burst = Array.from({ length: 50 }, async () => {
          const client = await H1Client.connect({ port, tls });
          const { text } = await client.fetch();
          client.end();
          return text;
        });
        // The kernel has their connections, the server not one of them yet.
        const sockets = server.connections.size;
        const closed = once(server, 'close');
        server[how]();
        expect(sockets).to.equal(0);
        const answers = await Promise.allSettled(burst);
        expect(answers.filter(({ status }) => status === 'fulfilled')).to.have.length(50);
        await closed;
      });
    }

    /** A process that connects so many times; resolves when it is about to, with what resolves when it has ended. */
    const burst = async (port: number, count: number): Promise<() => Promise<string>> => {
      const child = spawn(process.execPath, [fileURLToPath(new URL('./burst-client.mjs', import.meta.url))], {
        env: { ...process.env, PORT: String(port), TLS: tls ? '1' : '', COUNT: String(count) },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let said = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
      const ended = once(child, 'close');
      await eventually(() => said.includes('connecting'), 'the burst to begin');
      return async () => {
        await ended;
        return said;
      };
    };
    it('serves a burst that connects while the loop is stalled', async () => {
      const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('served'));
      const ended = await burst(port, 50);
      stall(400);
      await server.shutdown({ idleWait: 2_000 });
      expect(await ended()).to.match(/answered 50 of 50/);
    });

    it('serves those that connect in a stall of its last turn', async () => {
      const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('served'));
      const asked: Promise<string>[] = [];
      const staller = createNetServer((socket) =>
        socket.once('data', () => {
          stall(50);
          for (let i = 0; i < 10; i++)
            asked.push(
              H1Client.connect({ port, tls }).then(async (client) => {
                const { text } = await client.fetch();
                client.end();
                return text;
              }),
            );
        }),
      );
      staller.listen(0, '127.0.0.1');
      await once(staller, 'listening');
      const trigger = await silentClient((staller.address() as AddressInfo).port);
      const stopped = server.shutdown();
      setImmediate(() => trigger.write('now'));
      await eventually(() => asked.length === 10, 'the stall');
      trigger.destroy();
      staller.close();
      const answers = await Promise.allSettled(asked);
      expect(answers.filter(({ status }) => status === 'fulfilled')).to.have.length(10);
      expect(await stopped).to.include({ served: 10, unserved: 0 });
    });

    it('closes its listener even if every turn is slow', async () => {
      const { server } = await servers.start(kind);
      const slowTurn = (): void => {
        stall(10);
        if (server.listening) setImmediate(slowTurn);
      };
      setImmediate(slowTurn);
      expect((await server.shutdown({ timeout: Infinity })).duration).to.be.below(5_000);
    });

    if (!tls)
      it('takes in hundreds that wait to be accepted, though every turn of the loop is slow', async () => {
        const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('served'));
        const ended = await burst(port, 400);
        stall(1_000);
        let began = performance.now();
        const slowTurn = (): void => {
          stall(began + 8 - performance.now());
          began = performance.now();
          if (server.listening) setImmediate(slowTurn);
        };
        setImmediate(slowTurn);
        // Node accepts one connection in a turn: that takes more than three seconds.
        await server.shutdown({ timeout: 20_000, idleWait: 2_000 });
        expect(await ended()).to.match(/answered 400 of 400/);
      }).timeout(30_000);

    it('closes the listener in time even if clients never stop connecting', async () => {
      const { server, port } = await servers.start(kind, {}, (_req, res) => res.end());
      let stopped = false;
      const connecting = (async () => {
        while (!stopped) {
          await silentClient(port).then(
            (client) => setTimeout(() => client.destroy(), 50),
            () => {},
          );
        }
      })();
      const summary = await server.shutdown({ timeout: 1_000, idleWait: 0, linger: 50 });
      stopped = true;
      expect(summary.duration).to.be.below(5_000);
      await connecting;
    });

    it('joins a shutdown under way: one summary, the earlier deadline', async () => {
      const { server, port } = await servers.start(kind, {}, () => {});
      const client = await H1Client.connect({ port, tls });
      client.request();
      await eventually(() => [...server.connections].some(({ active }) => active === 1), 'a request in flight');
      const first = server.shutdown({ timeout: 20_000 });
      const second = server.shutdown({ timeout: 100 });
      const summary = await first;
      expect(await second).to.equal(summary);
      expect(summary.outcomes.forced).to.equal(1);
      expect(summary.duration).to.be.below(3_000);
      expect(summary.notDrained[0]?.cut[0]?.path).to.equal('/');
      client.destroy();
    });

    it('close() joins a shutdown under way without an error', async () => {
      const held: ServerResponse[] = [];
      const { server, port } = await servers.start(kind, {}, (_req, res) => held.push(res));
      const client = await H1Client.connect({ port, tls });
      client.request();
      await eventually(() => held.length === 1, 'a request in flight');
      const stopped = server.shutdown();
      await eventually(() => !server.listening, 'a closed listener');
      const closed = new Promise((resolve) => server.close(resolve));
      held[0]?.end();
      await client.response();
      client.end();
      expect(await closed).to.equal(undefined);
      await stopped;
    });

    it('is found under way by whoever stops it again because it was told to', async () => {
      const held: ServerResponse[] = [];
      let again: Promise<DrainSummary> | undefined;
      const { server, port } = await servers.start(kind, {}, (_req, res) => held.push(res));
      const client = await H1Client.connect({ port, tls });
      client.request();
      await eventually(() => held.length === 1, 'a request in flight');
      const [connection] = server.connections;
      connection?.drainSignal.addEventListener('abort', () => {
        again = server.shutdown();
        client.transport.socket.once('end', () => client.end());
        held[0]?.end();
      });
      const summary = await server.shutdown();
      expect(await again).to.equal(summary);
      client.destroy();
    });

    it('keeps its whole budget, lingering included', async () => {
      const { server, port } = await servers.start(kind, {}, (_req, res) => res.end());
      const client = await H1Client.connect({ port, tls });
      await client.fetch();
      // It never closes its side: lingering would last eight seconds.
      const summary = await server.shutdown({ timeout: 300, idleWait: 0, linger: 8_000 });
      expect(summary.duration).to.be.within(200, 5_000);
      expect(summary.outcomes.drained).to.equal(1);
      client.destroy();
    });

    for (const how of ['shutdown', 'drain'] as const) {
      it(`loses nothing of clients that go on asking, with a timeout of a second (${how})`, async () => {
        const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('ok'));
        const relay = await Relay.open({ port, delayMs: 10 });
        const random = new Random(1);
        const connected: H1Client[] = [];
        const lost: unknown[] = [];
        const client = async (): Promise<void> => {
          const asking = await H1Client.connect({ port: relay.port, tls });
          connected.push(asking);
          try {
            while (!(await asking.fetch()).connectionHas('close')) await pause(random.between(40, 80));
          } catch (error) {
            lost.push(error);
          }
          asking.end();
        };
        const clients = Array.from({ length: 30 }, client);
        await eventually(() => connected.length === clients.length, 'all connected');
        await pause(100);
        const options = { timeout: 1_000 };
        const summary = await (how === 'drain' ? server.drain('all', options) : server.shutdown(options));
        await Promise.all(clients);
        await relay.close();
        expect(lost).to.deep.equal([]);
        expect(summary.outcomes).to.deep.equal({ drained: 30, lossy: 0, forced: 0, peer: 0 });
      });
    }

    it('waits for the first request of a new connection, with a timeout of a second', async () => {
      const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('first'));
      const client = await H1Client.connect({ port, tls });
      await eventually(() => server.connections.size === 1, 'a connection');
      const stopped = server.shutdown({ timeout: 1_000 });
      await pause(300);
      expect((await client.fetch()).text).to.equal('first');
      client.end();
      expect((await stopped).outcomes).to.deep.equal({ drained: 1, lossy: 0, forced: 0, peer: 0 });
    });

    it('does not wait for a client that has said nothing at all', async () => {
      const { server, port } = await servers.start(kind);
      const client = await silentClient(port);
      client.once('end', () => client.end());
      await eventually(() => server.connections.size === 1, 'a connection');
      const summary = await server.shutdown({ idleWait: 50 });
      expect(summary.duration).to.be.below(3_000);
      client.destroy();
    });

    it('listens again after close, and serves', async () => {
      const { server } = await servers.start(kind, {}, (_req, res) => res.end('again'));
      await server.shutdown();
      const port = await servers.listen(server);
      const client = await H1Client.connect({ port, tls });
      expect((await client.fetch()).text).to.equal('again');
      expect(client.ending).to.equal('open');
      const closed = once(server, 'close');
      server.close();
      client.end();
      await closed;
    });

    it('listens again right in the close event', async () => {
      const { server } = await servers.start(kind, {}, (_req, res) => res.end('again'));
      server.close();
      await once(server, 'close');
      const port = await servers.listen(server);
      const client = await H1Client.connect({ port, tls });
      expect((await client.fetch()).text).to.equal('again');
      expect(client.ending).to.equal('open');
      client.destroy();
    });

    /** A server whose listener is closed, and a client whose request still waits for its answer. */
    async function stoppedInTheMiddle() {
      const answers: ServerResponse[] = [];
      const { server, port } = await servers.start(kind, {}, (req, res) => {
        if (req.url === '/slow') answers.push(res);
        else res.end('again');
      });
      const slow = await H1Client.connect({ port, tls });
      slow.request({ path: '/slow' });
      await eventually(() => answers.length === 1, 'a request in flight');
      const stopped = server.shutdown();
      await eventually(() => !server.listening, 'a closed listener');
      const answered = async (): Promise<void> => {
        answers[0]?.end('slow');
        expect((await slow.response()).text).to.equal('slow');
        slow.end();
      };
      return { server, stopped, answered };
    }

    it('listens again while it still drains, and serves new clients', async () => {
      const { server, stopped, answered } = await stoppedInTheMiddle();
      const port = await servers.listen(server);
      expect(server.ready).to.equal(true);
      const client = await H1Client.connect({ port, tls });
      for (let i = 0; i < 2; i++) {
        const { text, headers } = await client.fetch();
        expect(text).to.equal('again');
        expect(headers).to.deep.include(['Connection', 'keep-alive']);
      }
      await answered();
      expect((await stopped).served).to.equal(1);
      expect(client.ending).to.equal('open');
      const closed = once(server, 'close');
      const again = server.shutdown();
      client.end();
      expect((await again).outcomes.drained).to.equal(1);
      await closed;
    });

    for (const host of ['127.0.0.1', 'localhost']) {
      it(`does not listen again when it is stopped before it does (on ${host})`, async () => {
        const { server, stopped, answered } = await stoppedInTheMiddle();
        server.listen(0, host);
        const again = server.shutdown();
        const closed = once(server, 'close');
        // As long as the name takes to be found.
        await new Promise((resolve) => setTimeout(resolve, 50));
        await answered();
        expect(await again).to.equal(await stopped);
        await closed;
        expect([server.listening, server.ready]).to.deep.equal([false, false]);
      });
    }

    it('leaves nothing on a signal that outlives its delay', async () => {
      const { signal } = new AbortController();
      const { server } = await servers.start(kind);
      await server.shutdown({ delay: 20, signal });
      expect(getEventListeners(signal, 'abort')).to.have.length(0);
    });

    it('takes an option that is undefined for one that is not given', async () => {
      const { server, port } = await servers.start(kind, { drain: { timeout: 100 } }, () => {});
      const client = await H1Client.connect({ port, tls });
      client.request();
      await eventually(() => [...server.connections].some(({ active }) => active === 1), 'a request in flight');
      const { duration } = await server.drain('all', { timeout: undefined } as object);
      expect(duration).to.be.within(100, 5_000);
      client.destroy();
    });

    it('passes an error to close(cb) when it is not listening', async () => {
      const server = createServer(tls ? { SNICallback: () => {} } : { cleartext: true });
      const error = await new Promise<(Error & { code?: string }) | undefined>((resolve) => server.close(resolve));
      expect(error?.code).to.equal('ERR_SERVER_NOT_RUNNING');
    });

    it('shutdown of a server that never listened is an empty summary', async () => {
      const server = createServer({ cleartext: true });
      expect(await server.shutdown()).to.include({ connections: 0, served: 0 });
    });

    it('disposes asynchronously as net.Server does', async () => {
      const { server } = await servers.start(kind);
      await (server as AsyncDisposable)[Symbol.asyncDispose]();
      expect(server.listening).to.equal(false);
    });

    it('lets the process end by itself', async () => {
      const child = spawn(
        process.execPath,
        ['--import', 'tsx', fileURLToPath(new URL('./stopping-server.ts', import.meta.url))],
        { env: { ...process.env, TLS: tls ? '1' : '' }, stdio: ['ignore', 'pipe', 'inherit'] },
      );
      let said = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
      const [code] = (await once(child, 'close')) as [number];
      expect(said).to.match(/stopped after \d+ ms, ended after (\d+) ms/);
      expect(Number(/ended after (\d+) ms/.exec(said)?.[1])).to.be.below(950);
      expect(code).to.equal(0);
    }).timeout(20_000);

    it('draining by filter leaves the others and the listener alone', async () => {
      const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('ok'));
      const one = await H1Client.connect({ port, tls });
      await one.fetch();
      const two = await H2Client.connect({ port, tls });
      await two.fetch();
      const summary = await server.drain({ protocol: 'h2' });
      expect(summary).to.include({ connections: 1 });
      expect((await one.fetch()).text).to.equal('ok');
      expect(one.ending).to.equal('open');
      const three = await H2Client.connect({ port, tls });
      expect((await three.fetch()).text).to.equal('ok');
      for (const client of [one, two, three]) client.destroy();
    });
  });
}
