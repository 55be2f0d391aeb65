/**
 * An answer goes to the kernel in one piece where it is one, and whole in any case.
 */
import { Socket } from 'node:net';
import { expect } from 'chai';
import { closeEverything, Site, TRANSPORTS } from './support.js';

/** Ways to write a body, with what arrives and whether it takes a vector. */
const ANSWERS = {
  '/string': { body: 'hello', vectors: 0 },
  '/buffer': { body: 'hello', vectors: 0 },
  '/none': { body: '', vectors: 0 },
  '/corked': { body: 'one zw\u00f6lf drei', vectors: 0 },
  '/large': { body: 'x'.repeat(100_000), vectors: 1 },
} as const;

describe('HTTP/1.1 writes', () => {
  afterEach(closeEverything);

  for (const { name, tls } of TRANSPORTS) {
    for (const [path, { body, vectors }] of Object.entries(ANSWERS)) {
      it(`${path} is whole and takes ${vectors} vectors (${name})`, async () => {
        const site = await Site.open({ tls, delayMs: 0 }, (req, res) => {
          res.setHeader('Content-Length', Buffer.byteLength(body));
          if (req.url === '/none') res.end();
          else if (req.url === '/string') res.end(body);
          else if (req.url !== '/corked') res.end(Buffer.from(body));
          else {
            res.cork();
            res.write('one ');
            res.write('zw\u00f6lf ', 'utf8');
            res.end(Buffer.from('drei'));
          }
        });
        const client = await site.connect();
        await site.connection();
        const proto = Socket.prototype as unknown as { _writev(...args: unknown[]): void };
        const writev = proto._writev;
        let counted = 0;
        proto._writev = function (...args) {
          counted++;
          writev.apply(this, args);
        };
        try {
          const response = await client.fetch({ path });
          expect([response.status, response.text]).to.deep.equal([200, body]);
        } finally {
          proto._writev = writev;
        }
        expect(counted).to.equal(vectors);
      });
    }
  }

  it('an empty chunk between others changes nothing', async () => {
    const site = await Site.open({ tls: false, delayMs: 0 }, (_req, res) => {
      res.write('');
      res.write('a');
      res.write('');
      res.end('b');
    });
    const client = await site.connect();
    expect((await client.fetch({ path: '/' })).text).to.equal('ab');
  });
});
