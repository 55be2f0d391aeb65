/**
 * The "after" code of docs/migrating.md runs as it stands: started with an application, ended by Ctrl-C with a request in
 * flight and a connection idle, it answers both and ends in order.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { built, endAll, start } from '../cli/process.js';
import { certificate } from '../wire/certificate.js';
import { H1Client } from '../wire/h1-client.js';
import { freePort, listens } from '../wire/ports.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** A program of the page, by the heading it stands under. */
interface Program {
  readonly heading: string;
  readonly code: string;
}

function programs(): Program[] {
  const page = readFileSync(join(ROOT, 'docs/migrating.md'), 'utf8');
  return page.split(/^## /m).flatMap((section) => {
    const [heading = ''] = section.split('\n', 1);
    // The last block of a section is the one to end up with.
    const code = [...section.matchAll(/^```js\n([\s\S]*?)^```/gm)].at(-1)?.[1];
    return code === undefined ? [] : [{ heading: heading.replaceAll('`', ''), code }];
  });
}

const APP = `
import { readFileSync } from 'node:fs';
import { drainSignal } from 'lastcall';
export const [key, cert] = ['key', 'cert'].map((name) => readFileSync(new URL(name, import.meta.url)));
export const database = { ping: async () => true, end: async () => console.log('database ended') };
export const deregister = (signal) => console.log('deregistered on', signal);
export default (req, res) => {
  if (req.url === '/slow') {
    drainSignal(req).addEventListener('abort', () => setImmediate(() => res.end('slow')));
    console.log('slow');
  }
  else res.end('hello');
};
export const routes = async (fastify) => {
  fastify.get('/', async () => 'hello');
  fastify.get('/slow', (req, reply) => {
    drainSignal(req.raw).addEventListener('abort', () => setImmediate(() => reply.send('slow')));
    console.log('slow');
  });
};
`;

describe('the programs of the migration page', function () {
  this.timeout(20_000);
  let folder: string;

  before(async function () {
    this.timeout(120_000);
    await built();
    // In here, because 'lastcall' is then the package itself.
    folder = mkdtempSync(join(ROOT, 'dist', 'migrating-'));
    const { key, cert } = await certificate();
    for (const [name, text] of Object.entries({ key, cert, 'app.js': APP })) writeFileSync(join(folder, name), text);
  });

  after(() => rmSync(folder, { recursive: true }));
  afterEach(endAll);

  it('are found', () => {
    const found = programs().map(({ heading }) => heading);
    expect(found).to.deep.equal([
      'server.close()',
      'stoppable',
      'http-terminator',
      'http-graceful-shutdown',
      '@godaddy/terminus',
      'Fastify',
      'HTTP/2',
    ]);
  });

  for (const { heading, code } of programs()) {
    it(`${heading}: answers what is in flight and what an idle client asks, then ends`, async () => {
      const file = join(folder, `${heading.replace(/\W+/g, '-')}.mjs`);
      writeFileSync(file, code);
      const port = await freePort();
      const program = start(process.execPath, [file], { PORT: String(port) });
      await listens(port, program.ended);
      const tls = code.includes('cert');
      const [busy, idle] = [await H1Client.connect({ port, tls }), await H1Client.connect({ port, tls })];
      for (const client of [busy, idle]) client.transport.socket.once('end', () => client.end());
      expect((await idle.fetch()).text).to.equal('hello');
      busy.request({ path: '/slow' });
      await program.says(/slow/);
      program.signal('SIGINT');
      const answer = await busy.response();
      expect(answer.text).to.equal('slow');
      expect(answer.connectionHas('close')).to.equal(true);
      expect((await idle.fetch()).connectionHas('close')).to.equal(true);
      const { code: exit, stdout, stderr } = await program.ended;
      expect({ exit, stderr }).to.deep.equal({ exit: 0, stderr: '' });
      if (code.includes('database.end')) expect(stdout).to.contain('database ended');
      if (code.includes('deregister(')) expect(stdout).to.contain('deregistered on SIGINT');
    });
  }

  it('@godaddy/terminus: its health check fails as soon as it is told to end, and all else is served', async () => {
    const program = programs().find(({ heading }) => heading === '@godaddy/terminus');
    const file = join(folder, 'ready.mjs');
    writeFileSync(file, program?.code ?? '');
    const port = await freePort();
    const running = start(process.execPath, [file], { PORT: String(port) });
    await listens(port, running.ended);
    const client = await H1Client.connect({ port, tls: false });
    expect((await client.fetch({ path: '/ready' })).status).to.equal(200);
    running.signal('SIGTERM');
    let status: number | undefined;
    while (status !== 503) status = (await client.fetch({ path: '/ready' })).status;
    const answer = await client.fetch();
    expect(answer.text).to.equal('hello');
    expect(answer.connectionHas('close')).to.equal(false);
    client.destroy();
  });
});
