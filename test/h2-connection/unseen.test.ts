/**
 * The last request of a read, which the application gets once what comes right behind it is known: never when that resets
 * it, and else as if it had got it at once.
 */
import { expect } from 'chai';
import { gracefulShutdown } from '../../src/index.js';
import { data, get, post, raw, rst, windowUpdate } from '../attacks/h2-bytes.js';
import { ErrorCode, encodeFrame, FrameType, uint32 } from '../wire/h2-frames.js';
import { closeEverything, type Handler, notes, pair, until } from './serve.js';

const NOTHING = { served: 0, cancelled: 0, malformed: 0, refused: 0, aborted: 0, unserved: 0 };

/** What makes the server reset a stream, right behind the head that opens it. */
const FAULTS: Record<string, Buffer> = {
  'a WINDOW_UPDATE of 0': Buffer.concat([get(1), windowUpdate(1, 0)]),
  'a window over 2^31-1': Buffer.concat([get(1), windowUpdate(1, 0x7fffffff)]),
  'DATA behind END_STREAM': Buffer.concat([get(1), data(1, 'x')]),
  'HEADERS behind END_STREAM': Buffer.concat([get(1), get(1)]),
  'a PRIORITY of 4 octets': Buffer.concat([get(1), encodeFrame(FrameType.PRIORITY, 0, 1, Buffer.alloc(4))]),
  'more DATA than its content-length': Buffer.concat([post(1, ['content-length', '1']), data(1, 'xy')]),
};

/** A server that answers at once, and counts how often it was asked to. */
async function counting(tls: boolean) {
  let count = 0;
  const handler: Handler = (_req, res) => {
    count++;
    res.end();
  };
  const [host, client] = await pair(handler, { tls });
  return { host, client, handled: () => count };
}

for (const tls of [false, true]) {
  describe(`a request that is reset in the read that it came in${tls ? ', over TLS' : ''}`, () => {
    afterEach(closeEverything);

    it('by its client is none of the application’s business', async () => {
      const { host, client, handled } = await counting(tls);
      client.write(Buffer.concat([get(1), rst(1), get(3), rst(3), get(5), get(7)]));
      await until(() => host.connections[0]?.counts.served === 2, 'answers');
      expect(handled()).to.equal(2);
      expect(host.connection.counts).to.deep.equal({ ...NOTHING, served: 2, cancelled: 2 });
      expect(host.connection.active).to.equal(0);
      expect(host.drivers[0]?.session.active).to.equal(0);
    });

    for (const [fault, bytes] of Object.entries(FAULTS)) {
      it(`because of ${fault} is none, either`, async () => {
        const { host, client, handled } = await counting(tls);
        client.write(Buffer.concat([bytes, get(3)]));
        await until(() => host.connections[0]?.counts.served === 1, 'answer');
        await client.until(() => client.stream(1).reset !== undefined);
        expect(handled()).to.equal(1);
        expect(host.connection.counts).to.deep.equal({ ...NOTHING, served: 1, malformed: 1 });
        expect(host.connection.active).to.equal(0);
      });
    }

    it('is the application’s once a part of its body has come', async () => {
      const seen: string[] = [];
      const [host, client] = await pair(
        (req) => {
          req.on('data', (bytes) => seen.push(`${bytes}`)).on('aborted', () => seen.push('aborted'));
        },
        { tls },
      );
      client.write(Buffer.concat([post(1), data(1, 'part'), rst(1)]));
      await until(() => seen.includes('aborted'), 'abort');
      expect(host.connection.counts).to.deep.equal({ ...NOTHING, cancelled: 1 });
    });
  });
}

/** How a request with a body ends in the read that it begins in. */
const ENDS: Record<string, Buffer> = {
  'empty DATA': data(1, '', true),
  DATA: data(1, 'x', true),
  'DATA, then empty DATA': Buffer.concat([data(1, 'x'), data(1, '', true)]),
  trailers: raw(1, [['x-trailer', 'y']]),
};

