import { once } from 'node:events';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { expect } from 'chai';
import type { Server } from '../../src/index.js';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { PREFACE } from '../wire/h2-frames.js';
import { Random } from '../wire/random.js';
import { eventually, PORTS, type PortKind, Servers, silentClient } from './support.js';

/** Bytes that clients should not send. */
const GARBAGE: readonly [string, string | Buffer][] = [
  ['nothing but line ends', '\r\n\r\n\r\n\r\n'],
  ['a request line without a version', 'GET /\r\n\r\n'],
  ['an unknown method', 'BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n'],
  ['a request without a host', 'GET / HTTP/1.1\r\n\r\n'],
  ['two lengths', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'],
  [
    'a length and chunks',
    'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ],
  ['a broken chunk', 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'],
  ['a head without an end', `GET / HTTP/1.1\r\nHost: x\r\nX-Large: ${'x'.repeat(100_000)}`],
  ['a NUL in a field', 'GET / HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n'],
  ['the preface and then text', Buffer.concat([PREFACE, Buffer.from('GET / HTTP/1.1\r\n\r\n')])],
  ['the preface twice', Buffer.concat([PREFACE, PREFACE])],
  ['a TLS record', Buffer.from([0x16, 0x03, 0x01, 0x00, 0x05, 1, 2, 3, 4, 5])],
  ['zeros', Buffer.alloc(10_000)],
];

describe('a client that misbehaves', () => {
  const servers = new Servers();
  let escaped: unknown[];
  const onEscape = (error: unknown): void => void escaped.push(error);

  beforeEach(() => {
    escaped = [];
    process.on('uncaughtExceptionMonitor', onEscape);
  });
  afterEach(() => {
    process.off('uncaughtExceptionMonitor', onEscape);
    expect(escaped).to.deep.equal([]);
  });

  /** A socket that has done its handshake, if there is one to do. */
  async function raw(kind: PortKind, port: number, alpn: string[] = []): Promise<Socket> {
    if (kind === 'cleartext') return silentClient(port);
    const socket = connectTls({ port, rejectUnauthorized: false, ALPNProtocols: alpn }).on('error', () => {});
    await once(socket, 'secureConnect');
    socket.resume();
    return socket;
  }

  async function stillAnswers(kind: PortKind, server: Server, port: number, other: H1Client): Promise<void> {
    expect((await other.fetch()).text).to.equal('ok');
    const next = await H1Client.connect({ port, tls: kind === 'TLS' });
    expect((await next.fetch()).text).to.equal('ok');
    next.destroy();
    other.destroy();
    await eventually(() => server.connections.size === 0, 'no connection');
  }

  const start = async (kind: PortKind) => {
    const started = await servers.start(kind, { drain: { linger: 300 } }, (_req, res) => res.end('ok'));
    const other = await H1Client.connect({ port: started.port, tls: kind === 'TLS' });
    expect((await other.fetch()).text).to.equal('ok');
    return { ...started, other };
  };

  for (const kind of PORTS) {
    describe(kind, () => {
      for (const [what, bytes] of GARBAGE) {
        it(`is answered or closed after ${what}; everyone else is served`, async () => {
          const { server, port, other } = await start(kind);
          const client = await raw(kind, port);
          client.write(bytes);
          const ended = Promise.race([once(client, 'end'), once(client, 'data'), once(client, 'close')]);
          if (what !== 'nothing but line ends') await ended;
          client.destroy();
          await stillAnswers(kind, server, port, other);
        });
      }

      it('may reset its connection at any time', async () => {
        const { server, port, other } = await start(kind);
        const random = new Random(7);
        const request = Buffer.from('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n');
        for (let i = 0; i < 60; i++) {
          const client = await silentClient(port);
          if (kind === 'TLS' && random.chance(0.5)) {
            const secure = connectTls({ socket: client, rejectUnauthorized: false }).on('error', () => {});
            secure.once('secureConnect', () => secure.write(request.subarray(0, random.below(request.length))));
          } else {
            client.write(request.subarray(0, random.below(request.length)));
          }
          const turns = random.below(12);
          for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
          client.resetAndDestroy();
        }
        await stillAnswers(kind, server, port, other);
      });

      it('may reset its connection while its answer is being written', async () => {
        const { server, port } = await servers.start(kind, {}, (_req, res) => {
          for (let i = 0; i < 50; i++) res.write('x'.repeat(100_000));
          res.end();
        });
        for (const connect of [H1Client.connect, H2Client.connect]) {
          for (let i = 0; i < 5; i++) {
            const client = await connect({ port, tls: kind === 'TLS' });
            client.request({ path: '/' });
            await once(client.transport.socket, 'data');
            client.reset();
          }
        }
        await eventually(() => server.connections.size === 0, 'no connection');
      });
    });
  }

  it('over HTTP/2 is told with GOAWAY', async () => {
    const { server, port } = await servers.start('TLS', { drain: { linger: 300 } }, (_req, res) => res.end('ok'));
    const other = await H2Client.connect({ port });
    const client = await H2Client.connect({ port, preface: false });
    client.write(Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'));
    await client.expect('GOAWAY');
    client.destroy();
    expect((await other.fetch()).text).to.equal('ok');
    other.destroy();
    await eventually(() => server.connections.size === 0, 'no connection');
  });

  it('cannot crash a process whose application left a socket without an error listener', async () => {
    const { server, port } = await servers.start('cleartext');
    const upgraded = new Promise<Socket>((resolve) => {
      server.on('upgrade', (_req, socket: Socket) => {
        socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
        resolve(socket);
      });
    });
    const client = await H1Client.connect({ port, tls: false });
    client.request({ headers: { Connection: 'Upgrade', Upgrade: 'echo' } });
    const socket = await upgraded;
    await client.until(() => client.informational.length + client.responses.length > 0);
    socket.write('x'.repeat(1_000_000));
    client.reset();
    socket.write('more');
    await eventually(() => server.connections.size === 0, 'no connection');
    socket.destroy(new Error('after the end'));
  });
});
