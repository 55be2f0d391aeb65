/**
 * What is no valid request on an HTTP/1.1 connection, with and without a drain: refused as Node's strict parser refuses
 * it, after everything received before has been answered.
 */
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { expect } from 'chai';
import { type Connection, connectionOf, gracefulShutdown } from '../../src/index.js';
import { thrown, uncaughtDuring } from '../server/support.js';
import { encodeRequest, type H1Client } from '../wire/h1-client.js';
import { closeEverything, counters, delay, Site } from './support.js';

const SMUGGLING: Readonly<Record<string, string>> = {
  'both Content-Length and Transfer-Encoding':
    'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  'two different Content-Lengths': 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!',
  'a Content-Length list': 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nhello',
  'a signed Content-Length': 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello',
  'a chunk size that is no number':
    'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n',
  'a chunk longer than its size':
    'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n',
  'a chunk ended by a bare LF': 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n',
  'Transfer-Encoding that does not end in chunked':
    'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n',
  'a bare LF between header lines': 'GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n',
  'a bare CR in a header': 'GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n',
  'obsolete line folding': 'GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n',
  'a space before the colon': 'GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n',
  'a NUL in a value': 'GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n',
};

async function collect(req: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of req) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe('malformed HTTP/1.1 requests', () => {
  afterEach(closeEverything);

  /** The handlers' own requests, without those that only began. */
  async function refusal(bytes: string, draining: boolean): Promise<Site> {
    const site = await Site.open({ tls: false, delayMs: 2 }, (req, res) => {
      req.resume();
      req.on('end', () => res.end(req.url));
    });
    const client = await site.connect();
    client.request({ path: '/before' });
    await client.until(() => client.responses.length === 1);
    const connection = await site.connection();
    const drained = draining ? gracefulShutdown(connection) : undefined;
    client.write(bytes, ['POST']);
    await client.until(() => client.responses.length === 2);
    const [, refused] = client.responses;
    expect([refused?.status, refused?.connectionHas('close')]).to.deep.equal([400, true]);
    expect(await client.ended()).to.equal('fin');
    client.write(encodeRequest({ path: '/smuggled' }));
    await site.arrived();
    client.end();
    await connection.closed;
    expect(client.responses.length).to.equal(2);
    expect(site.relay.resets['to-client']).to.equal(0);
    if (drained !== undefined) {
      const report = await drained;
      expect([report.outcome, counters(report)]).to.deep.equal(['drained', { malformed: 1 }]);
    }
    expect(connection.served).to.equal(1);
    return site;
  }

  for (const [what, bytes] of Object.entries(SMUGGLING)) {
    it(`refuses ${what}, and whatever follows it`, async () => {
      expect((await refusal(bytes, false)).handled).to.not.include('/smuggled');
      expect((await refusal(bytes, true)).handled).to.not.include('/smuggled');
    });
  }

  it('refuses nonsense during a drain with 400, close and a lingering close', async () => {
    await refusal('NONSENSE\r\n\r\n', true);
  });

  it('ignores Transfer-Encoding smuggled into HTTP/1.0 as the parser does: one request, then the end', async () => {
    const site = await Site.open({ tls: false });
    const client = await site.connect();
    const connection = await site.connection();
    client.write(
      'POST /one HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n',
      ['POST'],
    );
    expect(await client.ended()).to.equal('fin');
    client.end();
    await connection.closed;
    expect(site.handled).to.not.include('/smuggled');
  });

  for (const draining of [false, true]) {
    it(`answers everything accepted before it, then refuses (${draining ? 'draining' : 'open'})`, async () => {
      const site = await Site.open({ tls: true });
      const client = await site.connect();
      client.write(
        Buffer.concat([
          encodeRequest({ path: '/park' }),
          encodeRequest({ path: '/b' }),
          Buffer.from('NONSENSE\r\n\r\n'),
        ]),
        ['GET', 'GET', 'GET'],
      );
      const res = await site.parked('/park');
      const connection = await site.connection();
      await site.arrived();
      const drained = draining ? gracefulShutdown(connection) : undefined;
      await delay(20);
      expect(client.responses.length).to.equal(0);
      res.end('/a');
      await client.until(() => client.responses.length === 3);
      expect(
        client.responses.map((answer) => [answer.status, answer.text, answer.connectionHas('close')]),
      ).to.deep.equal([
        [200, '/a', false],
        [200, '/b', false],
        [400, '', true],
      ]);
      expect(await client.ended()).to.equal('fin');
      client.end();
      await connection.closed;
      if (drained !== undefined) expect(counters(await drained)).to.deep.equal({ served: 2, malformed: 1 });
      expect(site.relay.resets['to-client']).to.equal(0);
    });
  }

  it('answers a request without Host by itself, and counts it as malformed', async () => {
    const site = await Site.open({ tls: false });
    const client = await site.connect();
    const drained = gracefulShutdown(await site.connection());
    client.write('GET / HTTP/1.1\r\n\r\n', ['GET']);
    expect((await client.response()).status).to.equal(400);
    expect(await client.ended()).to.equal('fin');
    client.end();
    expect(counters(await drained)).to.deep.equal({ malformed: 1 });
    expect(site.handled).to.deep.equal([]);
  });

  it('resets a request whose body breaks while its handler, which has begun to answer, reads it', async () => {
    const site = await Site.open({ tls: false }, (req, res) => {
      req.on('data', () => {});
      res.write('begun');
    });
    const client = await site.connect();
    client.write('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n', ['POST']);
    await client.head();
    const drained = gracefulShutdown(await site.connection());
    client.write('zz\r\n');
    const report = await drained;
    expect([report.outcome, counters(report)]).to.deep.equal(['peer', { aborted: 1 }]);
    expect(await client.ended()).to.equal('reset');
  });

  for (const head of ['a head', 'the last head'] as const) {
    for (const [how, breakOff] of [
      ['a bad chunk', (client: H1Client) => client.write('zz\r\n')],
      ['a FIN', (client: H1Client) => client.end()],
    ] as const) {
      it(`fails the reading of a body that broke off by ${how} before it began, behind ${head}`, async () => {
        let begun: () => void = () => {};
        const beginning = new Promise<void>((resolve) => {
          begun = resolve;
        });
        let read: Promise<unknown> | undefined;
        let readNow: () => void = () => {};
        const site = await Site.open({ tls: false }, (req, res) => {
          if (head === 'the last head') void gracefulShutdown(connectionOf(req) as Connection);
          res.flushHeaders();
          readNow = () => {
            read = collect(req).finally(() => res.end());
          };
          begun();
        });
        const client = await site.connect();
        client.write('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n', ['POST']);
        await beginning;
        await client.head();
        breakOff(client);
        await site.arrived();
        readNow();
        expect(await thrown(() => read)).to.be.instanceOf(Error);
        expect(await client.ended()).to.equal('fin');
      });
    }
  }

  it('lingers after a refusal though the handler begins an answer and fails', async () => {
    const site = await Site.open({ tls: false }, () => {});
    const handling = once(site.server, 'request');
    site.server.on('request', async (req: IncomingMessage, res: ServerResponse) => {
      await collect(req).catch((error) => {
        res.writeHead(500).write('begun');
        throw error;
      });
    });
    const failed = once(site.server, 'handlerError');
    const client = await site.connect();
    const connection = await site.connection();
    client.write('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n', ['POST']);
    await handling;
    client.write('zz\r\n');
    await failed;
    expect((await client.response()).status).to.equal(400);
    expect(await client.ended()).to.equal('fin');
    await delay(20);
    expect(connection.state).to.equal('lingering');
  });

  it('keeps a request from the handler whose body was read with it, and is broken', async () => {
    const site = await Site.open({ tls: false });
    const client = await site.connect();
    client.write('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', ['POST']);
    expect((await client.response()).status).to.equal(400);
    expect(await client.ended()).to.equal('fin');
    client.end();
    await client.transport.closed;
    expect(site.handled).to.deep.equal([]);
  });

  it('sends nothing more after an answer that came before its broken body', async () => {
    const site = await Site.open({ tls: false });
    const client = await site.connect();
    client.write('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n', ['POST']);
    expect((await client.response()).status).to.equal(200);
    client.write('zz\r\n');
    expect(await client.ended()).to.equal('fin');
    client.end();
    await client.transport.closed;
    expect([client.responses.length, client.unsolicited]).to.deep.equal([1, 0]);
    expect(site.relay.resets['to-client']).to.equal(0);
  });

  it('refuses a client that stops in the middle of its request with FIN', async () => {
    for (const bytes of ['GET / HT', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe']) {
      const site = await Site.open({ tls: true }, (req, res) => {
        req.on('end', () => res.end());
        req.resume();
      });
      const client = await site.connect();
      const connection = await site.connection();
      client.write(bytes, ['GET']);
      await site.arrived();
      const drained = gracefulShutdown(connection);
      client.end();
      expect((await client.response()).status).to.equal(400);
      expect(counters(await drained)).to.deep.equal({ malformed: 1 });
    }
  });

  it('counts what is refused where its turn never comes', async () => {
    const site = await Site.open({ tls: false });
    const client = await site.connect();
    const drained = gracefulShutdown(await site.connection());
    client.write('GET /park HTTP/1.1\r\nHost: x\r\n\r\nNONSENSE\r\n\r\n', ['GET', 'GET']);
    await site.parked('/park');
    await site.arrived();
    client.reset();
    expect(counters(await drained)).to.deep.equal({ aborted: 1, malformed: 1 });
  });

  describe("with a 'clientError' listener", () => {
    it('gives it the socket, as node:http does', async () => {
      const site = await Site.open({ tls: false });
      site.server.on('clientError', (error: Error & { code?: string }, socket: Socket) => {
        socket.end(`HTTP/1.1 418 ${error.code}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      });
      const client = await site.connect();
      const drained = gracefulShutdown(await site.connection());
      client.write('NONSENSE\r\n\r\n', ['GET']);
      const answer = await client.response();
      expect([answer.status, answer.reason]).to.deep.equal([418, 'HPE_INVALID_METHOD']);
      expect(await client.ended()).to.equal('fin');
      client.end();
      expect(counters(await drained)).to.deep.equal({ malformed: 1 });
      expect(site.relay.resets['to-client']).to.equal(0);
    });

    it('is called when everything before it has been answered', async () => {
      const site = await Site.open({ tls: false });
      site.server.on('clientError', (_error, socket: Socket) => {
        socket.end('HTTP/1.1 418 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
      });
      const client = await site.connect();
      client.write('GET /park HTTP/1.1\r\nHost: x\r\n\r\nNONSENSE\r\n\r\n', ['GET', 'GET']);
      const res = await site.parked('/park');
      await site.arrived();
      const drained = gracefulShutdown(await site.connection());
      res.end('first');
      expect(await client.ended()).to.equal('fin');
      expect(client.responses.map(({ status }) => status)).to.deep.equal([200, 418]);
      client.end();
      expect(counters(await drained)).to.deep.equal({ served: 1, malformed: 1 });
    });

    it('is told when the connection is over, where its turn never came', async () => {
      const site = await Site.open({ tls: false });
      const heard: [string | undefined, boolean][] = [];
      site.server.on('clientError', (error: Error & { code?: string }, socket: Socket) => {
        heard.push([error.code, socket.writable]);
        if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
      });
      const client = await site.connect();
      const connection = await site.connection();
      client.write('GET /park HTTP/1.1\r\nHost: x\r\n\r\nNONSENSE\r\n\r\n', ['GET', 'GET']);
      await site.parked('/park');
      await site.arrived();
      client.reset();
      await connection.closed;
      await site.arrived();
      expect(heard).to.deep.equal([['HPE_INVALID_METHOD', false]]);
    });

    it('does not answer for a request before it that node:http answers by itself', async () => {
      const site = await Site.open({ tls: false });
      site.server.on('clientError', (_error, socket: Socket) => {
        socket.end('HTTP/1.1 418 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
      });
      const client = await site.connect();
      const hostless = 'POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n';
      client.write(`GET /park HTTP/1.1\r\nHost: x\r\n\r\n${hostless}`, ['GET', 'POST']);
      const res = await site.parked('/park');
      await site.arrived();
      expect(client.responses.length).to.equal(0);
      res.end('first');
      await client.until(() => client.responses.length === 2);
      expect(client.responses.map(({ status }) => status)).to.deep.equal([200, 400]);
    });

    it('that throws is told to the process, and ends the connection no less', async () => {
      const site = await Site.open({ tls: false });
      site.server.on('clientError', (_error, socket: Socket) => {
        socket.end('HTTP/1.1 418 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
        throw new Error('mine');
      });
      const told: string[] = [];
      await uncaughtDuring(
        (message) => told.push(message),
        async () => {
          const client = await site.connect();
          const drained = gracefulShutdown(await site.connection());
          client.write('NONSENSE\r\n\r\n', ['GET']);
          expect((await client.response()).status).to.equal(418);
          client.end();
          expect(counters(await drained)).to.deep.equal({ malformed: 1 });
        },
      );
      expect(told).to.deep.equal(['mine']);
    });

    it('counts a request that broke in its body once', async () => {
      const site = await Site.open({ tls: false }, (req) => {
        req.resume();
      });
      site.server.on('clientError', (_error, socket: Socket) =>
        setTimeout(() => socket.end('HTTP/1.1 400 No\r\n\r\n'), 10),
      );
      const client = await site.connect();
      const drained = gracefulShutdown(await site.connection(), { linger: 50 });
      client.write('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', ['POST']);
      expect(await client.ended()).to.equal('fin');
      expect(counters(await drained)).to.deep.equal({ malformed: 1 });
    });

    it('hears of a client that resets a request, but not of a probe without a byte', async () => {
      const site = await Site.open({ tls: false });
      const heard: (string | undefined)[] = [];
      site.server.on('clientError', (error: Error & { code?: string }, socket: Socket) => {
        heard.push(error.code);
        socket.destroy();
      });
      for (const asks of [true, false]) {
        const client = await site.connect();
        const connection = await site.connection();
        if (asks) {
          client.request({ path: '/park' });
          await site.parked('/park');
        } else await site.arrived();
        client.reset();
        await connection.closed;
      }
      expect(heard).to.deep.equal(['ECONNRESET']);
    });
  });
});
