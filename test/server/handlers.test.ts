import { AsyncLocalStorage } from 'node:async_hooks';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { format, inspect } from 'node:util';
import { expect } from 'chai';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { eventually, PORTS, Servers, uncaughtDuring } from './support.js';

interface Failure {
  readonly error: Error;
  readonly req: IncomingMessage;
}

/** Ways in which a handler goes wrong before or after the head of its answer. */
const BEFORE_THE_HEAD: readonly [string, (req: IncomingMessage, res: ServerResponse) => unknown][] = [
  [
    'throws',
    () => {
      throw new Error('broken');
    },
  ],
  ['rejects', async () => Promise.reject(new Error('broken'))],
  [
    'rejects later, with fields set',
    async (_req, res) => {
      res.setHeader('content-length', '1000');
      res.setHeader('content-encoding', 'gzip');
      await new Promise((resolve) => setImmediate(resolve));
      throw new Error('broken');
    },
  ],
];

/** Heads that can't be formatted, each of which leaves something in its response. */
const BROKEN_HEADS: readonly [string, (res: ServerResponse) => void][] = [
  [
    'with a length of its own',
    (res) => res.writeHead(200, { 'content-length': 1_234, etag: undefined as unknown as string }),
  ],
  [
    'of a body',
    (res) => {
      res.statusCode = 0;
      res.end('hello');
    },
  ],
  [
    'without a body',
    (res) => {
      res.statusCode = 0;
      res.end();
    },
  ],
  ['that allows none', (res) => res.writeHead(304, { etag: undefined as unknown as string })],
  [
    'that ends its connection',
    (res) => res.writeHead(200, { connection: 'close', etag: undefined as unknown as string }),
  ],
  ['in chunks', (res) => res.writeHead(200, { 'transfer-encoding': 'chunked', etag: undefined as unknown as string })],
];

/** What a client may have put in a reason phrase. */
const BAD_REASON = 'no such file:\nå–';

const AFTER_THE_HEAD: readonly [string, (req: IncomingMessage, res: ServerResponse) => unknown][] = [
  [
    'throws in its answer',
    (_req, res) => {
      res.writeHead(200);
      res.write('part of an answer');
      throw new Error('broken');
    },
  ],
  [
    'rejects in its answer',
    async (_req, res) => {
      res.write('part of an answer');
      await new Promise((resolve) => setTimeout(resolve, 20));
      throw new Error('broken');
    },
  ],
];

