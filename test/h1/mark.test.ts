/**
 * Connection: close wins on every path by which a response head can be written.
 */
import type { ServerResponse } from 'node:http';
import { ServerResponse as NodeResponse } from 'node:http';
import { type AddressInfo, createConnection } from 'node:net';
import { expect } from 'chai';
import { connectionOf, gracefulShutdown } from '../../src/index.js';
import { closeEverything, Site } from './support.js';

/** Each writes a whole answer; the drain has begun before. */
const WAYS: Readonly<Record<string, (res: ServerResponse) => void>> = {
  end: (res) => res.end('x'),
  'write, then end': (res) => {
    res.write('x');
    res.end();
  },
  flushHeaders: (res) => {
    res.flushHeaders();
    res.end('x');
  },
  'writeHead with an object': (res) => res.writeHead(200, { Connection: 'keep-alive', 'X-A': ['1', '2'] }).end('x'),
  'writeHead with a flat array': (res) =>
    res.writeHead(200, ['Connection', 'keep-alive', 'X-A', '1', 'x-a', '2']).end('x'),
  'writeHead with nested arrays': (res) =>
    res
      .writeHead(200, [
        ['X-A', '1'],
        ['connection', 'Keep-Alive'],
        ['x-a', '2'],
      ] as never)
      .end('x'),
  'setHeader, then writeHead with an array': (res) => {
    res.setHeader('Connection', 'keep-alive');
    res.writeHead(200, ['X-A', '1']).end('x');
  },
  'writeHead with a reason': (res) => res.writeHead(200, 'Fine', { connection: 'keep-alive' }).end('x'),
  'sendDate = false': (res) => {
    res.sendDate = false;
    res.end('x');
  },
  "a handler's own keep-alive": (res) => {
    res.setHeader('Connection', 'keep-alive');
    res.setHeader('Keep-Alive', 'timeout=99');
    res.end('x');
  },
  'an array of connection options': (res) => {
    res.setHeader('Connection', ['keep-alive', 'foo']);
    res.end('x');
  },
  'shouldKeepAlive = true': (res) => {
    res.shouldKeepAlive = true;
    res.end('x');
  },
  "removeHeader('Connection')": (res) => {
    res.removeHeader('Connection');
    res.end('x');
  },
  'setPrototypeOf, as Express does': (res) => {
    Object.setPrototypeOf(res, Object.create(NodeResponse.prototype));
    res.setHeader('Connection', 'keep-alive');
    res.end('x');
  },
  'a pipe without a length': (res) => {
    res.setHeader('Connection', 'keep-alive');
    res.removeHeader('Transfer-Encoding');
    res.end('x');
  },
  'cork and trailers': (res) => {
    res.cork();
    res.setHeader('Trailer', 'x-sum');
    res.write('x');
    res.addTrailers({ 'x-sum': '1' });
    res.end();
    res.uncork();
  },
};

