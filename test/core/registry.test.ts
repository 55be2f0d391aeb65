import { expect } from 'chai';
import type { Connection } from '../../src/index.js';
import { Servers, silentClient } from '../server/support.js';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';

describe('Registry', () => {
  const servers = new Servers();

  /** A server with a connection of each protocol, and one whose protocol isn't known yet. */
  const withThree = async () => {
    const { server, port } = await servers.start('cleartext', {}, (_req, res) => res.end());
    const opened: Connection[] = [];
    server.connections.on('open', (connection) => opened.push(connection));
    const h1 = await H1Client.connect({ port, tls: false });
    await h1.fetch();
    const h2 = await H2Client.connect({ port, tls: false });
    await h2.fetch();
    const silent = await silentClient(port);
    while (opened.length < 3) await new Promise((resolve) => setImmediate(resolve));
    return { server, connections: server.connections, opened, leave: [h1, h2, silent] };
  };

  it('has every live connection, oldest first', async () => {
    const { connections, opened } = await withThree();
    expect([...connections]).to.deep.equal(opened);
    expect(connections.size).to.equal(3);
    expect(connections.select('all')).to.deep.equal(opened);
    for (const connection of opened) expect(connections.get(connection.id)).to.equal(connection);
    expect(connections.get(-1)).to.equal(undefined);
  });

  it('emits close for each when it is gone, and has forgotten it then', async () => {
    const { connections, opened, leave } = await withThree();
    const closed: Connection[] = [];
    const allClosed = new Promise<void>((resolve) => {
      connections.on('close', (connection) => {
        expect(connections.get(connection.id)).to.equal(undefined);
        expect(connection.state).to.equal('closed');
        if (closed.push(connection) === opened.length) resolve();
      });
    });
    for (const client of leave) client.destroy();
    await allClosed;
    expect(closed.map(({ id }) => id).sort((a, b) => a - b)).to.deep.equal(opened.map(({ id }) => id));
    expect(connections.size).to.equal(0);
  });

  it('is out of date for nobody who waited for closed', async () => {
    const { connections, opened } = await withThree();
    const [first] = opened;
    first?.destroy();
    await first?.closed;
    expect(connections.size).to.equal(2);
  });

  it('selects by protocol, by tags and by predicate', async () => {
    const { connections, opened } = await withThree();
    const [h1, h2, silent] = opened as [Connection, Connection, Connection];
    expect(connections.select({ protocol: 'http/1.1' })).to.deep.equal([h1]);
    expect(connections.select({ protocol: 'h2' })).to.deep.equal([h2]);
    h2.tags.set('tenant', 'acme').set('zone', 'a');
    silent.tags.set('tenant', 'acme').set('zone', 'b');
    expect(connections.select({ tags: { tenant: 'acme' } })).to.deep.equal([h2, silent]);
    expect(connections.select({ tags: { tenant: 'acme', zone: 'b' } })).to.deep.equal([silent]);
    expect(connections.select({ protocol: 'h2', tags: { zone: 'b' } })).to.deep.equal([]);
    expect(connections.select((connection) => connection.served > 0)).to.deep.equal([h1, h2]);
  });

  const TYPOS: readonly [string, unknown][] = [
    ['nothing', undefined],
    ['null', null],
    ['an empty object', {}],
    ['another word than all', 'everything'],
    ['a number', 7],
    ['an array', []],
    ['an unknown condition', { protocl: 'h2' }],
    ['an undefined protocol', { protocol: undefined }],
    ['an unknown protocol', { protocol: 'h3' }],
    ['no tags', { tags: {} }],
    ['tags that are undefined', { tags: undefined }],
    ['a tag that is undefined', { tags: { tenant: undefined } }],
    ['a tag that is a number', { tags: { tenant: 7 } }],
    ['a good condition beside a bad one', { protocol: 'h2', tags: { tenant: undefined } }],
    ['a predicate that returns what is no boolean', () => 'yes'],
    ['an async predicate', async () => false],
  ];
  for (const [what, filter] of TYPOS) {
    it(`selects and drains nothing for ${what}, but throws`, async () => {
      const { server, connections } = await withThree();
      for (const use of [() => connections.select(filter as never), () => server.drain(filter as never)]) {
        expect(use).to.throw(TypeError).with.property('code', 'ERR_LASTCALL_OPTION');
      }
      for (const connection of connections) expect(connection.drainSignal.aborted).to.equal(false);
    });
  }

  it('throws when a sample is to be followed, as for any wrong option', async () => {
    const { server } = await servers.start('cleartext');
    expect(() => server.drain({ sample: { count: 1 } }, { follow: true }))
      .to.throw(TypeError, 'drain.follow')
      .with.property('code', 'ERR_LASTCALL_OPTION');
  });

  it('has drained everybody when those that waited for their turn have left', async () => {
    const { server, leave } = await withThree();
    const drained = server.drain('all', { spread: 3_600_000 });
    for (const client of leave) client.destroy();
    const { gone, connections, left } = await drained;
    expect([gone + connections, left]).to.deep.equal([3, 0]);
  });

  it('is in the middle of many drains without a warning', async () => {
    const { server } = await servers.start('cleartext');
    const warnings: Error[] = [];
    const onWarning = (warning: Error): number => warnings.push(warning);
    process.on('warning', onWarning);
    const stop = new AbortController();
    const options = { spread: 60_000, follow: true };
    // A signal each: Node warns of its own listeners.
    const drains = Array.from({ length: 12 }, () =>
      server.drain('all', { ...options, signal: AbortSignal.any([stop.signal]) }),
    );
    await new Promise((resolve) => setImmediate(resolve));
    stop.abort();
    await Promise.all(drains);
    process.off('warning', onWarning);
    expect(warnings).to.deep.equal([]);
  });
});
