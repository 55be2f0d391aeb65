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
    const quickest = (): number => Math.min(...times);
    // A machine that stalls is late now and then, not each time.
    for (let i = 0; i < 5 || (i < 60 && quickest() >= 60); i += 1) {
      const sentAt = performance.now();
      socket.write('x');
      await once(socket, 'data');
      times.push(performance.now() - sentAt);
    }
    expect(quickest()).to.be.at.least(40);
    expect(quickest()).to.be.below(60);
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

  // Read together with bytes, a reset looks like a FIN: whoever resets waits until they have been read.
  it('passes a reset by the server on', async () => {
    let server: Socket | undefined;
    const relay = await through(
      await serve((socket) => {
        server = socket;
        socket.write('last words');
      }),
      { delayMs: 10 },
    );
    const socket = await client(relay);
    const [bytes] = await once(socket, 'data');
    expect(String(bytes)).to.equal('last words');
    server?.resetAndDestroy();
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).to.equal('ECONNRESET');
    expect(relay.resets['to-client']).to.equal(1);
  });

  it('passes a reset on after the bytes before it, as late as those', async () => {
    let server: Socket | undefined;
    const events: RelayEvent[] = [];
    const passed = deferred<void>();
    const relay = await through(
      await serve((socket) => {
        server = socket;
        socket.write('last words');
      }),
      {
        delayMs: 10,
        onEvent: (event) => {
          events.push(event);
          if (event.side === 'in' && event.kind === 'data') setImmediate(() => server?.resetAndDestroy());
          if (event.side === 'out' && event.kind === 'reset') passed.resolve();
        },
      },
    );
    const socket = await client(relay);
    socket.on('error', () => {}).resume();
    await passed.promise;
    const of = (kind: RelayEvent['kind']): RelayEvent[] => events.filter((event) => event.kind === kind);
    expect(
      [...of('data'), ...of('reset')].map(({ direction, side, kind }) => `${direction} ${side} ${kind}`),
    ).to.deep.equal(['to-client in data', 'to-client out data', 'to-client in reset', 'to-client out reset']);
    expect(events.at(-1)?.kind).to.equal('reset');
    for (const [came, left] of [of('data'), of('reset')]) {
      expect((left?.at ?? 0) - (came?.at ?? 0)).to.be.at.least(10);
    }
  });

  it('passes a reset by the client on', async () => {
    const read = deferred<void>();
    const seen = deferred<NodeJS.ErrnoException>();
    const port = await serve((socket) => socket.on('error', seen.resolve).on('data', () => read.resolve()));
    const socket = await client(await through(port, { delayMs: 5 }));
    socket.write('hello');
    await read.promise;
    socket.resetAndDestroy();
    expect((await seen.promise).code).to.equal('ECONNRESET');
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
    const times: number[] = [];
    const quickest = (): number => Math.min(...times);
    // A machine that stalls is late now and then, not each time.
    while (times.length === 0 || (times.length < 20 && quickest() > 400)) {
      const startedAt = performance.now();
      const socket = await client(relay);
      let size = 0;
      socket.on('data', (bytes) => {
        size += bytes.length;
      });
      await once(socket, 'end');
      expect(size).to.equal(50_000);
      times.push(performance.now() - startedAt);
    }
    expect(quickest()).to.be.within(95, 400);
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
    // Until nothing moves any more.
    let before: number | undefined;
    for (let still = 0; still < 20; still = server?.writableLength === before ? still + 1 : 0) {
      before = server?.writableLength ?? Number.NaN;
      await new Promise((next) => setTimeout(next, 5));
    }
    expect(before).to.be.above(0);
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
    // What leaves may do so before the next has come.
    const told = (side: RelayEvent['side']): string[] =>
      events
        .filter((event) => event.side === side)
        .map(({ direction, kind, bytes }) => `${direction} ${kind} ${bytes}`);
    for (const side of ['in', 'out'] as const)
      expect(told(side)).to.deep.equal(['to-server data 5', 'to-client data 4', 'to-client fin 0']);
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

function deferred<T>(): { readonly promise: Promise<T>; readonly resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
