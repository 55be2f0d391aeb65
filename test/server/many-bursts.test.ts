/**
 * Bursts of requests on many connections at once, or of connections, leave turns of the event loop short: what waits of
 * them goes on in shares for all of them together.
 */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { connect as connectTcp, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectTls, TLSSocket } from 'node:tls';
import { expect } from 'chai';
import { inLaterTurn } from '../../src/core/turns.js';
import { encodeFrame, encodeLiterals, Flag, FrameType, PREFACE } from '../wire/h2-frames.js';
import { stall } from '../wire/waiting.js';
import { eventually, Servers } from './support.js';

const CLIENTS = 12;
const REQUESTS = 100;
/** ms that a handler computes. */
const WORK = 0.1;

function get(streamId: number, path: string): Buffer {
  const block = encodeLiterals([
    [':method', 'GET'],
    [':scheme', 'https'],
    [':authority', 'x'],
    [':path', path],
  ]);
  return encodeFrame(FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, streamId, block);
}

const BURSTS = {
  h2: Buffer.concat(Array.from({ length: REQUESTS }, (_, i) => get(2 * i + 1, '/'))),
  'http/1.1': Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(REQUESTS)),
};

/** What a client says first. */
function clientHello(): Promise<Buffer> {
  return new Promise((resolve) => {
    const wire = new Duplex({ read() {}, write: (chunk: Buffer) => resolve(chunk) });
    connectTls({ socket: wire, ALPNProtocols: ['h2'] }).on('error', () => {});
  });
}

