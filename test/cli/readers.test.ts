/** Whoever reads what a command writes may leave: `| head`, a log collector that dies. */
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import { OPERATOR } from '../../src/ops/operator-reply.js';
import { built, endAll, lastcall, listing, type Serving, serve } from './process.js';

describe('a command that nobody reads any more', function () {
  this.timeout(20_000);

  before(async function () {
    this.timeout(120_000);
    await built();
  });

  afterEach(endAll);

  /** A request that is in flight; resolves with what came of it. */
  const inFlight = async ({ url, operator }: Serving, ms: number): Promise<{ answer: Promise<string> }> => {
    const req = request(`${url}/slow?ms=${ms}`, { rejectUnauthorized: false, agent: false }).end();
    const answer = once(req, 'response').then(
      async ([res]) => {
        let body = '';
        for await (const chunk of res.setEncoding('utf8')) body += chunk;
        return body;
      },
      () => 'cut',
    );
    await listing(operator, (list) => list.some(({ active }) => active > 0));
    return { answer };
  };

  it('serve: answers what is in flight after SIGTERM, then exits with 0', async () => {
    const serving = await serve('--delay', '0');
    const { answer } = await inFlight(serving, 1_500);
    serving.process.leave();
    serving.process.signal('SIGTERM');
    expect(await answer).to.match(/^answered after 1500 ms/);
    expect((await serving.process.ended).code).to.equal(0);
  });

  for (const [what, ms, code] of [
    ['nothing was lost', 1_500, 0],
    ['requests were cut', 20_000, 2],
  ] as const) {
    it(`drain: ends with ${code} when ${what}`, async () => {
      const serving = await serve();
      await inFlight(serving, ms);
      const drain = lastcall('drain', 'all', '--timeout', '2500', '--operator', serving.operator);
      drain.leave();
      expect((await drain.ended).code).to.equal(code);
    });
  }

  it('list: ends with 0', async () => {
    const answers: ServerResponse[] = [];
    const endpoint = createServer((_req, res) => {
      answers.push(res);
      res.setHeader('server', OPERATOR);
      res.write('ID  PROTOCOL\n');
    });
    endpoint.listen(0, '127.0.0.1');
    await once(endpoint, 'listening');
    const list = lastcall('list', '--operator', String((endpoint.address() as AddressInfo).port));
    await list.says(/ID/);
    list.leave();
    answers[0]?.write('3   h2\n');
    answers[0]?.end('5   h2\n');
    expect((await list.ended).code).to.equal(0);
    endpoint.close();
  });
});
