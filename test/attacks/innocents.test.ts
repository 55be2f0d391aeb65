import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import { App } from '../../bench/lib/servers/app.js';
import { createServer, type Server, type ServerOptions } from '../../src/index.js';
import { certificate } from '../wire/certificate.js';
import { cancellingProxy, type Innocence, longStream, slowReader, slowUpload } from './innocents.js';

/** In place of 60 seconds, in ms. */
const LIMIT = 1_500;
const TIMES = { bodyTimeout: LIMIT, sendTimeout: LIMIT };

describe('a client with a stream that stays open', () => {
  it('is heard and answered for 20 minutes, every 4', async () => {
    expect((await longStream(20 * 60_000, 4 * 60_000)).wrong).to.deep.equal([]);
  });
});

describe('a client that looks like an attacker and is none', () => {
  let server: Server;
  let port: number;
  let slow: Record<string, Promise<Innocence>>;

  const start = async (options: ServerOptions): Promise<void> => {
    const material = await certificate();
    server = createServer({ ...material, ...options }, new App({ kind: 'lastcall', ...material }).listener);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    ({ port } = server.address() as AddressInfo);
  };

  before(async () => {
    await start({ h1: TIMES, h2: TIMES });
    // They take their time; all at once they take it once.
    slow = {
      'reader h1': slowReader(port, 'h1', 24_000_000, 6_000_000),
      'reader h2': slowReader(port, 'h2', 2_000_000, 500_000),
      'upload h1': slowUpload(port, 'h1', 3_500, 10_000),
      'upload h2': slowUpload(port, 'h2', 3_500, 10_000),
    };
    for (const one of Object.values(slow)) one.catch(() => {});
  });

  after(async () => {
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  });

  for (const [protocol, name] of [
    ['h1', 'HTTP/1.1'],
    ['h2', 'HTTP/2'],
  ] as const) {
    it(`gets the whole of a large answer over ${name}, however long beyond sendTimeout it reads`, async () => {
      expect((await slow[`reader ${protocol}`])?.wrong).to.deep.equal([]);
    }).timeout(20_000);

    it(`is answered when its upload over ${name} is complete, however long beyond bodyTimeout it takes`, async () => {
      expect((await slow[`upload ${protocol}`])?.wrong).to.deep.equal([]);
    }).timeout(20_000);
  }

  it('keeps its connection while it cancels one request in six, some in crowds', async () => {
    expect((await cancellingProxy(port, 5_000, 1_000)).wrong).to.deep.equal([]);
    expect(server.limits.resets).to.equal(0);
  }).timeout(20_000);
});
