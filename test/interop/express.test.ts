/**
 * Express 5, unmodified, over both protocols: what an application uses of it.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { expect } from 'chai';
import express, { type ErrorRequestHandler, type Express } from 'express';
import { PROTOCOLS, type Serving, serve } from './serving.js';
import { Visitor } from './visitor.js';

const FILE = 'a file\n'.repeat(20_000);

function site(folder: string): Express {
  const app = express();
  app.disable('x-powered-by');
  app.use(express.json());
  app.use(express.urlencoded({ extended: false }));
  app.use('/static', express.static(folder));
  app.get('/users/:id', (req, res) => {
    res
      .set('x-protocol', req.httpVersion)
      .json({ id: req.params.id, query: req.query, secure: req.secure, ip: req.ip });
  });
  app.post('/json', (req, res) => {
    res.status(201).location('/json/1').json(req.body);
  });
  app.post('/form', (req, res) => {
    res.send(req.body.name);
  });
  app.get('/file', (_req, res) => {
    res.sendFile(join(folder, 'file.txt'));
  });
  app.get('/old', (_req, res) => res.redirect(301, '/users/7'));
  app.get('/cookies', (req, res) => {
    res.cookie('a', '1', { httpOnly: true, secure: true }).cookie('b', '2').clearCookie('c');
    res.send(req.headers.cookie);
  });
  app.get('/throws', () => {
    throw new Error('on purpose');
  });
  app.get('/rejects', async () => {
    await Promise.resolve();
    throw Object.assign(new Error('on purpose'), { status: 418 });
  });
  const router = express.Router();
  router.get('/inner', (req, res) => {
    res.type('text').send(`${req.baseUrl} ${req.path} ${req.originalUrl} ${req.hostname} ${req.protocol}`);
  });
  app.use('/outer', router);
  const onError: ErrorRequestHandler = (error, _req, res, _next) => {
    res.status(error.status ?? 500).json({ error: error.message });
  };
  app.use(onError);
  return app;
}

describe('Express 5', () => {
  let folder: string;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lastcall-express-'));
    await writeFile(join(folder, 'file.txt'), FILE);
  });

  after(() => rm(folder, { recursive: true, force: true }));

  for (const { protocol, allowH2, version } of PROTOCOLS) {
    describe(`over ${protocol}`, () => {
      let serving: Serving;
      let visitor: Visitor;

      before(async () => {
        serving = await serve(site(folder));
        visitor = new Visitor(serving, allowH2);
      });

      after(async () => {
        await visitor.leave();
        await serving.stop();
        expect(serving.errors).to.deep.equal([]);
        expect(Object.keys(serving.requests)).to.deep.equal([version]);
      });

      it('parses a body whose length nobody has told', async () => {
        async function* pieces() {
          yield Buffer.from('{"a":');
          yield Buffer.from('[1,2]}');
        }
        const headers = { 'content-type': 'application/json' };
        const { status, body } = await visitor.ask('/json', { method: 'POST', headers, body: Readable.from(pieces()) });
        expect([status, body]).to.deep.equal([201, '{"a":[1,2]}']);
      });

      it('routes by path and parameters', async () => {
        const { status, headers, body } = await visitor.ask('/users/42?q=a&q=b');
        expect([status, headers['x-protocol']]).to.deep.equal([200, version]);
        expect(JSON.parse(body)).to.deep.equal({ id: '42', query: { q: ['a', 'b'] }, secure: true, ip: '127.0.0.1' });
        expect((await visitor.ask('/outer/inner')).body).to.equal('/outer /inner /outer/inner localhost https');
        expect((await visitor.ask('/nothing')).status).to.equal(404);
      });

      it('parses bodies of JSON and of forms', async () => {
        const value = { text: 'ä'.repeat(10_000), list: [1, null, { deep: true }] };
        const json = await visitor.ask('/json', {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(value),
        });
        expect([json.status, json.headers.location]).to.deep.equal([201, '/json/1']);
        expect(JSON.parse(json.body)).to.deep.equal(value);
        const headers = { 'content-type': 'application/x-www-form-urlencoded' };
        expect((await visitor.ask('/form', { method: 'POST', headers, body: 'name=x+y%21' })).body).to.equal('x y!');
        const broken = { method: 'POST' as const, headers: { 'content-type': 'application/json' }, body: '{' };
        expect((await visitor.ask('/json', broken)).status).to.equal(400);
      });

      it('sends files, parts of them, and 304', async () => {
        expect((await visitor.ask('/file')).body).to.equal(FILE);
        const { body, headers } = await visitor.ask('/static/file.txt');
        expect([body, headers['content-type']]).to.deep.equal([FILE, 'text/plain; charset=utf-8']);
        const part = await visitor.ask('/static/file.txt', { headers: { range: 'bytes=2-5' } });
        expect([part.status, part.body, part.headers['content-range']]).to.deep.equal([
          206,
          'file',
          `bytes 2-5/${FILE.length}`,
        ]);
        const known = await visitor.ask('/static/file.txt', { headers: { 'if-none-match': String(headers.etag) } });
        expect([known.status, known.body]).to.deep.equal([304, '']);
        const head = await visitor.ask('/static/file.txt', { method: 'HEAD' });
        expect([head.status, head.body, head.headers['content-length']]).to.deep.equal([200, '', `${FILE.length}`]);
      });

      it('redirects', async () => {
        const { status, headers } = await visitor.ask('/old');
        expect([status, headers.location]).to.deep.equal([301, '/users/7']);
      });

      it('sets and reads cookies', async () => {
        const { headers, body } = await visitor.ask('/cookies', { headers: { cookie: 'x=1; y=2' } });
        expect(body).to.equal('x=1; y=2');
        expect(headers['set-cookie']).to.deep.equal([
          'a=1; Path=/; HttpOnly; Secure',
          'b=2; Path=/',
          'c=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT',
        ]);
      });

      it('answers for handlers that throw or reject', async () => {
        expect(await visitor.ask('/throws')).to.deep.include({ status: 500, body: '{"error":"on purpose"}' });
        expect(await visitor.ask('/rejects')).to.deep.include({ status: 418, body: '{"error":"on purpose"}' });
      });
    });
  }
});
