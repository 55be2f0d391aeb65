import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { expect } from 'chai';
import { LingeringClose, lingeringClose } from '../../src/core/linger.js';

describe('lingeringClose', () => {
  const closers: (() => void)[] = [];

  afterEach(() => {
    for (const close of closers.splice(0)) close();
  });

  async function pair(): Promise<{ ours: Socket; peer: Socket }> {
    const server = createServer({ allowHalfOpen: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const peer = connect({ port: (server.address() as AddressInfo).port, allowHalfOpen: true });
    const [ours] = (await once(server, 'connection')) as [Socket];
    for (const socket of [ours, peer]) {
      socket.on('error', () => {});
      closers.push(() => socket.destroy());
    }
    closers.push(() => server.close());
    ours.resume();
    return { ours, peer };
  }

  async function timed(lingering: Promise<void>): Promise<number> {
    const from = performance.now();
    await lingering;
    return performance.now() - from;
  }

  it('sends FIN and ends with the peer', async () => {
    const { ours, peer } = await pair();
    peer.resume();
    peer.once('end', () => peer.end('last words'));
    expect(await timed(lingeringClose(ours, { linger: 5_000, lingerMax: 5_000 }))).to.be.below(4_000);
    expect(ours.readableEnded).to.equal(true);
  });

  it('ends at once when the peer had ended before', async () => {
    const { ours, peer } = await pair();
    peer.end();
    await once(ours, 'end');
    expect(await timed(lingeringClose(ours, { linger: 5_000, lingerMax: 5_000 }))).to.be.below(4_000);
    expect(ours.writableFinished).to.equal(true);
  });

  it('does not end with the peer while our bytes still wait to be written', async () => {
    const { ours, peer } = await pair();
    const bytes = 16 * 1024 * 1024;
    ours.write(Buffer.alloc(bytes));
    const lingering = lingeringClose(ours, { linger: 2_000, lingerMax: 5_000 });
    peer.end();
    await once(ours, 'end');
    let received = 0;
    peer.on('data', (chunk: Buffer) => {
      received += chunk.length;
    });
    await lingering;
    ours.destroy();
    if (!peer.readableEnded) await once(peer, 'end');
    expect(received).to.equal(bytes);
  });

  it('ends when the peer says nothing for `linger`', async () => {
    const { ours } = await pair();
    expect(await timed(lingeringClose(ours, { linger: 80, lingerMax: 5_000 }))).to.be.within(75, 4_000);
  });

  it('starts again with each byte, up to `lingerMax`', async () => {
    const { ours, peer } = await pair();
    const trickle = setInterval(() => peer.write('x'), 20);
    closers.push(() => clearInterval(trickle));
    expect(await timed(lingeringClose(ours, { linger: 250, lingerMax: 300 }))).to.be.within(290, 4_000);
  });

  it('counts silence from when our last byte is with the kernel', async () => {
    const { ours, peer } = await pair();
    ours.write(Buffer.alloc(64 * 1024 * 1024));
    let received = 0;
    const slowly = setInterval(() => {
      for (let taken = 0; taken < 1_000_000; ) {
        const chunk = peer.read() as Buffer | null;
        if (chunk === null) break;
        taken += chunk.length;
        received += chunk.length;
      }
    }, 10);
    closers.push(() => clearInterval(slowly));
    expect(await timed(lingeringClose(ours, { linger: 150, lingerMax: 600 }))).to.be.above(550);
    expect(received).to.be.above(0);
  });

  it('ends sooner when its limits become shorter, and no later when they would become longer', async () => {
    const { ours } = await pair();
    const from = performance.now();
    const close = new LingeringClose(ours, { linger: 5_000, lingerMax: 5_000 });
    close.tighten({ linger: 80, lingerMax: 5_000 });
    close.tighten({ linger: 9_000, lingerMax: 9_000 });
    await close.over;
    expect(performance.now() - from).to.be.within(75, 4_000);
    close.tighten({ linger: 10, lingerMax: 10 });

    const { ours: other, peer } = await pair();
    const trickle = setInterval(() => peer.write('x'), 20);
    closers.push(() => clearInterval(trickle));
    const trickledFrom = performance.now();
    const trickled = new LingeringClose(other, { linger: 5_000, lingerMax: 5_000 });
    trickled.tighten({ linger: 5_000, lingerMax: 100 });
    await trickled.over;
    expect(performance.now() - trickledFrom).to.be.within(95, 4_000);
  });

  it('ends when the socket is destroyed', async () => {
    const { ours } = await pair();
    const lingering = lingeringClose(ours, { linger: 5_000, lingerMax: 5_000 });
    ours.destroy();
    expect(await timed(lingering)).to.be.below(4_000);
  });
});
