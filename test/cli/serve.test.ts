/** `lastcall serve` as somebody meets it who types the commands that it prints. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import {
  ask,
  built,
  connections,
  curl,
  endAll,
  type Listed,
  lastcall,
  listing,
  type Serving,
  serve,
  serveIn,
} from './process.js';
import { needs } from './programs.js';

describe('lastcall serve', function () {
  // Requests that have to be in flight are so for seconds: their clients are programs that take their time to start.
  this.timeout(20_000);
  let serving: Serving;

  before(async function () {
    this.timeout(120_000);
    needs(this, 'curl');
    await built();
  });

  beforeEach(async () => {
    serving = await serve();
  });

  afterEach(endAll);

  const fetched = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await curl(...args).ended;
    expect(code, stderr).to.equal(0);
    return stdout;
  };
  const busy = (list: readonly Listed[], count: number): boolean =>
    list.filter(({ active }) => active > 0).length === count;

  describe('the demo', () => {
    for (const [flag, protocol] of [
      ['--http1.1', 'http/1.1'],
      ['--http2', 'h2'],
    ] as const) {
      it(`answers curl ${flag} with its protocol and connection id`, async () => {
        const body = await fetched(flag, `${serving.url}/`);
        expect(body).to.match(new RegExp(`^${protocol}, connection \\d+\\n$`));
      });

      it(`counts the bytes of an upload over ${protocol}`, async () => {
        const body = await fetched(flag, '--data-binary', `@${process.execPath}`, `${serving.url}/upload`);
        const size = (await import('node:fs')).statSync(process.execPath).size;
        expect(body).to.equal(`received ${size} bytes\n`);
      });

      it(`ends an event stream over ${protocol} with a retry time when it is drained`, async () => {
        const stream = curl(flag, `${serving.url}/events`);
        await stream.says(/data: event 1/);
        const [conn] = await connections(serving.operator);
        const { body } = await ask(`${serving.operator}/connections/${conn?.id}/drain`, 'POST');
        expect(body).to.match(new RegExp(`^connection ${conn?.id} \\(${protocol}\\): drained in`));
        const { code, stdout } = await stream.ended;
        expect(code).to.equal(0);
        expect(stdout).to.match(/\nretry: \d+\nevent: drain\n.*\n\n$/);
      });
    }

    it('shows browsers a page, and programs JSON', async () => {
      const page = await fetched('--header', 'accept: text/html,*/*;q=0.8', `${serving.url}/`);
      expect(page)
        .to.match(/^<!doctype html>/)
        .and.contain(serving.operator);
      const json = JSON.parse(await fetched('--http2', '--header', 'accept: application/json', `${serving.url}/`));
      expect(json).to.include({ protocol: 'h2' });
    });

    it('answers what it does not know with 404, and a wrong method with 405', async () => {
      const status = ['--output', '/dev/null', '--write-out', '%{http_code}'];
      expect(await fetched(...status, `${serving.url}/constructor`)).to.equal('404');
      expect(await fetched(...status, '--path-as-is', `${serving.url}//`)).to.equal('404');
      expect(await fetched(...status, '--request', 'DELETE', `${serving.url}/upload`)).to.equal('405');
      expect(await fetched(...status, '--http2', '--request', 'constructor', `${serving.url}/`)).to.equal('405');
      expect(await fetched(...status, `${serving.url}/slow?ms=soon`)).to.equal('400');
    });
  });

  it('drains one connection by id while requests on the others run on', async () => {
    const slow = `${serving.url}/slow?ms=3000`;
    const clients = [curl('--http1.1', slow), curl('--http2', slow), curl('--http2', slow)];
    const list = await listing(serving.operator, (all) => busy(all, 3));
    expect(list.map(({ protocol }) => protocol).sort()).to.deep.equal(['h2', 'h2', 'http/1.1']);

    const drained = list.find(({ protocol }) => protocol === 'h2')?.id;
    const report = ask(`${serving.operator}/connections/${drained}/drain?json`, 'POST');
    const during = await listing(serving.operator, (all) => all.some(({ state }) => state === 'draining'));
    expect(during.filter(({ state }) => state === 'open').map(({ id }) => id)).to.have.members(
      list.map(({ id }) => id).filter((id) => id !== drained),
    );
    expect(JSON.parse((await report).body)).to.include({ id: drained, outcome: 'drained', served: 1, aborted: 0 });

    for (const { code, stdout } of await Promise.all(clients.map(({ ended }) => ended))) {
      expect(code).to.equal(0);
      expect(stdout).to.match(/^answered after 3000 ms/);
    }
    await fetched(`${serving.url}/`);
  });

  it('drains all and goes on serving', async () => {
    const clients = [curl('--http1.1', `${serving.url}/slow?ms=2500`), curl('--http2', `${serving.url}/slow?ms=2500`)];
    await listing(serving.operator, (all) => busy(all, 2));
    const { body } = await ask(`${serving.operator}/drain?filter=all`, 'POST');
    expect(body).to.match(/^2 of 2 connections drained, in .*; requests: 2 served\n$/);
    for (const { code } of await Promise.all(clients.map(({ ended }) => ended))) expect(code).to.equal(0);
    await fetched(`${serving.url}/`);
    expect((await ask(`${serving.operator}/reports`)).body).to.contain('2 of 2 connections drained');
  });

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`answers what is in flight after ${signal}, then exits with 0`, async () => {
      const prompt = await serve('--delay', '0');
      const clients = [curl('--http1.1', `${prompt.url}/slow?ms=2500`), curl('--http2', `${prompt.url}/slow?ms=2500`)];
      await listing(prompt.operator, (all) => busy(all, 2));
      prompt.process.signal(signal);
      for (const { code, stdout } of await Promise.all(clients.map(({ ended }) => ended))) {
        expect(code).to.equal(0);
        expect(stdout).to.match(/^answered after 2500 ms/);
      }
      const { code, stdout, stderr } = await prompt.process.ended;
      expect(stdout).to.match(/draining 2 connections;.*\n2 of 2 connections drained, in .*; requests: 2 served\n$/);
      expect(stderr).to.equal('');
      expect(code).to.equal(0);
    });
  }

  it('serves on for --delay after SIGTERM, not ready, then drains', async () => {
    const patient = await serve('--delay', '3000');
    expect(await ask(`${patient.operator}/ready`)).to.include({ status: 200, body: 'ready\n' });
    const began = performance.now();
    patient.process.signal('SIGTERM');
    await patient.process.says(/draining 0 connections in 3\.0 s; once more cuts them\n/);
    expect(await ask(`${patient.operator}/ready`)).to.include({ status: 503, body: 'not ready\n' });
    expect(await fetched('--http1.1', `${patient.url}/`)).to.match(/^http\/1\.1, connection/);
    expect((await patient.process.ended).code).to.equal(0);
    expect(performance.now() - began).to.be.at.least(3_000);
  });

  it('cuts what is left when --timeout is over, of which a fifth is the delay, and exits with 1', async () => {
    const hurried = await serve('--timeout', '2s');
    const client = curl('--http1.1', `${hurried.url}/slow?ms=60000`);
    await listing(hurried.operator, (all) => busy(all, 1));
    const began = performance.now();
    hurried.process.signal('SIGTERM');
    await hurried.process.says(/draining 1 connection in 400 ms; once more cuts them\n/);
    const { code, stdout } = await hurried.process.ended;
    expect(performance.now() - began).to.be.within(1_990, 10_000);
    expect(stdout).to.match(/0 of 1 connection drained, 1 forced/);
    expect(code).to.equal(1);
    await client.ended;
  });

  it('takes the echo of a Ctrl-C, as npm sends it, for the same one', async () => {
    const underNpm = await serveIn({ npm_lifecycle_event: 'start' });
    const client = curl('--http2', `${underNpm.url}/slow?ms=2000`);
    await listing(underNpm.operator, (all) => busy(all, 1));
    underNpm.process.signal('SIGINT');
    // At once, before anybody stands still; of two SIGINTs that wait for a process it gets one.
    underNpm.process.signal('SIGTERM');
    expect((await client.ended).stdout).to.match(/^answered/);
    expect((await underNpm.process.ended).code).to.equal(0);
  });

  it('cuts what is left at a second Ctrl-C, says what it cut, and exits with 1', async () => {
    const clients = [
      curl('--http1.1', `${serving.url}/slow?ms=60000`),
      curl('--http2', `${serving.url}/slow?ms=60000`),
    ];
    await listing(serving.operator, (all) => busy(all, 2));
    serving.process.signal('SIGINT');
    await serving.process.says(/draining 2 connections/);
    serving.process.signal('SIGINT');
    const { code, stdout } = await serving.process.ended;
    expect(stdout)
      .to.match(/0 of 2 connections drained, 2 forced/)
      .and.match(/cut: GET \/slow\?ms=60000/);
    expect(code).to.equal(1);
    for (const ended of await Promise.all(clients.map((client) => client.ended))) {
      expect(ended.code).not.to.equal(0);
      expect(ended.stdout).to.equal('');
    }
  });

  it('ends in order when the signal comes while the app still loads', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lastcall-'));
    const app = join(folder, 'slow.mjs');
    writeFileSync(
      app,
      "console.log('loading'); await new Promise((done) => setTimeout(done, 60_000)); export default () => {};\n",
    );
    const starting = lastcall('serve', app, '--port', '0', '--operator', 'off');
    await starting.says(/loading/);
    starting.signal('SIGTERM');
    const { code, stdout } = await starting.ended;
    rmSync(folder, { recursive: true });
    expect(stdout).to.match(/draining 0 connections; .*\nno connections to drain\n$/);
    expect(code).to.equal(0);
  });

  it('exits with 0 when nothing is connected', async () => {
    serving.process.signal('SIGINT');
    const { code, stdout } = await serving.process.ended;
    expect(stdout).to.match(/no connections to drain\n$/);
    expect(code).to.equal(0);
  });
});
