/**
 * A server at its limits: new connections are refused, those that are there go on, and what clients can make it keep in
 * memory is what its options say.
 */
import { once } from 'node:events';
import { connect as connectTcp, type DropArgument } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { ErrorCode, Setting } from '../wire/h2-frames.js';
import { Relay } from '../wire/relay.js';
import { eventually, openDescriptors, PORTS, Servers, silentClient } from './support.js';

for (const kind of PORTS) {
  const tls = kind === 'TLS';

  describe(`a server that is full (${kind})`, () => {
    const servers = new Servers();
    const start = (maxConnections: number, keepAlive = { advertise: 5_000, hold: 60_000 }) =>
      servers
        .start(kind, { keepAlive, drain: { linger: 200 } }, (_req, res) => res.end('ok'))
        .then((started) => {
          started.server.maxConnections = maxConnections;
          return started;
        });

    it('refuses new connections, and goes on with those that it has', async () => {
      const { server, port } = await start(3);
      const h1 = await H1Client.connect({ port, tls });
      const h2 = await H2Client.connect({ port, tls });
      const third = await H1Client.connect({ port, tls });
      const dropped: (DropArgument | undefined)[] = [];
      server.on('drop', (data) => dropped.push(data));
      const before = openDescriptors();
      for (let i = 0; i < 20; i++) {
        const refused = await H1Client.connect({ port, tls }).catch((error: Error) => error);
        if (refused instanceof Error) expect(refused.message).to.match(/ECONNRESET|closed|disconnected/);
        else {
          expect(await refused.ended()).to.be.oneOf(['fin', 'reset']);
          refused.destroy();
        }
      }
      expect(dropped).to.have.length(20);
      expect(dropped[0]?.remoteAddress).to.equal('127.0.0.1');
      expect(server.connections.size).to.equal(3);
      for (const client of [h1, h2, third]) expect((await client.fetch()).text).to.equal('ok');
      await eventually(() => openDescriptors() <= before, 'no descriptor is kept');
      for (const client of [h1, h2, third]) client.destroy();
    });

    it('takes new connections again when one has left', async () => {
      const { server, port } = await start(1);
      const first = await H1Client.connect({ port, tls });
      await first.fetch();
      const dropped = once(server, 'drop');
      connectTcp(port, '127.0.0.1').on('error', () => {});
      await dropped;
      first.destroy();
      await eventually(() => server.connections.size === 0, 'an empty server');
      const next = await H1Client.connect({ port, tls });
      expect((await next.fetch()).text).to.equal('ok');
      next.destroy();
    });

    it('counts those that have not said which protocol they speak', async () => {
      const { server, port } = await start(4);
      const silent = await Promise.all(Array.from({ length: 4 }, () => silentClient(port)));
      await eventually(() => server.connections.size === 4, 'four connections');
      const dropped = once(server, 'drop');
      const fifth = await silentClient(port);
      await dropped;
      expect(server.connections.size).to.equal(4);
      for (const socket of [...silent, fifth]) socket.destroy();
      await eventually(() => server.connections.size === 0, 'no connection');
    });

    it('makes room: the longest idle are drained when it is nearly full, and nobody is refused', async () => {
      const { server, port } = await start(8, { advertise: 100, hold: 60_000 });
      let drops = 0;
      server.on('drop', () => drops++);
      const idle: (H1Client | H2Client)[] = [];
      for (let i = 0; i < 6; i++) {
        const client = await (i % 2 === 0 ? H1Client : H2Client).connect({ port, tls });
        await client.fetch();
        idle.push(client);
      }
      await new Promise((resolve) => setTimeout(resolve, 150));
      // Not the oldest, but it has just been used.
      expect((await idle[0]?.fetch())?.text).to.equal('ok');
      const busy = [await H1Client.connect({ port, tls }), await H2Client.connect({ port, tls })];
      expect(await idle[1]?.ended()).to.equal('fin');
      expect(idle[0]?.ending).to.equal('open');
      for (const client of [idle[0], ...busy]) expect((await client?.fetch())?.text).to.equal('ok');
      idle[1]?.destroy();
      await eventually(() => server.connections.size < 8, 'room');
      const next = await H1Client.connect({ port, tls });
      expect((await next.fetch()).text).to.equal('ok');
      expect(drops).to.equal(0);
      for (const client of [...idle, ...busy, next]) client.destroy();
    });

    it('makes room when it is asked for, where there was none to make as it filled', async () => {
      const { server, port } = await start(4, { advertise: 150, hold: 60_000 });
      const idle = await Promise.all(Array.from({ length: 4 }, () => H1Client.connect({ port, tls })));
      for (const client of idle) {
        client.transport.socket.on('end', () => client.destroy());
        await client.fetch();
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
      const dropped = once(server, 'drop');
      connectTcp(port, '127.0.0.1').on('error', () => {});
      await dropped;
      await eventually(() => server.connections.size < 4, 'room');
      const next = await H1Client.connect({ port, tls });
      expect((await next.fetch()).text).to.equal('ok');
      for (const client of [...idle, next]) client.destroy();
    });

    if (tls) {
      it('makes no room by losing the first request of a client that still shakes hands', async () => {
        const { server, port } = await start(2, { advertise: 50, hold: 60_000 });
        const relay = await Relay.open({ port, delayMs: 150 });
        const options = { port: relay.port, host: '127.0.0.1', rejectUnauthorized: false };
        const slow = connectTls({ ...options, maxVersion: 'TLSv1.2' });
        slow.on('secureConnect', () => slow.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'));
        await eventually(() => server.connections.size === 1, 'a connection');
        // Its handshake takes two round trips, and it has been there for longer than anybody is promised.
        await new Promise((resolve) => setTimeout(resolve, 110));
        expect([...server.connections].map(({ state }) => state)).to.deep.equal(['handshaking']);
        const second = await silentClient(port);
        let answer = '';
        for await (const bytes of slow) answer += bytes;
        expect(answer).to.match(/^HTTP\/1\.1 200 OK\r\n/);
        slow.destroy();
        second.destroy();
        await relay.close();
      });
    }

    it('leaves those alone whose clients were told that they would be kept', async () => {
      const { server, port } = await start(4, { advertise: 60_000, hold: 600_000 });
      const clients = await Promise.all(Array.from({ length: 4 }, () => H1Client.connect({ port, tls })));
      for (const client of clients) expect((await client.fetch()).text).to.equal('ok');
      const dropped = once(server, 'drop');
      connectTcp(port, '127.0.0.1').on('error', () => {});
      await dropped;
      for (const client of clients) expect((await client.fetch()).text).to.equal('ok');
      for (const client of clients) client.destroy();
    });

    it('refuses streams beyond maxConcurrentStreams, and answers those within', async () => {
      const held: (() => void)[] = [];
      const { port } = await servers.start(kind, { h2: { maxConcurrentStreams: 5 } }, (_req, res) => {
        held.push(() => res.end('ok'));
      });
      const client = await H2Client.connect({ port, tls });
      await client.expect('SETTINGS');
      expect(client.serverSettings.get(Setting.MAX_CONCURRENT_STREAMS)).to.equal(5);
      const ids = Array.from({ length: 8 }, () => client.request());
      for (const id of ids.slice(5)) {
        const { reset } = await client.response(id);
        expect(reset).to.equal(ErrorCode.REFUSED_STREAM);
      }
      expect(held).to.have.length(5);
      for (const answer of held) answer();
      for (const id of ids.slice(0, 5)) expect((await client.response(id)).text).to.equal('ok');
      client.destroy();
    });
  });
}

/** The arithmetic of docs/operating.md, with options small enough to be driven to the limit. */
describe('what clients can make a server keep', () => {
  const servers = new Servers();
  const CONNECTIONS = 3;
  const STREAMS = 20;
  const WINDOW = 131_072;

  it('of request bodies that no handler reads: streams times windows, and not a byte more', async function () {
    this.timeout(20_000);
    const h2 = { maxConcurrentStreams: STREAMS, initialWindowSize: WINDOW, connectionWindowSize: 65_535 };
    let requests = 0;
    const { port } = await servers.start('cleartext', { h2 }, () => void requests++);
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const kept = (): number => {
      collect();
      return process.memoryUsage().arrayBuffers;
    };
    // What other tests have left is freed first.
    kept();
    await new Promise((resolve) => setTimeout(resolve, 50));
    const before = kept();
    const body = Buffer.alloc(WINDOW * 2, 'b');
    const clients: H2Client[] = [];
    for (let i = 0; i < CONNECTIONS; i++) {
      const client = await H2Client.connect({ port, tls: false });
      await client.expect('SETTINGS');
      for (let n = 0; n < STREAMS; n++) client.request({ method: 'POST', body });
      clients.push(client);
    }
    const held = (): number =>
      clients.reduce((sum, client) => {
        for (let id = 1; id < 2 * STREAMS; id += 2) sum += body.length - client.uploadLeft(id);
        return sum;
      }, 0);
    const arithmetic = CONNECTIONS * STREAMS * WINDOW;
    await eventually(() => held() === arithmetic, 'every window is used up');
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(requests).to.equal(CONNECTIONS * STREAMS);
    expect(held()).to.equal(arithmetic);
    // Slabs of what was read hold frame headers, too, the clients' own bytes are in this process, and what is collected
    // is freed a moment later.
    await eventually(() => kept() - before <= arithmetic * 4, 'no more than that is kept');
    expect(kept() - before).to.be.at.least(arithmetic * 0.9);
    for (const client of clients) client.destroy();
  });
});

describe('requests beyond maxRequestsPerSocket', () => {
  const servers = new Servers();

  it('are never dropped: all that came before the answer with close are served', async () => {
    const { server, port } = await servers.start('cleartext', { h1: { maxRequestsPerSocket: 2 } }, (_req, res) =>
      res.end('ok'),
    );
    let drops = 0;
    server.on('dropRequest', () => drops++);
    const client = await H1Client.connect({ port, tls: false });
    client.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(4), ['GET', 'GET', 'GET', 'GET']);
    await client.ended();
    expect(client.responses.map(({ status }) => status)).to.deep.equal([200, 200, 200, 200]);
    expect(client.responses.map((response) => response.connectionHas('close'))).to.deep.equal([
      false,
      false,
      false,
      true,
    ]);
    expect(drops).to.equal(0);
    client.destroy();
  });
});
