/** The examples run as they stand. */

import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { ask, built, connections, curl, endAll, node, serve } from './process.js';
import { needs } from './programs.js';

const example = (name: string): string => fileURLToPath(new URL(`../../examples/${name}`, import.meta.url));

describe('the examples', function () {
  this.timeout(20_000);

  before(async function () {
    this.timeout(120_000);
    needs(this, 'curl');
    await built();
  });

  afterEach(endAll);

  it('app.js: a listener for the command, with an event stream that ends on a drain', async () => {
    const { url, operator } = await serve(example('app.js'));
    expect((await curl(`${url}/`).ended).stdout).to.match(/^hello on connection \d+\n$/);
    const clock = curl('--http2', `${url}/clock`);
    await clock.says(/data: /);
    const [{ id } = { id: 0 }] = await connections(operator);
    expect((await ask(`${operator}/connections/${id}/drain`, 'POST')).body).to.match(/drained in/);
    expect((await clock.ended).stdout).to.match(/retry: 500\n\n$/);
  });

  it('adopted.js: an Express app whose connections move on', async () => {
    const adopted = node(example('adopted.js'), '0');
    const [, url] = await adopted.says(/(http:\S+)/);
    expect((await curl(`${url}/`).ended).stdout).to.equal('hello\n');
    const events = curl(`${url}/events`);
    await events.says(/data: hello/);
    expect((await curl('--request', 'POST', `${url}/move`).ended).stdout).to.equal('on their way\n');
    await adopted.says(/connections: 0/);
    adopted.signal('SIGINT');
    expect((await events.ended).stdout).to.match(/retry: 500\n\n$/);
    expect((await adopted.ended).stdout).to.contain('served: 1,');
  });

  it('tenants.js: moves one tenant away', async () => {
    const tenants = node(example('tenants.js'), '0');
    const [, url] = await tenants.says(/(http:\S+)/);
    const tagged = curl(
      `${url}/`,
      '--header',
      'x-tenant: acme',
      '--next',
      '--silent',
      '--request',
      'DELETE',
      `${url}/tenants/acme`,
    );
    expect((await tagged.ended).stdout).to.equal('hello\nthey are being moved\n');
    await tenants.says(/connections: 1/);
    tenants.signal('SIGINT');
    expect((await tenants.ended).code).to.equal(0);
  });
});
