/** Rotating a certificate: who gets the new one, what becomes of those with the old one, and what stays as it was. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { expect } from 'chai';
import { createServer, type Server } from '../../src/index.js';
import { makeCertificate } from '../wire/certificate.js';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { Relay } from '../wire/relay.js';
import { eventually, Servers, thrown } from './support.js';

const certificates = Promise.all([makeCertificate('old'), makeCertificate('new')]);

/** The name in the certificate that a client was shown. */
function shown(client: H1Client | H2Client): string | undefined {
  const subject = (client.transport.socket as TLSSocket).getPeerCertificate().subject;
  return Array.isArray(subject.CN) ? subject.CN[0] : subject.CN;
}

/** A TLS 1.2 session, whose ticket comes within the handshake. */
async function session(port: number, options: ConnectionOptions = {}): Promise<{ reused: boolean; session: Buffer }> {
  const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, maxVersion: 'TLSv1.2', ...options });
  await once(socket, 'secureConnect');
  const result = { reused: socket.isSessionReused(), session: socket.getSession() ?? Buffer.alloc(0) };
  socket.on('error', () => {}).end();
  return result;
}

describe('server.rotate', () => {
  const servers = new Servers();

  const start = async (
    listener = (_req: unknown, res: ServerResponse): unknown => res.end('ok'),
  ): Promise<{ server: Server; port: number }> => {
    const [old] = await certificates;
    return servers.start('TLS', { ...old }, listener);
  };

  it('shows the new certificate to new connections, and drains the older ones of both protocols', async () => {
    const held: ServerResponse[] = [];
    const { server, port } = await start((_req, res) => held.push(res));
    const old = [await H1Client.connect({ port }), await H2Client.connect({ port })] as const;
    old[0].request();
    const stream = old[1].request();
    await eventually(() => held.length === 2, 'two requests');
    const [, renewed] = await certificates;
    const rotated = server.rotate(renewed, { reason: 'new certificate' });
    const young = await H1Client.connect({ port });
    expect(old.map(shown)).to.deep.equal(['old', 'old']);
    expect(shown(young)).to.equal('new');
    for (const client of old) client.transport.socket.once('end', () => client.end());
    for (const res of held) res.end('served');
    expect((await old[0].response()).connectionHas('close')).to.equal(true);
    expect((await old[1].response(stream)).text).to.equal('served');
    const summary = await rotated;
    expect(summary).to.include({ connections: 2, served: 2 });
    expect(summary.outcomes.drained).to.equal(2);
    expect([...server.connections].map(({ state }) => state)).to.deep.equal(['open']);
    young.destroy();
  });

  it('drains what was still shaking hands with the old certificate', async () => {
    const { server, port } = await start();
    const relay = await Relay.open({ port, delayMs: 100 });
    const connecting = H1Client.connect({ port: relay.port });
    const [socket] = (await once(server, 'connection')) as [Socket];
    // Its hello has been read; what it answers is still on its way.
    await eventually(() => socket.bytesRead > 0, 'the client’s hello');
    const [, renewed] = await certificates;
    const rotated = server.rotate(renewed, { idleWait: 5_000 });
    const client = await connecting;
    expect(shown(client)).to.equal('old');
    expect((await client.fetch()).connectionHas('close')).to.equal(true);
    client.end();
    expect((await rotated).outcomes.drained).to.equal(1);
    await relay.close();
  });

  it('spreads the drains', async () => {
    const { server, port } = await start();
    const clients = await Promise.all(Array.from({ length: 10 }, () => H1Client.connect({ port })));
    for (const client of clients) {
      client.transport.socket.once('end', () => client.end());
      await client.fetch();
    }
    const [, renewed] = await certificates;
    const began = performance.now();
    const ends = clients.map(async (client) => {
      await client.ended();
      return performance.now() - began;
    });
    await server.rotate(renewed, { spread: 500, idleWait: 0 });
    const times = (await Promise.all(ends)).sort((a, b) => a - b);
    // The n-th is not due before its share of the time is over.
    for (const [n, time] of times.entries()) expect(time).to.be.at.least(n * 50 - 10);
    expect((times[9] ?? 0) - (times[0] ?? 0)).to.be.above(200);
  });

  it('keeps session tickets valid, over several rotations', async () => {
    const { server, port } = await start();
    const [old, renewed] = await certificates;
    const first = await session(port);
    expect(first.reused).to.equal(false);
    await server.rotate(renewed, { idleWait: 0 });
    expect((await session(port, { session: first.session })).reused).to.equal(true);
    await server.rotate(old, { idleWait: 0 });
    expect((await session(port, { session: first.session })).reused).to.equal(true);
  });

  it('takes ticket keys that are given', async () => {
    const { server, port } = await start();
    const [, renewed] = await certificates;
    const { session: before } = await session(port);
    const ticketKeys = Buffer.alloc(48, 7);
    await server.rotate({ ...renewed, ticketKeys } as Parameters<Server['rotate']>[0], { idleWait: 0 });
    expect(server.getTicketKeys()).to.deep.equal(ticketKeys);
    expect((await session(port, { session: before })).reused).to.equal(false);
  });

  it('forgets sessions when it is decided anew whom to trust', async () => {
    const { server, port } = await start();
    const [, renewed] = await certificates;
    const { session: before } = await session(port);
    await server.rotate({ ...renewed, ca: renewed.cert }, { idleWait: 0 });
    expect((await session(port, { session: before })).reused).to.equal(false);
  });

  const bad: [name: string, tls: () => Promise<object>, options: object, message: RegExp][] = [
    [
      'a key of another certificate',
      async () => ({ key: (await certificates)[0].key, cert: (await certificates)[1].cert }),
      {},
      /key and cert/,
    ],
    ['a certificate without its key', async () => ({ cert: (await certificates)[1].cert }), {}, /without its key/],
    ['a certificate that is none', async () => ({ ...(await certificates)[1], cert: 'none' }), {}, /key and cert/],
    ['an unknown TLS option', async () => ({ crt: 'x' }), {}, /unknown option rotate\.crt/],
    ...[
      'SNICallback',
      'allowPartialTrustChain',
      'requestCert',
      'rejectUnauthorized',
      'handshakeTimeout',
      'ALPNProtocols',
      'pskCallback',
    ].map((option): (typeof bad)[number] => [
      `${option}, which a running server can't change`,
      async () => ({ ...(await certificates)[1], [option]: undefined }),
      {},
      new RegExp(`unknown option rotate\\.${option} `),
    ]),
    ['a spread that is none', async () => (await certificates)[1], { spread: -1 }, /rotate\.spread/],
    ['an unknown option', async () => (await certificates)[1], { spraed: 1 }, /unknown option rotate\.spraed/],
    [
      'follow, which would drain the new ones',
      async () => (await certificates)[1],
      { follow: true },
      /unknown option rotate\.follow/,
    ],
  ];
  for (const [name, tls, options, message] of bad) {
    it(`refuses ${name}, and changes nothing`, async () => {
      const { server, port } = await start();
      const before = await H1Client.connect({ port });
      await before.fetch();
      const keys = server.getTicketKeys();
      const error = await thrown(async () => server.rotate((await tls()) as object, options));
      expect(error.code).to.equal('ERR_LASTCALL_OPTION');
      expect(error.message).to.match(message);
      const after = await H1Client.connect({ port });
      expect(shown(after)).to.equal('old');
      expect(server.getTicketKeys()).to.deep.equal(keys);
      expect((await before.fetch()).connectionHas('close')).to.equal(false);
      for (const client of [before, after]) client.destroy();
    });
  }

  it('is refused on a cleartext server', async () => {
    const [, renewed] = await certificates;
    expect((await thrown(() => createServer({ cleartext: true }).rotate(renewed))).code).to.equal(
      'ERR_LASTCALL_CLEARTEXT',
    );
  });
});
