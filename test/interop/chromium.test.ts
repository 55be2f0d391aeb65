/**
 * A browser: headless Chromium loads a page with its sub-resources, uploads, and listens to server-sent events.
 */
import { existsSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { expect } from 'chai';
import { type Browser, chromium, type Page } from 'playwright-core';
import type { DrainSummary } from '../../src/index.js';
import { application, type Serving, serve } from './serving.js';

const PROGRAM = '/usr/bin/chromium';
const RESOURCES = 200;
const UPLOADS = 12;
const UPLOAD_BYTES = 300_000;
const EVENTS = 5;
const FETCHES = 300;

const PAGE = `<!doctype html><title>page</title><link rel="icon" href="data:,"><div id="images"></div>
${Array.from({ length: RESOURCES / 2 }, (_, n) => `<script src="/script/${n}" ${n % 2 === 0 ? 'async' : 'defer'}></script>`).join('\n')}
${Array.from({ length: RESOURCES / 2 }, (_, n) => `<img src="/image/${n}" alt="">`).join('\n')}`;

/** What the page's own scripts do; the functions are evaluated in the browser. */
const LOADED = `({
  scripts: globalThis.loaded,
  images: [...document.images].filter((image) => image.complete && image.naturalWidth === 10).length,
  protocols: [...new Set(performance.getEntries().map((entry) => entry.nextHopProtocol).filter(Boolean))],
})`;

const UPLOAD = `Promise.all(Array.from({ length: ${UPLOADS} }, async (_, n) => {
  const body = new Uint8Array(${UPLOAD_BYTES}).fill(n);
  const echo = new Uint8Array(await (await fetch('/echo', { method: 'POST', body })).arrayBuffer());
  return echo.length === body.length && echo.every((value) => value === n);
}))`;

const LISTEN = `new Promise((resolve, reject) => {
  const source = new EventSource('/events');
  const heard = [];
  source.onmessage = ({ data }) => heard.push(data) === ${EVENTS} && (source.close(), resolve(heard));
  source.onerror = () => reject(new Error('the event source failed'));
})`;

const SUBMIT = `(async () => {
  const form = new FormData();
  form.append('file', new Blob(['x'.repeat(100000)]), 'name.txt');
  return (await (await fetch('/echo', { method: 'POST', body: form })).formData()).get('file').size;
})()`;

/** Fewer at a time than may be open on one connection: what Chromium has queued beyond that it fails by itself. */
const FETCH = `(async () => {
  let n = 0;
  const lost = [];
  const work = async () => {
    while (n < ${FETCHES}) {
      const path = '/hello/' + n++;
      const answer = await fetch(path).then((response) => response.text(), () => '');
      if (answer !== path.slice(1).replace('/', ' ')) lost.push(path);
    }
  };
  await Promise.all(Array.from({ length: 20 }, work));
  return lost;
})()`;

function site(req: IncomingMessage, res: ServerResponse): void {
  const [, kind = ''] = (req.url ?? '').split('/');
  switch (kind) {
    case '':
      res.setHeader('content-type', 'text/html; charset=utf-8');
      res.end(PAGE);
      return;
    case 'script':
      res.setHeader('content-type', 'text/javascript');
      res.end('globalThis.loaded = (globalThis.loaded ?? 0) + 1;');
      return;
    case 'image':
      res.setHeader('content-type', 'image/svg+xml');
      res.end('<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>');
      return;
    case 'events':
      sendEvents(res);
      return;
    default:
      application(req, res);
  }
}

function sendEvents(res: ServerResponse): void {
  let sent = 0;
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  const timer = setInterval(() => res.write(`data: event ${++sent}\n\n`), 10);
  res.on('close', () => clearInterval(timer));
}

describe('Chromium', function () {
  this.timeout(40_000);
  let browser: Browser | undefined;

  before(async function () {
    if (!existsSync(PROGRAM)) {
      if (process.env.CI === 'true') throw new Error(`${PROGRAM} is not installed`);
      process.stderr.write(`      skipped: ${PROGRAM} is not installed\n`);
      this.skip();
    }
    browser = await chromium.launch({ executablePath: PROGRAM, args: ['--no-sandbox'] });
  });

  after(() => browser?.close());

  for (const { protocol, h2, version } of [
    { protocol: 'h2', h2: {}, version: '2.0' },
    { protocol: 'http/1.1', h2: false, version: '1.1' },
  ] as const) {
    describe(`over ${protocol}`, () => {
      let serving: Serving;
      let page: Page;
      let failed: string[];

      before(async () => {
        serving = await serve(site, { h2 });
        failed = [];
        const context = await browser?.newContext({ ignoreHTTPSErrors: true });
        if (context === undefined) throw new Error('no browser');
        page = await context.newPage();
        page.on('requestfailed', (request) => {
          // The page closes its event source, which ends no other way.
          if (!request.url().endsWith('/events')) failed.push(`${request.url()}: ${request.failure()?.errorText}`);
        });
        page.on('response', (response) => {
          if (response.status() !== 200) failed.push(`${response.url()}: ${response.status()}`);
        });
        await page.goto(serving.origin, { waitUntil: 'load' });
      });

      afterEach(() => {
        expect(failed).to.deep.equal([]);
        expect(serving.errors).to.deep.equal([]);
      });

      after(async () => {
        await page?.context().close();
        await serving?.stop();
      });

      it(`loads a page with ${RESOURCES} sub-resources`, async () => {
        expect(await page.evaluate(LOADED)).to.deep.equal({
          scripts: RESOURCES / 2,
          images: RESOURCES / 2,
          protocols: [protocol],
        });
        expect(serving.requests).to.deep.equal({ [version]: RESOURCES + 1 });
        // On HTTP/2 one connection carries it all (a second may have been opened before the protocol was known).
        if (protocol === 'h2') expect(serving.server.connections.size).to.be.at.most(2);
      });

      it('uploads by fetch, and a form', async () => {
        expect(await page.evaluate(UPLOAD)).to.deep.equal(new Array(UPLOADS).fill(true));
        expect(await page.evaluate(SUBMIT)).to.equal(100_000);
      });

      it('listens to server-sent events', async () => {
        const events = Array.from({ length: EVENTS }, (_, n) => `event ${n + 1}`);
        expect(await page.evaluate(LISTEN)).to.deep.equal(events);
        // The browser says goodbye by RST_STREAM or by closing; the page and its connection live on.
        expect(await page.evaluate(`fetch('/hello/again').then((response) => response.text())`)).to.equal(
          'hello again',
        );
      });

      it('fetches on and on while its connections are drained again and again', async () => {
        const drains: Promise<DrainSummary>[] = [];
        const received = new Set<string | undefined>();
        let requests = 0;
        serving.server.on('request', ({ url }) => {
          received.add(url);
          if (++requests % 25 === 0) drains.push(serving.server.drain('all', { timeout: 10_000, idleWait: 500 }));
        });
        const lost: string[] = await page.evaluate(FETCH);
        // A request for which Chromium has chosen a session, but which it hasn't sent yet, it fails by itself when the
        // first GOAWAY comes in between, whoever sends it: its net log has HTTP2_SESSION_POOL_FOUND_EXISTING_SESSION,
        // the session's HTTP2_SESSION_RECV_GOAWAY, and ERR_FAILED; or ERR_CONNECTION_CLOSED, once its other streams have
        // ended and it has closed the session ("Finished going away"). What the server has received it must have answered.
        expect(lost.filter((path) => received.has(path))).to.deep.equal([]);
        expect(lost.length, 'requests that the browser failed by itself').to.be.below(FETCHES / 10);
        for (const path of lost) failed = failed.filter((line) => !line.includes(`${path}: net::ERR_`));
        expect(drains).to.have.lengthOf.at.least(10);
        for (const { aborted } of await Promise.all(drains)) expect(aborted).to.equal(0);
      });
    });
  }
});