for (const kind of PORTS) {
  const tls = kind === 'TLS';

  describe(`a handler (${kind})`, () => {
    const servers = new Servers();

    const start = async (handler: (req: IncomingMessage, res: ServerResponse) => unknown) => {
      const started = await servers.start(kind, {}, (req, res) =>
        req.url === '/bad' ? (handler(req, res) as undefined) : void res.end('good'),
      );
      const failures: Failure[] = [];
      started.server.on('handlerError', (error: Error, req: IncomingMessage) => failures.push({ error, req }));
      return { ...started, failures };
    };

    for (const [what, handler] of BEFORE_THE_HEAD) {
      it(`that ${what}: 500, and the connection goes on (HTTP/1.1)`, async () => {
        const { port, failures } = await start(handler);
        const client = await H1Client.connect({ port, tls });
        const response = await client.fetch({ path: '/bad' });
        expect(response.status).to.equal(500);
        expect(response.text).to.equal('Internal Server Error\n');
        expect((await client.fetch()).text).to.equal('good');
        expect(failures.map(({ error, req }) => [error.message, req.url])).to.deep.equal([['broken', '/bad']]);
        client.destroy();
      });

      it(`that ${what}: 500, and the other streams go on (HTTP/2)`, async () => {
        const { port, failures } = await start(handler);
        const client = await H2Client.connect({ port, tls });
        const bad = client.request({ path: '/bad' });
        const good = client.request({ path: '/' });
        expect((await client.response(bad)).status).to.equal(500);
        expect((await client.response(good)).text).to.equal('good');
        expect(failures).to.have.length(1);
        client.destroy();
      });
    }

    for (const [protocol, Client] of [
      ['HTTP/1.1', H1Client],
      ['HTTP/2', H2Client],
    ] as const) {
      for (const [what, answer] of BROKEN_HEADS) {
        it(`that makes a head ${what} which can’t be formatted: 500, complete (${protocol})`, async () => {
          const { port, failures } = await start((_req, res) => answer(res));
          const client = await Client.connect({ port, tls });
          const { status, text, headers } = await client.fetch({ path: '/bad' });
          expect([status, text]).to.deep.equal([500, 'Internal Server Error\n']);
          expect(JSON.stringify(headers)).to.match(/"content-length","22"/i);
          // HTTP/1.1 has this connection end, and says so.
          const ends = protocol === 'HTTP/1.1' && what === 'that ends its connection';
          expect(/"connection","close"/i.test(JSON.stringify(headers))).to.equal(ends);
          if (ends) expect(await client.ended()).to.equal('fin');
          else expect((await client.fetch()).text).to.equal('good');
          expect(failures).to.have.length(1);
          client.destroy();
        });
      }

      it(`that gives a reason phrase which can’t be one: 500, and the process goes on (${protocol})`, async () => {
        const { port, failures } = await start((req, res) => {
          if (req.method === 'POST') return Promise.resolve().then(() => res.writeHead(400, BAD_REASON));
          res.statusMessage = BAD_REASON;
          return res.writeHead(400);
        });
        const client = await Client.connect({ port, tls });
        for (const method of ['GET', 'POST']) {
          expect((await client.fetch({ path: '/bad', method })).status).to.equal(500);
        }
        expect(failures).to.have.length(2);
        client.destroy();
      });

      it(`that fails in its answer while the server stops has not been cut by force (${protocol})`, async () => {
        const { server, port } = await start(async (_req, res) => {
          res.write('part of an answer');
          await once(server, 'stopping');
          throw new Error('broken');
        });
        const client = await Client.connect({ port, tls });
        client.transport.socket.once('end', () => client.end());
        client.request({ path: '/bad' });
        await eventually(() => [...server.connections].some(({ active }) => active === 1), 'a request in flight');
        const summary = await server.shutdown();
        expect(summary.aborted).to.equal(1);
        expect(summary.outcomes).to.include({ forced: 0, peer: 1 });
        client.destroy();
      });
    }

    for (const [what, handler] of AFTER_THE_HEAD) {
      it(`that ${what} is visibly cut (HTTP/1.1)`, async () => {
        const { port, failures } = await start(handler);
        const client = await H1Client.connect({ port, tls });
        client.request({ path: '/bad' });
        const outcome = await client.response().then(
          () => 'complete',
          () => 'cut',
        );
        expect(outcome).to.equal('cut');
        expect(failures).to.have.length(1);
        client.destroy();
      });

      it(`that ${what} loses its stream only (HTTP/2)`, async () => {
        const { port, failures } = await start(handler);
        const client = await H2Client.connect({ port, tls });
        const bad = await client.response(client.request({ path: '/bad' }));
        expect(bad.reset).to.not.equal(undefined);
        expect((await client.fetch()).text).to.equal('good');
        expect(failures).to.have.length(1);
        client.destroy();
      });
    }

    it('that fails after its answer is reported, and nothing else happens', async () => {
      const { port, failures } = await start(async (_req, res) => {
        res.end('complete');
        await once(res, 'finish');
        throw new Error('broken');
      });
      for (const connect of [H1Client.connect, H2Client.connect]) {
        const client = await connect({ port, tls });
        expect((await client.fetch({ path: '/bad' })).text).to.equal('complete');
        expect((await client.fetch()).text).to.equal('good');
        client.destroy();
      }
      await eventually(() => failures.length === 2, 'two failures');
    });

    it('that throws what can’t be made a text of leaves the process alone', async () => {
      const unprintable = {
        [inspect.custom](): string {
          throw new Error('cannot be printed');
        },
      };
      const { port } = await servers.start(kind, {}, (req, res) => {
        if (req.url === '/good') {
          res.end('good');
          return;
        }
        if (req.url === '/begun') res.write('part of an answer');
        throw req.url === '/bare' ? Object.create(null) : unprintable;
      });
      const uncaught: string[] = [];
      const { error } = console;
      // Quiet, and formatting all the same.
      console.error = (...words: unknown[]) => void format(...words);
      try {
        await uncaughtDuring(
          (message) => uncaught.push(message),
          async () => {
            for (const connect of [H1Client.connect, H2Client.connect]) {
              for (const path of ['/bare', '/unprintable']) {
                const client = await connect({ port, tls });
                expect((await client.fetch({ path })).status).to.equal(500);
                client.destroy();
              }
              const client = await connect({ port, tls });
              // Cut in its answer.
              await client.fetch({ path: '/begun' }).catch(() => {});
              client.destroy();
            }
          },
        );
      } finally {
        console.error = error;
      }
      expect(uncaught).to.deep.equal([]);
      const client = await H2Client.connect({ port, tls });
      expect((await client.fetch({ path: '/good' })).text).to.equal('good');
      client.destroy();
    });

    it('whose failure nobody listens for is printed to stderr', async () => {
      const { port } = await servers.start(kind, {}, () => {
        throw new Error('broken');
      });
      const printed: string[] = [];
      const { error } = console;
      console.error = (...words: unknown[]) => void printed.push(words.join(' '));
      try {
        const client = await H1Client.connect({ port, tls });
        expect((await client.fetch({ path: '/bad' })).status).to.equal(500);
        client.destroy();
      } finally {
        console.error = error;
      }
      expect(printed).to.have.length(1);
      expect(printed[0]).to.match(/GET \/bad.*broken/);
    });

    describe('with an AsyncLocalStorage', () => {
      const storage = new AsyncLocalStorage<string>();
      const seen: (string | undefined)[] = [];
      const enter = (req: IncomingMessage, res: ServerResponse): void => {
        seen.push(storage.getStore());
        storage.enterWith(`set by ${req.url}`);
        setImmediate(() => res.end(storage.getStore()));
      };
      beforeEach(() => void seen.splice(0));

      for (const [protocol, Client] of [
        ['HTTP/1.1', H1Client],
        ['HTTP/2', H2Client],
      ] as const) {
        it(`what it enters is there when the rest of the body comes (${protocol})`, async () => {
          const found: (string | undefined)[] = [];
          const { port } = await servers.start(kind, {}, (req, res) => {
            storage.enterWith(`set by ${req.url}`);
            req.on('data', () => found.push(storage.getStore()));
            req.on('end', () => {
              found.push(storage.getStore());
              res.end(storage.getStore());
            });
          });
          const client = await Client.connect({ port, tls });
          for (const path of ['/1', '/2']) {
            let answer: Promise<{ readonly text: string }>;
            if (client instanceof H2Client) {
              const id = client.request({ method: 'POST', path, open: true });
              await pause(30);
              client.data(id, 'body', true);
              answer = client.response(id);
            } else {
              client.write(`POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n`, ['POST']);
              await pause(30);
              client.write('body');
              answer = client.response();
            }
            expect((await answer).text).to.equal(`set by ${path}`);
          }
          expect(found).to.deep.equal(['set by /1', 'set by /1', 'set by /2', 'set by /2']);
          client.destroy();
        });
      }

      it('what it enters is invisible to the next request on its connection, and stays its own', async () => {
        const { port } = await servers.start(kind, {}, enter);
        const client = await H1Client.connect({ port, tls });
        expect((await client.fetch({ path: '/1' })).text).to.equal('set by /1');
        expect((await client.fetch({ path: '/2' })).text).to.equal('set by /2');
        expect(seen).to.deep.equal([undefined, undefined]);
        client.destroy();
      });

      it('what it enters is invisible to pipelined requests', async () => {
        const { port } = await servers.start(kind, {}, enter);
        const client = await H1Client.connect({ port, tls });
        const paths = ['/1', '/2', '/3', '/4'];
        client.write(
          paths.map((path) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`).join(''),
          paths.map(() => 'GET'),
        );
        for (const path of paths) expect((await client.response()).text).to.equal(`set by ${path}`);
        expect(seen).to.deep.equal(paths.map(() => undefined));
        client.destroy();
      });

      it('what it enters is invisible to streams decoded from the same read', async () => {
        const { port } = await servers.start(kind, {}, enter);
        const client = await H2Client.connect({ port, tls });
        const ids = ['/1', '/2', '/3', '/4'].map((path) => client.request({ path }));
        const texts: string[] = [];
        for (const id of ids) texts.push((await client.response(id)).text);
        expect(texts).to.deep.equal(['set by /1', 'set by /2', 'set by /3', 'set by /4']);
        expect(seen).to.deep.equal([undefined, undefined, undefined, undefined]);
        client.destroy();
      });
    });
  });
}
