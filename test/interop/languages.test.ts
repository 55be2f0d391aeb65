/**
 * The HTTP clients of Go, Java and Python, each as a program of its own (clients/).
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { needs } from '../cli/programs.js';
import { goBuild, needsToSucceed, output } from './programs.js';
import { MANY, type Serving, serve } from './serving.js';
import { expectVisit, type Visit, visitArguments } from './visit.js';

const CLIENTS = fileURLToPath(new URL('./clients/', import.meta.url));

/** The one that Debian's packages are for, whatever else is first in the path. */
const PYTHON = '/usr/bin/python3';

/** Compilers and virtual machines take their time to start. */
const TIMEOUT_MS = 180_000;

describe('the HTTP clients of other languages', function () {
  this.timeout(TIMEOUT_MS);
  let serving: Serving;

  beforeEach(async () => {
    serving = await serve();
  });

  afterEach(async () => {
    await serving.stop();
    expect([...new Set(serving.errors)]).to.deep.equal([]);
  });

  async function visit(program: string, args: readonly string[]): Promise<Visit> {
    return JSON.parse(await output(program, args, { timeoutMs: TIMEOUT_MS })) as Visit;
  }

  describe("Go's net/http", () => {
    let folder: string | undefined;

    before(async function () {
      needs(this, 'go', ['version']);
      folder = await mkdtemp(join(tmpdir(), 'lastcall-go-'));
      await goBuild(join(CLIENTS, 'client.go'), join(folder, 'client'));
    });

    after(async () => {
      if (folder !== undefined) await rm(folder, { recursive: true, force: true });
    });

    it('is served over HTTP/2, trailers both ways included', async () => {
      expectVisit(await visit(join(folder ?? '', 'client'), visitArguments(serving, 'h2')), 'HTTP/2.0', 'from-go');
      expect(serving.requests).to.deep.equal({ '2.0': MANY + 3 });
    });

    it('is served over HTTP/1.1, trailers both ways included', async () => {
      expectVisit(await visit(join(folder ?? '', 'client'), visitArguments(serving, 'h1')), 'HTTP/1.1', 'from-go');
      expect(serving.requests).to.deep.equal({ '1.1': MANY + 3 });
    });
  });

  it("Java's HttpClient is served over HTTP/2", async function () {
    needs(this, 'java', ['-version']);
    const client = join(CLIENTS, 'Client.java');
    expectVisit(await visit('java', [client, ...visitArguments(serving, 'h2')]), 'HTTP_2', null);
    expect(serving.requests).to.deep.equal({ '2.0': MANY + 2 });
  });

  it("Python's httpx is served over HTTP/2", async function () {
    needsToSucceed(this, PYTHON, ['-c', 'import httpx, h2'], "Python's httpx with h2");
    expectVisit(await visit(PYTHON, [join(CLIENTS, 'client.py'), ...visitArguments(serving, 'h2')]), 'HTTP/2', null);
    expect(serving.requests).to.deep.equal({ '2.0': MANY + 2 });
  });
});
