/**
 * Listeners of the server's own events that throw: the process is told as of any exception, and where it lives on the
 * connection goes its way, is timed and is closed as if nobody had listened.
 */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { expect } from 'chai';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { eventually, PORTS, Servers, silentClient, uncaughtDuring } from './support.js';

function broken(): never {
  throw new Error('broken listener');
}

describe('listeners that throw', () => {
  const servers = new Servers();

  /** Runs, and expects the process to be told, so many times. */
  async function toldOf(times: number, run: () => Promise<void>): Promise<void> {
    const told: string[] = [];
    await uncaughtDuring(
      (message) => told.push(message),
      async () => {
        await run();
        await eventually(() => told.length >= times, 'exceptions');
      },
    );
    expect(told).to.deep.equal(Array.from({ length: times }, () => 'broken listener'));
  }

  async function closes(client: Socket): Promise<void> {
    if (!client.closed) await once(client, 'close');
  }

  for (const kind of PORTS) {
    const tls = kind === 'TLS';

    it(`connections 'open' and 'close': the request is served, and its connection forgotten (${kind})`, async () => {
      const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('ok'));
      server.connections.on('open', broken).on('close', broken);
      await toldOf(2, async () => {
        const client = await H1Client.connect({ port, tls });
        expect((await client.fetch()).text).to.equal('ok');
        client.destroy();
        await eventually(() => server.connections.size === 0, 'no connection');
      });
    });

    it(`connections 'open': a shutdown drains whoever comes all the same (${kind})`, async () => {
      const { server, port } = await servers.start(kind);
      server.connections.on('open', broken);
      await toldOf(1, async () => {
        // It is in the accept queue when the shutdown begins.
        const connecting = silentClient(port);
        await server.shutdown({ idleWait: 0, timeout: 2_000 });
        expect(server.connections.size).to.equal(0);
        (await connecting).destroy();
      });
    });

    it(`stopping: the shutdown goes on, and is told of when it is over (${kind})`, async () => {
      const { server } = await servers.start(kind);
      server.on('stopping', broken);
      await toldOf(1, async () => {
        expect((await server.shutdown()).connections).to.equal(0);
      });
    });

    for (const Client of [H1Client, H2Client]) {
      const protocol = Client === H1Client ? 'http/1.1' : 'h2';
      it(`handlerError: the client has its 500 over ${protocol} (${kind})`, async () => {
        const { server, port } = await servers.start(kind, {}, () => {
          throw new Error('broken handler');
        });
        server.on('handlerError', broken);
        await toldOf(1, async () => {
          const client = await Client.connect({ port, tls });
          expect((await client.fetch()).status).to.equal(500);
          client.destroy();
        });
      });
    }
  }

  it('secureConnection: the request is served', async () => {
    const { server, port } = await servers.start('TLS', {}, (_req, res) => res.end('ok'));
    server.on('secureConnection', broken);
    await toldOf(1, async () => {
      const client = await H2Client.connect({ port });
      expect((await client.fetch()).text).to.equal('ok');
      client.destroy();
    });
  });

  it('tlsClientError and clientError: the connection is closed', async () => {
    const { server, port } = await servers.start('TLS');
    server.on('tlsClientError', broken).on('clientError', broken);
    await toldOf(2, async () => {
      const client = await silentClient(port);
      client.end('no handshake');
      await closes(client);
      await eventually(() => server.connections.size === 0, 'no connection');
    });
  });

  it('proxyError: the connection is closed', async () => {
    const { server, port } = await servers.start('cleartext', { proxyProtocol: true });
    server.on('proxyError', broken);
    await toldOf(1, async () => {
      const client = await silentClient(port);
      client.end('GET / HTTP/1.1\r\n');
      await closes(client);
      await eventually(() => server.connections.size === 0, 'no connection');
    });
  });
});