describe('Connection: close', () => {
  afterEach(closeEverything);

  for (const [way, answer] of Object.entries(WAYS)) {
    for (const order of ['drain first', 'head first'] as const) {
      it(`${order === 'drain first' ? 'is on' : 'comes too late for'} a head written by ${way} (${order})`, async () => {
        const site = await Site.open({ tls: false, delayMs: 0 }, (req, res) => {
          // Head first: formatted in this way, but nothing gets out before the drain has begun.
          if (order === 'head first') req.socket.cork();
          if (order === 'drain first') void gracefulShutdown(connectionOf(req) as never);
          answer(res);
          if (order === 'head first') {
            void gracefulShutdown(connectionOf(req) as never, { idleWait: 0 });
            req.socket.uncork();
          }
        });
        const client = await site.connect();
        const received = await client.fetch();
        expect([received.status, received.text]).to.deep.equal([200, 'x']);
        if (order === 'drain first') {
          expect(received.connectionHas('close')).to.equal(true);
          expect(received.connectionHas('keep-alive')).to.equal(false);
          expect(received.header('keep-alive')).to.equal(undefined);
          if (way.startsWith('writeHead with') && !way.endsWith('reason'))
            expect(received.header('x-a')).to.equal('1, 2');
          if (way === 'an array of connection options') expect(received.connectionHas('foo')).to.equal(true);
          if (way === 'sendDate = false') expect(received.header('date')).to.equal(undefined);
          if (way === 'cork and trailers') expect(received.trailers).to.deep.equal([['x-sum', '1']]);
        }
        expect(await client.ended()).to.equal('fin');
        expect(client.parseError).to.equal(undefined);
      });
    }
  }

  it('goes out at once, though the body comes later', async () => {
    let end = (): void => {};
    const site = await Site.open({ tls: false }, (req, res) => {
      void gracefulShutdown(connectionOf(req) as never);
      res.writeHead(200, { 'content-length': 1 });
      end = () => res.end('x');
    });
    const client = await site.connect();
    client.request();
    expect((await client.head()).connectionHas('close')).to.equal(true);
    end();
    await client.until(() => client.responses.length === 1);
  });

  it('keeps other connection options, in one field', async () => {
    const site = await Site.open({ tls: false }, (req, res) => {
      void gracefulShutdown(connectionOf(req) as never);
      res.writeHead(426, { Connection: 'Upgrade, keep-alive, X-Hop', Upgrade: 'h2c', 'X-Hop': '1' }).end();
    });
    const client = await site.connect();
    expect((await client.fetch()).header('connection')).to.equal('Upgrade, X-Hop, close');
  });

  it('is put into a head that was formatted before the drain and not sent', async () => {
    const site = await Site.open({ tls: false }, (req, res) => {
      res.writeHead(200, ['Connection', 'keep-alive, X-Hop', 'Set-Cookie', 'a=1', 'Set-Cookie', 'b=2']);
      setTimeout(() => {
        void gracefulShutdown(connectionOf(req) as never);
        setTimeout(() => res.end('x'), 20);
      }, 20);
    });
    const client = await site.connect();
    const received = await client.fetch();
    expect(received.header('connection')).to.equal('X-Hop, close');
    expect(received.header('set-cookie')).to.equal('a=1, b=2');
    expect([received.text, received.header('transfer-encoding')]).to.deep.equal(['x', 'chunked']);
    expect(await client.ended()).to.equal('fin');
  });

  const name = `attachment; filename="${Buffer.from('文件').toString('latin1')}"`;
  for (const [how, answer] of Object.entries<(res: ServerResponse) => void>({
    'a string': (res) => res.end('csv text'),
    'a string of other characters': (res) => res.end('文件'),
    bytes: (res) => res.end(Buffer.from('csv text')),
    nothing: (res) => res.writeHead(302, { location: '/caf\xe9' }).end(),
    pieces: (res) => {
      res.write('csv');
      res.end(' text');
    },
    'bytes in pieces': (res) => {
      res.write(Buffer.from('csv'));
      res.end(Buffer.from(' text'));
    },
    'what comes later': (res) => {
      res.writeHead(200);
      setTimeout(() => res.end(Buffer.from('csv text')), 10);
    },
  })) {
    it(`changes no byte of the other fields of an answer of ${how}`, async () => {
      const answers: string[] = [];
      for (const drains of [false, true]) {
        const site = await Site.open({ tls: false, delayMs: 0 }, (req, res) => {
          if (drains) void gracefulShutdown(connectionOf(req) as never);
          res.sendDate = false;
          res.setHeader('Content-Disposition', name);
          res.setHeader('X-Last', 'à\xa0');
          answer(res);
        });
        const raw = createConnection((site.server.address() as AddressInfo).port, '127.0.0.1');
        raw.end('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
        const pieces: Buffer[] = [];
        for await (const piece of raw as AsyncIterable<Buffer>) pieces.push(piece);
        answers.push(Buffer.concat(pieces).toString('latin1'));
      }
      const [plain = '', drained = ''] = answers.map((text) => text.replace(/^(Connection|Keep-Alive): .*\r\n/gm, ''));
      expect(answers[1]).to.match(/^Connection: close\r$/m);
      expect(drained).to.equal(plain);
      expect(plain).to.match(/^HTTP\/1\.1 (200|302) /);
    });
  }

  it('changes no byte of a head that was formatted before', async () => {
    const site = await Site.open({ tls: false, delayMs: 0 }, (req, res) => {
      res.writeHead(200, { 'X-Last': Buffer.from('à').toString('latin1') });
      setTimeout(() => {
        void gracefulShutdown(connectionOf(req) as never);
        res.end(Buffer.from('x'));
      }, 10);
    });
    const raw = createConnection((site.server.address() as AddressInfo).port, '127.0.0.1');
    raw.end('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    const pieces: Buffer[] = [];
    for await (const piece of raw as AsyncIterable<Buffer>) pieces.push(piece);
    expect(Buffer.concat(pieces).toString())
      .to.match(/^X-Last: à\r$/m)
      .and.match(/^Connection: close\r$/m);
  });

  it('is not on an informational response', async () => {
    const site = await Site.open({ tls: false }, (req, res) => {
      void gracefulShutdown(connectionOf(req) as never);
      res.writeEarlyHints({ link: '</a.css>; rel=preload' });
      res.end('x');
    });
    const client = await site.connect();
    const received = await client.fetch();
    expect(received.informational.map((each) => [each.status, each.connectionHas('close')])).to.deep.equal([
      [103, false],
    ]);
    expect(received.connectionHas('close')).to.equal(true);
  });
});
