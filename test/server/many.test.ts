import { once } from 'node:events';
import { connect as connectH2 } from 'node:http2';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { expect } from 'chai';
import {
  connectionOf,
  createServer,
  type DrainProgress,
  parseFilter,
  type Server,
  type ServerOptions,
} from '../../src/index.js';
import { certificate } from '../wire/certificate.js';

const HEADER = 'PROXY TCP4 203.0.113.9 192.0.2.2 54321 443\r\n';

/** Many connections at once: selecting, waves, recycling, and who the client is behind a balancer. */
describe('many connections', () => {
  let server: Server;
  const clients = new Set<{ destroy(): void }>();

  async function serve(options: ServerOptions): Promise<void> {
    server = createServer(options, (req, res) => {
      const { searchParams } = new URL(req.url ?? '/', 'http://a');
      const tenant = searchParams.get('tenant');
      if (tenant !== null) connectionOf(req)?.tags.set('tenant', tenant);
      if (searchParams.has('hang')) return;
      const { remoteAddress, remotePort, remoteFamily } = req.socket;
      res.end(JSON.stringify({ remoteAddress, remotePort, remoteFamily }));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  }

  afterEach(async () => {
    for (const client of clients) client.destroy();
    clients.clear();
    await server.shutdown({ timeout: 100 });
  });

  const port = (): number => (server.address() as AddressInfo).port;

  async function dial(): Promise<Socket> {
    const socket = connect(port(), '127.0.0.1');
    clients.add(socket);
    socket.on('error', () => {});
    await once(socket, 'connect');
    return socket;
  }

  /** One request, and the text of its answer. */
  async function request(socket: Socket, path = '/', host = 'example.com'): Promise<string> {
    socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    let text = '';
    while (!/\r\n\r\n.*\}/s.test(text)) {
      const [chunk] = await once(socket, 'data');
      text += chunk;
    }
    return text;
  }

  const live = async (count: number): Promise<void> => {
    while (server.connections.size !== count) await new Promise((resolve) => setImmediate(resolve));
  };

  it('are selected by what their requests named and the application tagged', async () => {
    await serve({ cleartext: true });
    const [a, b] = [await dial(), await dial()];
    await request(a, '/?tenant=acme', 'shop.example.com');
    await request(a, '/', 'www.example.com:80');
    await request(b, '/?tenant=beta', 'www.example.com');
    const count = (text: string) => server.connections.select(parseFilter(text)).length;
    expect(count('authority=shop.example.com')).to.equal(1);
    expect(count('authority=www.example.com')).to.equal(2);
    expect(count('tag.tenant=acme')).to.equal(1);
    expect(count('proto=h1 addr=127.0.0.0/8 served>=1 active=0')).to.equal(2);
    expect(count('served=2 age<1h')).to.equal(1);
    expect(count(`port=${port()} sample=50%`)).to.equal(1);
  });

  it('are drained over a time, and the summary says how long each took', async () => {
    await serve({ cleartext: true });
    for (let n = 0; n < 20; n++) await dial();
    await live(20);
    const told: DrainProgress[] = [];
    const summary = await server.drain('all', {
      spread: 600,
      idleWait: 0,
      onProgress: (progress) => told.push(progress),
    });
    expect(summary).to.include({ connections: 20, left: 0, gone: 0 });
    expect(summary.outcomes.drained).to.equal(20);
    expect(summary.duration).to.be.within(550, 5_000);
    expect(summary.durations.p50).to.be.above(0).and.at.most(summary.durations.max);
    expect(told.length).to.be.above(2);
    expect(told.at(-1)).to.include({ total: 20, draining: 0, waiting: 0 });
  });

  it('are left alone once the signal stops their drains', async () => {
    await serve({ cleartext: true });
    for (let n = 0; n < 20; n++) await dial();
    await live(20);
    const stop = new AbortController();
    const drained = server.drain('all', { spread: 10_000, idleWait: 0, signal: stop.signal });
    setTimeout(() => stop.abort(), 100);
    const summary = await drained;
    expect(summary.left).to.be.above(15);
    expect(summary.left + summary.connections).to.equal(20);
    expect(server.connections.size).to.equal(summary.left);
  });

  it('that begin to match are drained too if they are to follow', async () => {
    await serve({ cleartext: true });
    const first = await dial();
    await request(first, '/?tenant=acme');
    const drained = server.drain({ tags: { tenant: 'acme' } }, { spread: 1_000, follow: true, idleWait: 0 });
    const [match, other] = [await dial(), await dial()];
    await request(match, '/?tenant=acme');
    await request(other, '/?tenant=beta');
    await once(match, 'close');
    expect((await drained).connections).to.equal(2);
    expect(other.destroyed).to.equal(false);
  });

  it('end with their last request, which is answered with close', async () => {
    await serve({ cleartext: true, recycle: { maxRequests: 3 } });
    const socket = await dial();
    expect(await request(socket)).not.to.match(/^connection: close/im);
    expect(await request(socket)).not.to.match(/^connection: close/im);
    expect(await request(socket)).to.match(/^connection: close/im);
    await once(socket, 'close');
  });

  it('of HTTP/2 end after their last request; what crosses the announcement is served', async () => {
    const { key, cert } = await certificate();
    await serve({ key, cert, recycle: { maxRequests: 3 } });
    const session = connectH2(`https://127.0.0.1:${port()}`, { rejectUnauthorized: false });
    clients.add(session);
    session.on('error', () => {});
    const statuses = await Promise.all(
      Array.from({ length: 5 }, async () => {
        const stream = session.request();
        const [headers] = await once(stream, 'response');
        await once(stream.resume(), 'close');
        return headers[':status'];
      }),
    );
    expect(statuses).to.deep.equal([200, 200, 200, 200, 200]);
    await once(session, 'close');
  });

  it('end at their maximum age', async () => {
    await serve({ cleartext: true, recycle: { maxAge: 300, jitter: 0 }, drain: { idleWait: 0 } });
    const from = performance.now();
    const socket = await dial();
    await once(socket.resume(), 'close');
    expect(performance.now() - from).to.be.within(290, 5_000);
  });

  it('are cut at the timeout of recycling, which counts what is lost', async () => {
    await serve({ cleartext: true, recycle: { maxAge: 200, jitter: 0, timeout: 300 } });
    const from = performance.now();
    const socket = await dial();
    socket.write('GET /?hang HTTP/1.1\r\nHost: a\r\n\r\n');
    await new Promise((resolve) => socket.resume().once('close', resolve));
    expect(performance.now() - from).to.be.within(490, 5_000);
    await live(0);
    expect(server.connections.requests).to.include({ aborted: 1, served: 0 });
  });

  it('are not cut by recycling unless it has a timeout', async () => {
    await serve({ cleartext: true, recycle: { maxAge: 50, jitter: 0 }, drain: { timeout: 50 } });
    const socket = await dial();
    socket.write('GET /?hang HTTP/1.1\r\nHost: a\r\n\r\n');
    await new Promise((resolve) => setTimeout(resolve, 600));
    const [connection] = server.connections;
    expect(connection?.state).to.equal('draining');
    expect(socket.destroyed).to.equal(false);
  });

  for (const secure of [false, true]) {
    for (const protocol of ['h1', 'h2'] as const) {
      it(`behind a balancer: ${protocol} ${secure ? 'over TLS' : 'in cleartext'} knows its client's address`, async () => {
        const { key, cert } = await certificate();
        await serve({ ...(secure ? { key, cert } : { cleartext: true }), proxyProtocol: ['127.0.0.0/8'] });
        const raw = await dial();
        raw.write(HEADER);
        const wrap = (alpn: string): Socket =>
          secure ? tlsConnect({ socket: raw, rejectUnauthorized: false, ALPNProtocols: [alpn] }) : raw;
        let text = '';
        if (protocol === 'h2') {
          const session = connectH2(`${secure ? 'https' : 'http'}://127.0.0.1`, { createConnection: () => wrap('h2') });
          clients.add(session);
          for await (const chunk of session.request().setEncoding('utf8')) text += chunk;
        } else {
          const answer = await request(wrap('http/1.1'));
          text = answer.slice(answer.indexOf('{'), answer.lastIndexOf('}') + 1);
        }
        expect(JSON.parse(text)).to.deep.equal({
          remoteAddress: '203.0.113.9',
          remotePort: 54_321,
          remoteFamily: 'IPv4',
        });
        expect(server.connections.select(parseFilter('addr=203.0.113.0/24'))).to.have.length(1);
        expect(server.connections.select(parseFilter('addr=127.0.0.1'))).to.have.length(0);
      });
    }
  }

  it('h1 only, in cleartext, behind a balancer', async () => {
    await serve({ cleartext: true, h2: false, proxyProtocol: true });
    const raw = await dial();
    raw.write(HEADER);
    expect(await request(raw)).to.contain('203.0.113.9');
  });

  it('from elsewhere send no header, and are refused when they do', async () => {
    await serve({ cleartext: true, proxyProtocol: ['10.0.0.0/8'] });
    expect(await request(await dial())).to.contain('127.0.0.1');
    const liar = await dial();
    liar.write(`${HEADER}GET / HTTP/1.1\r\nHost: a\r\n\r\n`);
    let text = '';
    for await (const chunk of liar) text += chunk;
    expect(text).to.match(/^HTTP\/1.1 400 /);
  });

  it('that must send a header and send something else are closed', async () => {
    await serve({ cleartext: true, proxyProtocol: true });
    const failed = once(server, 'proxyError');
    const socket = await dial();
    socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await once(socket, 'close');
    expect((await failed)[0]).to.have.property('code', 'ERR_LASTCALL_PROXY_PROTOCOL');
    expect(server.limits).to.include({ handshakeTimeout: 0, handshakeErrors: 1 });
    await live(0);
  });

  for (const [what, bytes] of [
    ['nothing', ''],
    ['a part of it', HEADER.slice(0, 20)],
  ] as const) {
    it(`that must send a header and send ${what} in handshakeTimeout are counted as that`, async () => {
      await serve({ cleartext: true, proxyProtocol: true, handshakeTimeout: 500 });
      const told: Error[] = [];
      server.on('proxyError', (error) => void told.push(error));
      const socket = await dial();
      socket.write(bytes);
      await once(socket.resume(), 'close');
      expect(server.limits).to.include({ handshakeTimeout: 1, handshakeErrors: 0 });
      expect(told.map(({ message }) => message)).to.deep.equal(
        bytes === '' ? [] : ['PROXY protocol: the header did not come in time'],
      );
    });
  }

  it('that say nothing before their header are closed by a drain, at once', async () => {
    await serve({ cleartext: true, proxyProtocol: true });
    const socket = await dial();
    await live(1);
    const drained = server.drain('all', { idleWait: 0 });
    await once(socket.resume(), 'close');
    expect((await drained).outcomes.drained).to.equal(1);
    expect(server.limits).to.include({ handshakeTimeout: 0, handshakeErrors: 0 });
  });

  for (const secure of [false, true]) {
    it(`that say nothing after a header that came during a drain are closed by it (${secure ? 'TLS' : 'cleartext'})`, async () => {
      await serve({ ...(secure ? await certificate() : { cleartext: true }), proxyProtocol: true });
      const socket = await dial();
      socket.once('end', () => socket.end());
      await live(1);
      const drained = server.drain('all', { idleWait: 500, timeout: 8_000 });
      socket.write(HEADER);
      await once(socket.resume(), 'close');
      const { duration, outcomes } = await drained;
      expect(outcomes.drained).to.equal(1);
      expect(duration).to.be.below(3_000);
    });
  }
});
