/**
 * Servers whose connections can't be reset, because they aren't TCP: on a Unix socket, or over a duplex.
 */
import { once } from 'node:events';
import { connect as connectH2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { expect } from 'chai';
import { type Connection, createServer, gracefulShutdown, type Server } from '../../src/index.js';
import { eventually } from './support.js';

let sockets = 0;

/** A request that is never answered is in flight on it. */
async function h1Client(path: string): Promise<Socket> {
  const socket = connect(path).on('error', () => {});
  socket.resume();
  socket.write('GET /park HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(socket, 'connect');
  return socket;
}

async function h2Client(path: string): Promise<Socket> {
  const socket = connect(path).on('error', () => {});
  const session = connectH2('http://x', { createConnection: () => socket }).on('error', () => {});
  session
    .request({ ':path': '/park' })
    .on('error', () => {})
    .resume();
  await once(socket, 'connect');
  return socket;
}

describe('a connection that is not TCP', () => {
  let server: Server;
  let path: string;
  let parked: number;

  beforeEach(async () => {
    parked = 0;
    path = join(tmpdir(), `lastcall-${process.pid}-${++sockets}.sock`);
    server = createServer({ cleartext: true }, (req, res) => {
      if (req.url === '/park') parked++;
      else res.end('ok');
    });
    server.listen(path);
    await once(server, 'listening');
  });
  afterEach(async () => {
    server.closeAllConnections();
    await server.shutdown({ timeout: 100 });
  });

  const CLIENTS = [
    ['HTTP/1.1', h1Client],
    ['HTTP/2', h2Client],
  ] as const;
  const CLOSES: readonly [string, (connection: Connection) => unknown][] = [
    ["a drain's deadline", (connection) => gracefulShutdown(connection, { timeout: 50 })],
    ["a shutdown's deadline", () => server.shutdown({ timeout: 50 })],
    ['destroy()', (connection) => connection.destroy()],
    ['closeAllConnections()', () => server.closeAllConnections()],
  ];
  for (const [protocol, clientOf] of CLIENTS) {
    for (const [how, close] of CLOSES) {
      it(`is cut by ${how}, ${protocol} on a Unix socket`, async () => {
        const client = await clientOf(path);
        await eventually(() => parked === 1, 'the request');
        const [connection] = server.connections;
        if (connection === undefined) throw new Error('no connection');
        // What it has sent meanwhile and nobody read makes it a reset.
        client.on('error', () => {});
        const closed = new Promise((resolve) => client.once('close', resolve));
        await close(connection);
        await connection.closed;
        await closed;
        expect([connection.state, server.connections.size]).to.deep.equal(['closed', 0]);
      });
    }
  }

  it('is drained without a loss on a Unix socket', async () => {
    const socket = connect(path);
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(socket, 'data');
    const [connection] = server.connections;
    if (connection === undefined) throw new Error('no connection');
    const drained = gracefulShutdown(connection);
    // It crosses the beginning of the drain.
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    let answer = '';
    for await (const bytes of socket) answer += String(bytes);
    expect(answer)
      .to.match(/^HTTP\/1\.1 200 OK\r\n/)
      .and.match(/^Connection: close\r$/m);
    expect(await drained).to.include({ outcome: 'drained', served: 1, unserved: 0 });
  });

  it('is cut over a duplex', async () => {
    const duplex = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
    server.emit('connection', duplex);
    duplex.push('GET /park HTTP/1.1\r\nHost: x\r\n\r\n');
    await eventually(() => parked === 1, 'the request');
    const [connection] = server.connections;
    if (connection === undefined) throw new Error('no connection');
    const report = await gracefulShutdown(connection, { timeout: 50 });
    expect([report.outcome, report.aborted, duplex.destroyed]).to.deep.equal(['forced', 1, true]);
  });
});
