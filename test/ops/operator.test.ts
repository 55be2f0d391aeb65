/** The operator endpoint of a real server: what it shows, what it drains, and whom it refuses. */

import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import {
  Agent,
  createServer as createHttpServer,
  get,
  type IncomingMessage,
  request,
  type ServerResponse,
} from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import {
  adopt,
  connectionOf,
  createServer,
  type Drainable,
  type DrainManyOptions,
  type OperatorEndpoint,
  type Server,
  startOperator,
} from '../../src/index.js';
import { endAll, start } from '../cli/process.js';
import { thrown } from '../server/support.js';

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

/** A cluster of two workers that want the same port; tells what came of each. */
const CLUSTER = `
import cluster from 'node:cluster';
import { once } from 'node:events';
import { createServer as createTcpServer } from 'node:net';
import { createServer, startOperator } from '${new URL('../../src/index.ts', import.meta.url).href}';

if (cluster.isPrimary) {
  const free = createTcpServer().listen(0, '127.0.0.1');
  await once(free, 'listening');
  const PORT = free.address().port;
  await once(free.close(), 'close');
  for (let i = 0; i < 2; i++) {
    const [came] = await once(cluster.fork({ PORT }), 'message');
    console.log(came);
  }
  process.exit();
}
startOperator(createServer({ cleartext: true }), Number(process.env.PORT)).then(
  () => process.send('listens'),
  ({ code }) => process.send(code),
);
`;

