import { expect } from 'chai';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { eventually, PORTS, Servers } from './support.js';

/** The timers of an unlistening http.Server don't run by themselves: these tests are why ours do. */
for (const kind of PORTS) {
  describe(`a client that stalls (${kind})`, () => {
    const servers = new Servers();
    const tls = kind === 'TLS';

    it('half a head is answered with 408, and the connection closed', async () => {
      const { port } = await servers.start(kind, { h1: { headersTimeout: 150 } });
      const client = await H1Client.connect({ port, tls });
      client.write('GET / HTTP/1.1\r\nHost: loc', ['GET']);
      expect((await client.response()).status).to.equal(408);
      expect(await client.ended()).to.equal('fin');
      client.destroy();
    });

    it('half a head after an answered request, too', async () => {
      const { port } = await servers.start(kind, { h1: { headersTimeout: 150 } }, (_req, res) => res.end('ok'));
      const client = await H1Client.connect({ port, tls });
      await client.fetch();
      client.write('GET /second HTT', ['GET']);
      expect((await client.response()).status).to.equal(408);
      client.destroy();
    });

    it('a head that trickles does not win time', async () => {
      const { port } = await servers.start(kind, { h1: { headersTimeout: 200 } });
      const client = await H1Client.connect({ port, tls });
      client.write('GET / HTTP/1.1\r\n', ['GET']);
      const trickle = setInterval(() => client.write('X-Slow: 1\r\n'), 20);
      expect((await client.response()).status).to.equal(408);
      clearInterval(trickle);
      client.destroy();
    });

    it('half a body is answered with 408', async () => {
      const { port } = await servers.start(kind, { h1: { bodyTimeout: 150 } }, (req) => req.resume());
      const client = await H1Client.connect({ port, tls });
      client.write('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf', ['POST']);
      expect((await client.response()).status).to.equal(408);
      expect(await client.ended()).to.equal('fin');
      client.destroy();
    });

    it('a body that comes slowly is waited for', async () => {
      const { port } = await servers.start(kind, { h1: { bodyTimeout: 800 } }, (req, res) => {
        req.resume().on('end', () => res.end('all of it'));
      });
      const client = await H1Client.connect({ port, tls });
      client.write('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\n', ['POST']);
      for (let i = 0; i < 8; i++) {
        await new Promise((resolve) => setTimeout(resolve, 130));
        client.write('x');
      }
      expect((await client.response()).text).to.equal('all of it');
      client.destroy();
    });

    it('a whole request has its own limit', async () => {
      const { port } = await servers.start(kind, { h1: { requestTimeout: 200 } }, (req) => req.resume());
      const client = await H1Client.connect({ port, tls });
      client.write('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n', ['POST']);
      const trickle = setInterval(() => client.write('x'), 20);
      expect((await client.response()).status).to.equal(408);
      clearInterval(trickle);
      client.destroy();
    });

    it('a silent connection is closed without a byte once its hold is over', async () => {
      const { server, port } = await servers.start(kind, { keepAlive: { advertise: 50, hold: 150 } });
      const client = await H1Client.connect({ port, tls });
      expect(await client.ended()).to.equal('fin');
      expect(client.responses).to.have.length(0);
      client.end();
      await eventually(() => server.connections.size === 0, 'no connection');
    });

    it('an idle connection is closed without a byte once its hold is over', async () => {
      const options = { keepAlive: { advertise: 50, hold: 400 } };
      const { port } = await servers.start(kind, options, (_req, res) => res.end('ok'));
      const client = await H1Client.connect({ port, tls });
      await client.fetch();
      expect(await client.ended()).to.equal('fin');
      expect(client.responses).to.have.length(1);
      client.destroy();
    });

    it('an idle HTTP/2 connection is drained once its hold is over', async () => {
      const options = { keepAlive: { advertise: 50, hold: 400 } };
      const { port } = await servers.start(kind, options, (_req, res) => res.end('ok'));
      const client = await H2Client.connect({ port, tls });
      await client.fetch();
      await client.expect('GOAWAY');
      expect(await client.ended()).to.equal('fin');
      client.destroy();
    });

    it('half of a head block on HTTP/2 ends the connection', async () => {
      const { port } = await servers.start(kind, { h2: { headersTimeout: 150 } });
      const client = await H2Client.connect({ port, tls });
      client.headers(1, [[':method', 'GET']], 0);
      await client.expect('GOAWAY');
      client.destroy();
    });

    it('limits set on the running server hold for live connections', async () => {
      const { server, port } = await servers.start(kind, {}, (_req, res) => res.end('ok'));
      server.headersTimeout = 150;
      const client = await H1Client.connect({ port, tls });
      client.write('GET / HTTP/1.1\r\n', ['GET']);
      expect((await client.response()).status).to.equal(408);
      client.destroy();
    });
  });
}
