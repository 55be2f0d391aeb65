/**
 * An answer goes to the kernel in one piece where it is one, and whole in any case.
 */
import { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { expect } from 'chai';
import { closeEverything, delay, Site, TRANSPORTS } from './support.js';

/** Ways to write a body, and what arrives. */
const ANSWERS = {
  '/string': 'hello',
  '/buffer': 'hello',
  '/none': '',
  '/corked': 'one zw\u00f6lf drei',
  '/large': 'x'.repeat(100_000),
} as const;

describe('HTTP/1.1 writes', () => {
  afterEach(closeEverything);

  for (const { name, tls } of TRANSPORTS) {
    for (const [path, body] of Object.entries(ANSWERS)) {
      it(`${path} is whole${body.length > 16_384 ? '' : ', in one piece'} (${name})`, async () => {
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
        // From the first answer on the connection is what it is.
        await client.fetch({ path });
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
        expect(counted).to.equal(0);
      });
    }
  }

  for (const { name, tls } of TRANSPORTS) {
    for (const how of ['one buffer', 'a string', 'many buffers at once', 'very many pieces at once'] as const) {
      it(`a large answer in ${how} is whole, and encrypted a slice at a time (${name})`, async () => {
        const body = Buffer.alloc(3_000_000, 'abcdefg');
        const site = await Site.open({ tls, delayMs: 0 }, (_req, res) => {
          res.setHeader('Content-Length', body.length);
          if (how === 'one buffer') res.end(body);
          else if (how === 'a string') res.end(body.toString('latin1'), 'latin1');
          else {
            res.cork();
            const piece = how === 'many buffers at once' ? 100_000 : 30;
            for (let at = 0; at < body.length; at += piece) res.write(body.subarray(at, at + piece));
            res.end();
          }
        });
        const client = await site.connect();
        const proto = Socket.prototype as unknown as { _writeGeneric(...args: [boolean, unknown, ...unknown[]]): void };
        const generic = proto._writeGeneric;
        let largest = 0;
        proto._writeGeneric = function (vector, data, ...more) {
          const all = vector ? (data as { chunk: string }[]).map(({ chunk }) => chunk) : [data as string];
          largest = Math.max(
            largest,
            all.reduce((sum, chunk) => sum + chunk.length, 0),
          );
          generic.call(this, vector, data, ...more);
        };
        try {
          const response = await client.fetch({ path: '/' });
          expect(response.body.equals(body)).to.equal(true);
        } finally {
          proto._writeGeneric = generic;
        }
        expect(largest).to.be.at.most(300_000);
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

  const ENCODED: Readonly<Record<string, readonly [string, BufferEncoding]>> = {
    'base64 in lines': [Buffer.from('a body in base64').toString('base64').replace(/.{8}/g, '$&\r\n'), 'base64'],
    'hex that breaks off': ['6162zz6364', 'hex'],
    utf16le: ['ünï', 'utf16le'],
    utf8: ['ünï', 'utf8'],
    latin1: ['ünï', 'latin1'],
  };
  for (const { name, tls } of TRANSPORTS) {
    for (const [what, [text, encoding]] of Object.entries(ENCODED)) {
      it(`a body given as ${what} is what it decodes to, and nothing follows it (${name})`, async () => {
        const body = Buffer.from(text, encoding);
        const site = await Site.open({ tls, delayMs: 0 }, (_req, res) => {
          res.setHeader('Content-Length', body.length);
          res.end(text, encoding);
        });
        const client = await site.connect();
        for (let i = 0; i < 2; i++) {
          const response = await client.fetch({ path: '/' });
          expect(response.body.toString('hex')).to.equal(body.toString('hex'));
        }
      });
    }
  }

  it('a string that is called a buffer arrives as it does from node:http', async function () {
    // Node 24 and later refuse it.
    if (Number(process.versions.node.split('.')[0]) >= 24) this.skip();
    const site = await Site.open({ tls: false, delayMs: 0 }, (req, res) => {
      if (req.url === '/flushed') res.flushHeaders();
      res.end('abc', 'buffer' as BufferEncoding);
    });
    const client = await site.connect();
    for (const path of ['/', '/flushed']) expect((await client.fetch({ path })).text).to.equal('abc');
  });

  it('a duplex that writes vectors by itself goes on doing so', async () => {
    const site = await Site.open({ tls: false, delayMs: 0 }, (_req, res) => res.end('hello'));
    let written = '';
    const duplex = new Duplex({
      read() {},
      writev(chunks, done) {
        for (const { chunk } of chunks) written += chunk;
        done();
      },
    });
    site.server.emit('connection', duplex);
    duplex.push('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    while (!written.includes('hello')) await delay(2);
    duplex.destroy();
  });
});