describe('the operator endpoint', () => {
  let server: Server;
  let operator: OperatorEndpoint;
  /** Their connections are kept alive. */
  let agent: Agent;
  let others: Agent[];
  /** Answers to /hang, for a test to end. */
  let hanging: ServerResponse[];

  beforeEach(async () => {
    server = createServer({ cleartext: true }, (req, res) => {
      connectionOf(req)?.tags.set('tenant', 'acme');
      if (req.url?.startsWith('/hang')) hanging.push(res);
      else res.end('served');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    operator = await startOperator(server, 0);
    agent = new Agent({ keepAlive: true });
    others = [];
    hanging = [];
  });

  afterEach(async () => {
    for (const each of [agent, ...others]) each.destroy();
    server.closeAllConnections();
    await server.shutdown();
    await operator.close();
    await endAll();
  });

  const ask = (path: string, method = 'GET', headers: Record<string, string> = {}): Promise<Answer> => {
    const req = request(`${operator.url}${path}`, { method, headers, agent: false });
    req.end();
    return read(req);
  };

  /** Opens a kept-alive connection to the server and tells its id. */
  const open = async (through = agent): Promise<number> => {
    const known = new Set([...server.connections].map(({ id }) => id));
    const { port } = server.address() as AddressInfo;
    await read(get({ port, host: '127.0.0.1', agent: through, path: '/' }));
    return [...server.connections].find(({ id }) => !known.has(id))?.id ?? 0;
  };

  /** Opens one more, beside those that are open. */
  const openAnother = (): Promise<number> => {
    const another = new Agent({ keepAlive: true });
    others.push(another);
    return open(another);
  };

  /** Has a request in flight, on a connection of its own. */
  const hang = async (path = '/hang'): Promise<void> => {
    const { port } = server.address() as AddressInfo;
    get({ port, host: '127.0.0.1', agent: false, path }).on('error', () => {});
    await once(server, 'request');
  };

  it('rejects by code when it cannot listen', async () => {
    const taken = Number(new URL(operator.url).port);
    expect(await thrown(() => startOperator(server, taken))).to.include({ code: 'EADDRINUSE' });
    expect(await thrown(() => startOperator(server, 65_536))).to.include({ code: 'ERR_SOCKET_BAD_PORT' });
  });

  it('shares its port with no other worker of a cluster', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lastcall-'));
    const program = join(folder, 'cluster.mjs');
    writeFileSync(program, CLUSTER);
    const { stdout, stderr } = await start(process.execPath, ['--import', 'tsx', program]).ended;
    rmSync(folder, { recursive: true });
    expect(stdout, stderr).to.equal('listens\nEADDRINUSE\n');
  }).timeout(20_000);

  it('is there for an adopted server, too, and gone when it is closed', async () => {
    const adopted: Drainable = adopt(createHttpServer());
    const endpoint = await startOperator(adopted, 0);
    const answer = await fetch(`${endpoint.url}/ready`);
    expect([answer.status, await answer.text()]).to.deep.equal([503, 'not ready\n']);
    const limits = await fetch(`${endpoint.url}/limits`);
    expect(await limits.text()).to.equal('an adopted server counts no limits\n');
    await endpoint.close();
    expect(await thrown(() => fetch(endpoint.url))).to.be.instanceOf(TypeError);
  });

  it('shows how often each limit has fired', async () => {
    expect((await ask('/limits')).body).to.equal('no limit has fired\n');
    const { port } = server.address() as AddressInfo;
    const broken = connect(port, '127.0.0.1').on('error', () => {});
    broken.end('NONSENSE\r\n\r\n');
    broken.resume();
    await once(broken, 'close');
    expect((await ask('/limits')).body).to.equal('LIMIT      FIRED\nmalformed  1\n');
    expect(JSON.parse((await ask('/limits?json')).body).limits).to.deep.equal(server.limits);
  });

  it('listens on 127.0.0.1 only', async () => {
    const { port } = new URL(operator.url);
    const others = Object.values(networkInterfaces())
      .flatMap((addresses = []) => addresses)
      .filter(({ family, internal }) => family === 'IPv4' && !internal)
      .map(({ address }) => address);
    // Linux has all of 127.0.0.0/8.
    if (process.platform === 'linux') others.push('127.0.0.2');
    for (const host of others) {
      const [error] = await once(connect(Number(port), host), 'error');
      expect(error).to.include({ code: 'ECONNREFUSED' });
    }
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

  it('answers /ready with 200, and with 503 as soon as the server is being shut down', async () => {
    expect(await ask('/ready')).to.include({ status: 200, body: 'ready\n' });
    const stopped = server.shutdown({ delay: 10_000 });
    expect(await ask('/ready')).to.include({ status: 503, body: 'not ready\n' });
    expect(JSON.parse((await ask('/ready?json')).body)).to.deep.equal({ ready: false });
    void server.shutdown();
    await stopped;
    expect((await ask('/ready')).status).to.equal(503);
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

  it('shows tags that are no strings', async () => {
    const id = await open();
    const tags = server.connections.get(id)?.tags as Map<string, unknown>;
    tags.set('tenant', 42n).set('shard', 7);
    for (const path of [`/connections/${id}`, '/connections']) {
      expect((await ask(path)).body).to.match(/ tenant=42 shard=7\n$/);
      expect(JSON.parse((await ask(`${path}?json`)).body))
        .to.have.nested.property(path === '/connections' ? 'connections[0].tags' : 'tags')
        .that.deep.equals({ tenant: '42', shard: '7' });
    }
  });

  it('answers 500 when an answer cannot be made, or ends in the middle of it', async () => {
    const id = await open();
    const tags = server.connections.get(id)?.tags as Map<string, unknown>;
    tags.set('tenant', Object.create(null));
    expect(await ask('/connections')).to.include({ status: 500 });
    expect(await thrown(() => ask('/connections?json'))).to.include({ code: 'ECONNRESET' });
    const odd = { ready: true, limits: { malformed: 1n } } as unknown as Drainable;
    const endpoint = await startOperator(odd, 0);
    expect((await fetch(`${endpoint.url}/limits?json`)).status).to.equal(500);
    await endpoint.close();
  });

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
    await hang();
    const { body } = await ask('/drain?filter=all&json&idleWait=0&timeout=50ms', 'POST');
    expect(JSON.parse(body))
      .to.include({ connections: 2, aborted: 1 })
      .and.to.have.nested.property('notDrained[0].cut[0].path', '/hang');
    const { body: text } = await ask('/reports');
    expect(text)
      .to.match(/1 of 2 connections drained, 1 forced/)
      .and.match(/cut: GET \/hang, \d+ ms old/);
  });

  it('remembers a part of what clients can make as long as they like', async () => {
    for (let i = 0; i < 21; i++) await hang(`/hang?${'x'.repeat(5_000)}`);
    const { body } = await ask('/drain?filter=all&json&idleWait=0&timeout=50ms', 'POST');
    const { aborted, notDrained } = JSON.parse(body);
    expect(aborted).to.equal(21);
    expect(notDrained).to.have.length(21);
    expect(notDrained[0].cut[0].path).to.equal(`/hang?${'x'.repeat(194)}…`);
    const [{ result }] = JSON.parse((await ask('/reports?json')).body).drains;
    expect(result).to.deep.equal({ ...JSON.parse(body), notDrained: notDrained.slice(0, 20) });
  });

  const wrong: [path: string, method: string, status: number, message: RegExp][] = [
    ['/nothing', 'GET', 404, /there is no \/nothing/],
    ['//', 'GET', 404, /there is no \/\//],
    ['/connections/1/drain/now', 'POST', 404, /there is no/],
    ['/connections/999999', 'GET', 404, /no connection 999999 is open/],
    ['/connections/all/drain', 'POST', 404, /no connection all is open/],
    ['/drain', 'GET', 405, /GET is not allowed here, POST is/],
    ['/connections', 'DELETE', 405, /DELETE is not allowed here, GET is/],
    ['/drain', 'POST', 400, /filter is missing: say what to drain, such as \?filter=tag\.tenant=acme, or \?filter=all/],
    ['/drain?filter=all&timeuot=1', 'POST', 400, /unknown parameter timeuot \(known: filter, .*spread/],
    ['/drain?filter=all&timeout=soon', 'POST', 400, /drain\.timeout must be a number of milliseconds, got "soon"/],
    ['/drain?filter=all&timeout=', 'POST', 400, /drain\.timeout must be a number/],
    ['/drain?filter=all&timeout=%20', 'POST', 400, /drain\.timeout must be a number/],
    ['/drain?filter=all&timeout=0x10', 'POST', 400, /drain\.timeout must be a number/],
    ['/drain?filter=all&timeout=-1', 'POST', 400, /drain\.timeout must be /],
    ['/drain?filter=all&idleWait=-1', 'POST', 400, /drain\.idleWait must be at least 0 ms/],
    ['/drain?filter=all&signal=x', 'POST', 400, /unknown parameter signal/],
    ['/drain?filter=all&progress=nonsense', 'POST', 400, /^progress is 0 or 1, not "nonsense"$/m],
    ['/connections?json=no', 'GET', 400, /json is 0 or 1, not /],
    ['/drain?filter=all&spread=-1', 'POST', 400, /drain\.spread must be at least 0 ms/],
    ['/drain?filter=all&concurrency=few', 'POST', 400, /drain\.concurrency must be a number, got "few"/],
    ['/drain?filter=all&concurrency=0', 'POST', 400, /drain\.concurrency must be a whole number from 1/],
    ['/drain?filter=all&follow=maybe', 'POST', 400, /drain\.follow must be a boolean/],
    ['/drain?filter=sample=50%25&follow', 'POST', 400, /drain\.follow must be false when the filter takes a sample/],
    ['/drain?filter=sample=50%25&follow&wait=0', 'POST', 400, /drain\.follow must be false/],
    ['/drain?filter=proto=h1&filter=tag.tenant=acme', 'POST', 400, /^parameter filter is given twice$/m],
    ['/drain?filter=all&timeout=5s&timeout=1', 'POST', 400, /^parameter timeout is given twice$/m],
    ['/drain?filter=all&wait=no', 'POST', 400, /^wait is 0 or 1, not "no"$/m],
    ['/connections?filter=proto=h1&filter=all', 'GET', 400, /^parameter filter is given twice$/m],
    ['/connections?filtre=all', 'GET', 400, /unknown parameter filtre \(known: filter, json\)/],
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

  for (const query of ['wait=no', 'idleWait=0&idleWait=9s']) {
    it(`drains no connection by its id for ?${query}`, async () => {
      const id = await open();
      expect((await ask(`/connections/${id}/drain?${query}`, 'POST')).status).to.equal(400);
      expect(server.connections.get(id)?.state).to.equal('open');
    });
  }

  for (const query of ['wait', 'wait=1']) {
    it(`waits for the end with ?${query}`, async () => {
      const id = await open();
      expect((await ask(`/connections/${id}/drain?idleWait=0&${query}`, 'POST')).status).to.equal(200);
    });
  }

  const wrongFilters: [filter: string, position: number, message: RegExp][] = [
    ['age>1h tenant=acme', 7, /^filter: unknown field "tenant" \(known: proto, tag\.NAME, addr/],
    ['age>soon', 4, /^filter: age takes a duration such as 500ms, 90s, 1h30m or 2d, not "soon"/],
    ['addr=10.0.0.0/99', 5, /^filter: addr/],
    ['', 0, /^filter: it is empty/],
  ];
  for (const [filter, position, message] of wrongFilters) {
    it(`points at the character where the filter "${filter}" is wrong, and drains nothing`, async () => {
      const id = await open();
      for (const [path, method] of [
        [`/drain?filter=${encodeURIComponent(filter)}`, 'POST'],
        [`/connections?filter=${encodeURIComponent(filter)}`, 'GET'],
      ] as const) {
        const { status, body } = await ask(path, method);
        expect(status).to.equal(400);
        const [line, excerpt, pointer] = body.split('\n');
        expect(line).to.match(message);
        expect([excerpt, pointer]).to.deep.equal([filter, `${' '.repeat(position)}^`]);
        const json = JSON.parse((await ask(path, method, { accept: 'application/json' })).body);
        expect(json).to.include({ position }).and.to.have.property('error').that.matches(message);
      }
      expect(server.connections.get(id)?.state).to.equal('open');
    });
  }

  it('lists the connections that a filter names', async () => {
    const [one, other] = [await openAnother(), await openAnother()];
    server.connections.get(one)?.tags.set('tenant', 'other');
    const ids = async (filter: string): Promise<number[]> => {
      const { body } = await ask(`/connections?json&filter=${filter}`);
      return JSON.parse(body).connections.map((connection: { id: number }) => connection.id);
    };
    expect(await ids('tag.tenant=acme+proto=h1')).to.deep.equal([other]);
    expect(await ids('tag.tenant=acme,other')).to.deep.equal([one, other]);
    expect(await ids('proto=h2')).to.deep.equal([]);
    expect((await ask('/connections?filter=proto=h2')).body).to.equal('no connections\n');
  });

  it('lists and selects connections without giving them tags', async () => {
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    await once(server.connections, 'open');
    for (const path of ['/connections', '/connections?json', '/connections?filter=tag.tenant=acme']) await ask(path);
    expect(server.connections.live().map(({ givenTags }) => givenTags)).to.deep.equal([undefined]);
    socket.destroy();
  });

  it('drains the connections that a filter names, and leaves the others', async () => {
    const [one, other] = [await openAnother(), await openAnother()];
    server.connections.get(one)?.tags.set('tenant', 'other');
    const { body } = await ask('/drain?filter=tag.tenant=other&spread=10ms&concurrency=1&idleWait=0', 'POST');
    expect(body).to.match(/^1 of 1 connection drained, in /);
    expect(server.connections.get(one)).to.equal(undefined);
    expect(server.connections.get(other)?.state).to.equal('open');
    expect((await ask('/reports')).body).to.match(/^\S+ tag\.tenant=other\n1 of 1/);
  });

  it('says so when a filter names no connection', async () => {
    const id = await open();
    expect((await ask('/drain?filter=proto=h2', 'POST')).body).to.equal('no connections to drain\n');
    expect(server.connections.get(id)?.state).to.equal('open');
  });

  for (const [form, accept, line, last] of [
    ['text', 'text/plain', /^\d of 4 connections done, \d draining, \d waiting$/, /^4 of 4 connections drained, in /],
    ['JSON', 'application/json', /^\{"progress":\{"total":4,"draining":\d,.*\}$/, /"connections":4/],
  ] as const) {
    it(`tells with ?progress how far it is, as ${form}, before the summary`, async () => {
      for (let i = 0; i < 4; i++) await openAnother();
      const began = performance.now();
      const { body } = await ask('/drain?filter=all&spread=2500ms&idleWait=0&progress', 'POST', { accept });
      const seconds = (performance.now() - began) / 1_000;
      const lines = body.trim().split('\n');
      expect(lines.length, 'one a second, and the summary').to.be.within(2, seconds + 1);
      for (const told of lines.slice(0, -1)) expect(told).to.match(line);
      expect(lines.at(-1)).to.match(last);
    }).timeout(10_000);
  }

  it('answers with ?progress and JSON in one line also what is over at once', async () => {
    await open();
    const accept = 'application/json';
    const { body } = await ask('/drain?filter=all&idleWait=0&progress', 'POST', { accept });
    expect(body).to.match(/^\{.*"connections":1,.*\}\n$/);
  });

  it('tells with ?progress every change within a second, and nothing twice', async () => {
    await hang();
    await hang();
    const req = request(`${operator.url}/drain?filter=all&progress`, { method: 'POST', agent: false }).end();
    const [res] = (await once(req, 'response')) as [IncomingMessage];
    const lines: string[] = [];
    for await (const line of res.setEncoding('utf8')) {
      lines.push(line);
      // The first at once, so that the change comes within a second after a line; then long enough for a second line.
      if (lines.length === 2) await new Promise((resolve) => setTimeout(resolve, 1_200));
      hanging.shift()?.end();
    }
    expect(lines.slice(0, 2)).to.deep.equal([
      '0 of 2 connections done, 2 draining, 0 waiting\n',
      '1 of 2 connections done, 1 draining, 0 waiting\n',
    ]);
    expect(lines[2]).to.match(/^2 of 2 connections drained, in /);
    expect(lines).to.have.length(3);
  }).timeout(10_000);

  it('breaks off where a drain fails that it has told of: what came is not the end of it', async () => {
    const odd = {
      ready: true,
      drain: async (_: unknown, { onProgress }: DrainManyOptions) => {
        const outcomes = { drained: 0, lossy: 0, forced: 0, peer: 0 };
        onProgress?.({ total: 2, draining: 1, outcomes, waiting: 1, gone: 0 });
        await new Promise((resolve) => setTimeout(resolve, 1_200));
        throw new Error('no more');
      },
    } as unknown as Drainable;
    const endpoint = await startOperator(odd, 0);
    const answer = await fetch(`${endpoint.url}/drain?filter=all&progress`, { method: 'POST' });
    expect(answer.status).to.equal(200);
    expect(await thrown(() => answer.text())).to.be.instanceOf(TypeError);
    await endpoint.close();
  }).timeout(10_000);

  it('begins no more drains when whoever waits for them leaves', async () => {
    for (let i = 0; i < 3; i++) await openAnother();
    const req = request(`${operator.url}/drain?filter=all&spread=30s&idleWait=0`, {
      method: 'POST',
      agent: false,
    }).end();
    req.on('error', () => {});
    await once(server.connections, 'close');
    req.destroy();
    let report = '';
    while (!/left alone/.test(report)) report = (await ask('/reports')).body;
    expect(report).to.match(/1 of 1 connection drained, 2 left alone, in /);
    expect(server.connections.size).to.equal(2);
  });

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
        ['/drain?filter=all&idleWait=0', 'POST'],
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
