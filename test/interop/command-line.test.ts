/**
 * curl, nghttp and h2load.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { needs } from '../cli/programs.js';
import { output } from './programs.js';
import { AT_A_TIME, MANY, type Serving, serve, UPLOAD_BYTES } from './serving.js';

describe('HTTP clients of the command line', function () {
  this.timeout(30_000);
  let serving: Serving;
  let folder: string;
  const upload = randomBytes(UPLOAD_BYTES);

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lastcall-interop-'));
    await writeFile(join(folder, 'upload'), upload);
  });

  after(() => rm(folder, { recursive: true, force: true }));

  beforeEach(async () => {
    serving = await serve();
  });

  afterEach(async () => {
    await serving.stop();
    expect(serving.errors).to.deep.equal([]);
  });

  for (const { protocol, flag, version } of [
    { protocol: 'HTTP/2', flag: '--http2', version: '2' },
    { protocol: 'HTTP/1.1', flag: '--http1.1', version: '1.1' },
  ]) {
    describe(`curl over ${protocol}`, () => {
      const curl = (...args: string[]): Promise<string> =>
        output('curl', ['--insecure', '--silent', '--show-error', '--fail', flag, ...args], { cwd: folder });

      before(function () {
        needs(this, 'curl');
      });

      it('gets', async () => {
        const answer = await curl('--write-out', ' %{http_version} %{http_code}', `${serving.origin}/hello/1`);
        expect(answer).to.equal(`hello 1 ${version} 200`);
      });

      it('posts 1 MiB and gets it back', async () => {
        await curl('--data-binary', '@upload', '--output', 'echo', `${serving.origin}/echo`);
        expect(upload.equals(await readFile(join(folder, 'echo')))).to.equal(true);
      });

      it('sees the trailers of a response', async () => {
        const answer = await curl('--dump-header', '-', '--data', 'abc', `${serving.origin}/trailers`);
        // The trailers follow the body as they came.
        expect(answer.toLowerCase()).to.match(/^3x-sum: none\r$/m);
      });

      it(`gets ${MANY} times, ${AT_A_TIME} at a time`, async () => {
        const parallel = ['--parallel', '--parallel-immediate', '--parallel-max', `${AT_A_TIME}`];
        const many = `${serving.origin}/hello/[1-${MANY}]`;
        const answer = await curl(...parallel, '--write-out', '\n%{http_version} %{http_code}\n', many);
        expect(answer.match(/hello \d/g)).to.have.lengthOf(MANY);
        expect(answer.match(/^.* 200$/gm)?.filter((line) => line === `${version} 200`)).to.have.lengthOf(MANY);
      });
    });
  }

  describe('nghttp', () => {
    before(function () {
      needs(this, 'nghttp');
    });

    it('posts 1 MiB and gets it back', async () => {
      await output('sh', ['-c', `nghttp --data=upload ${serving.origin}/echo > echo`], { cwd: folder });
      expect(upload.equals(await readFile(join(folder, 'echo')))).to.equal(true);
    });

    it('sends trailers and sees those of the response', async () => {
      const args = ['--verbose', '--data=upload', '--trailer=x-sum: from-nghttp', `${serving.origin}/trailers`];
      const said = await output('nghttp', args, { cwd: folder });
      expect(said).to.match(/recv \(stream_id=\d+\) x-sum: from-nghttp/);
      expect(said).to.contain(`${UPLOAD_BYTES}`);
    });

    it(`gets ${MANY} times on one connection`, async () => {
      const said = await output('nghttp', ['--null-out', '--stat', `--multiply=${MANY}`, `${serving.origin}/hello/1`]);
      expect(said.match(/ 200 +\d+\S* \/hello\/1$/gm)).to.have.lengthOf(MANY);
      expect(serving.requests).to.deep.equal({ '2.0': MANY });
    });
  });

  describe('h2load', () => {
    before(function () {
      needs(this, 'h2load');
    });

    it('loads many connections with many streams', async () => {
      const said = await output('h2load', ['-n', `${MANY * 10}`, '-c', '20', '-m', '50', `${serving.origin}/hello/1`]);
      expect(said).to.contain(`${MANY * 10} done, ${MANY * 10} succeeded, 0 failed, 0 errored, 0 timeout`);
    });

    it('gets large bodies through small windows', async () => {
      const small = ['-n', '100', '-c', '4', '-m', '10', '-w', '16', '-W', '16'];
      const said = await output('h2load', [...small, `${serving.origin}/large/200000`]);
      expect(said).to.contain('100 done, 100 succeeded, 0 failed, 0 errored, 0 timeout');
    });

    it('uploads many bodies at a time', async () => {
      const said = await output(
        'h2load',
        ['-n', '40', '-c', '2', '-m', '10', '-d', 'upload', `${serving.origin}/echo`],
        {
          cwd: folder,
        },
      );
      expect(said).to.contain('40 done, 40 succeeded, 0 failed, 0 errored, 0 timeout');
    });
  });
});