describe('a request that is the last of a read', () => {
  afterEach(closeEverything);

  for (const [what, bytes] of Object.entries(ENDS)) {
    for (const when of ['at once', 'at its end']) {
      it(`is complete with ${what} behind it, and answered ${when}`, async () => {
        const { seen, on } = notes();
        const [host, client] = await pair((req, res) => {
          on('req', req, ['end', 'aborted', 'error', 'close']);
          on('res', res, ['finish', 'close']);
          if (when === 'at once') res.end('answered');
          else req.on('end', () => res.end('answered'));
          req.resume();
        });
        client.write(Buffer.concat([post(1), bytes]));
        expect((await client.response(1)).text).to.equal('answered');
        await until(() => seen.includes('req close') && seen.includes('res close'), 'close');
        expect(seen.sort()).to.deep.equal(['req close', 'req end', 'res close', 'res finish']);
        expect(host.connection.counts).to.deep.equal({ ...NOTHING, served: 1 });
      });
    }
  }

  it('is over when its handler destroys it, whatever comes behind it', async () => {
    const { seen, on } = notes();
    const [host, client] = await pair((req, res) => {
      on('req', req, ['data', 'end', 'aborted']);
      if (req.method === 'POST') res.destroy();
      else res.end('answered');
      req.resume();
    });
    client.write(Buffer.concat([post(1), data(1, 'x'), data(1, '', true), get(3)]));
    expect((await client.response(3)).text).to.equal('answered');
    await until(() => seen.includes('req aborted'), 'end');
    expect(seen).not.to.include('req data');
    expect(host.connection.counts).to.deep.equal({ ...NOTHING, served: 1, aborted: 1 });
  });

  it('is answered though a connection error comes right behind it', async () => {
    const [host, client] = await pair((_req, res) => res.end('answered'));
    client.write(Buffer.concat([get(1), encodeFrame(FrameType.PING, 0, 0, Buffer.alloc(7))]));
    expect((await client.response(1)).text).to.equal('answered');
    expect((await client.expect('GOAWAY')).payload.subarray(0, 8)).to.deep.equal(uint32(1, ErrorCode.FRAME_SIZE_ERROR));
    await client.ended();
    expect(host.connection.counts).to.deep.equal({ ...NOTHING, served: 1 });
  });

  it('is counted and described when the connection ends in the handler of the one before', async () => {
    let handled = 0;
    const [host, client] = await pair(() => {
      handled++;
      host.drivers[0]?.overwritten();
    });
    client.write(Buffer.concat([get(1), get(3)]));
    await client.ended();
    await until(() => host.connection.state === 'closed', 'end');
    expect(handled).to.equal(1);
    expect(host.connection.counts).to.deep.equal({ ...NOTHING, aborted: 2 });
    expect(host.connection.cutRequests.map(({ method, path }) => `${method} ${path}`)).to.deep.equal([
      'GET /small/0/50',
      'GET /small/0/50',
    ]);
    expect(host.connection.active).to.equal(0);
  });

  it('may be sent again when a drain is cut in the handler of the one before', async () => {
    const cut = new AbortController();
    let handled = 0;
    const [host, client] = await pair(() => {
      handled++;
      cut.abort();
    });
    await until(() => host.connections.length === 1, 'connection');
    const drained = gracefulShutdown(host.connection, { timeout: 5_000, signal: cut.signal });
    client.write(Buffer.concat([get(1), get(3), get(5)]));
    expect(await drained).to.include({ outcome: 'forced', aborted: 1, refused: 2 });
    expect(handled).to.equal(1);
    expect([1, 3, 5].map((id) => client.stream(id).reset)).to.deep.equal([
      ErrorCode.CANCEL,
      ErrorCode.REFUSED_STREAM,
      ErrorCode.REFUSED_STREAM,
    ]);
  });
});
