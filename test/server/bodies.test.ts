/**
 * What handlers do with the bodies of requests besides reading them to their end: they stop early and answer, or give them
 * up after their answer. Over both protocols alike, as with node:http.
 */
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { expect } from 'chai';
import { connectionOf, drainSignal, gracefulShutdown } from '../../src/index.js';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { PORTS, Servers, thrown } from './support.js';

const SIZE = 400_000;

/** Ways to stop in the middle of a body. */
const STOPS: readonly [string, (req: IncomingMessage) => Promise<unknown>][] = [
  [
    'breaks out of for await',
    async (req) => {
      for await (const _ of req) break;
    },
  ],
  [
    'throws in for await',
    (req) =>
      thrown(async () => {
        for await (const _ of req) throw new Error('too much');
      }),
  ],
  [
    'pipes it to what fails',
    (req) => thrown(() => pipeline(req, new Writable({ write: (_chunk, _encoding, done) => done(new Error('full')) }))),
  ],
  [
    'cancels it as a web stream',
    async (req) => {
      const reader = Readable.toWeb(req).getReader();
      await reader.read();
      await reader.cancel();
    },
  ],
];

for (const kind of PORTS) {
  const tls = kind === 'TLS';

  describe(`a handler and a body (${kind})`, () => {
    const servers = new Servers();

    for (const [protocol, Client] of [
      ['HTTP/1.1', H1Client],
      ['HTTP/2', H2Client],
    ] as const) {
      for (const [what, stop] of STOPS) {
        it(`answers though it ${what}, and is found (${protocol})`, async () => {
          const found: unknown[] = [];
          const { server, port } = await servers.start(kind, {}, async (req: IncomingMessage, res: ServerResponse) => {
            if (req.method === 'GET') {
              res.end('next');
              return;
            }
            await stop(req);
            const [connection] = server.connections;
            found.push(connectionOf(req) === connection, drainSignal(req) === connection?.drainSignal);
            res.writeHead(413).end('too large');
          });
          const client = await Client.connect({ port, tls });
          const answer = await client.fetch({ method: 'POST', body: 'x'.repeat(SIZE) });
          expect([answer.status, answer.text]).to.deep.equal([413, 'too large']);
          expect(found).to.deep.equal([true, true]);
          // What is left of the body doesn't hold what comes behind it.
          expect((await client.fetch({ method: 'POST', body: 'x'.repeat(SIZE) })).status).to.equal(413);
          expect((await client.fetch()).text).to.equal('next');
          const [connection] = server.connections;
          if (connection === undefined) throw new Error('no connection');
          const drained = gracefulShutdown(connection, { idleWait: 0 });
          expect(await client.ended()).to.equal('fin');
          client.end();
          expect(await drained).to.include({ outcome: 'drained' });
        });
      }
    }

    it('that gives it up after its answer doesn’t hold what comes behind it (HTTP/1.1)', async () => {
      let givesUp: () => Promise<unknown> = async () => {};
      const { port } = await servers.start(kind, {}, (req, res) => {
        if (req.method === 'GET') {
          res.end('next');
          return;
        }
        req.on('data', () => {});
        res.end('answered');
        givesUp = () => {
          req.pause();
          // As pipeline() does it.
          (req as { socket: unknown }).socket = null;
          return once(req.destroy(), 'close');
        };
      });
      const client = await H1Client.connect({ port, tls });
      client.write(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${SIZE}\r\n\r\nx`, ['POST']);
      expect((await client.response()).text).to.equal('answered');
      await givesUp();
      client.write('x'.repeat(SIZE - 1));
      expect((await client.fetch()).text).to.equal('next');
      client.destroy();
    });

    it('that stops early has time for its answer, and is sent no more meanwhile than a window (HTTP/2)', async () => {
      const { server, port } = await servers.start(kind, { h2: { bodyTimeout: 100 } }, async (req, res) => {
        for await (const _ of req) break;
        await pause(400);
        res.writeHead(413).end();
      });
      const client = await H2Client.connect({ port, tls });
      const silent = client.request({ method: 'POST', open: true });
      client.data(silent, 'x');
      const busy = client.request({ method: 'POST', body: 'x'.repeat(2_000_000) });
      await pause(300);
      const [connection] = server.connections;
      expect(connection?.socket.bytesRead).to.be.below(500_000);
      for (const id of [silent, busy]) expect((await client.response(id)).status).to.equal(413);
      client.destroy();
    });

    it('that doesn’t read doesn’t hold a drain, though the body goes on (HTTP/2)', async () => {
      const { server, port } = await servers.start(kind, {}, (_req, res) => res.writeHead(202).end());
      const client = await H2Client.connect({ port, tls });
      const id = client.request({ method: 'POST', open: true });
      client.data(id, 'x'.repeat(1_000));
      await client.response(id);
      const [connection] = server.connections;
      if (connection === undefined) throw new Error('no connection');
      const report = await gracefulShutdown(connection, { timeout: 5_000, linger: 0 });
      expect(report).to.include({ outcome: 'drained', served: 1 });
      expect(report.duration).to.be.below(2_000);
      client.destroy();
    });
  });
}
