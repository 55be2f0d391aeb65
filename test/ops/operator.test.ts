/** The operator endpoint of a real server: what it shows, what it drains, and whom it refuses. */

import { once } from 'node:events';
import { Agent, get, type IncomingMessage, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import { connectionOf, createServer, type Server } from '../../src/index.js';
import { type OperatorEndpoint, startOperator } from '../../src/ops/operator.js';

interface Answer {
  readonly status: number | undefined;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

async function read(req: ReturnType<typeof request>): Promise<Answer> {
  const [res] = (await once(req, 'response')) as [IncomingMessage];
  let body = '';
  for await (const chunk of res.setEncoding('utf8')) body += chunk;
  return { status: res.statusCode, headers: res.headers, body };
}

describe('the operator endpoint', () => {
  let server: Server;
  let operator: OperatorEndpoint;
  /** Its connections are kept alive. */
  let agent: Agent;

  beforeEach(async () => {
    server = createServer({ cleartext: true }, (req, res) => {
      connectionOf(req)?.tags.set('tenant', 'acme');
      if (req.url !== '/hang') res.end('served');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    operator = await startOperator(server, 0);
    agent = new Agent({ keepAlive: true });
  });

  afterEach(async () => {
    agent.destroy();
    server.closeAllConnections();
    await server.shutdown();
    await operator.close();
  });

  const ask = (path: string, method = 'GET', headers: Record<string, string> = {}): Promise<Answer> => {
    const req = request(`${operator.url}${path}`, { method, headers, agent: false });
    req.end();
    return read(req);
  };

  /** Opens a kept-alive connection to the server and tells its id. */
  const open = async (): Promise<number> => {
    const known = new Set([...server.connections].map(({ id }) => id));
    await read(get({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', agent, path: '/' }));
    return [...server.connections].find(({ id }) => !known.has(id))?.id ?? 0;
  };

  it('listens on loopback only', () => {
    expect(operator.url).to.match(/^http:\/\/127\.0\.0\.1:\d+$/);
  });

  it('shows the connections as a table, and what can be done', async () => {
    const id = await open();
    const { status, headers, body } = await ask('/');
    expect(status).to.equal(200);
    expect(headers['content-type']).to.equal('text/plain; charset=utf-8');
    expect(body).to.match(/^ID +PROTOCOL +STATE +PEER +AGE +IDLE +ACTIVE +SERVED +TAGS\n/);
    expect(body).to.match(new RegExp(`\\n${id} +http/1\\.1 +open +127\\.0\\.0\\.1:\\d+ .* 0 +1 +tenant=acme\\n`));
    expect(body).to.contain('POST /connections/ID/drain');
  });

  for (const [name, path, headers] of [
    ['?json', '/connections?json', {}],
    ['an Accept header', '/connections', { accept: 'application/json' }],
  ] as const) {
    it(`answers ${name} with JSON`, async () => {
      const id = await open();
      const answer = await ask(path, 'GET', headers);
      expect(answer.headers['content-type']).to.equal('application/json');
      const [connection] = JSON.parse(answer.body).connections;
      expect(connection).to.include({ id, protocol: 'http/1.1', state: 'open', secure: false, active: 0, served: 1 });
      expect(connection.tags).to.deep.equal({ tenant: 'acme' });
    });
  }

  it('drains one connection and answers with its report', async () => {
    const id = await open();
    const { status, body } = await ask(`/connections/${id}/drain?idleWait=0`, 'POST');
    expect(status).to.equal(200);
    expect(body).to.match(new RegExp(`^connection ${id} \\(http/1\\.1\\): drained in `));
    expect(server.connections.get(id)).to.equal(undefined);
    expect((await ask('/reports')).body).to.contain(body);
  });

  it('does not wait for the end with ?wait=0, and tells of it in /reports', async () => {
    const id = await open();
    const { status, body } = await ask(`/connections/${id}/drain?wait=0&timeout=Infinity`, 'POST');
    expect(status).to.equal(202);
    expect(body).to.equal(`draining connection ${id}; see /reports\n`);
    const [drain] = JSON.parse((await ask('/reports?json')).body).drains;
    expect(drain).to.have.keys('drain', 'startedAt');
    const joined = JSON.parse((await ask(`/connections/${id}/drain?json&idleWait=0`, 'POST')).body);
    expect(joined).to.include({ id, outcome: 'drained' });
  });

  it('drains all connections and answers with a summary', async () => {
    await open();
    const hanging = get({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', agent, path: '/hang' });
    hanging.on('error', () => {});
    await once(server, 'request');
    const { body } = await ask('/drain?json&idleWait=0&timeout=50', 'POST');
    expect(JSON.parse(body))
      .to.include({ aborted: 1 })
      .and.to.have.nested.property('notDrained[0].cut[0].path', '/hang');
    const { body: text } = await ask('/reports');
    expect(text)
      .to.match(/0 of 1 connection drained, 1 forced/)
      .and.match(/cut: GET \/hang, \d+ ms old/);
  });

  const wrong: [path: string, method: string, status: number, message: RegExp][] = [
    ['/nothing', 'GET', 404, /there is no \/nothing/],
    ['//', 'GET', 404, /there is no \/\//],
    ['/connections/1/drain/now', 'POST', 404, /there is no/],
    ['/connections/999999', 'GET', 404, /no connection 999999 is open/],
    ['/connections/all/drain', 'POST', 404, /no connection all is open/],
    ['/drain', 'GET', 405, /GET is not allowed here, POST is/],
    ['/connections', 'DELETE', 405, /DELETE is not allowed here, GET is/],
    ['/drain?timeuot=1', 'POST', 400, /unknown option drain\.timeuot/],
    ['/drain?timeout=soon', 'POST', 400, /drain\.timeout must be a number/],
    ['/drain?timeout=', 'POST', 400, /drain\.timeout must be a number/],
    ['/drain?idleWait=-1', 'POST', 400, /drain\.idleWait must be at least 0 ms/],
    ['/drain?signal=x', 'POST', 400, /drain\.signal must be an AbortSignal/],
  ];
  for (const [path, method, status, message] of wrong) {
    it(`answers ${method} ${path} with ${status} and drains nothing`, async () => {
      const id = await open();
      const text = await ask(path, method);
      expect(text.status).to.equal(status);
      expect(text.body)
        .to.match(message)
        .and.match(/^[^\n]+\n$/);
      const json = await ask(path, method, { accept: 'application/json' });
      expect(JSON.parse(json.body).error).to.match(message);
      expect(server.connections.get(id)?.state).to.equal('open');
    });
  }

  const strangers: [name: string, headers: Record<string, string>][] = [
    ['a host name that was made to resolve to loopback', { host: 'evil.example' }],
    ['the same with a port', { host: 'evil.example:8400' }],
    ['a host name that starts like loopback', { host: '127.0.0.1.evil.example' }],
    ['a form on a page of another site', { 'sec-fetch-site': 'cross-site' }],
    ['a page on another port of this machine', { 'sec-fetch-site': 'same-site' }],
    ['a page of another origin', { origin: 'http://evil.example' }],
    ['a page without an origin', { origin: 'null' }],
  ];
  for (const [name, headers] of strangers) {
    it(`refuses ${name}`, async () => {
      const id = await open();
      for (const [path, method] of [
        ['/connections', 'GET'],
        ['/drain?idleWait=0', 'POST'],
      ] as const) {
        const { status, body } = await ask(path, method, headers);
        expect(status).to.equal(403);
        expect(body).not.to.contain('acme');
      }
      expect(server.connections.get(id)?.state).to.equal('open');
    });
  }

  for (const host of ['localhost', 'localhost:8400', '127.0.0.1:8400', '[::1]:8400']) {
    it(`serves requests to ${host}`, async () => {
      expect((await ask('/', 'GET', { host })).status).to.equal(200);
      expect(
        (await ask('/', 'GET', { host, origin: `http://${host}`, 'sec-fetch-site': 'same-origin' })).status,
      ).to.equal(200);
    });
  }

  it('lets an answer under way finish when it closes', async () => {
    const id = await open();
    const report = ask(`/connections/${id}/drain?idleWait=100`, 'POST');
    await new Promise<void>((resolve) => {
      const look = (): unknown => (server.connections.get(id)?.state === 'open' ? setImmediate(look) : resolve());
      look();
    });
    await operator.close();
    expect((await report).body).to.match(/drained in/);
    operator = await startOperator(server, 0);
  });
});
