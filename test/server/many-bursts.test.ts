/**
 * Bursts of requests on many connections at once leave turns of the event loop short: what waits of them goes on in
 * shares for all of them together.
 */
import { once } from 'node:events';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { expect } from 'chai';
import { encodeFrame, encodeLiterals, Flag, FrameType, PREFACE } from '../wire/h2-frames.js';
import { eventually, Servers } from './support.js';

const CLIENTS = 12;
const REQUESTS = 100;
/** ms that a handler computes. */
const WORK = 0.1;

/** A handler that is busy. */
function burn(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

const BLOCK = encodeLiterals([
  [':method', 'GET'],
  [':scheme', 'https'],
  [':authority', 'x'],
  [':path', '/'],
]);
const REQUEST = Buffer.concat(
  Array.from({ length: REQUESTS }, (_, i) =>
    encodeFrame(FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, 2 * i + 1, BLOCK),
  ),
);

describe('bursts on many connections', () => {
  const servers = new Servers();
  const sockets: TLSSocket[] = [];
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy();
  });

  it('are handled in short turns', async () => {
    let inTurn = 0;
    let all = 0;
    const turns: number[] = [];
    const { port } = await servers.start('TLS', {}, (_req, res) => {
      all++;
      if (inTurn++ === 0) {
        setImmediate(() => {
          turns.push(inTurn);
          inTurn = 0;
        });
      }
      burn(WORK);
      res.end();
    });
    for (let i = 0; i < CLIENTS; i++) {
      const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols: ['h2'] });
      sockets.push(socket);
      socket.on('error', () => {}).resume();
      await once(socket, 'secureConnect');
      socket.write(Buffer.concat([PREFACE, encodeFrame(FrameType.SETTINGS, 0, 0)]));
    }
    for (const socket of sockets) socket.write(REQUEST);
    await eventually(() => all === CLIENTS * REQUESTS, 'every request handled');
    // In the first turns, each of them reads for itself.
    const later = turns.slice(5).sort((a, b) => a - b);
    const usual = later[Math.floor(later.length / 2)];
    expect(usual).to.be.at.most(16);
  });
});
