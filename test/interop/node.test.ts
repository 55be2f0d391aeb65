/**
 * Node's own HTTP/2 client and undici.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import { buffer, text } from 'node:stream/consumers';
import { expect } from 'chai';
import { Agent, type Dispatcher, fetch, request } from 'undici';
import { AT_A_TIME, MANY, type Serving, serve, UPLOAD_BYTES } from './serving.js';

/** Calls `one` for 0 to count-1, so many at a time. */
async function many(count: number, atATime: number, one: (n: number) => Promise<void>): Promise<void> {
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < count) await one(next++);
  };
  await Promise.all(Array.from({ length: atATime }, work));
}

describe("Node's HTTP clients", function () {
  this.timeout(30_000);
  let serving: Serving;
  const upload = randomBytes(UPLOAD_BYTES);

  beforeEach(async () => {
    serving = await serve();
  });

  afterEach(async () => {
    await serving.stop();
    expect(serving.errors).to.deep.equal([]);
  });

  describe('node:http2', () => {
    let session: ClientHttp2Session;
    let broken: Error[];

    beforeEach(async () => {
      broken = [];
      session = connect(serving.origin, { rejectUnauthorized: false });
      session.on('error', (error) => broken.push(error));
      await once(session, 'connect');
    });

    afterEach(async () => {
      if (!session.destroyed) await new Promise<void>((resolve) => session.close(resolve));
      expect(broken).to.deep.equal([]);
    });

    it('gets and posts 1 MiB', async () => {
      const get = session.request({ ':path': '/hello/1' });
      const [head] = await once(get, 'response');
      expect(head[':status']).to.equal(200);
      expect(await text(get)).to.equal('hello 1');
      const post = session.request({ ':path': '/echo', ':method': 'POST' });
      post.end(upload);
      expect(upload.equals(await buffer(post))).to.equal(true);
    });

    it('sends trailers and gets those of the response', async () => {
      const stream = session.request({ ':path': '/trailers', ':method': 'POST' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': 'from-node' }));
      stream.end('abc');
      const trailers = once(stream, 'trailers');
      expect(await text(stream)).to.equal('3');
      expect((await trailers)[0]['x-sum']).to.equal('from-node');
    });

    it(`gets ${MANY} times, ${AT_A_TIME} at a time, on one connection`, async () => {
      const answers: string[] = [];
      await many(MANY, AT_A_TIME, async (n) => {
        answers.push(await text(session.request({ ':path': `/hello/${n}` })));
      });
      expect(answers.sort()).to.deep.equal(Array.from({ length: MANY }, (_, n) => `hello ${n}`).sort());
    });

    it('cancels requests without disturbing the others', async () => {
      const answers: string[] = [];
      await many(200, 20, async (n) => {
        const stream: ClientHttp2Stream = session.request({ ':path': '/large/100000' });
        if (n % 5 === 0) {
          await once(stream, 'response');
          stream.close(constants.NGHTTP2_CANCEL);
          await once(stream, 'close');
        } else {
          answers.push(await text(stream));
        }
      });
      expect(answers).to.have.lengthOf(160);
      expect(answers.every((answer) => answer.length === 100_000)).to.equal(true);
    });
  });

  for (const allowH2 of [true, false]) {
    const version = allowH2 ? '2.0' : '1.1';
    describe(`undici over HTTP/${version}`, () => {
      let dispatcher: Dispatcher;

      beforeEach(() => {
        dispatcher = new Agent({
          allowH2,
          connect: { rejectUnauthorized: false },
          connections: allowH2 ? 2 : AT_A_TIME,
        });
      });

      afterEach(() => dispatcher.close());

      it('gets and posts 1 MiB, by request() and by fetch()', async () => {
        const got = await request(`${serving.origin}/hello/1`, { dispatcher });
        expect([got.statusCode, await got.body.text()]).to.deep.equal([200, 'hello 1']);
        const posted = await request(`${serving.origin}/echo`, { dispatcher, method: 'POST', body: upload });
        expect(upload.equals(Buffer.from(await posted.body.arrayBuffer()))).to.equal(true);
        const fetched = await fetch(`${serving.origin}/echo`, { dispatcher, method: 'POST', body: upload });
        expect(upload.equals(Buffer.from(await fetched.arrayBuffer()))).to.equal(true);
        expect(serving.requests).to.deep.equal({ [version]: 3 });
      });

      // Over HTTP/2 undici 7 shows none, whoever sends them: it completes the request with the body.
      if (!allowH2)
        it('gets the trailers of a response', async () => {
          const answer = await request(`${serving.origin}/trailers`, { dispatcher, method: 'POST', body: 'abc' });
          expect(await answer.body.text()).to.equal('3');
          expect(answer.trailers).to.deep.equal({ 'x-sum': 'none' });
        });

      it(`gets ${MANY} times, ${AT_A_TIME} at a time`, async () => {
        await many(MANY, AT_A_TIME, async (n) => {
          const { body } = await request(`${serving.origin}/hello/${n}`, { dispatcher });
          expect(await body.text()).to.equal(`hello ${n}`);
        });
        expect(serving.requests).to.deep.equal({ [version]: MANY });
      });
    });
  }
});
