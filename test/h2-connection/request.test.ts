import { IncomingMessage } from 'node:http';
import { expect } from 'chai';
import { connectionOf } from '../../src/core/lookup.js';
import { ErrorCode, Flag } from '../wire/h2-frames.js';
import { closeEverything, notes, pair, until } from './serve.js';

describe('an HTTP/2 request', () => {
  afterEach(closeEverything);

  it('has what an http.IncomingMessage has', async () => {
    const seen: Record<string, unknown> = {};
    const [host, client] = await pair((req, res) => {
      const {
        method,
        url,
        httpVersion,
        httpVersionMajor,
        httpVersionMinor,
        headers,
        rawHeaders,
        headersDistinct,
        complete,
      } = req;
      Object.assign(seen, {
        method,
        url,
        httpVersion,
        httpVersionMajor,
        httpVersionMinor,
        headers,
        rawHeaders,
        headersDistinct,
        complete,
      });
      seen.isIncomingMessage = req instanceof IncomingMessage;
      seen.connection = connectionOf(req);
      res.end();
    });
    await client.fetch({
      path: '/a?b=c',
      headers: [
        ['cookie', 'a=1'],
        ['x-many', '1'],
        ['cookie', 'b=2'],
        ['x-many', '2'],
      ],
    });
    expect(seen).to.deep.include({
      method: 'GET',
      url: '/a?b=c',
      httpVersion: '2.0',
      httpVersionMajor: 2,
      httpVersionMinor: 0,
      complete: true,
      isIncomingMessage: true,
      headers: { host: 'localhost', cookie: 'a=1; b=2', 'x-many': '1, 2' },
      rawHeaders: ['host', 'localhost', 'cookie', 'a=1; b=2', 'x-many', '1', 'x-many', '2'],
    });
    expect({ ...(seen.headersDistinct as object) }).to.deep.equal({
      host: ['localhost'],
      cookie: ['a=1; b=2'],
      'x-many': ['1', '2'],
    });
    expect(seen.connection).to.equal(host.connection);
  });

  it('ends without data when it has no body', async () => {
    const [, client] = await pair(async (req, res) => {
      let size = 0;
      for await (const chunk of req) size += (chunk as Buffer).length;
      res.end(`${size} ${req.complete} ${req.readableEnded}`);
    });
    expect((await client.fetch()).text).to.equal('0 true true');
  });

  it('hands its body over as it comes, and its trailers at the end', async () => {
    const [, client] = await pair((req, res) => {
      const parts: string[] = [];
      req.setEncoding('utf8');
      req.on('data', (chunk: string) => parts.push(chunk));
      req.on('end', () => res.end(JSON.stringify([parts.join(''), req.complete, req.trailers, req.rawTrailers])));
    });
    const id = client.request({ method: 'POST', open: true });
    client.data(id, 'one ');
    client.data(id, 'two');
    client.headers(id, [['x-sum', '42']], Flag.END_HEADERS | Flag.END_STREAM);
    const { text } = await client.response(id);
    expect(JSON.parse(text)).to.deep.equal(['one two', true, { 'x-sum': '42' }, ['x-sum', '42']]);
  });

  it('gives the client window only as the application reads', async () => {
    let resume: (() => void) | undefined;
    const [host, client] = await pair(
      (req, res) => {
        resume = () => {
          req.resume();
          req.on('end', () => res.end('done'));
        };
        req.on('data', () => {});
        req.pause();
      },
      { h2: { initialWindowSize: 100_000 } },
    );
    await client.expect('SETTINGS');
    const id = client.request({ method: 'POST', open: true });
    client.upload(id, Buffer.alloc(1_000_000), true);
    await until(() => client.stream(id).sendWindow <= 0 && host.connection.socket.bytesRead >= 100_000, 'full window');
    expect(client.uploadLeft(id)).to.be.at.least(1_000_000 - 100_000 - 65_536);
    resume?.();
    expect((await client.response(id)).text).to.equal('done');
    expect(client.violations).to.deep.equal([]);
  });

  it('keeps its connection alive while 99 others are never read', async () => {
    const [host, client] = await pair((req, res) => {
      if (req.url !== '/echo') return;
      req.pipe(res);
    });
    await client.expect('SETTINGS');
    for (let i = 0; i < 99; i++) {
      const id = client.request({ method: 'POST', open: true });
      client.upload(id, Buffer.alloc(300_000), false);
    }
    const body = Buffer.alloc(10 * 1024 * 1024, 'x');
    const echoed = await client.response(client.request({ method: 'POST', path: '/echo', body }), 20_000);
    expect(echoed.body.reduce((sum, part) => sum + part.length, 0)).to.equal(body.length);
    expect(host.connection.active).to.equal(99);
  }).timeout(30_000);

  it('is aborted when the client resets it', async () => {
    const { seen, on } = notes();
    const [host, client] = await pair((req, res) => {
      on('req', req, ['aborted', 'error', 'close', 'end']);
      on('res', res, ['finish', 'close']);
      req.resume();
    });
    const id = client.request({ method: 'POST', open: true });
    client.data(id, 'part');
    await until(() => host.connection.active === 1, 'request');
    client.rst(id, ErrorCode.CANCEL);
    await until(() => seen.includes('req close'), 'close');
    expect(seen).to.deep.equal(['req aborted', 'res close', 'req error', 'req close']);
    expect(host.connection.counts).to.include({ cancelled: 1, served: 0, aborted: 0 });
    expect(host.connection.active).to.equal(0);
  });

  it('resets its stream only when it is destroyed', async () => {
    const [host, client] = await pair((req, res) => {
      if (req.url === '/destroy') req.destroy();
      else setTimeout(() => res.end('fine'), 20);
    });
    const other = client.request({ path: '/other' });
    const stream = await client.fetch({ method: 'POST', path: '/destroy', open: true });
    expect(stream.reset).to.equal(ErrorCode.CANCEL);
    expect((await client.response(other)).text).to.equal('fine');
    await until(() => host.connection.active === 0, 'end of both');
    expect(host.connection.counts).to.include({ served: 1, aborted: 1 });
  });

  it("answers 'expect: 100-continue' by itself", async () => {
    const [, client] = await pair((req, res) => {
      req.resume().on('end', () => res.end('ok'));
    });
    const id = client.request({ method: 'POST', headers: [['expect', '100-continue']], open: true });
    await until(() => client.stream(id).informational.length === 1, '100');
    client.data(id, 'body', true);
    const { status, informational } = await client.response(id);
    expect(status).to.equal(200);
    expect(informational).to.deep.equal([100]);
  });

  it("leaves 'expect: 100-continue' to a 'checkContinue' listener", async () => {
    const [host, client] = await pair(() => expect.fail('request'));
    host.on('checkContinue', (_req, res) => res.writeHead(413).end());
    const { status, informational } = await client.fetch({
      method: 'POST',
      headers: [['expect', '100-continue']],
      open: true,
    });
    expect([status, informational.length]).to.deep.equal([413, 0]);
  });

  it('answers 417 to any other expectation, unless somebody listens', async () => {
    const [host, client] = await pair(() => expect.fail('request'));
    expect((await client.fetch({ headers: [['expect', 'miracles']] })).status).to.equal(417);
    host.on('checkExpectation', (_req, res) => res.writeHead(200).end());
    expect((await client.fetch({ headers: [['expect', 'miracles']] })).status).to.equal(200);
  });

  it('answers 421 to an authority that the certificate does not name, if asked to', async () => {
    const [, client] = await pair((_req, res) => res.end(), { tls: true, h2: { misdirected: 421 } });
    expect((await client.fetch({ authority: 'localhost:8443' })).status).to.equal(200);
    expect((await client.fetch({ authority: '127.0.0.1' })).status).to.equal(200);
    expect((await client.fetch({ authority: 'example.com' })).status).to.equal(421);
    // An address for Node, and for OpenSSL none.
    expect((await client.fetch({ authority: '[fe80::1%eth0]' })).status).to.equal(421);
    expect((await client.fetch({ authority: 'localhost' })).status).to.equal(200);
  });

  it('names its host by the field host where there is no :authority', async () => {
    const [host, client] = await pair((req, res) => res.end(req.headers.host), { tls: true, h2: { misdirected: 421 } });
    for (const [name, status] of [
      ['localhost', 200],
      ['example.com', 421],
    ] as const) {
      const id = client.nextStreamId();
      const fields: [string, string][] = [
        [':method', 'GET'],
        [':scheme', 'https'],
        [':path', '/'],
        ['host', name],
      ];
      client.headers(id, fields, Flag.END_HEADERS | Flag.END_STREAM);
      expect((await client.response(id)).status).to.equal(status);
      expect(host.connection.authorities.has(name)).to.equal(true);
    }
  });

  it('survives that its prototype is replaced', async () => {
    const [, client] = await pair((req, res) => {
      Object.setPrototypeOf(req, Object.create(IncomingMessage.prototype));
      const chunks: Buffer[] = [];
      req.on('data', (chunk: Buffer) => chunks.push(chunk));
      req.on('end', () => res.end(Buffer.concat(chunks)));
    });
    expect((await client.fetch({ method: 'POST', body: 'echo' })).text).to.equal('echo');
  });

  it('stays paused without stopping other requests', async () => {
    const [, client] = await pair((req, res) => {
      if (req.url === '/paused') req.pause();
      else res.end('go');
    });
    client.request({ method: 'POST', path: '/paused', body: 'x'.repeat(1000) });
    expect((await client.fetch({ path: '/' })).text).to.equal('go');
  });

  it('emits timeout after a silence, and is reset if nobody listens', async () => {
    const [, client] = await pair((req) => {
      if (req.url === '/heard') req.setTimeout(40, () => req.destroy());
      else req.setTimeout(40);
    });
    const heard = await client.fetch({ method: 'POST', path: '/heard', open: true });
    expect(heard.reset).to.equal(ErrorCode.CANCEL);
    const unheard = await client.fetch({ path: '/unheard' });
    expect(unheard.reset).to.equal(ErrorCode.CANCEL);
  });

  it('is asked to stop, and counted as served, when it is silent though its answer is complete', async () => {
    const [host, client] = await pair((_req, res) => res.end('early'), { h2: { timeout: 60 } });
    const stream = await client.fetch({ method: 'POST', open: true });
    expect(stream.text).to.equal('early');
    await until(() => client.stream(stream.id).reset !== undefined, 'reset');
    expect(client.stream(stream.id).reset).to.equal(ErrorCode.NO_ERROR);
    expect(host.connection.counts).to.include({ served: 1, aborted: 0 });
  });

  it('emits timeout once for each silence', async () => {
    let timeouts = 0;
    const [, client] = await pair((req, res) => {
      req.resume().on('end', () => res.end());
      req.setTimeout(30, () => timeouts++);
    });
    const id = client.request({ method: 'POST', open: true });
    await until(() => timeouts === 1, 'timeout');
    await new Promise((resolve) => setTimeout(resolve, 120));
    expect(timeouts).to.equal(1);
    client.data(id, 'x');
    await until(() => timeouts === 2, 'second timeout');
    client.data(id, '', true);
    expect((await client.response(id)).status).to.equal(200);
  });

  it('is not destroyed by the end of its response', async () => {
    const [, client] = await pair(async (req, res) => {
      res.write('early');
      let late = '';
      for await (const chunk of req) late += chunk;
      res.end(` and ${late}`);
    });
    const id = client.request({ method: 'POST', open: true });
    await until(() => client.stream(id).body.length > 0, 'first bytes');
    client.data(id, 'late', true);
    expect((await client.response(id)).text).to.equal('early and late');
  });
});
