import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import { expect } from 'chai';
import { generate } from 'selfsigned';
import { connectionOf, createServer } from '../../src/index.js';
import { type Certificate, certificate, makeCertificate } from '../wire/certificate.js';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { eventually, openDescriptors, Servers, silentClient, thrown } from './support.js';

/** The fingerprint of the certificate that a client is shown. */
function shown(client: H1Client | H2Client): string {
  return (client.transport.socket as TLSSocket).getPeerCertificate().fingerprint256;
}

function nameShown(client: H1Client | H2Client): string {
  return String((client.transport.socket as TLSSocket).getPeerCertificate().subject.CN);
}

/** With the passphrase `x`; `undefined` where nothing can make one. */
function pfxOf({ key, cert }: Certificate): Buffer | undefined {
  const made = spawnSync('openssl', ['pkcs12', '-export', '-passout', 'pass:x'], { input: `${key}\n${cert}` });
  return made.status === 0 ? made.stdout : undefined;
}

describe('TLS', () => {
  const servers = new Servers();

  it('SNICallback chooses the certificate by the name that the client asks for, over both protocols', async () => {
    const other = createSecureContext(await makeCertificate('other'));
    const SNICallback = (name: string, done: (error: null, context?: SecureContext) => void): void =>
      done(null, name === 'other.example' ? other : undefined);
    const { port } = await servers.start('TLS', { SNICallback }, (_req, res) => res.end('ok'));
    for (const Client of [H1Client, H2Client]) {
      const clients = [await Client.connect({ port }), await Client.connect({ port, servername: 'other.example' })];
      expect(clients.map(nameShown)).to.deep.equal(['localhost', 'other']);
      for (const client of clients) {
        expect((await client.fetch()).text).to.equal('ok');
        client.destroy();
      }
    }
  });

  describe('setSecureContext', () => {
    it('shows new clients the new certificate and leaves live connections alone', async () => {
      const { server, port } = await servers.start('TLS', {}, (_req, res) => res.end('ok'));
      const h1 = await H1Client.connect({ port });
      const h2 = await H2Client.connect({ port });
      server.setSecureContext(await makeCertificate('renewed'));
      const renewed = await H1Client.connect({ port });
      expect(shown(renewed)).to.not.equal(shown(h1));
      for (const client of [h1, h2, renewed]) {
        expect((await client.fetch()).text).to.equal('ok');
        expect(client.ending).to.equal('open');
        client.destroy();
      }
    });

    it('keeps the old certificate when the new one can’t be used', async () => {
      const { server, port } = await servers.start('TLS', {}, (_req, res) => res.end('ok'));
      const before = await H1Client.connect({ port });
      const { cert } = await makeCertificate('localhost');
      const { key } = await certificate();
      const error = await thrown(() => server.setSecureContext({ key, cert }));
      expect(error.code).to.equal('ERR_LASTCALL_OPTION');
      const after = await H1Client.connect({ port });
      expect(shown(after)).to.equal(shown(before));
      expect((await after.fetch()).text).to.equal('ok');
      before.destroy();
      after.destroy();
    });

    it('wants a certificate with its key', async () => {
      const { server } = await servers.start('TLS');
      const { cert } = await certificate();
      expect((await thrown(() => server.setSecureContext({ cert }))).message).to.match(/key/);
      expect((await thrown(() => server.setSecureContext({ certt: cert } as never))).message).to.match(/certt/);
      const ignored = await thrown(() => server.setSecureContext({ requestCert: true } as never));
      expect(ignored).to.include({ code: 'ERR_LASTCALL_OPTION' });
      expect(ignored.message).to.match(/requestCert/);
    });

    it('keeps what it isn’t given: TLS 1.3 only stays TLS 1.3 only', async () => {
      const { server, port } = await servers.start('TLS', { minVersion: 'TLSv1.3' });
      server.setSecureContext(await makeCertificate('renewed'));
      const client = connectTls({ port, rejectUnauthorized: false, maxVersion: 'TLSv1.2' });
      const [error] = (await once(client, 'error')) as [Error];
      expect(error.message).to.match(/version/);
    });

    it('keeps what is given as undefined: it still knows the same authorities', async () => {
      const { private: key, cert } = await generate([{ name: 'commonName', value: 'client' }], { keyType: 'ec' });
      const options = { requestCert: true, rejectUnauthorized: false, ca: cert };
      const { server, port } = await servers.start('TLS', options);
      const isAuthorized = async (): Promise<boolean> => {
        const client = connectTls({ port, rejectUnauthorized: false, key, cert });
        const [socket] = (await once(server, 'secureConnection')) as [TLSSocket];
        client.destroy();
        return socket.authorized;
      };
      expect(await isAuthorized()).to.equal(true);
      server.setSecureContext({ ...(await makeCertificate('renewed')), ca: undefined });
      expect(await isAuthorized()).to.equal(true);
      server.setSecureContext({ ca: (await makeCertificate('other')).cert });
      expect(await isAuthorized()).to.equal(false);
    });

    it('leaves an old PFX behind for good', async function () {
      const pfx = pfxOf(await makeCertificate('old')) ?? this.skip();
      const server = createServer({ pfx, passphrase: 'x' });
      const port = await servers.listen(server);
      const first = await H1Client.connect({ port });
      expect(nameShown(first)).to.equal('old');
      server.setSecureContext(await makeCertificate('new'));
      server.setSecureContext({ minVersion: 'TLSv1.3' });
      const second = await H1Client.connect({ port });
      expect(nameShown(second)).to.equal('new');
      first.destroy();
      second.destroy();
    });

    it('keeps the keys of session tickets, and those that were replaced stay replaced', async () => {
      const [first, second] = [Buffer.alloc(48, 1), Buffer.alloc(48, 2)];
      const { server } = await servers.start('TLS', { ticketKeys: first });
      server.setTicketKeys(second);
      server.setSecureContext(await makeCertificate('renewed'));
      expect(server.getTicketKeys()).to.deep.equal(second);
      // Whoever was trusted before must not come back by resuming a session.
      await server.rotate({ ca: (await certificate()).cert });
      const third = server.getTicketKeys();
      server.setSecureContext(await makeCertificate('renewed again'));
      expect(server.getTicketKeys()).to.deep.equal(third);
      expect([first, second]).to.not.deep.include(third);
    });

    it('still refuses TLS 1.1 and ALPN still works', async () => {
      const { server, port } = await servers.start('TLS', {}, (_req, res) => res.end('ok'));
      server.setSecureContext(await makeCertificate('renewed'));
      const old = connectTls({
        port,
        rejectUnauthorized: false,
        minVersion: 'TLSv1',
        maxVersion: 'TLSv1.1',
        ciphers: 'DEFAULT@SECLEVEL=0',
      });
      const [error] = (await once(old, 'error')) as [Error & { code?: string }];
      expect(error.code).to.match(/VERSION/);
      const client = await H2Client.connect({ port });
      expect(client.transport.alpn).to.equal('h2');
      client.destroy();
    });
  });

  it('shows the certificate of addContext to clients that name its host', async () => {
    const { server, port } = await servers.start('TLS', {}, (_req, res) => res.end('ok'));
    server.addContext('other.example', await makeCertificate('other.example'));
    const client = await H1Client.connect({ port, servername: 'other.example' });
    const usual = await H1Client.connect({ port });
    expect(shown(client)).to.not.equal(shown(usual));
    expect([...server.connections][0]?.servername).to.equal('other.example');
    client.destroy();
    usual.destroy();
  });

  it('does not renegotiate', async () => {
    const { port } = await servers.start('TLS', {}, (_req, res) => res.end('ok'));
    const socket = connectTls({ port, rejectUnauthorized: false, maxVersion: 'TLSv1.2' });
    await once(socket, 'secureConnect');
    const error = await new Promise<Error | null>((resolve) => {
      socket.on('error', resolve);
      socket.renegotiate({ rejectUnauthorized: false }, resolve);
    });
    expect(error).to.be.instanceOf(Error);
    socket.destroy();
  });

  it('takes a ClientHello of many kilobytes, in one piece or byte by byte', async () => {
    const { port } = await servers.start('TLS', {}, (_req, res) => res.end('ok'));
    const others = Array.from({ length: 200 }, (_, i) => `protocol-${i}-${'x'.repeat(40)}`);
    for (const pieces of ['one piece', 'single bytes'] as const) {
      const tcp = connectTcp({ port, host: '127.0.0.1', noDelay: true });
      const underTls = new Duplex({
        read: () => {},
        write: (bytes: Buffer, _encoding, done) => {
          if (pieces === 'one piece') tcp.write(bytes);
          else for (const byte of bytes) tcp.write(Buffer.from([byte]));
          done();
        },
      });
      tcp.on('data', (bytes) => underTls.push(bytes));
      const client = connectTls({
        socket: underTls,
        rejectUnauthorized: false,
        ALPNProtocols: [...others, 'http/1.1'],
      });
      client.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
      const [answer] = (await once(client, 'data')) as [Buffer];
      expect(answer.toString(), pieces).to.match(/^HTTP\/1\.1 200 OK/);
      client.destroy();
      tcp.destroy();
    }
  });

  describe('handshakes that fail', () => {
    it('drops a client that stalls, after the timeout', async () => {
      const { server, port } = await servers.start('TLS', { handshakeTimeout: 500 });
      const failed = once(server, 'tlsClientError');
      const began = performance.now();
      const client = await silentClient(port);
      client.write(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00]));
      await once(client, 'end');
      expect(performance.now() - began).to.be.within(490, 5_000);
      const [error] = (await failed) as [Error & { code?: string }];
      expect(error.code).to.equal('ERR_TLS_HANDSHAKE_TIMEOUT');
      client.destroy();
    });

    it('drops a client that says nothing at all, without a word', async () => {
      const { server, port } = await servers.start('TLS', { handshakeTimeout: 100 });
      let errors = 0;
      server.on('tlsClientError', () => errors++);
      const client = await silentClient(port);
      await once(client, 'end');
      client.destroy();
      await eventually(() => server.connections.size === 0, 'no connection');
      expect(errors).to.equal(0);
    });

    it('tells tlsClientError and clientError of garbage, as node:https does, and closes', async () => {
      const { server, port } = await servers.start('TLS');
      const told = once(server, 'clientError');
      const failed = once(server, 'tlsClientError');
      const client = await silentClient(port);
      client.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
      const [error, socket] = (await failed) as [Error & { code?: string }, TLSSocket];
      expect(error.code).to.match(/^ERR_SSL_/);
      expect(connectionOf(socket)?.remotePort).to.equal(client.localPort);
      expect(await told).to.deep.equal([error, socket]);
      await once(client, 'end');
      client.destroy();
    });

    it('leaves the others alone', async () => {
      const { port } = await servers.start('TLS', {}, (_req, res) => res.end('ok'));
      const other = await H1Client.connect({ port });
      for (let i = 0; i < 20; i++) {
        const client = await silentClient(port);
        client.write('garbage\r\n\r\n');
        await once(client, 'end');
        client.destroy();
      }
      expect((await other.fetch()).text).to.equal('ok');
      other.destroy();
    });
  });

  for (const kind of ['TLS', 'cleartext'] as const) {
    describe(`a balancer's TCP probe (${kind})`, () => {
      /** Everything that a server could say about a connection. */
      const watched = async () => {
        const { server, port } = await servers.start(kind);
        const said: string[] = [];
        for (const event of ['tlsClientError', 'clientError', 'error', 'handlerError', 'timeout']) {
          server.on(event, () => said.push(event));
        }
        return { server, port, said };
      };

      for (const [how, leave] of [
        ['closes', (client: ReturnType<typeof connectTcp>) => client.end()],
        ['resets', (client: ReturnType<typeof connectTcp>) => client.resetAndDestroy()],
      ] as const) {
        it(`that ${how} without a byte leaves no event and no line`, async () => {
          const { server, port, said } = await watched();
          const written: unknown[] = [];
          const { error, warn, log } = console;
          console.error = console.warn = console.log = (...words: unknown[]) => void written.push(words);
          try {
            for (let i = 0; i < 5; i++) {
              const opened = once(server.connections, 'open');
              const client = await silentClient(port);
              await opened;
              leave(client);
              await eventually(() => server.connections.size === 0, 'no connection');
              client.destroy();
            }
          } finally {
            Object.assign(console, { error, warn, log });
          }
          expect(said).to.deep.equal([]);
          expect(written).to.deep.equal([]);
        });
      }
    });

    it(`1,000 probes leave no descriptor behind (${kind})`, async () => {
      const { server, port } = await servers.start(kind);
      await silentClient(port).then((client) => client.destroy());
      await eventually(() => server.connections.size === 0, 'no connection');
      const before = openDescriptors();
      let opened = 0;
      server.connections.on('open', () => opened++);
      for (let batch = 0; batch < 10; batch++) {
        const closed = Array.from({ length: 100 }, () => {
          const client = connectTcp({ port, host: '127.0.0.1' }).on('error', () => {});
          client.once('connect', () => client.end());
          return once(client, 'close');
        });
        await Promise.all(closed);
      }
      await eventually(() => opened === 1_000 && server.connections.size === 0, 'a thousand connections, gone');
      await eventually(() => openDescriptors() <= before, `${before} descriptors, not ${openDescriptors()}`);
    });
  }

  it('1,000 stalled handshakes leave no descriptor behind after the timeout', async () => {
    const { server, port } = await servers.start('TLS', { handshakeTimeout: 1_500 });
    const before = openDescriptors();
    let opened = 0;
    server.connections.on('open', () => opened++);
    const clients = await Promise.all(Array.from({ length: 1_000 }, () => silentClient(port)));
    // Half of them say a little; none closes by itself, whatever the server does.
    for (const client of clients.slice(500)) client.write(Buffer.from([0x16, 0x03, 0x01]));
    await eventually(() => opened === 1_000, 'a thousand connections');
    await eventually(() => server.connections.size === 0, 'no connection', 8_000);
    await eventually(
      () => openDescriptors() <= before + 1_000,
      `the clients' descriptors only, not ${openDescriptors() - before}`,
    );
    for (const client of clients) client.destroy();
  }).timeout(15_000);
});
