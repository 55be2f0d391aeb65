import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { expect } from 'chai';
import { Relay, type RelayEvent } from './relay.js';

describe('relay', () => {
  const opened: { close(): unknown }[] = [];
  const sockets: Socket[] = [];

  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    for (const thing of opened.splice(0)) await thing.close();
  });

  async function serve(onConnection: (socket: Socket) => void): Promise<number> {
    const server: Server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      sockets.push(socket);
      socket.on('error', () => {});
      onConnection(socket);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    opened.push(server);
    return (server.address() as AddressInfo).port;
  }

  async function through(port: number, options: Partial<Parameters<typeof Relay.open>[0]> = {}): Promise<Relay> {
    const relay = await Relay.open({ port, ...options });
    opened.push(relay);
    return relay;
  }

  async function client(relay: Relay): Promise<Socket> {
    const socket = connect({ port: relay.port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    sockets.push(socket);
    await once(socket, 'connect');
    return socket;
  }

  it('delays bytes by delayMs each way, and never less', async () => {
    const relay = await through(await serve((socket) => socket.on('data', (bytes) => socket.write(bytes))), {
      delayMs: 20,
    });
    const socket = await client(relay);
    const times: number[] = [];
    for (let i = 0; i < 5; i += 1) {
      const sentAt = performance.now();
      socket.write('x');
      await once(socket, 'data');
      times.push(performance.now() - sentAt);
    }
    expect(Math.min(...times)).to.be.at.least(40);
    expect(Math.min(...times)).to.be.below(60);
  });

  it('keeps the order and every byte of a burst, also when the delay is lowered meanwhile', async () => {
    const received = createHash('sha256');
    let count = 0;
    const done = new Promise<void>((resolve) => {
      serve((socket) => {
        socket.on('data', (bytes) => {
          count += bytes.length;
          received.update(bytes);
        });
        socket.on('end', resolve);
      }).then(async (port) => {
        const relay = await through(port, { delayMs: 15 });
        const socket = await client(relay);
        for (let i = 0; i < 300; i += 1) {
          const chunk = randomBytes(1 + ((i * 7919) % 20_000));
          sent.update(chunk);
          size += chunk.length;
          socket.write(chunk);
          if (i % 50 === 49) await new Promise((next) => setTimeout(next, 5));
          if (i === 150) relay.delayMs = 0;
        }
        socket.end();
      });
    });
    const sent = createHash('sha256');
    let size = 0;
    await done;
    expect(count).to.equal(size);
    expect(received.digest('hex')).to.equal(sent.digest('hex'));
  });

  it('passes a half-close on after the delay, and what comes the other way afterwards', async () => {
    const relay = await through(
      await serve((socket) => socket.on('data', () => {}).on('end', () => socket.end('after your FIN'))),
      {
        delayMs: 10,
      },
    );
    const socket = await client(relay);
    let text = '';
    socket.on('data', (bytes) => {
      text += bytes.toString();
    });
    const startedAt = performance.now();
    socket.end('question');
    await once(socket, 'end');
    expect(text).to.equal('after your FIN');
    expect(performance.now() - startedAt).to.be.at.least(20);
    expect(relay.resets).to.deep.equal({ 'to-server': 0, 'to-client': 0 });
  });

  it('passes a reset by the server on, after the bytes before it', async () => {
    const relay = await through(
      await serve((socket) => {
        // Read together with bytes, a reset looks like a FIN: the relay polls in between.
        const reset = (): void => void socket.resetAndDestroy();
        socket.write('last words', () => setTimeout(() => setImmediate(() => setImmediate(reset)), 5));
      }),
      { delayMs: 10 },
    );
    const socket = await client(relay);
    let text = '';
    socket.on('data', (bytes) => {
      text += bytes.toString();
    });
    const [error] = (await once(socket, 'error').catch((cause: unknown) => [cause])) as [NodeJS.ErrnoException];
    expect(error.code).to.equal('ECONNRESET');
    expect(text).to.equal('last words');
    expect(relay.resets['to-client']).to.equal(1);
  });

  it('passes a reset by the client on', async () => {
    const seen = new Promise<NodeJS.ErrnoException>((resolve) => {
      serve((socket) => socket.on('error', resolve).on('data', () => {})).then(async (port) => {
        const socket = await client(await through(port, { delayMs: 5 }));
        socket.write('hello');
        setTimeout(() => socket.resetAndDestroy(), 20);
      });
    });
    expect((await seen).code).to.equal('ECONNRESET');
  });

  it('notices that bytes sent after the server closed were answered with a reset', async () => {
    const relay = await through(
      await serve((socket) => {
        socket.on('data', () => {
          socket.end('bye');
          socket.destroySoon();
        });
      }),
      { delayMs: 5 },
    );
    const socket = await client(relay);
    socket.on('data', () => {});
    socket.on('error', () => {});
    socket.write('first');
    await once(socket, 'end');
    socket.write('too late');
    while (relay.resets['to-client'] === 0) await new Promise((next) => setTimeout(next, 2));
    expect(relay.resetClientPorts.has(socket.localPort ?? 0)).to.equal(true);
  });

  it('resets the client when the server cannot be reached', async () => {
    const port = await serve(() => {});
    for (const server of opened.splice(0)) await server.close();
    const socket = await client(await through(port));
    const [error] = (await once(socket, 'error').catch((cause: unknown) => [cause])) as [NodeJS.ErrnoException];
    expect(error.code).to.equal('ECONNRESET');
  });

  it('limits the rate', async () => {
    const relay = await through(await serve((socket) => socket.end(Buffer.alloc(50_000))), { bytesPerSecond: 500_000 });
    const startedAt = performance.now();
    const socket = await client(relay);
    let size = 0;
    socket.on('data', (bytes) => {
      size += bytes.length;
    });
    await once(socket, 'end');
    expect(size).to.equal(50_000);
    expect(performance.now() - startedAt).to.be.within(95, 400);
  });

  it('stops reading when the receiver does not read, and loses nothing', async () => {
    let server: Socket | undefined;
    const relay = await through(
      await serve((socket) => {
        server = socket;
        socket.end(Buffer.alloc(30 * 1024 * 1024));
      }),
      { bufferBytes: 64 * 1024, delayMs: 1 },
    );
    const socket = await client(relay);
    socket.pause();
    await new Promise((next) => setTimeout(next, 100));
    expect(server?.writableLength).to.be.above(0);
    let size = 0;
    socket.on('data', (bytes) => {
      size += bytes.length;
    });
    socket.resume();
    await once(socket, 'end');
    expect(size).to.equal(30 * 1024 * 1024);
  });

  it('reports what passed, with times', async () => {
    const events: RelayEvent[] = [];
    const relay = await through(await serve((socket) => socket.on('data', () => socket.end('pong'))), {
      delayMs: 8,
      onEvent: (event) => events.push(event),
    });
    const socket = await client(relay);
    socket.on('data', () => {});
    socket.write('ping!');
    await once(socket, 'end');
    const told = events.map((event) => `${event.direction} ${event.side} ${event.kind} ${event.bytes}`);
    expect(told).to.deep.equal([
      'to-server in data 5',
      'to-server out data 5',
      'to-client in data 4',
      'to-client in fin 0',
      'to-client out data 4',
      'to-client out fin 0',
    ]);
    const [first, second] = events;
    expect((second?.at ?? 0) - (first?.at ?? 0)).to.be.at.least(8);
  });

  it('tells which port the server sees for a client', async () => {
    let seen = 0;
    const relay = await through(
      await serve((socket) => {
        seen = socket.remotePort ?? 0;
        socket.write('hi');
      }),
    );
    const socket = await client(relay);
    await once(socket, 'data');
    expect(relay.byClientPort(socket.localPort ?? 0)?.serverSidePort).to.equal(seen);
  });
});
