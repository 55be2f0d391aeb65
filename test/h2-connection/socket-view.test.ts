import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { expect } from 'chai';
import { connectionOf, drainSignal } from '../../src/core/lookup.js';
import { ErrorCode } from '../wire/h2-frames.js';
import { closeEverything, pair, until } from './serve.js';

describe("an HTTP/2 request's socket", () => {
  afterEach(closeEverything);

  it('has the facts of the connection', async () => {
    const facts: Record<string, unknown> = {};
    const [host, client] = await pair(
      (req, res) => {
        const socket = req.socket as TLSSocket;
        const {
          remoteAddress,
          remotePort,
          remoteFamily,
          localAddress,
          localPort,
          encrypted,
          authorized,
          alpnProtocol,
          servername,
        } = socket as TLSSocket & { servername?: string };
        Object.assign(facts, {
          remoteAddress,
          remotePort,
          remoteFamily,
          localAddress,
          localPort,
          encrypted,
          authorized,
          alpnProtocol,
          servername,
        });
        facts.protocol = socket.getProtocol();
        facts.peer = socket.getPeerCertificate();
        facts.cipher = typeof socket.getCipher().name;
        facts.address = socket.address();
        facts.same = res.socket === socket && req.connection === socket;
        facts.connection = connectionOf(socket);
        facts.signal = drainSignal(req) === host.connection.drainSignal;
        res.end();
      },
      { tls: true },
    );
    await client.fetch();
    expect(facts).to.deep.include({
      remoteAddress: '127.0.0.1',
      remotePort: client.transport.localPort,
      remoteFamily: 'IPv4',
      localAddress: '127.0.0.1',
      localPort: host.port,
      encrypted: true,
      authorized: false,
      alpnProtocol: 'h2',
      servername: 'localhost',
      protocol: 'TLSv1.3',
      cipher: 'string',
      same: true,
      connection: host.connection,
      signal: true,
    });
  });

  it('is not encrypted on a cleartext connection', async () => {
    let encrypted: unknown = 'unset';
    const [, client] = await pair((req, res) => {
      encrypted = (req.socket as TLSSocket).encrypted;
      res.end();
    });
    await client.fetch();
    expect(encrypted).to.equal(undefined);
  });

  it('resets one stream when it is destroyed', async () => {
    const [host, client] = await pair((req, res) => {
      if (req.url === '/') res.end('alive');
      else req.socket.destroy();
    });
    expect((await client.fetch({ path: '/destroy' })).reset).to.equal(ErrorCode.CANCEL);
    expect((await client.fetch()).text).to.equal('alive');
    expect(host.connection.state).to.equal('open');
  });

  it('sends what was ended before it is destroyed soon', async () => {
    const body = Buffer.alloc(300_000, 'x');
    const [host, client] = await pair(
      (req, res) => {
        res.end(body);
        req.socket.destroySoon();
      },
      {},
      { credit: 'auto' },
    );
    const stream = await client.fetch();
    expect([stream.reset, stream.text.length]).to.deep.equal([undefined, body.length]);
    const upload = await client.fetch({ method: 'POST', open: true });
    expect(upload.text.length).to.equal(body.length);
    await until(() => client.stream(upload.id).reset !== undefined, 'reset');
    expect(client.stream(upload.id).reset).to.equal(ErrorCode.NO_ERROR);
    expect(host.connection.counts).to.include({ served: 2, aborted: 0 });
    const [, other] = await pair((req) => req.socket.destroySoon());
    expect((await other.fetch()).reset).to.equal(ErrorCode.CANCEL);
  });

  it('refuses what would disturb other streams, and ignores what has no meaning', async () => {
    const codes: unknown[] = [];
    const [, client] = await pair((req, res) => {
      const { socket } = req;
      for (const call of [
        () => socket.write('x'),
        () => socket.end(),
        () => socket.pause(),
        () => socket.read(),
        () => socket.pipe(res),
      ]) {
        try {
          call();
        } catch (error) {
          codes.push((error as { code?: string }).code);
        }
      }
      socket.setNoDelay().setKeepAlive().ref().unref().resume();
      socket.cork();
      socket.uncork();
      res.end('ok');
    });
    expect((await client.fetch()).text).to.equal('ok');
    expect(codes).to.deep.equal(Array(5).fill('ERR_LASTCALL_H2_SOCKET'));
  });

  it('closes with its stream, if that was cut', async () => {
    let socket: Socket | undefined;
    const [host, client] = await pair((req) => {
      socket = req.socket;
    });
    const id = client.request();
    await until(() => host.connection.active === 1, 'request');
    const closed = once(socket as Socket, 'close');
    client.rst(id, ErrorCode.CANCEL);
    await closed;
    expect([socket?.destroyed, socket?.writable, socket?.readyState]).to.deep.equal([true, false, 'closed']);
  });
});
