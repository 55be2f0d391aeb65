/**
 * How every request of a server has ended: over both protocols, on closed connections and on live ones, whoever closed
 * them.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import { noRequests, type RequestCounts } from '../../src/core/report.js';
import { adopt, type Server } from '../../src/index.js';
import { closeEverything, Site, TRANSPORTS } from '../h1/support.js';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { eventually, PORTS, Servers } from './support.js';

describe('the requests of a server', () => {
  const servers = new Servers();
  afterEach(closeEverything);

  for (const kind of PORTS) {
    it(`are counted on closed connections and on live ones (${kind})`, async () => {
      const { server, port } = await servers.start(kind, {}, (_req, res) => res.end());
      const { connections } = server;
      const served = (count: number): Promise<void> =>
        eventually(() => connections.requests.served === count, `${count} served`);
      const h1 = await H1Client.connect({ port, tls: kind === 'TLS' });
      const h2 = await H2Client.connect({ port, tls: kind === 'TLS' });
      for (let n = 0; n < 3; n++) await h1.fetch();
      for (let n = 0; n < 2; n++) await h2.fetch();
      await served(5);
      const whenClosed: RequestCounts[] = [];
      for (const { closed } of connections) void closed.then(() => whenClosed.push(connections.requests));
      h1.destroy();
      await eventually(() => connections.size === 1, 'one closed');
      await h2.fetch();
      await served(6);
      h2.destroy();
      await eventually(() => connections.size === 0, 'both closed');
      expect(whenClosed.map((counts) => counts.served)).to.deep.equal([5, 6]);
      expect(connections.requests).to.deep.equal({ ...noRequests(), served: 6 });
    });
  }

  const IDLE: readonly [string, { keepAlive?: object }, (server: Server) => void][] = [
    ['keepAlive.hold', { keepAlive: { advertise: 0, hold: 300 } }, () => {}],
    ['closeIdleConnections', {}, (server) => server.closeIdleConnections()],
  ];
  for (const { name, tls } of TRANSPORTS) {
    for (const [what, options, close] of IDLE) {
      it(`show what crossed the FIN of ${what} (${name})`, async () => {
        const site = await Site.open({ tls, options, delayMs: 100 });
        const { connections } = site.server;
        const client = await site.connect();
        await client.fetch();
        const connection = await site.connection();
        close(site.server);
        await eventually(() => connection.state === 'lingering', 'the FIN');
        client.request({ path: '/late' });
        expect(client.ending).to.equal('open');
        await eventually(() => connections.requests.unserved === 1, 'the late request');
        expect(connections.size).to.equal(1);
        await client.ended();
        client.end();
        await connection.closed;
        expect(connections.requests).to.deep.equal({ ...noRequests(), served: 1, unserved: 1 });
      });
    }
  }

  it('show those that were cut', async () => {
    const site = await Site.open({ tls: false });
    const client = await site.connect();
    client.request({ path: '/park' });
    await site.parked('/park');
    const connection = await site.connection();
    site.server.closeAllConnections();
    await connection.closed;
    expect(site.server.connections.requests).to.deep.equal({ ...noRequests(), aborted: 1 });
  });

  it('are counted for an adopted server, too', async () => {
    const server = createServer((_req, res) => res.end());
    const { connections } = adopt(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const client = await H1Client.connect({ port: (server.address() as AddressInfo).port, tls: false });
    await client.fetch();
    await eventually(() => connections.requests.served === 1, 'one served');
    client.destroy();
    await new Promise((resolve) => server.close(resolve));
    expect(connections.requests).to.deep.equal({ ...noRequests(), served: 1 });
  });
});
