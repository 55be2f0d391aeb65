/**
 * A request that nobody reads is over with its answer, sooner than node:http has it, where nobody can tell: whoever looks
 * sees what node:http shows, which stands beside.
 */
import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import { once } from 'node:events';
import { createServer, IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { finished } from 'node:stream';
import { expect } from 'chai';
import { encodeRequest, H1Client, type H1Request } from '../wire/h1-client.js';
import { turns } from '../wire/waiting.js';
import { closeEverything, delay, Site } from './support.js';

const REQUESTS: Record<string, { readonly method: string; readonly bytes: Buffer }> = {
  'a GET': of({}),
  'a POST': of({ method: 'POST', body: 'unread' }),
  'a POST without a body': of({ method: 'POST', body: '' }),
  'a large POST': of({ method: 'POST', body: Buffer.alloc(1_000_000) }),
  'a chunked POST': {
    method: 'POST',
    bytes: Buffer.from('POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n'),
  },
};

function of(request: H1Request): { method: string; bytes: Buffer } {
  return { method: request.method ?? 'GET', bytes: encodeRequest(request) };
}

type Look = (req: IncomingMessage, events: string[], res: ServerResponse) => void;

/** All but `complete`: our handlers run when the rest of what was read has been parsed. */
function flags({ aborted, destroyed, closed, readableEnded, readable, readableLength }: IncomingMessage): string {
  return JSON.stringify({ aborted, destroyed, closed, readableEnded, readable, readableLength });
}

function listen(req: IncomingMessage, events: string[]): void {
  for (const event of ['end', 'close', 'aborted', 'error']) req.once(event, () => events.push(event));
}

const LOOKS: Record<string, Look> = {
  'nobody listens to': () => {},
  'somebody waits for the end of': listen,
  'somebody waits for the end of once it is answered': (req, events, res) =>
    res.once('finish', () => listen(req, events)),
  'somebody waits for the end of once its answer is closed': (req, events, res) =>
    res.once('close', () => listen(req, events)),
  'is looked at once it is answered': (req, events, res) =>
    res.once('finish', () => events.push(flags(req))).once('close', () => events.push(flags(req))),
  'is finished() with': (req, events) => {
    finished(req, (error) => events.push(error?.code ?? 'finished'));
  },
  'has been given the prototype of a framework': (req) => {
    Object.setPrototypeOf(req, Object.create(IncomingMessage.prototype));
  },
  'is read': (req, events) => {
    req.on('data', () => {}).on('end', () => events.push('end'));
  },
};

/** Looks that tell one tick from the next: where a body comes behind the answer, Node has those of its own. */
const LOOKS_AT_TICKS: Record<string, Look> = {
  'somebody waits for the end of in a tick after its answer is out': (req, events, res) =>
    res.once('finish', () => process.nextTick(listen, req, events)),
  'is looked at when a promise has told that its answer is closed': (req, events, res) => {
    void once(res, 'close').then(() => events.push(flags(req)));
  },
  'is resumed once it is answered': (req, events, res) =>
    res.once('finish', () => {
      req.on('end', () => events.push('end')).resume();
    }),
  'is resumed by somebody who listens to nothing, once it is answered': (req, _events, res) =>
    res.once('finish', () => req.resume()),
  'is destroyed once it is answered': (req, _events, res) => res.once('finish', () => req.destroy()),
  'is destroyed once its answer is closed': (req, _events, res) => res.once('close', () => req.destroy()),
  'is paused once it is answered': (req, _events, res) => res.once('finish', () => req.pause()),
  'is read once its answer is closed': (req, events, res) =>
    res.once('close', () => {
      void req.toArray().then((chunks) => events.push(`${chunks.length} chunks`));
    }),
};

/** What a request looks like some turns after its answer, on a connection that goes on. */
async function tell(
  connect: (listener: RequestListener) => Promise<H1Client>,
  { method, bytes }: { readonly method: string; readonly bytes: Buffer },
  look: Look,
): Promise<unknown> {
  const events: string[] = [];
  let first: IncomingMessage | undefined;
  const client = await connect((req, res) => {
    if (first === undefined) look(req, events, res);
    first ??= req;
    res.end('answered');
  });
  client.write(bytes, [method]);
  expect((await client.response()).text).to.equal('answered');
  if (first === undefined) throw new Error('it was not handled');
  for (let i = 0; !first.complete && i < 200; i++) await delay(5);
  await turns(20);
  const shown = { flags: flags(first), complete: first.complete, read: first.read() as unknown };
  finished(first, (error) => events.push(error?.code ?? 'finished, late'));
  for await (const chunk of first) events.push(`${chunk}, late`);
  await turns(1);
  const next = await client.fetch().catch(() => undefined);
  return { ...shown, events, connection: next?.text === 'answered' ? 'goes on' : 'is closed' };
}

describe('a request that was answered', () => {
  afterEach(closeEverything);

  for (const [what, request] of Object.entries(REQUESTS)) {
    const looks = what === 'a GET' ? { ...LOOKS, ...LOOKS_AT_TICKS } : LOOKS;
    for (const [how, look] of Object.entries(looks)) {
      it(`is as node:http has it: ${what} that ${how}`, async () => {
        const plain = createServer();
        try {
          const theirs = await tell(
            async (listener) => {
              plain.on('request', listener).listen(0, '127.0.0.1');
              await once(plain, 'listening');
              return H1Client.connect({ port: (plain.address() as AddressInfo).port, tls: false });
            },
            request,
            look,
          );
          const ours = await tell(
            async (listener) => (await Site.open({ tls: false }, listener)).connectDirectly(),
            request,
            look,
          );
          expect(ours).to.deep.equal(theirs);
        } finally {
          plain.closeAllConnections();
          plain.close();
        }
      });
    }
  }

  it('tells who listens to it late in the context of the request', async () => {
    const storage = new AsyncLocalStorage<string>();
    const told: unknown[] = [];
    const waiting: (() => void)[] = [];
    const site = await Site.open({ tls: false }, (req, res) => {
      storage.enterWith(req.url ?? '');
      res.on('finish', () => req.on('end', () => told.push([req.url, storage.getStore()])));
      waiting.push(AsyncResource.bind(() => void res.end()));
      // All are answered in one go.
      if (waiting.length === 3) for (const answer of waiting) answer();
    });
    const clients = await Promise.all([1, 2, 3].map(() => site.connectDirectly()));
    await Promise.all(clients.map((client, i) => client.fetch({ path: `/${i}` })));
    await turns(5);
    expect(told).to.have.deep.members([0, 1, 2].map((i) => [`/${i}`, `/${i}`]));
  });
});
