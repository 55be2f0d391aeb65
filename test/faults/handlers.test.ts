/**
 * Handlers that fail: they throw, reject or destroy their response before, during and after the answer. The client gets
 * a 500 or an answer that is visibly cut, the rest of the connection goes on where the protocol allows it, and the same
 * holds in a drain.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { expect } from 'chai';
import type { DrainReport } from '../../src/index.js';
import type { H2Client } from '../wire/h2-client.js';
import { turns } from '../wire/waiting.js';
import { checkReport, drained, type Ground, groundForEach, nameOf, WAYS } from './harness.js';

type Handler = (req: IncomingMessage, res: ServerResponse) => unknown;

const oops = new Error('oops');

/** What the client may see: a 500, a whole answer, or one that breaks off. */
type Result = '500' | 'whole' | 'cut';

const FAILURES: Readonly<
  Record<string, { readonly handler: Handler; readonly result: Result; readonly reported: boolean }>
> = {
  'throws before it answers': {
    handler: () => {
      throw oops;
    },
    result: '500',
    reported: true,
  },
  'rejects before it answers': { handler: () => Promise.reject(oops), result: '500', reported: true },
  'rejects some turns later': {
    handler: async () => {
      await turns(3);
      throw oops;
    },
    result: '500',
    reported: true,
  },
  'throws after it has set fields': {
    handler: (_req, res) => {
      res.setHeader('content-length', '100');
      throw oops;
    },
    result: '500',
    reported: true,
  },
  'throws once the head is written': {
    handler: (_req, res) => {
      res.writeHead(200, { 'content-length': '10' });
      res.write('half');
      throw oops;
    },
    result: 'cut',
    reported: true,
  },
  'rejects in the middle of the body': {
    handler: async (_req, res) => {
      res.write('some');
      await turns(3);
      throw oops;
    },
    result: 'cut',
    reported: true,
  },
  'throws after it has answered': {
    handler: (_req, res) => {
      res.end('all of it');
      throw oops;
    },
    result: 'whole',
    reported: true,
  },
  'rejects after the answer is out': {
    handler: async (_req, res) => {
      res.end('all of it');
      await turns(5);
      throw oops;
    },
    result: 'whole',
    reported: true,
  },
  'destroys the response before it answers': { handler: (_req, res) => res.destroy(), result: 'cut', reported: false },
  'destroys the response with an error': {
    handler: (_req, res) => {
      res.on('error', () => {});
      res.destroy(oops);
    },
    result: 'cut',
    reported: false,
  },
  'destroys the response once the head is written': {
    handler: async (_req, res) => {
      res.write('some');
      await turns(2);
      res.destroy();
    },
    result: 'cut',
    reported: false,
  },
  'destroys the request': {
    handler: async (req) => {
      await turns(1);
      req.destroy();
    },
    result: 'cut',
    reported: false,
  },
  'destroys the socket': { handler: (req) => req.socket.destroy(), result: 'cut', reported: false },
  'destroys the response twice, and writes on': {
    handler: (_req, res) => {
      res.on('error', () => {});
      res.write('some');
      res.destroy();
      res.destroy();
      res.write('more');
      res.end('end');
    },
    result: 'cut',
    reported: false,
  },
};

for (const way of WAYS) {
  describe(`a handler that fails, ${nameOf(way)}`, function () {
    this.timeout(30_000);
    let ground: Ground;
    groundForEach(way, { drain: { linger: 200 } }, (opened) => {
      ground = opened;
    });

    for (const [failure, { handler, result, reported }] of Object.entries(FAILURES)) {
      for (const inDrain of [false, true]) {
        it(`${failure}${inDrain ? ', in a drain' : ''}`, async () => {
          ground.handlers.set('/fail', handler);
          const client = await ground.connect();
          const connection = await ground.connectionOf(client.transport.localPort);
          const draining: Promise<DrainReport> | undefined = inDrain ? drained(connection) : undefined;
          expect(await ask(client)).to.equal(result);
          await turns(8);
          expect(ground.handlerErrors).to.deep.equal(reported ? [oops] : []);
          if (!inDrain && 'goaways' in client) {
            // Only its own stream was lost.
            expect((await client.fetch({ path: '/ok' })).text).to.equal('ok /ok');
          }
          client.end();
          if (draining !== undefined) {
            const report = await draining;
            if (result === 'cut') expect(report.served, JSON.stringify(report)).to.equal(0);
            else {
              checkReport(report);
              expect(report, JSON.stringify(report)).to.include({ outcome: 'drained', served: 1, aborted: 0 });
            }
          }
          await connection.closed;
          client.destroy();
          const { counts } = connection;
          const others = way.protocol === 'h2' && !inDrain ? 1 : 0;
          expect(counts.served - others, JSON.stringify(counts)).to.equal(result === 'cut' ? 0 : 1);
          if (result === 'cut') expect(counts.aborted, JSON.stringify(counts)).to.equal(1);
        });
      }
    }

    async function ask(client: Awaited<ReturnType<Ground['connect']>>): Promise<Result> {
      if ('goaways' in client) return askH2(client);
      client.request({ path: '/fail' });
      await client.until(() => client.responses.length > 0 || client.ending !== 'open', 'an answer or the end');
      const [response] = client.responses;
      if (response === undefined) return 'cut';
      return response.status === 500 ? '500' : 'whole';
    }

    async function askH2(client: H2Client): Promise<Result> {
      const { ended, status } = await client.fetch({ path: '/fail' });
      if (!ended) return 'cut';
      return status === 500 ? '500' : 'whole';
    }
  });
}
