import { AsyncLocalStorage } from 'node:async_hooks';
import { expect } from 'chai';
import { ErrorCode } from '../wire/h2-frames.js';
import { closeEverything, pair, until } from './serve.js';

/** From Node 24 on, what enterWith() set in a handler doesn't reach later events of its async resource. */
const reachesEvents = Number(process.versions.node.split('.')[0]) < 24;

describe('the async context of an HTTP/2 request', () => {
  afterEach(closeEverything);

  it('is its own among 100 that came in one read', async () => {
    const storage = new AsyncLocalStorage<string>();
    const inherited: (string | undefined)[] = [];
    const [, client] = await pair(async (req, res) => {
      inherited.push(storage.getStore());
      storage.enterWith(req.url ?? '');
      await new Promise((resolve) => setImmediate(resolve));
      res.end(storage.getStore());
    });
    client.transport.socket.cork();
    const ids = Array.from({ length: 100 }, (_, i) => client.request({ path: `/${i}` }));
    client.transport.socket.uncork();
    const streams = await Promise.all(ids.map((id) => client.response(id)));
    expect(streams.map((stream) => stream.text)).to.deep.equal(ids.map((_, i) => `/${i}`));
    expect(inherited).to.deep.equal(Array(100).fill(undefined));
  });

  it('is where its events are emitted, and never another one', async () => {
    const storage = new AsyncLocalStorage<string>();
    const seen = new Map<string, (string | undefined)[]>();
    const note = (event: string): void => {
      seen.set(event, [...(seen.get(event) ?? []), storage.getStore()]);
    };
    const [, client] = await pair(
      (req, res) => {
        storage.enterWith(req.url ?? '');
        req.on('data', () => {
          note('data');
          storage.enterWith(`${req.url} later`);
        });
        req.on('end', () => {
          note('end');
          if (!res.write(Buffer.alloc(200_000))) res.once('drain', () => res.end());
          res.on('drain', () => note('drain'));
        });
        for (const event of ['finish', 'close']) res.on(event, () => note(event));
        req.on('close', () => note('req close'));
      },
      {},
      { credit: 'auto' },
    );
    for (const path of ['/a', '/b']) {
      const id = client.request({ method: 'POST', path, open: true });
      client.data(id, 'x', true);
      await client.response(id);
    }
    await until(() => (seen.get('close')?.length ?? 0) === 2, 'close');
    expect([...seen.keys()]).to.include.members(['data', 'end', 'drain', 'finish', 'close', 'req close']);
    for (const [event, stores] of seen) {
      const own = stores.map((store) => store?.slice(0, 2));
      if (reachesEvents) expect([event, own]).to.deep.equal([event, ['/a', '/b']]);
      else
        expect([undefined, '/a'], event)
          .to.include(own[0])
          .and.not.include(own[1] ?? '/b');
    }
  });

  it('is where callbacks of writes were given, and where its silence is told', async () => {
    const storage = new AsyncLocalStorage<string>();
    const stores: (string | undefined)[] = [];
    const note = (): void => void stores.push(storage.getStore());
    const [, client] = await pair((_req, res) => {
      storage.run('inner', () => res.write('at once', note));
      storage.enterWith('mine');
      res.write('behind it', note);
      setImmediate(() => res.write('later', note));
      res.setTimeout(40, () => {
        note();
        res.end();
      });
    });
    await client.fetch();
    expect(stores).to.deep.equal(['inner', 'mine', 'mine', reachesEvents ? 'mine' : undefined]);
  });

  it('is where it is told that its client has gone', async () => {
    const storage = new AsyncLocalStorage<string>();
    const stores: (string | undefined)[] = [];
    const [host, client] = await pair((req, res) => {
      storage.enterWith('mine');
      req.on('aborted', () => stores.push(storage.getStore()));
      res.on('close', () => stores.push(storage.getStore()));
    });
    const id = client.request();
    await until(() => host.connection.active === 1, 'request');
    client.rst(id, ErrorCode.CANCEL);
    await until(() => stores.length === 2, 'events');
    expect(stores).to.deep.equal(reachesEvents ? ['mine', 'mine'] : [undefined, undefined]);
  });
});
