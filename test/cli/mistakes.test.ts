/** Mistakes at the command line: each is one clear line on stderr, exit code 1, and no stack. */

import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { makeCertificate } from '../wire/certificate.js';
import { built, curl, endAll, lastcall, serve } from './process.js';
import { needs } from './programs.js';

describe('lastcall at the command line', function () {
  this.timeout(20_000);
  let folder: string;
  const file = (name: string): string => join(folder, name);

  before(async function () {
    this.timeout(120_000);
    await built();
    folder = mkdtempSync(join(tmpdir(), 'lastcall-cli-'));
    const [one, other] = await Promise.all([makeCertificate('one'), makeCertificate('other')]);
    writeFileSync(file('one.key'), one.key);
    writeFileSync(file('one.crt'), one.cert);
    writeFileSync(file('other.crt'), other.cert);
    writeFileSync(file('garbage.pem'), 'not a PEM file\n');
    writeFileSync(file('app.mjs'), 'export default (req, res) => res.end(req.httpVersion + req.url);\n');
    writeFileSync(file('app.cjs'), 'module.exports = (req, res) => res.end("common");\n');
    writeFileSync(
      file('compiled.cjs'),
      "'use strict';\nObject.defineProperty(exports, '__esModule', { value: true });\nexports.default = (req, res) => res.end('compiled');\n",
    );
    writeFileSync(file('throws.cjs'), '\nthrow new TypeError("no database");\n');
    writeFileSync(file('none.mjs'), 'export const app = 1;\n');
    writeFileSync(file('object.mjs'), 'export default {};\n');
    writeFileSync(file('throws.mjs'), 'throw new TypeError("no database\\nsecond line");\n');
    writeFileSync(file('syntax.mjs'), 'export default (req, res => 1;\n');
    writeFileSync(file('timer.mjs'), 'setInterval(() => {}, 1000);\n');
  });

  after(() => rmSync(folder, { recursive: true }));
  afterEach(endAll);

  const mistakes: [name: string, args: () => string[], line: RegExp][] = [
    ['an unknown command', () => ['drian'], /unknown command 'drian' \(there are serve, list and drain/],
    ['an option without a command', () => ['--port', '1'], /unknown option '--port' \(see lastcall --help\)/],
    ['an unknown flag of drain', () => ['drain', 'all', '--sprad', '1s'], /'--sprad' \(see lastcall drain --help\)/],
    ['nothing to drain', () => ['drain'], /say what to drain: the id of a connection, a filter, or all/],
    ['a time that is none', () => ['drain', 'all', '--spread', 'soon'], /--spread must be a time .*got 'soon'/],
    ['a count that is none', () => ['drain', 'all', '--concurrency', '0'], /--concurrency must be a whole number/],
    ['waves of one connection', () => ['drain', '7', '--spread', '1s'], /--spread is for several .* 7 is one/],
    ['an endpoint that is none', () => ['list', '--operator', 'here'], /--operator must be a port .*got 'here'/],
    ['an endpoint over TLS', () => ['list', '--operator', 'https://x'], /--operator must be a port/],
    [
      'an endpoint that is not there',
      () => ['list', '--operator', '1'],
      /no operator endpoint answers at http:\/\/127\.0\.0\.1:1: connection refused/,
    ],
    ['an unknown flag', () => ['serve', '--prot', '1'], /unknown option '--prot'/],
    ['a flag without its value', () => ['serve', '--port'], /'--port <value>' argument missing/],
    ['two apps', () => ['serve', 'a.js', 'b.js'], /serve takes one app, got 2/],
    ['a port that is none', () => ['serve', '--port', 'http'], /--port must be a port from 0 to 65535, got 'http'/],
    [
      'a CommonJS application that throws, with its place',
      () => ['serve', file('throws.cjs')],
      /cannot load .*throws\.cjs: TypeError: no database \(at .*throws\.cjs:2\)$/m,
    ],
    ['an option that is given twice', () => ['serve', '--port', '1', '--port', '2'], /--port is given twice \(see /],
    ['a host that is empty', () => ['serve', '--host', ''], /--host must be a name or an address, got nothing/],
    ['a port out of range', () => ['serve', '--port', '65536'], /--port must be a port/],
    ['a delay that is none', () => ['serve', '--delay', 'soon'], /--delay must be a time such as .*, got 'soon'/],
    ['a delay that leaves no time to drain', () => ['serve', '--delay', '25s'], /--delay must be from 0 to 24000 ms/],
    [
      'a delay that leaves no time of a shorter timeout',
      () => ['serve', '--timeout', '3s', '--delay', '2500'],
      /--delay must be from 0 to 2000 ms, .* at most 3000 .*, got '2500'/,
    ],
    [
      'a delay without end',
      () => ['serve', '--timeout', 'Infinity', '--delay', 'Infinity'],
      /--delay must be from 0 to/,
    ],
    ['a timeout that is too short', () => ['serve', '--timeout', '5'], /--timeout must be at least 1000 ms, got '5'/],
    [
      'an operator port that is none',
      () => ['serve', '--operator', 'on'],
      /--operator must be a port from 0 to 65535 or off/,
    ],
    ['a key without a certificate', () => ['serve', '--key', file('one.key')], /--key needs --cert/],
    ['a certificate without a key', () => ['serve', '--cert', file('one.crt')], /--cert needs --key/],
    ['a key file that is not there', () => tls('gone.key', 'one.crt'), /cannot read --key \S+gone\.key: no such file/],
    ['a certificate file that is a folder', () => tls('one.key', '.'), /cannot read --cert \S+: it is a directory/],
    ['a certificate that is none', () => tls('one.key', 'garbage.pem'), /--cert \S+garbage\.pem holds no certificate/],
    ['a key that is none', () => tls('garbage.pem', 'one.crt'), /--key \S+garbage\.pem holds no private key/],
    [
      'a key of another certificate',
      () => tls('one.key', 'other.crt'),
      /one\.key and --cert \S+other\.crt do not belong together/,
    ],
    ['an app that is not there', () => ['serve', file('gone.mjs')], /cannot load \S+gone\.mjs: no such file/],
    [
      'an app without a default export',
      () => ['serve', file('none.mjs')],
      /none\.mjs exports no listener: it has no default export/,
    ],
    [
      'an app whose default export is no listener',
      () => ['serve', file('object.mjs')],
      /its default export is an object/,
    ],
    ['an app without a listener that keeps a timer', () => ['serve', file('timer.mjs')], /it has no default export/],
    [
      'an app that throws',
      () => ['serve', file('throws.mjs')],
      /cannot load \S+: TypeError: no database \(at \S+throws\.mjs:1\)/,
    ],
    ['an app that is no JavaScript', () => ['serve', file('syntax.mjs')], /cannot load \S+: SyntaxError: /],
    [
      'an address of another machine',
      () => ['serve', '--port', '0', '--host', '192.0.2.1'],
      /cannot listen on 192\.0\.2\.1:0/,
    ],
  ];
  const tls = (key: string, cert: string): string[] => ['serve', '--key', file(key), '--cert', file(cert)];

  for (const [name, args, line] of mistakes) {
    it(`explains ${name} in one line`, async () => {
      const { code, stdout, stderr } = await lastcall(...args()).ended;
      expect(stderr)
        .to.match(/^lastcall: [^\n]+\n$/)
        .and.match(line);
      expect(stdout).to.equal('');
      expect(code).to.equal(1);
    });
  }

  for (const command of ['list', 'drain']) {
    it(`points at the character where the filter of ${command} is wrong`, async () => {
      const { code, stdout, stderr } = await lastcall(command, 'age>1h', 'tenant=acme').ended;
      const [line, excerpt, pointer, ...rest] = stderr.split('\n');
      expect(line).to.match(/^lastcall: filter: unknown field "tenant" .* at character 8$/);
      expect([excerpt, pointer, ...rest]).to.deep.equal(['age>1h tenant=acme', '       ^', '']);
      expect(stdout).to.equal('');
      expect(code).to.equal(1);
    });
  }

  describe('with a port in use', () => {
    const taken = createServer();
    before(async () => {
      taken.listen(0, '127.0.0.1');
      await once(taken, 'listening');
    });
    after(() => taken.close());

    for (const [option, other] of [
      ['--port', '--operator'],
      ['--operator', '--port'],
    ] as const) {
      it(`names the port of ${option} in one line`, async () => {
        const { port } = taken.address() as AddressInfo;
        const { code, stderr } = await lastcall('serve', option, String(port), other, '0').ended;
        expect(stderr)
          .to.match(/^lastcall: [^\n]+\n$/)
          .and.match(new RegExp(`127\\.0\\.0\\.1:${port}.*already in use`));
        expect(code).to.equal(1);
      });
    }
  });

  it('explains itself with --help, and without a command', async () => {
    for (const [args, usage] of [
      [['--help'], /^usage: lastcall serve .*\n +lastcall list .*\n +lastcall drain /],
      [[], /^usage: lastcall serve /],
      [['serve', '--help'], /^usage: lastcall serve [\s\S]*--cert FILE/],
      [['list', '--help'], /^usage: lastcall list [\s\S]*--operator WHERE[\s\S]*FILTER: /],
      [['drain', '-h'], /^usage: lastcall drain [\s\S]*--spread TIME[\s\S]*FILTER: [\s\S]*Exit code: 0/],
    ] as const) {
      const { code, stdout } = await lastcall(...args).ended;
      expect(stdout).to.match(usage);
      for (const line of stdout.split('\n')) expect(line.length).to.be.at.most(90);
      expect(code).to.equal(0);
    }
  });

  it('tells its version', async () => {
    const { stdout } = await lastcall('--version').ended;
    expect(stdout).to.match(/^\d+\.\d+\.\d+\S*\n$/);
  });

  it('serves the default export of a module, with a key and certificate from files', async function () {
    needs(this, 'curl');
    const { url, process } = await serve(file('app.mjs'), '--key', file('one.key'), '--cert', file('one.crt'));
    const checked = ['--cacert', file('one.crt'), '--no-insecure'];
    expect((await curl('--http1.1', ...checked, `${url}/a`).ended).stdout).to.equal('1.1/a');
    expect((await curl('--http2', ...checked, `${url}/b`).ended).stdout).to.equal('2.0/b');
    process.signal('SIGTERM');
    expect((await process.ended).code).to.equal(0);
  });

  it('serves a CommonJS module', async function () {
    needs(this, 'curl');
    const { url } = await serve(file('app.cjs'));
    expect((await curl(`${url}/`).ended).stdout).to.equal('common');
  });

  it('serves an ES module that was compiled to CommonJS', async function () {
    needs(this, 'curl');
    const { url } = await serve(file('compiled.cjs'));
    expect((await curl(`${url}/`).ended).stdout).to.equal('compiled');
  });

  it('puts an IPv6 address in brackets', async () => {
    const process = lastcall('serve', '--port', '0', '--operator', 'off', '--host', '::ffff:127.0.0.1');
    await process.says(/https:\/\/\[::ffff:127\.0\.0\.1\]:\d+/);
    process.signal('SIGINT');
    await process.ended;
  });

  it('serves without an operator endpoint when told so', async () => {
    const process = lastcall('serve', '--port', '0', '--operator', 'off');
    await process.says(/serving the demo/);
    process.signal('SIGINT');
    expect((await process.ended).stdout).not.to.contain('operator');
  });
});
