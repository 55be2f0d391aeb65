import { AsyncLocalStorage } from 'node:async_hooks';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex, Readable } from 'node:stream';
import { PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { expect } from 'chai';
import { createServer } from '../../src/index.js';
import { H2Client } from '../wire/h2-client.js';
import { closeEverything, pair, sendConnect, until } from './serve.js';

/** Octets in pieces of one, each in a read of its own. */
const PIECES = 300;
const BODY = Buffer.from(Array.from({ length: PIECES }, (_, i) => 97 + (i % 26)));

async function sendCrumbs(client: H2Client, id: number, from = 0, to = PIECES): Promise<void> {
  for (let i = from; i < to; i++) {
    client.data(id, BODY.subarray(i, i + 1));
    await turn();
  }
}

/** All that has come: Node 26 gives a piece at a time. */
function readAll(body: Readable | undefined): string {
  let text = '';
  for (let chunk = body?.read(); chunk !== null && chunk !== undefined; chunk = body?.read()) text += chunk;
  return text;
}

/** Ways to read a body, each beginning once all but its end has arrived. */
const WAYS: Readonly<Record<string, (body: Readable) => Promise<string>>> = {
  "'data'": (body) =>
    new Promise((resolve) => {
      const parts: Buffer[] = [];
      body.on('data', (chunk: Buffer) => parts.push(chunk));
      body.on('end', () => resolve(Buffer.concat(parts).toString()));
    }),
  "'readable' and read()": (body) =>
    new Promise((resolve) => {
      let text = '';
      body.on('readable', () => {
        text += readAll(body);
      });
      body.on('end', () => resolve(text));
    }),
  'read(7)': (body) =>
    new Promise((resolve) => {
      let text = '';
      body.on('readable', () => {
        for (let chunk = body.read(7); chunk !== null; chunk = body.read(7)) text += chunk;
      });
      body.on('end', () => resolve(text));
    }),
  'for await': async (body) => {
    let text = '';
    for await (const chunk of body) text += chunk;
    return text;
  },
  'a pipeline': async (body) => {
    const parts: Buffer[] = [];
    const sink = new PassThrough();
    sink.on('data', (chunk: Buffer) => parts.push(chunk));
    await pipeline(body, sink);
    return Buffer.concat(parts).toString();
  },
  'an encoding': async (body) => {
    let text = '';
    for await (const chunk of body.setEncoding('latin1')) text += chunk;
    return text;
  },
};

describe('a body in crumbs over HTTP/2', () => {
  afterEach(closeEverything);

  for (const [way, read] of Object.entries(WAYS)) {
    it(`is read whole by ${way}, whether it waited or is coming`, async () => {
      let begin: (() => void) | undefined;
      const [, client] = await pair((req, res) => {
        begin = () => void read(req).then((text) => res.end(text));
      });
      const id = client.request({ method: 'POST', open: true });
      await sendCrumbs(client, id, 0, 200);
      await until(() => begin !== undefined, 'request');
      begin?.();
      await sendCrumbs(client, id, 200);
      client.data(id, '', true);
      expect((await client.response(id)).text).to.equal(BODY.toString());
    });
  }

  it('costs by its octets while nobody reads it, not by its pieces', async () => {
    let request: IncomingMessage | undefined;
    let pushed = 0;
    const [, client] = await pair((req) => {
      request = req;
      const { push } = req;
      req.push = (chunk, encoding) => {
        pushed++;
        return push.call(req, chunk, encoding);
      };
    });
    const id = client.request({ method: 'POST', open: true });
    await sendCrumbs(client, id);
    await until(() => request?.readableLength === PIECES, 'body');
    expect(pushed).to.equal(1);
    expect(readAll(request)).to.equal(BODY.toString());
    expect(pushed).to.equal(2);
  });

  it('is told of by ‘readable’ to whoever waits for enough of it', async () => {
    let response: ServerResponse | undefined;
    const [, client] = await pair((req, res) => {
      response = res;
      req.on('readable', () => {
        if (req.readableLength >= PIECES && !res.writableEnded) res.end(readAll(req));
      });
    });
    const id = client.request({ method: 'POST', open: true });
    await until(() => response !== undefined, 'request');
    await sendCrumbs(client, id);
    expect((await client.response(id)).text).to.equal(BODY.toString());
  });

  it('comes before what is larger, and before the end', async () => {
    let request: IncomingMessage | undefined;
    const [, client] = await pair((req) => {
      request = req;
    });
    const id = client.request({ method: 'POST', open: true });
    await sendCrumbs(client, id, 0, 10);
    client.data(id, Buffer.alloc(10_000, '#'));
    await sendCrumbs(client, id, 10, 20);
    client.data(id, '', true);
    await until(() => request?.complete === true, 'whole request');
    const parts: Buffer[] = [];
    for await (const chunk of request ?? []) parts.push(chunk as Buffer);
    const text = Buffer.concat(parts).toString();
    expect(text).to.equal(`${BODY.toString('latin1', 0, 10)}${'#'.repeat(10_000)}${BODY.toString('latin1', 10, 20)}`);
  });

  for (const what of ['a large piece', 'the end'] as const) {
    it(`has ‘readable’ in the context of its request when ${what} follows`, async () => {
      const contexts: (string | undefined)[] = [];
      const storage = new AsyncLocalStorage<string>();
      // The server's own host keeps what a handler enters, on every version of Node.
      const server = createServer({ cleartext: true }, (req, res) => {
        storage.enterWith('mine');
        req.on('readable', () => {
          contexts.push(storage.getStore());
          if (req.readableLength > 8_192 || req.complete) readAll(req);
        });
        req.on('end', () => res.end());
      }).listen(0, '127.0.0.1');
      await once(server, 'listening');
      const client = await H2Client.connect({ port: (server.address() as AddressInfo).port, tls: false });
      const id = client.request({ method: 'POST', open: true });
      await sendCrumbs(client, id, 0, 3);
      if (what === 'a large piece') client.data(id, Buffer.alloc(9_000));
      await turn();
      client.data(id, '', true);
      await client.response(id);
      expect(contexts.length).to.be.at.least(2);
      expect(new Set(contexts)).to.deep.equal(new Set(['mine']));
      client.destroy();
      server.closeAllConnections();
      server.close();
    });
  }

  it('is told of though it began with a part of a character', async () => {
    let request: IncomingMessage | undefined;
    let text = '';
    const [, client] = await pair((req, res) => {
      request = req;
      req.on('end', () => res.end());
    });
    const id = client.request({ method: 'POST', open: true });
    const euros = Buffer.from('€uros');
    client.data(id, euros.subarray(0, 1));
    await until(() => request?.readableLength === 1, 'a part of a character');
    client.data(id, euros.subarray(1));
    await until(() => request?.readableLength === euros.length, 'the rest');
    request?.setEncoding('utf8').on('readable', () => {
      text += readAll(request);
    });
    await until(() => text === '€uros', 'text');
    client.data(id, '', true);
    await client.response(id);
  });

  it('opens the window again as it is read', async () => {
    const [, client] = await pair(
      (req, res) => {
        let size = 0;
        const slowly = (): void => {
          const chunk = req.read(500) ?? req.read();
          size += chunk?.length ?? 0;
          if (req.readableEnded) res.end(String(size));
          else setTimeout(slowly, 1);
        };
        req.on('end', () => {});
        slowly();
      },
      { h2: { initialWindowSize: 1_000 } },
    );
    const id = client.request({ method: 'POST', open: true });
    client.upload(id, Buffer.alloc(20_000, 'x'));
    expect((await client.response(id)).text).to.equal('20000');
  });

  it('costs by its octets in a tunnel, too', async () => {
    const [host, client] = await pair(() => {});
    let tunnel: Duplex | undefined;
    host.on('connect', (_req, stream: Duplex) => {
      tunnel = stream;
      stream.write('ready');
    });
    const id = sendConnect(client);
    await sendCrumbs(client, id);
    await until(() => tunnel?.readableLength === PIECES, 'bytes');
    tunnel?.pipe(tunnel);
    client.data(id, '', true);
    expect((await client.response(id)).text).to.equal(`ready${BODY}`);
  });
});