describe('bursts on many connections', () => {
  const servers = new Servers();
  const sockets: Socket[] = [];
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy();
  });

  // Over TLS, an HTTP/1.1 connection has one request a turn anyway.
  for (const [alpn, kind] of [
    ['h2', 'TLS'],
    ['http/1.1', 'cleartext'],
  ] as const) {
    it(`are handled in short turns (${alpn}, ${kind})`, async () => {
      let inTurn = 0;
      let all = 0;
      const turns: number[] = [];
      const { port } = await servers.start(kind, {}, (_req, res) => {
        all++;
        if (inTurn++ === 0) {
          setImmediate(() => {
            turns.push(inTurn);
            inTurn = 0;
          });
        }
        stall(WORK);
        res.end();
      });
      for (let i = 0; i < CLIENTS; i++) {
        const socket =
          kind === 'TLS'
            ? connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols: [alpn] })
            : connectTcp(port, '127.0.0.1');
        sockets.push(socket);
        socket.on('error', () => {}).resume();
        await once(socket, kind === 'TLS' ? 'secureConnect' : 'connect');
        if (alpn === 'h2') socket.write(Buffer.concat([PREFACE, encodeFrame(FrameType.SETTINGS, 0, 0)]));
      }
      for (const socket of sockets) socket.write(BURSTS[alpn]);
      await eventually(() => all === CLIENTS * REQUESTS, 'every request handled');
      // In the first turns, each of them reads for itself.
      const later = turns.slice(5).sort((a, b) => a - b);
      expect(later.length, 'turns').to.be.greaterThan(CLIENTS);
      const usual = later[Math.floor(later.length / 2)];
      expect(usual).to.be.at.most(16);
    });
  }

  async function connectH2(port: number): Promise<Socket> {
    const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols: ['h2'] });
    sockets.push(socket);
    socket.on('error', () => {}).resume();
    await once(socket, 'secureConnect');
    socket.write(Buffer.concat([PREFACE, encodeFrame(FrameType.SETTINGS, 0, 0)]));
    await once(socket, 'data');
    return socket;
  }

  it('are interrupted for a request that comes meanwhile', async () => {
    let order: string[] = [];
    let other: Socket | undefined;
    const { port } = await servers.start('TLS', {}, (req, res) => {
      // It has come while the first of the burst is handled.
      if (order.length === 0) other?.write(get(1, '/other'));
      order.push(req.url ?? '');
      stall(WORK);
      res.end();
    });
    const places: number[] = [];
    for (let round = 0; round < 5; round++) {
      order = [];
      other = await connectH2(port);
      (await connectH2(port)).write(BURSTS.h2);
      await eventually(() => order.length === REQUESTS + 1, 'every request handled');
      places.push(order.indexOf('/other'));
    }
    // A busy kernel may bring it one poll later. In the same turn, the burst would always have had its second share.
    expect(Math.min(...places)).to.be.at.most(4);
  });

  it('are no reason to keep back what another has been answered', async () => {
    const order: string[] = [];
    const { server, port } = await servers.start('TLS', {}, (_req, res) => {
      order.push('handled');
      res.end();
    });
    server.on('secureConnection', (socket) => {
      const write = socket.write;
      socket.write = function (this: TLSSocket, ...args: Parameters<typeof write>) {
        order.push('written');
        return write.apply(this, args);
      } as typeof write;
    });
    const client = await connectH2(port);
    let over = false;
    const wait = (): void => {
      order.push('what waits');
      if (!over) inLaterTurn(wait);
    };
    wait();
    for (let i = 0; i < 20; i++) {
      client.write(get(2 * i + 1, '/'));
      await eventually(() => order.filter((what) => what === 'handled').length === i + 1, 'a request');
    }
    over = true;
    const behind = order.flatMap((what, i) => (what === 'handled' ? [order[i + 1]] : []));
    expect(behind).to.deep.equal(behind.map(() => 'written'));
  });

  it('do not take the time that another has for its body', async () => {
    const crowd = 40;
    const requestTimeout = 1_500;
    let slow: ServerResponse | undefined;
    let handled = 0;
    let hasTurn = false;
    const { port } = await servers.start('cleartext', { h1: { requestTimeout } }, (req, res) => {
      if (req.url === '/slow') slow = res;
      else if (req.method === 'POST') {
        hasTurn = true;
        req.resume().once('end', () => res.end('received'));
      } else {
        handled++;
        if (!hasTurn) stall(10);
        res.end();
      }
    });
    const clients: Socket[] = [];
    for (let i = 0; i <= crowd; i++) {
      const client = connectTcp(port, '127.0.0.1').on('error', () => {});
      clients.push(client);
      sockets.push(client);
      await once(client, 'connect');
    }
    const [other, ...others] = clients;
    let answers = '';
    other?.on('data', (bytes) => {
      answers += bytes;
    });
    const sentAt = performance.now();
    other?.write('GET /slow HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nha');
    await eventually(() => slow !== undefined, 'the slow request');
    for (const client of others) client.resume().write(BURSTS['http/1.1']);
    await eventually(() => handled > crowd, 'requests that wait for room');
    // Its time would be over while it waits for room behind those of the crowd.
    await delay(Math.max(0, sentAt + requestTimeout - 200 - performance.now()));
    slow?.end('slow');
    await eventually(() => hasTurn || answers.includes(' 408 '), 'its turn');
    other?.write('lf');
    await eventually(() => answers.includes('received') || answers.includes(' 408 '), 'its answer');
    expect(answers).to.include('received').and.not.include(' 408 ');
  });

  it('begin few handshakes in a turn', async () => {
    const { server, port } = await servers.start('TLS', {}, (_req, res) => res.end());
    const crowd = 3 * CLIENTS;
    // Whoever has been accepted says nothing until all have been.
    const raws = await Promise.all(
      Array.from({ length: crowd }, async () => {
        const raw = connectTcp(port, '127.0.0.1').on('error', () => {});
        sockets.push(raw);
        await once(raw, 'connect');
        return raw;
      }),
    );
    const hello = await clientHello();
    await eventually(() => server.connections.size === crowd, 'every connection accepted');
    let inTurn = 0;
    let most = 0;
    let all = 0;
    const proto = TLSSocket.prototype as unknown as { _init(...args: unknown[]): void };
    const init = proto._init;
    proto._init = function (...args) {
      init.apply(this, args);
      all++;
      if (inTurn++ === 0) {
        setImmediate(() => {
          most = Math.max(most, inTurn);
          inTurn = 0;
        });
      }
      stall(0.3);
    };
    try {
      for (const raw of raws) raw.write(hello);
      await eventually(() => all === crowd, 'every handshake begun');
    } finally {
      proto._init = init;
    }
    // Those that come first, and those that have waited.
    expect(most).to.be.at.most(6);
  });
});
