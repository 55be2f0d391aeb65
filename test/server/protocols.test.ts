import { type EventEmitter, once } from 'node:events';
import { type AddressInfo, createServer as createTcp, type Server as TcpServer } from 'node:net';
import { Duplex } from 'node:stream';
import { expect } from 'chai';
import { connectionOf, gracefulShutdown } from '../../src/index.js';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { encodeFrame, encodeLiterals, Flag, FrameType, PREFACE } from '../wire/h2-frames.js';
import { Transport } from '../wire/transport.js';
import { eventually, Servers, silentClient } from './support.js';

const sayProtocol: Parameters<Servers['start']>[2] = (req, res) => {
  res.end(`${connectionOf(req)?.protocol} ${req.httpVersion}`);
};

describe('createServer: two protocols on one port', () => {
  const servers = new Servers();
  const fronts: TcpServer[] = [];

  afterEach(() => {
    for (const front of fronts.splice(0)) front.close();
  });

  /** The port of another server, which hands each of its connections to this one as a mere duplex. */
  async function behindDuplexes(server: EventEmitter): Promise<number> {
    const front = createTcp((tcp) => {
      const duplex = new Duplex({
        read: () => tcp.resume(),
        write: (bytes, encoding, done) => tcp.write(bytes, encoding, done),
        final: (done) => tcp.end(done),
        destroy: (_error, done) => {
          tcp.destroy();
          done(null);
        },
      });
      tcp.on('data', (bytes) => duplex.push(bytes) || tcp.pause());
      tcp.on('end', () => duplex.push(null)).on('error', () => {});
      server.emit('connection', duplex);
    });
    fronts.push(front.listen(0, '127.0.0.1'));
    await once(front, 'listening');
    return (front.address() as AddressInfo).port;
  }

  describe('TLS', () => {
    it('answers each client in the protocol that ALPN agreed on', async () => {
      const { port } = await servers.start('TLS', {}, sayProtocol);
      const h1 = await H1Client.connect({ port });
      const h2 = await H2Client.connect({ port });
      expect(h1.transport.alpn).to.equal('http/1.1');
      expect(h2.transport.alpn).to.equal('h2');
      expect((await h1.fetch()).text).to.equal('http/1.1 1.1');
      expect((await h2.fetch()).text).to.equal('h2 2.0');
      h1.destroy();
      h2.destroy();
    });

    it('prefers HTTP/2 when the client offers both', async () => {
      const { port } = await servers.start('TLS', {}, sayProtocol);
      const client = await Transport.connect({ port, alpn: ['http/1.1', 'h2'] });
      expect(client.alpn).to.equal('h2');
      client.destroy();
    });

    it('speaks HTTP/1.1 with a client that has no ALPN', async () => {
      const { port } = await servers.start('TLS', {}, sayProtocol);
      const client = await H1Client.connect({ port, alpn: [] });
      expect((await client.fetch()).text).to.equal('http/1.1 1.1');
      client.destroy();
    });
  });

  describe('cleartext', () => {
    it('tells prior-knowledge HTTP/2 from HTTP/1.1', async () => {
      const { port } = await servers.start('cleartext', {}, sayProtocol);
      const h1 = await H1Client.connect({ port, tls: false });
      const h2 = await H2Client.connect({ port, tls: false });
      expect((await h1.fetch()).text).to.equal('http/1.1 1.1');
      expect((await h2.fetch()).text).to.equal('h2 2.0');
      h1.destroy();
      h2.destroy();
    });

    it('does not take a duplex for stuck that has taken nothing yet', async () => {
      class TakingNothing extends Duplex {
        get bytesWritten(): number {
          return this.writableLength;
        }
        override _read(): void {}
        override _write(): void {}
      }
      // What had never moved since the process began would have taken too long.
      const h2 = { bodyTimeout: 80, sendTimeout: Math.floor(performance.now()) };
      const { server } = await servers.start('cleartext', { h2 }, (_req, res) => void res.write('x'));
      const duplex = new TakingNothing();
      server.emit('connection', duplex);
      const get = encodeLiterals([
        [':method', 'GET'],
        [':scheme', 'http'],
        [':path', '/'],
      ]);
      const head = encodeFrame(FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, 1, get);
      duplex.push(Buffer.concat([PREFACE, encodeFrame(FrameType.SETTINGS, 0, 0), head]));
      await eventually(() => [...server.connections][0]?.active === 1, 'the request');
      await new Promise((resolve) => setTimeout(resolve, 200));
      expect(server.limits.sendTimeout).to.equal(0);
      expect(duplex.destroyed).to.equal(false);
    });

    /** Sends bytes one at a time, each in a segment of its own as far as the loopback lets it. */
    async function trickle(client: Transport, bytes: Buffer): Promise<void> {
      for (const byte of bytes) {
        client.write(Buffer.of(byte));
        await new Promise((resolve) => setImmediate(resolve));
      }
    }

    it('tells HTTP/1.1 one byte at a time', async () => {
      const { port } = await servers.start('cleartext', {}, sayProtocol);
      const client = await H1Client.connect({ port, tls: false });
      client.write('', ['GET']);
      await trickle(client.transport, Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'));
      expect((await client.response()).text).to.equal('http/1.1 1.1');
      client.destroy();
    });

    it('tells HTTP/2 one byte at a time', async () => {
      const { port } = await servers.start('cleartext', {}, sayProtocol);
      const client = await H2Client.connect({ port, tls: false, preface: false });
      await trickle(client.transport, PREFACE);
      client.settings([]);
      expect((await client.fetch()).text).to.equal('h2 2.0');
      client.destroy();
    });

    it('answers GET / HTTP/1.0, which is shorter than the preface', async () => {
      const { port } = await servers.start('cleartext', {}, sayProtocol);
      const client = await H1Client.connect({ port, tls: false });
      client.write('GET / HTTP/1.0\r\n\r\n', ['GET']);
      expect((await client.response()).text).to.equal('http/1.1 1.0');
      client.destroy();
    });

    it('takes a method that begins like the preface for HTTP/1.1', async () => {
      const { port } = await servers.start('cleartext', {}, sayProtocol);
      const client = await H1Client.connect({ port, tls: false });
      client.write('PROPFIND / HTTP/1.1\r\nHost: localhost\r\n\r\n', ['PROPFIND']);
      expect((await client.response()).text).to.equal('http/1.1 1.1');
      client.destroy();
    });

    it('closes a client that leaves in the middle of the preface', async () => {
      const { server, port } = await servers.start('cleartext', {}, sayProtocol);
      const client = await silentClient(port);
      client.end(PREFACE.subarray(0, 10));
      await new Promise((resolve) => client.once('close', resolve));
      await eventually(() => server.connections.size === 0, 'no connection');
    });

    it('answers garbage with 400 and leaves every other connection alone', async () => {
      const { port } = await servers.start('cleartext', {}, sayProtocol);
      const other = await H1Client.connect({ port, tls: false });
      await other.fetch();
      const client = await H1Client.connect({ port, tls: false });
      client.write('\x16\x03\x01 this is no HTTP\r\n\r\n', ['GET']);
      expect((await client.response()).status).to.equal(400);
      expect(await client.ended()).to.equal('fin');
      expect((await other.fetch()).status).to.equal(200);
      client.destroy();
      other.destroy();
    });

    it('answers a broken preface that began well with GOAWAY or 400, and closes', async () => {
      const { port } = await servers.start('cleartext', {}, sayProtocol);
      const client = await silentClient(port);
      const received: Buffer[] = [];
      client.on('data', (bytes: Buffer) => received.push(bytes));
      client.write(Buffer.concat([PREFACE, Buffer.from('this is no SETTINGS frame')]));
      await new Promise((resolve) => client.once('end', resolve));
      expect(Buffer.concat(received).length).to.be.greaterThan(0);
      client.destroy();
    });
  });

  describe('with HTTP/2 switched off', () => {
    afterEach(() => {
      delete process.env.LASTCALL_H2;
    });

    for (const [how, options] of [
      ['by h2: false', { h2: false as const }],
      ['by LASTCALL_H2=off', undefined],
    ] as const) {
      const start = (kind: 'TLS' | 'cleartext') => {
        if (options === undefined) process.env.LASTCALL_H2 = 'off';
        return servers.start(kind, options, sayProtocol);
      };

      it(`${how}: ALPN offers HTTP/1.1 only`, async () => {
        const { port } = await start('TLS');
        const client = await H1Client.connect({ port, alpn: ['h2', 'http/1.1'] });
        expect(client.transport.alpn).to.equal('http/1.1');
        expect((await client.fetch()).text).to.equal('http/1.1 1.1');
        client.destroy();
      });

      it(`${how}: the preface is no request in cleartext`, async () => {
        const { port } = await start('cleartext');
        const client = await H1Client.connect({ port, tls: false });
        client.write(PREFACE, ['PRI']);
        expect((await client.response()).status).to.equal(400);
        client.destroy();
        const other = await H1Client.connect({ port, tls: false });
        expect((await other.fetch()).text).to.equal('http/1.1 1.1');
        other.destroy();
      });
    }

    it('only "off" switches it off', async () => {
      process.env.LASTCALL_H2 = 'on';
      const { port } = await servers.start('TLS', {}, sayProtocol);
      const client = await Transport.connect({ port, alpn: ['h2'] });
      expect(client.alpn).to.equal('h2');
      client.destroy();
    });
  });

  it('times an upload over a duplex by what comes, and not from its beginning', async () => {
    const { server } = await servers.start('cleartext', { h1: { bodyTimeout: 400 } }, (req, res) => {
      req.resume().on('end', () => res.end('all of it'));
    });
    const client = await H1Client.connect({ port: await behindDuplexes(server), tls: false });
    client.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n', ['POST']);
    for (let i = 0; i < 12; i++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      client.write('x');
    }
    expect((await client.response()).text).to.equal('all of it');
    client.destroy();
  });

  it('hears the answers to its PINGs over a duplex', async () => {
    const ping = { interval: 100, timeout: 300 };
    const { server } = await servers.start('cleartext', { h2: { ping } }, sayProtocol);
    const client = await H2Client.connect({ port: await behindDuplexes(server), tls: false });
    await client.until(() => client.frames.filter(({ type }) => type === FrameType.PING).length >= 8, 'PINGs');
    expect((await client.fetch()).text).to.equal('h2 2.0');
    client.destroy();
  });

  for (const [kind, protocol] of [
    ['TLS', 'h2'],
    ['TLS', 'http/1.1'],
    ['cleartext', 'h2'],
    ['cleartext', 'http/1.1'],
  ] as const) {
    it(`serves, drains and cuts what another server hands it as a duplex (${kind}, ${protocol})`, async () => {
      const { server } = await servers.start(kind, {}, (req, res) => {
        if (req.url !== '/park') res.end('ok');
      });
      const port = await behindDuplexes(server);
      for (const path of ['/', '/park']) {
        const to = { port, tls: kind === 'TLS' };
        const client = protocol === 'h2' ? await H2Client.connect(to) : await H1Client.connect(to);
        await eventually(() => server.connections.size === 1, 'the connection');
        const opened = [...server.connections][0] ?? expect.fail('no connection');
        if (path === '/') expect((await client.fetch()).text).to.equal('ok');
        else client.request({ path });
        await eventually(() => opened.active === (path === '/' ? 0 : 1), 'the request');
        const report = await gracefulShutdown(opened, { timeout: path === '/' ? 5_000 : 100, idleWait: 0, linger: 50 });
        expect([report.protocol, report.outcome]).to.deep.equal([protocol, path === '/' ? 'drained' : 'forced']);
        client.destroy();
      }
    });
  }
});
