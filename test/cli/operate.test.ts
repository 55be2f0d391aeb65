/** `lastcall list` and `lastcall drain` against a running `lastcall serve`. */
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { expect } from 'chai';
import { OPERATOR } from '../../src/ops/operator-reply.js';
import { built, endAll, lastcall, listing, type Serving, serve } from './process.js';

describe('lastcall list and lastcall drain', function () {
  this.timeout(20_000);
  let serving: Serving;
  const clients: Socket[] = [];

  before(async function () {
    this.timeout(120_000);
    await built();
  });

  beforeEach(async () => {
    serving = await serve();
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.destroy();
    await endAll();
  });

  const operate = (...args: string[]) => lastcall(...args, '--operator', serving.operator).ended;

  /** A connection with one request answered, or under way. */
  const open = async (path = '/'): Promise<void> => {
    const port = Number(new URL(serving.url).port);
    const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] });
    clients.push(socket.on('error', () => {}));
    await once(socket, 'secureConnect');
    socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n`);
    if (path === '/') await once(socket, 'data');
    else await listing(serving.operator, (list) => list.some(({ active }) => active > 0));
  };

  it('lists the connections, all or those that a filter names', async () => {
    await open();
    const all = await operate('list');
    expect(all.stdout).to.match(/^ID +PROTOCOL .*\n\d+ +http\/1\.1 +open .*\n$/);
    expect(all.code).to.equal(0);
    expect((await operate('list', 'proto=h2')).stdout).to.equal('no connections\n');
    const json = await operate('list', 'proto=h1', 'age<1h', '--json');
    expect(JSON.parse(json.stdout).connections).to.have.length(1);
  });

  it('takes the port of the endpoint, too', async () => {
    const { stdout } = await lastcall('list', '--operator', new URL(serving.operator).port).ended;
    expect(stdout).to.equal('no connections\n');
  });

  it('drains one connection by its id, and tells how', async () => {
    await open();
    await open();
    const [{ id } = { id: 0 }] = await listing(serving.operator, (list) => list.length === 2);
    const { code, stdout } = await operate('drain', String(id), '--idle-wait', '0');
    expect(stdout).to.match(new RegExp(`^connection ${id} \\(http/1\\.1\\): drained in `));
    expect(code).to.equal(0);
    expect(await listing(serving.operator, () => true)).to.have.length(1);
  });

  it('drains what a filter names, in waves, and tells how far it is', async () => {
    for (let i = 0; i < 4; i++) await open();
    const { code, stdout, stderr } = await operate(
      'drain',
      'served>0',
      'proto=h1',
      '--spread',
      '2500ms',
      '--idle-wait',
      '0',
    );
    expect(stdout).to.match(/^4 of 4 connections drained, in /);
    expect(stderr).to.match(/^(?:\d of 4 connections done, \d draining, \d waiting\n)+$/);
    expect(code).to.equal(0);
  });

  it('says so when nothing matches', async () => {
    expect(await operate('drain', 'all')).to.deep.equal({ code: 0, stdout: 'no connections to drain\n', stderr: '' });
  });

  it('ends with 2 when requests were cut, and names them', async () => {
    await open('/slow?ms=20000');
    const { code, stdout } = await operate('drain', 'all', '--timeout', '100ms');
    expect(stdout).to.match(/^0 of 1 connection drained, 1 forced, .*: 1 aborted\n[\s\S]*cut: GET \/slow/);
    expect(code).to.equal(2);
  });

  it('answers with JSON when told so', async () => {
    await open();
    const { stdout } = await operate('drain', 'all', '--idle-wait', '0', '--json');
    expect(JSON.parse(stdout)).to.include({ connections: 1, aborted: 0 });
  });

  it('does not wait with --no-wait', async () => {
    await open('/slow?ms=20000');
    const { code, stdout } = await operate('drain', 'all', '--no-wait', '--reason', 'maintenance');
    expect(stdout).to.equal('draining all connections; see /reports\n');
    expect(code).to.equal(0);
    await listing(serving.operator, ([connection]) => connection?.state === 'draining');
  });

  it('begins no more drains after Ctrl-C', async () => {
    for (let i = 0; i < 3; i++) await open();
    const drain = lastcall('drain', 'all', '--spread', '30s', '--idle-wait', '0', '--operator', serving.operator);
    await listing(serving.operator, (list) => list.length === 2);
    drain.signal('SIGINT');
    await drain.ended;
    let reports = '';
    while (!reports.includes('left alone')) reports = await (await fetch(`${serving.operator}/reports`)).text();
    expect(reports).to.match(/1 of 1 connection drained, 2 left alone, in /);
    const { stdout } = await operate('drain', 'all', '--spread', '0', '--idle-wait', '0');
    expect(stdout).to.match(/^2 of 2 connections drained/);
  });

  it('explains in one line what the endpoint refuses', async () => {
    const { code, stderr } = await operate('drain', '999999');
    expect(stderr).to.equal('lastcall: no connection 999999 is open\n');
    expect(code).to.equal(1);
    expect((await operate('drain', 'sample=50%', '--follow')).stderr).to.match(
      /^lastcall: option drain\.follow must be false.*\n$/,
    );
  });

  for (const [when, answer] of [
    ['before its answer', () => {}],
    ['in the middle', (res: ServerResponse) => void res.write('{"progress":')],
  ] as const) {
    it(`tells an endpoint that breaks off ${when} from a drain that never began`, async () => {
      const endpoint = createServer((_req, res) => {
        res.setHeader('server', OPERATOR);
        answer(res);
        setImmediate(() => res.destroy());
      });
      endpoint.listen(0, '127.0.0.1');
      await once(endpoint, 'listening');
      const port = String((endpoint.address() as AddressInfo).port);
      const { code, stderr } = await lastcall('drain', 'all', '--operator', port).ended;
      endpoint.close();
      expect(stderr).to.match(/^lastcall: the operator endpoint has broken off, what has begun may go on: [^\n]+\n$/);
      expect(code).to.equal(2);
    });
  }

  const progress = { total: 2, draining: 1, outcomes: { drained: 1 }, waiting: 0, gone: 0 };
  for (const [args, begun, where, code] of [
    [['drain', 'all'], `${JSON.stringify({ progress })}\n`, 'stderr', 2],
    [['drain', 'all', '--no-wait'], 'draining\n', 'stdout', 2],
    [['list'], 'ID  PROTOCOL\n', 'stdout', 1],
  ] as const) {
    it(`explains in one line that the answer to ${args.join(' ')} was reset, and ends with ${code}`, async () => {
      const answers: ServerResponse[] = [];
      const endpoint = createServer((_req, res) => {
        answers.push(res);
        res.setHeader('server', OPERATOR);
        res.statusCode = args.includes('--no-wait' as never) ? 202 : 200;
        res.write(begun);
      });
      endpoint.listen(0, '127.0.0.1');
      await once(endpoint, 'listening');
      const port = String((endpoint.address() as AddressInfo).port);
      const command = lastcall(...args, '--operator', port);
      await command.says(/\n/, where);
      answers[0]?.socket?.resetAndDestroy();
      const ended = await command.ended;
      endpoint.close();
      const lines = ended.stderr.replace(/^1 of 2 .*\n/, '');
      expect(lines).to.match(/^lastcall: the operator endpoint has broken off[^\n]+\n$/);
      expect(ended.code).to.equal(code);
    });
  }

  for (const [body, server, ...args] of [
    ['hello', OPERATOR, 'drain', 'all'],
    ['"hello"', OPERATOR, 'drain', 'all'],
    ['{"error":"none of your business"}', OPERATOR, 'drain', 'all'],
    ['hello', OPERATOR, 'drain', 'all', '--no-wait'],
    ['{"aborted":0,"unserved":0}', 'Apache', 'drain', 'all'],
    ['hello', 'Apache', 'list'],
    ['{"connections":[]}', undefined, 'list', '--json'],
  ] as const) {
    it(`says so when what answers ${args.join(' ')} with ${body}, as ${server}, is no operator endpoint`, async () => {
      const endpoint = createServer((_req, res) => {
        if (server !== undefined) res.setHeader('server', server);
        res.end(body);
      });
      endpoint.listen(0, '127.0.0.1');
      await once(endpoint, 'listening');
      const port = String((endpoint.address() as AddressInfo).port);
      const { code, stdout, stderr } = await lastcall(...args, '--operator', port).ended;
      endpoint.close();
      expect(stdout).to.equal('');
      expect(stderr).to.match(/^lastcall: what answers at http:\/\/127\.0\.0\.1:\d+ is no operator endpoint\n$/);
      expect(code).to.equal(1);
    });
  }

  it('survives an endpoint that speaks something else', async () => {
    const port = Number(new URL(serving.url).port);
    const { code, stderr } = await lastcall('list', '--operator', String(port)).ended;
    expect(stderr).to.match(/^lastcall: no operator endpoint answers at [^\n]+\n$/);
    expect(code).to.equal(1);
  });
});
