/**
 * What somebody sees who uses lastcall in a strict TypeScript project with the newest types of Node: they name members of
 * http.Server that the oldest supported ones don't.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { built } from '../cli/process.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

const AS_HTTP_SERVER = `
import type { RequestListener, Server as HttpServer } from 'node:http';
import { createServer } from 'lastcall';

const listener: RequestListener = (req, res) => res.end(req.url);
export const server: HttpServer = createServer({ cleartext: true }, listener);
`;

describe('the types', function () {
  this.timeout(60_000);
  let folder: string;

  before(async () => {
    await built();
    folder = mkdtempSync(join(tmpdir(), 'lastcall-types-'));
    mkdirSync(join(folder, 'node_modules/@types'), { recursive: true });
    symlinkSync(ROOT, join(folder, 'node_modules/lastcall'), 'junction');
    cpSync(join(ROOT, 'node_modules/@types/node-26'), join(folder, 'node_modules/@types/node'), { recursive: true });
  });

  after(() => rmSync(folder, { recursive: true, force: true }));

  const [, example = ''] = /```js\n(.*?)```/s.exec(readFileSync(join(ROOT, 'README.md'), 'utf8')) ?? [];
  for (const [what, code] of [
    ['a server is an http.Server', AS_HTTP_SERVER],
    ["README's first example", example],
  ] as const) {
    it(`${what}: compiles`, () => {
      expect(code).to.contain('createServer(');
      const source = join(folder, 'program.ts');
      writeFileSync(source, code);
      const options = ['--strict', '--exactOptionalPropertyTypes', '--noEmit', '--module', 'nodenext'];
      const args = [join(ROOT, 'node_modules/typescript/bin/tsc'), ...options, '--types', 'node', source];
      expect(spawnSync(process.execPath, args, { cwd: folder, encoding: 'utf8' }).stdout).to.equal('');
    });
  }
});
