import { ServerResponse } from 'node:http';
import { finished, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { ErrorCode, Flag, FrameType, Setting } from '../wire/h2-frames.js';
import { closeEverything, notes, pair, standstill, until, valuesOf } from './serve.js';

async function* failing(): AsyncGenerator<string> {
  yield 'begun';
  throw new Error('source');
}

describe('an HTTP/2 response', () => {
  afterEach(closeEverything);

  describe('has the fields', () => {
    const forms: [string, (res: ServerResponse) => unknown][] = [
      ['of setHeader', (res) => res.setHeader('X-A', '1').setHeader('x-b', ['2', '3'])],
      ['of writeHead with an object', (res) => res.writeHead(200, { 'X-A': '1', 'x-b': ['2', '3'] })],
      [
        'of writeHead with a reason and an object',
        (res) => res.writeHead(200, 'Fine', { 'X-A': 1, 'x-b': ['2', '3'] }),
      ],
      ['of writeHead with raw headers', (res) => res.writeHead(200, ['X-A', '1', 'x-b', '2', 'x-b', '3'])],
      [
        'of writeHead with pairs',
        (res) =>
          res.writeHead(200, [
            ['X-A', '1'],
            ['x-b', ['2', '3']],
          ] as never),
      ],
      ['of setHeader and writeHead together', (res) => res.setHeader('x-b', ['2', '3']).writeHead(200, { 'X-A': '1' })],
      ['of appendHeader', (res) => res.appendHeader('X-A', '1').appendHeader('x-b', '2').appendHeader('x-b', '3')],
      [
        'of setHeaders',
        (res) =>
          (res as unknown as { setHeaders(map: Map<string, unknown>): void }).setHeaders(
            new Map<string, unknown>([
              ['x-a', '1'],
              ['x-b', ['2', '3']],
            ]),
          ),
      ],
    ];
    for (const [name, form] of forms) {
      it(name, async () => {
        const [, client] = await pair((_req, res) => {
          form(res);
          res.end('body');
        });
        const { headers, status, text } = await client.fetch();
        expect([status, text]).to.deep.equal([200, 'body']);
        expect(valuesOf(headers, 'x-a')).to.deep.equal(['1']);
        expect(valuesOf(headers, 'x-b')).to.deep.equal(['2', '3']);
        expect(valuesOf(headers, 'date')).to.have.length(1);
      });
    }
  });

  it('keeps several set-cookie apart', async () => {
    const [, client] = await pair((_req, res) => res.setHeader('set-cookie', ['a=1', 'b=2']).end());
    expect(valuesOf((await client.fetch()).headers, 'set-cookie')).to.deep.equal(['a=1', 'b=2']);
  });

  it('has its length when it is known, and date unless told not to', async () => {
    const [, client] = await pair((_req, res) => {
      res.removeHeader('date');
      res.end('12345');
    });
    const { headers } = await client.fetch();
    expect(valuesOf(headers, 'content-length')).to.deep.equal(['5']);
    expect(valuesOf(headers, 'date')).to.deep.equal([]);
  });

  it('has a date that is of this second', async () => {
    const [, client] = await pair((_req, res) => res.end());
    for (let i = 0; i < 25; i++) {
      const earliest = Math.floor(Date.now() / 1_000) * 1_000;
      const [date = ''] = valuesOf((await client.fetch()).headers, 'date');
      expect(Date.parse(date)).to.be.within(earliest, Date.now());
      expect(date).to.equal(new Date(Date.parse(date)).toUTCString());
      await delay(50);
    }
  });

  it("drops what is the connection's, and the reason", async () => {
    const [, client] = await pair((_req, res) => {
      res.statusMessage = 'Splendid';
      res.writeHead(200, {
        connection: 'close',
        'keep-alive': 'timeout=5',
        'transfer-encoding': 'chunked',
        upgrade: 'h2c',
        'proxy-connection': 'close',
        'http2-settings': 'AAMAAABkAAQAAP__',
        'x-kept': ' spaces ',
      });
      res.end('ok');
    });
    const { headers, text } = await client.fetch();
    expect(text).to.equal('ok');
    expect(headers.map(([name]) => name).filter((name) => name !== 'date')).to.deep.equal(
      [':status', 'x-kept'].filter((name) => headers.some(([key]) => key === name)),
    );
    expect(valuesOf(headers, 'x-kept')).to.deep.equal(['spaces']);
  });

  for (const [what, method, status] of [
    ['the answer to HEAD', 'HEAD', 200],
    ['204', 'GET', 204],
    ['304', 'GET', 304],
  ] as const) {
    it(`has no body: ${what}`, async () => {
      let callbacks = 0;
      const [, client] = await pair((_req, res) => {
        res.statusCode = status;
        res.write('ignored', () => callbacks++);
        res.end('ignored too', () => callbacks++);
      });
      const stream = await client.fetch({ method });
      expect([stream.status, stream.text, stream.reset]).to.deep.equal([status, '', undefined]);
      await until(() => callbacks === 2, 'callbacks');
      const frames = client.frames.filter(({ streamId }) => streamId === stream.id);
      expect(frames.map(({ type, flags }) => [type, flags])).to.deep.equal([
        [FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM],
      ]);
    });
  }

  for (const [what, method, status] of [
    ['the answer to HEAD', 'HEAD', 200],
    ['204', 'POST', 204],
    ['304', 'POST', 304],
  ] as const) {
    it(`is over when it is ended, not with its head: ${what}`, async () => {
      const { seen, on } = notes();
      let taken = 0;
      const [host, client] = await pair(async (req, res) => {
        on('res', res, ['finish', 'close']);
        res.writeHead(status);
        res.write('ignored');
        for await (const chunk of req) taken += (chunk as Buffer).length;
        await new Promise((resolve) => setTimeout(resolve, 30));
        seen.push(`ends, ${host.connection.active} active, destroyed ${res.destroyed}`);
        res.end('ignored too', () => seen.push('called back'));
      });
      const stream = await client.fetch({ method, body: Buffer.alloc(200_000) });
      expect([stream.status, stream.text, stream.reset]).to.deep.equal([status, '', undefined]);
      await until(() => seen.length === 4, 'events');
      expect(seen).to.deep.equal(['ends, 1 active, destroyed false', 'res finish', 'called back', 'res close']);
      expect(taken).to.equal(200_000);
      expect(host.connection.counts.served).to.equal(1);
    });
  }

  it('goes out with its end where it has no body, or when it is asked for, and says no length that its end could break', async () => {
    const [, client] = await pair((req, res) => {
      const [, how, ms] = (req.url ?? '').split('/');
      res.writeHead(how === 'head' ? 200 : 304, { 'content-length': 5 });
      if (how === 'flushed') res.flushHeaders();
      setTimeout(() => res.end(), Number(ms));
    });
    const told = async (path: string, method = 'GET'): Promise<unknown[]> => {
      const stream = await client.fetch({ path, method });
      const frames = client.frames.filter(({ streamId }) => streamId === stream.id);
      const waited = (frames.at(-1)?.at ?? 0) - (frames[0]?.at ?? 0);
      return [frames.length, waited >= 40, ...valuesOf(stream.headers, 'content-length')];
    };
    expect(await told('/now/0')).to.deep.equal([1, false, '5']);
    expect(await told('/later/60')).to.deep.equal([1, false, '5']);
    expect(await told('/head/60', 'HEAD')).to.deep.equal([1, false, '5']);
    expect(await told('/flushed/60')).to.deep.equal([2, true]);
  });

  it('closes, and its socket once, when its connection is lost behind a reset that came before it was written', async () => {
    const { seen, on } = notes();
    const [host, client] = await pair((req, res) => {
      if (req.url === '/large') {
        res.end(Buffer.alloc(32_000_000));
        return;
      }
      on('res', res, ['finish', 'close']);
      on('socket', req.socket, ['close']);
      res.end();
    });
    client.settings([[Setting.INITIAL_WINDOW_SIZE, 64_000_000]]);
    client.windowUpdate(0, 64_000_000);
    client.transport.socket.pause();
    client.request({ path: '/large' });
    await standstill(host);
    const id = client.request({ method: 'POST', open: true });
    await until(() => host.connection.active === 2, 'request');
    client.rst(id, ErrorCode.CANCEL);
    await until(() => seen.includes('socket close'), 'reset');
    client.reset();
    await host.connection.closed;
    await until(() => seen.includes('res close'), 'close');
    expect(seen).to.deep.equal(['socket close', 'res close']);
    expect(host.connection.counts).to.include({ aborted: 2, served: 0 });
  });

  it('has its body though a head that allows none has failed before', async () => {
    const [, client] = await pair((_req, res) => {
      expect(() => res.writeHead(304, { x: 'a\nb' })).to.throw();
      res.writeHead(200, { 'content-length': 10 });
      res.write('hello');
      res.end('hello');
    });
    const { status, text } = await client.fetch();
    expect([status, text]).to.deep.equal([200, 'hellohello']);
  });

  it('lets what is piped to it come to its end where it has no body', async () => {
    const ended: string[] = [];
    const [, client] = await pair((req, res) => {
      const source = Readable.from(
        (async function* () {
          for (let i = 0; i < 20; i++) {
            await new Promise((resolve) => setImmediate(resolve));
            yield Buffer.alloc(10_000);
          }
        })(),
      );
      source.once('close', () => ended.push('source'));
      if (req.url === '/pipe') source.pipe(res);
      else pipeline(source, res).then(() => ended.push('pipeline'), ended.push);
    });
    expect((await client.fetch({ method: 'HEAD', path: '/pipe' })).text).to.equal('');
    await until(() => ended.length === 1, 'source');
    expect((await client.fetch({ method: 'HEAD', path: '/pipeline' })).text).to.equal('');
    await until(() => ended.length === 3, 'pipeline');
    expect(ended).to.have.members(['source', 'source', 'pipeline']);
  });

  it('calls back whoever wrote while it was corked when it is reset', async () => {
    const errors: (string | undefined)[] = [];
    const [host, client] = await pair((_req, res) => {
      res.cork();
      res.write('corked', (error) => errors.push((error as NodeJS.ErrnoException | null)?.code));
    });
    const id = client.request();
    await until(() => host.connections.length > 0 && host.connection.active === 1, 'request');
    client.rst(id, ErrorCode.CANCEL);
    await until(() => errors.length === 1, 'callback');
    expect(errors).to.deep.equal(['ERR_LASTCALL_H2_STREAM_CLOSED']);
  });

  it('is checked against its content-length when one call says all of it (strictContentLength)', async () => {
    let code: unknown;
    const [, client] = await pair((_req, res) => {
      res.strictContentLength = true;
      res.setHeader('content-length', 10);
      try {
        res.end('abc');
      } catch (error) {
        ({ code } = error as NodeJS.ErrnoException);
        res.end('0123456789');
      }
    });
    expect((await client.fetch()).text).to.equal('0123456789');
    expect(code).to.equal('ERR_HTTP_CONTENT_LENGTH_MISMATCH');
  });

  it('is one HEADERS frame when it has no body', async () => {
    const [, client] = await pair((_req, res) => res.setHeader('location', '/').end());
    await client.fetch();
    const frames = client.frames.filter((frame) => frame.streamId === 1);
    expect(frames.map((frame) => [frame.type, frame.flags])).to.deep.equal([
      [FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM],
    ]);
  });

  it('writes in pieces, with callbacks and encodings', async () => {
    const order: string[] = [];
    const [, client] = await pair((_req, res) => {
      res.write('a', () => order.push('a'));
      res.write('62', 'hex', () => order.push('b'));
      res.write(new Uint8Array([0x63]));
      res.end(Buffer.from('d'), () => order.push('end'));
    });
    expect((await client.fetch()).text).to.equal('abcd');
    await until(() => order.length === 3, 'callbacks');
    expect(order).to.deep.equal(['a', 'b', 'end']);
  });

  it("calls back only when its bytes are the application's again", async () => {
    const [, client] = await pair((_req, res) => {
      const reused = Buffer.alloc(10_000, 'a');
      res.write(reused, () => {
        reused.fill('b');
        res.end(reused);
      });
    });
    const { text } = await client.fetch();
    expect(text).to.equal('a'.repeat(10_000) + 'b'.repeat(10_000));
  });

  it('calls back with an error when its bytes never get out', async () => {
    const codes: unknown[] = [];
    const [host, client] = await pair(
      (_req, res) => {
        res.write(Buffer.alloc(50_000), () => codes.push('written'));
        res.write(Buffer.alloc(500_000), (error) => codes.push((error as { code?: string } | null)?.code));
      },
      {},
      { credit: 'manual' },
    );
    client.request();
    await until(() => codes.length === 1, 'first callback');
    host.connection.destroy();
    await until(() => codes.length === 2, 'second callback');
    expect(codes[0]).to.equal('written');
    expect(codes[1]).to.be.a('string');
  });

  it('works with pipeline and finished', async () => {
    const results: unknown[] = [];
    let left = false;
    const [, client] = await pair(async (req, res) => {
      left = req.url === '/left';
      finished(res, (error) => results.push(error?.code ?? 'finished'));
      if (req.url === '/pipe') await pipeline(Readable.from(['a', 'b', 'c']), res);
      else if (req.url === '/echo') await pipeline(req, res);
      else if (req.url === '/fails')
        await pipeline(failing(), res).catch((error: Error) => results.push(error.message));
    });
    expect((await client.fetch({ path: '/pipe' })).text).to.equal('abc');
    expect((await client.fetch({ method: 'POST', path: '/echo', body: 'echo' })).text).to.equal('echo');
    expect((await client.fetch({ path: '/fails' })).reset).to.equal(ErrorCode.INTERNAL_ERROR);
    const id = client.request({ path: '/left' });
    await until(() => left, 'request');
    client.rst(id, ErrorCode.CANCEL);
    await until(() => results.length === 5, 'results');
    expect(results.slice(0, 2)).to.deep.equal(['finished', 'finished']);
    expect(results.slice(2)).to.include.members(['source', 'ERR_STREAM_PREMATURE_CLOSE']);
  });

  it('says when to wait, and when to go on', async () => {
    let drains = 0;
    let waited = 0;
    const total = 200;
    const [, client] = await pair((_req, res) => {
      let left = total;
      const more = (): void => {
        while (left > 0) {
          left--;
          if (!res.write(Buffer.alloc(10_000))) {
            waited++;
            expect(res.writableNeedDrain).to.equal(true);
            expect(res.writableLength).to.be.above(60_000).and.below(90_000);
            return;
          }
        }
        res.end();
      };
      res.on('drain', () => {
        drains++;
        expect(res.writableNeedDrain).to.equal(false);
        more();
      });
      more();
    });
    const { body } = await client.fetch();
    expect(body.reduce((sum, part) => sum + part.length, 0)).to.equal(total * 10_000);
    expect(waited).to.be.above(5);
    expect(drains).to.equal(waited);
  });

  it('holds back what is corked', async () => {
    let uncork = (): void => {};
    const [, client] = await pair((_req, res) => {
      res.flushHeaders();
      res.cork();
      res.write('held ');
      expect(res.writableCorked).to.equal(1);
      expect(res.writableLength).to.equal(5);
      uncork = () => {
        res.write('back');
        res.uncork();
        res.end();
      };
    });
    const id = client.request();
    await until(() => client.stream(id).status === 200, 'head');
    client.ping();
    await client.expectAck('PING');
    expect(client.stream(id).body).to.have.length(0);
    uncork();
    expect((await client.response(id)).text).to.equal('held back');
  });

  it('says that there is room again when what was corked went out at once', async () => {
    let drains = 0;
    const [, client] = await pair((_req, res) => {
      res.cork();
      expect(res.write(Buffer.alloc(40_000))).to.equal(true);
      expect(res.write(Buffer.alloc(40_000))).to.equal(false);
      expect(res.writableNeedDrain).to.equal(true);
      res.once('drain', () => {
        drains++;
        res.end();
      });
      res.uncork();
    });
    const { body } = await client.fetch();
    expect(body.reduce((sum, part) => sum + part.length, 0)).to.equal(80_000);
    expect(drains).to.equal(1);
  });

  it('calls back for an empty write', async () => {
    let write = (): void => {};
    const [, client] = await pair((_req, res) => {
      res.flushHeaders();
      write = () => void res.write('', () => res.end());
    });
    const id = client.request();
    await until(() => client.stream(id).status === 200, 'head');
    client.ping();
    await client.expectAck('PING');
    write();
    expect((await client.response(id)).text).to.equal('');
  });

  it('calls back for an empty write when what was written before has been written out', async () => {
    const written: string[] = [];
    const responses: ServerResponse[] = [];
    const size = 16_000_000;
    const settings = [[Setting.INITIAL_WINDOW_SIZE, size]] as const;
    const [host, client] = await pair((_req, res) => void responses.push(res), {}, { settings });
    client.windowUpdate(0, size);
    client.transport.socket.pause();
    client.request();
    client.request();
    await until(() => responses.length === 2, 'requests');
    const [large, empty] = responses as [ServerResponse, ServerResponse];
    empty.flushHeaders();
    large.end(Buffer.alloc(size));
    await standstill(host);
    empty.write('', () => written.push('empty'));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(written).to.deep.equal([]);
    client.transport.socket.resume();
    await until(() => written.length === 1, 'empty write');
  });

  it('sends its head at once when asked to', async () => {
    const [, client] = await pair((_req, res) => {
      expect(res.headersSent).to.equal(false);
      res.flushHeaders();
      expect(res.headersSent).to.equal(true);
      expect(() => res.setHeader('x', '1'))
        .to.throw()
        .with.property('code', 'ERR_HTTP_HEADERS_SENT');
      expect(() => res.writeHead(500))
        .to.throw()
        .with.property('code', 'ERR_HTTP_HEADERS_SENT');
    });
    const id = client.request();
    await until(() => client.stream(id).status === 200, 'head');
    expect(client.stream(id).ended).to.equal(false);
  });

  it('has trailers', async () => {
    const [, client] = await pair((_req, res) => {
      res.writeHead(200, { trailer: 'x-sum' });
      res.write('body');
      res.addTrailers({ 'X-Sum': '42', 'x-list': ['a', 'b'] });
      res.end(' end');
    });
    const { text, trailers } = await client.fetch();
    expect(text).to.equal('body end');
    expect(trailers).to.deep.equal([
      ['x-sum', '42'],
      ['x-list', 'a'],
      ['x-list', 'b'],
    ]);
  });

  it('has trailers without a body', async () => {
    const [, client] = await pair((_req, res) => {
      res.addTrailers([['grpc-status', '0']] as never);
      res.end();
    });
    const { trailers, headers } = await client.fetch();
    expect(trailers).to.deep.equal([['grpc-status', '0']]);
    expect(valuesOf(headers, 'content-length')).to.deep.equal([]);
  });

  it('sends interim responses', async () => {
    const [, client] = await pair((_req, res) => {
      res.writeContinue();
      res.writeProcessing();
      res.writeEarlyHints({ link: ['</a.css>; rel=preload', '</b.js>; rel=preload'], 'x-trace': '7' }, () =>
        res.end('ok'),
      );
    });
    const { informational, status } = await client.fetch();
    expect(status).to.equal(200);
    expect(informational).to.deep.equal([100, 102, 103]);
  });

  for (const [what, wrong, code] of [
    ['a name that is none', (res: ServerResponse) => res.writeHead(200, { 'a b': '1' }), 'ERR_INVALID_HTTP_TOKEN'],
    [
      'a value with a line break',
      (res: ServerResponse) => res.writeHead(200, { good: 'x', bad: 'a\r\nb' }),
      'ERR_INVALID_CHAR',
    ],
    ['no value', (res: ServerResponse) => res.writeHead(200, { a: undefined }), 'ERR_HTTP_INVALID_HEADER_VALUE'],
    ['an interim status as the final one', (res: ServerResponse) => res.writeHead(103), 'ERR_HTTP_INVALID_STATUS_CODE'],
    ['a status out of range', (res: ServerResponse) => res.writeHead(1000), 'ERR_HTTP_INVALID_STATUS_CODE'],
    ['a chunk that is none', (res: ServerResponse) => res.write(5 as never), 'ERR_INVALID_ARG_TYPE'],
    ['null as a chunk', (res: ServerResponse) => res.write(null), 'ERR_STREAM_NULL_VALUES'],
    ['a last chunk that is none', (res: ServerResponse) => res.end({} as never), 'ERR_INVALID_ARG_TYPE'],
  ] as const) {
    it(`throws on ${what}, and can still be answered`, async () => {
      const [, client] = await pair((_req, res) => {
        expect(() => wrong(res))
          .to.throw()
          .with.property('code', code);
        if (!res.headersSent) res.statusCode = 500;
        res.end('after all');
      });
      const { text } = await client.fetch();
      expect(text).to.equal('after all');
      expect((await client.fetch()).text).to.equal('after all');
    });
  }

  it('holds itself to strictContentLength', async () => {
    const codes: unknown[] = [];
    const attempt = (run: () => void): void => {
      try {
        run();
      } catch (error) {
        codes.push((error as { code?: string }).code);
      }
    };
    const [, client] = await pair((_req, res) => {
      res.strictContentLength = true;
      res.writeHead(200, { 'content-length': 5 });
      attempt(() => res.write('123456'));
      attempt(() => res.end('12'));
      res.write('123');
      res.end('45');
    });
    const { text, ended } = await client.fetch();
    expect([text, ended]).to.deep.equal(['12345', true]);
    expect(codes).to.deep.equal(['ERR_HTTP_CONTENT_LENGTH_MISMATCH', 'ERR_HTTP_CONTENT_LENGTH_MISMATCH']);
  });

  it('reports writing after the end, as an error or to the callback', async () => {
    const codes: unknown[] = [];
    const [, client] = await pair((_req, res) => {
      res.on('error', (error: Error & { code?: string }) => codes.push(error.code));
      res.end('x');
      res.write('late', (error) => codes.push((error as { code?: string } | undefined)?.code));
      res.end(() => codes.push('second end'));
    });
    expect((await client.fetch()).text).to.equal('x');
    await until(() => codes.length >= 2, 'errors');
    expect(codes).to.include('ERR_STREAM_WRITE_AFTER_END');
  });

  it('finishes, then closes; and so does its request', async () => {
    const { seen, on } = notes();
    const [, client] = await pair((req, res) => {
      on('res', res, ['prefinish', 'finish', 'close']);
      on('req', req, ['end', 'close', 'aborted', 'error']);
      res.on('finish', () => {
        expect(res.writableFinished).to.equal(true);
        expect(res.writableEnded).to.equal(true);
      });
      res.end('x');
      expect(seen).to.deep.equal(['res prefinish']);
    });
    await client.fetch();
    await until(() => seen.includes('req close') && seen.includes('res close'), 'close');
    expect(seen.filter((event) => event.startsWith('res'))).to.deep.equal(['res prefinish', 'res finish', 'res close']);
    expect(seen.filter((event) => event.startsWith('req'))).to.deep.equal(['req end', 'req close']);
  });

  it('closes its request once the rest of that has come, too, though it was answered before', async () => {
    const { seen, on } = notes();
    const [, client] = await pair((req, res) => {
      on('req', req, ['end', 'close', 'aborted', 'error']);
      res.end('x');
    });
    const id = client.request({ method: 'POST', open: true });
    await until(() => client.stream(id).body.length > 0, 'answer');
    client.ping();
    await client.expectAck('PING');
    expect(seen).to.deep.equal([]);
    client.data(id, 'the rest', true);
    await until(() => seen.includes('req close'), 'close');
    expect(seen).to.deep.equal(['req end', 'req close']);
  });

  it('finishes only when the client has taken it, with its window', async () => {
    const { seen, on } = notes();
    const [host, client] = await pair(
      (_req, res) => {
        on('res', res, ['finish', 'close']);
        res.end(Buffer.alloc(100_000));
      },
      {},
      { credit: 'manual' },
    );
    const id = client.request();
    await until(() => client.stream(id).receiveWindow === 0, 'empty window');
    client.ping();
    await client.expectAck('PING');
    expect(seen).to.deep.equal([]);
    expect(host.connection.active).to.equal(1);
    client.windowUpdate(0, 100_000);
    client.windowUpdate(id, 100_000);
    await client.response(id);
    await until(() => seen.length === 2, 'finish and close');
    expect(seen).to.deep.equal(['res finish', 'res close']);
  });

  it('closes without finishing when the client resets it', async () => {
    const { seen, on } = notes();
    const codes: unknown[] = [];
    const [host, client] = await pair((_req, res) => {
      on('res', res, ['finish', 'close', 'error']);
      res.write('x');
      res.on('close', () => {
        res.write('y', (error) => codes.push((error as { code?: string } | undefined)?.code));
        expect(res.destroyed).to.equal(true);
      });
    });
    const id = client.request();
    await until(() => client.stream(id).body.length > 0, 'body');
    client.rst(id, ErrorCode.CANCEL);
    await until(() => seen.length > 0, 'close');
    await until(() => codes.length > 0, 'callback');
    expect(seen).to.deep.equal(['res close']);
    expect(codes).to.deep.equal(['ERR_STREAM_DESTROYED']);
    expect(host.connection.counts.cancelled).to.equal(1);
  });

  it('resets its stream when it is destroyed', async () => {
    const { seen, on } = notes();
    const [host, client] = await pair((req, res) => {
      on('res', res, ['finish', 'close']);
      res.write('part');
      setImmediate(() => res.destroy(req.url === '/error' ? new Error('broken') : undefined));
    });
    expect((await client.fetch({ path: '/' })).reset).to.equal(ErrorCode.CANCEL);
    expect((await client.fetch({ path: '/error' })).reset).to.equal(ErrorCode.INTERNAL_ERROR);
    await until(() => seen.length === 2, 'close');
    expect(seen).to.deep.equal(['res close', 'res close']);
    expect(host.connection.counts).to.include({ aborted: 2, served: 0 });
  });

  it('tells a client that still sends to stop, once it is complete', async () => {
    const [host, client] = await pair((_req, res) => res.end('no need'));
    await client.expect('SETTINGS');
    const id = client.request({ method: 'POST', open: true });
    client.upload(id, Buffer.alloc(200_000), false);
    const stream = await client.response(id);
    expect([stream.status, stream.text]).to.deep.equal([200, 'no need']);
    await until(() => stream.reset !== undefined, 'RST_STREAM');
    expect(stream.reset).to.equal(ErrorCode.NO_ERROR);
    await until(() => host.connection.active === 0, 'end');
    expect(host.connection.counts.served).to.equal(1);
    expect(client.violations).to.deep.equal([]);
  });

  it('is cut visibly when its handler throws after the head', async () => {
    const [, client] = await pair((req, res) => {
      if (req.url === '/late') res.write('x');
      throw new Error('handler');
    });
    expect((await client.fetch({ path: '/early' })).status).to.equal(500);
    expect((await client.fetch({ path: '/late' })).reset).to.equal(ErrorCode.INTERNAL_ERROR);
  });

  it('emits timeout after a silence', async () => {
    const [, client] = await pair((_req, res) => {
      res.setTimeout(40, () => res.end('timed out'));
    });
    expect((await client.fetch()).text).to.equal('timed out');
  });

  it('survives that its prototype is replaced', async () => {
    const [, client] = await pair((_req, res) => {
      Object.setPrototypeOf(res, Object.create(ServerResponse.prototype));
      res.setHeader('x-a', '1');
      res.write('one ');
      res.cork();
      res.write('two');
      res.uncork();
      res.end(' three');
      expect(res.writableEnded).to.equal(true);
    });
    const { text, headers } = await client.fetch();
    expect(text).to.equal('one two three');
    expect(valuesOf(headers, 'x-a')).to.deep.equal(['1']);
  });

  it('may be ended, destroyed and drained from within the read that brought its request', async () => {
    const [host, client] = await pair((req, res) => {
      if (req.url === '/1') res.end('1');
      else if (req.url === '/2') res.destroy();
      else if (req.url === '/3') req.destroy();
      else setImmediate(() => res.end('4'));
    });
    const ids = ['/1', '/2', '/3', '/4'].map((path) => client.request({ path }));
    const streams = await Promise.all(ids.map((id) => client.response(id)));
    expect(streams.map((stream) => stream.reset ?? stream.text)).to.deep.equal([
      '1',
      ErrorCode.CANCEL,
      ErrorCode.CANCEL,
      '4',
    ]);
    await until(() => host.connection.active === 0, 'end');
    expect(host.connection.counts).to.include({ served: 2, aborted: 2 });
  });
});
