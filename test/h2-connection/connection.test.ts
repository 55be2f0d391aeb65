import { once } from 'node:events';
import type { Socket } from 'node:net';
import { expect } from 'chai';
import { ErrorCode, Flag, FrameType, Setting } from '../wire/h2-frames.js';
import { closeEverything, connect, pair, serve, standstill, until } from './serve.js';

describe('an HTTP/2 connection', () => {
  afterEach(closeEverything);

  it('sends its SETTINGS without waiting for the preface', async () => {
    const [, client] = await pair(() => {}, {}, { preface: false });
    await client.expect('SETTINGS');
  });

  it('answers what was decoded in one turn with one write', async () => {
    const [host, client] = await pair((_req, res) => res.end('x'));
    for (let i = 0; i < 200; i++) await client.fetch();
    const { socket } = host.connection;
    let writes = 0;
    const write = socket.write.bind(socket) as (...args: unknown[]) => boolean;
    socket.write = ((...args: unknown[]) => {
      writes++;
      return write(...args);
    }) as typeof socket.write;
    client.transport.socket.cork();
    const ids = Array.from({ length: 50 }, () => client.request());
    client.transport.socket.uncork();
    await Promise.all(ids.map((id) => client.response(id)));
    // A turn has four requests at least, however slow the machine is.
    expect(writes).to.be.at.most(50 / 4 + 1);
  });

  it('has not served an answer that the kernel had not taken when the client reset', async () => {
    const size = 24_000_000;
    const settings = [[Setting.INITIAL_WINDOW_SIZE, size]] as const;
    const [host, client] = await pair(
      (req, res) => (req.url === '/large' ? res.end(Buffer.alloc(size)) : res.writeHead(204).end()),
      {},
      { settings },
    );
    client.windowUpdate(0, size);
    client.transport.socket.pause();
    client.request({ path: '/large' });
    const written = await standstill(host);
    client.request({ path: '/small' });
    await until(() => host.connection.socket.bytesWritten > written, 'second answer');
    client.transport.socket.resetAndDestroy();
    await host.connection.closed;
    expect(host.connection.counts).to.include({ served: 0, aborted: 2 });
  });

  it('reports a breach of the protocol, tells the client why, and ends', async () => {
    const [host, client] = await pair((_req, res) => res.end());
    const reported = once(host, 'clientError');
    await client.fetch();
    client.frame(FrameType.HEADERS, Flag.END_HEADERS, 2, Buffer.alloc(1));
    const goaway = await client.expect('GOAWAY');
    const [error, socket] = await reported;
    expect(error.code).to.equal('ERR_LASTCALL_H2_PROTOCOL');
    expect(socket.writable).to.equal(false);
    expect(client.goaways.at(-1)?.errorCode).to.equal(ErrorCode.PROTOCOL_ERROR);
    expect(goaway.payload.length).to.be.above(8);
    expect(await client.ended()).to.equal('fin');
    client.end();
    await host.connection.closed;
  });

  it("takes no harm from a listener of 'clientError' that answers as over HTTP/1.1", async () => {
    const [host, client] = await pair((_req, res) => res.end());
    host.on('clientError', (_error, socket: Socket) => {
      socket.write('HTTP/1.1 400 Bad Request\r\n');
      socket.end('\r\n');
    });
    await client.fetch();
    client.frame(FrameType.HEADERS, Flag.END_HEADERS, 2, Buffer.alloc(1));
    await client.expect('GOAWAY');
    expect(await client.ended()).to.equal('fin');
    client.end();
    await host.connection.closed;
  });

  it('leaves other connections alone when one fails', async () => {
    const host = await serve((_req, res) => res.end('ok'));
    const [bad, good] = [await connect(host), await connect(host)];
    await good.fetch();
    bad.frame(FrameType.DATA, 0, 0, Buffer.alloc(1));
    await bad.ended();
    expect((await good.fetch()).text).to.equal('ok');
  });

  it('gives others their turn while it has very many requests to read, and loses none of them', async () => {
    const order: string[] = [];
    const host = await serve(
      (req, res) => {
        order.push(req.url ?? '');
        res.end();
      },
      { h2: { maxConcurrentStreams: 5_000 } },
    );
    const [greedy, other] = [await connect(host), await connect(host)];
    await greedy.fetch({ path: '/first' });
    await other.fetch({ path: '/first' });
    greedy.transport.socket.cork();
    const ids = Array.from({ length: 2_000 }, () => greedy.request({ path: '/greedy' }));
    greedy.transport.socket.uncork();
    expect((await other.fetch({ path: '/other' })).headers.length).to.be.above(0);
    await Promise.all(ids.map((id) => greedy.response(id)));
    expect(order.filter((path) => path === '/greedy')).to.have.length(2_000);
    expect(order.indexOf('/other')).to.be.below(1_000);
  });

  it('aborts what is open when the client closes', async () => {
    const events: string[] = [];
    const [host, client] = await pair((req, res) => {
      req.on('aborted', () => events.push('aborted'));
      res.on('close', () => events.push('close'));
    });
    client.request({ path: '/gone' });
    await until(() => host.connection.active === 1, 'request');
    client.end();
    await host.connection.closed;
    await until(() => events.length === 2, 'events');
    expect(host.connection.counts).to.include({ aborted: 1, served: 0 });
    expect(host.connection.cutRequests.map((cut) => cut.path)).to.deep.equal(['/gone']);
  });

  it("answers what came together with the client's FIN", async () => {
    const [host, client] = await pair((_req, res) => res.end('still'));
    await client.expect('SETTINGS');
    const id = client.request();
    client.end();
    expect((await client.response(id)).text).to.equal('still');
    await host.connection.closed;
    expect(host.connection.counts).to.include({ served: 1, aborted: 0 });
  });

  it('counts an answer as served only once it has been written out', async () => {
    const window: [number, number] = [Setting.INITIAL_WINDOW_SIZE, 1_000_000];
    const [host, client] = await pair((_req, res) => res.end(Buffer.alloc(600_000)), {}, { settings: [window] });
    client.transport.socket.pause();
    // One after the other.
    for (let i = 0; i < 100; i++) client.request({ headers: [['priority', 'u=3']] });
    client.windowUpdate(0, 80_000_000);
    await until(() => host.connections.length === 1 && host.connection.counts.served > 0, 'first answers');
    await standstill(host);
    expect(host.connection.counts.served).to.be.below(100);
    client.transport.socket.destroy();
    await host.connection.closed;
    const { served, aborted } = host.connection.counts;
    expect([served + aborted, host.connection.active]).to.deep.equal([100, 0]);
    expect(aborted).to.be.above(0);
  });

  it('goes on when a listener throws while bytes are being read', async () => {
    const [, client] = await pair((req, res) => {
      if (req.url === '/throw') {
        req.on('data', () => {
          throw new Error('listener');
        });
      } else {
        res.end('fine');
      }
    });
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    const thrown = once(process, 'uncaughtException');
    client.request({ method: 'POST', path: '/throw', body: 'x' });
    const [error] = await thrown;
    for (const listener of listeners) process.on('uncaughtException', listener);
    expect(error.message).to.equal('listener');
    expect((await client.fetch({ path: '/' })).text).to.equal('fine');
  });

  it('measures the round trip when asked', async () => {
    const [host, client] = await pair((_req, res) => res.end());
    await client.fetch();
    const [driver] = host.drivers;
    expect(await driver?.measureRtt()).to.be.within(0, 2_000);
    expect(host.connection.rtt).to.be.within(0, 2_000);
  });
});
