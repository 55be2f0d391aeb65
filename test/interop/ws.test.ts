/**
 * WebSockets by ws, over the HTTP/1.1 of a server that offers both protocols.
 */
import { once } from 'node:events';
import { connect } from 'node:http2';
import { expect } from 'chai';
import { WebSocket, WebSocketServer } from 'ws';
import { connectionOf, drainSignal, gracefulShutdown } from '../../src/index.js';
import { type Serving, serve } from './serving.js';

describe('ws', () => {
  let serving: Serving;
  let sockets: WebSocketServer;

  beforeEach(async () => {
    serving = await serve();
    sockets = new WebSocketServer({ noServer: true });
    serving.server.on('upgrade', (req, socket, head) => {
      sockets.handleUpgrade(req, socket, head, (peer) => {
        peer.on('message', (data, isBinary) => peer.send(data, { binary: isBinary }));
        drainSignal(req).addEventListener('abort', () => peer.close(1012, 'restarting'));
      });
    });
  });

  afterEach(async () => {
    sockets.close();
    await serving.stop();
    expect(serving.errors).to.deep.equal([]);
  });

  async function connected(): Promise<WebSocket> {
    const socket = new WebSocket(`${serving.origin.replace('https', 'wss')}/`, { rejectUnauthorized: false });
    await once(socket, 'open');
    return socket;
  }

  it('echoes messages of all sizes', async () => {
    const socket = await connected();
    for (const size of [0, 1, 125, 126, 65_535, 65_536, 1_000_000]) {
      const message = Buffer.alloc(size, size);
      socket.send(message);
      const [echo] = await once(socket, 'message');
      expect(message.equals(echo as Buffer)).to.equal(true);
    }
    socket.close();
    await once(socket, 'close');
  });

  it('can end its connection when it is told of a drain', async () => {
    const socket = await connected();
    const [connection] = serving.server.connections;
    if (connection === undefined) throw new Error('no connection');
    const closed = once(socket, 'close');
    const report = await gracefulShutdown(connection, { timeout: 5_000 });
    const [code, reason] = await closed;
    expect([code, String(reason), report.outcome, report.aborted]).to.deep.equal([1012, 'restarting', 'drained', 0]);
  });

  it('shares its port with requests', async () => {
    const socket = await connected();
    serving.server.once('request', (req) => expect(connectionOf(req)?.protocol).to.equal('h2'));
    const session = connect(serving.origin, { rejectUnauthorized: false });
    const stream = session.request({ ':path': '/hello/1' });
    const [head] = await once(stream, 'response');
    expect(head[':status']).to.equal(200);
    session.close();
    socket.terminate();
  });
});
