/** Real processes that are sent real signals: what their clients get, and how they end. */
import { spawnSync } from 'node:child_process';
import { expect } from 'chai';
import { compile } from '../../bench/lib/compile.js';
import { createServer, onSignals, type ShutdownOptions } from '../../src/index.js';
import { defaultSignals } from '../../src/ops/signals.js';
import { endAll, type Running, start } from '../cli/process.js';
import { thrown } from '../server/support.js';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';

// As programs start in production, and in a quarter of the time.
const [SERVER = '', ADOPTED = '', CLUSTER = ''] = compile(
  'test/ops/signals/server.ts',
  'test/ops/signals/adopted.ts',
  'test/ops/signals/cluster.ts',
);

interface Serving {
  readonly process: Running;
  readonly port: number;
  readonly second: number;
}

function run(env: NodeJS.ProcessEnv): Running {
  return start(process.execPath, [SERVER], env);
}

async function serving(options: string, env: NodeJS.ProcessEnv = {}): Promise<Serving> {
  const child = run({ OPTIONS: options, ...env });
  const [, port, second] = await child.says(/serving (\d+) ?(\d*) \n/);
  return { process: child, port: Number(port), second: Number(second) };
}

const connect = (port: number): Promise<H1Client> => H1Client.connect({ port, tls: false });

/** A client with a request in flight. */
async function asking(child: Running, port: number, path: string): Promise<H1Client> {
  const client = await connect(port);
  client.transport.socket.once('end', () => client.end());
  client.request({ path });
  await child.says(new RegExp(`request ${path}\n`));
  return client;
}

describe('onSignals', function () {
  this.timeout(20_000);
  afterEach(endAll);

  it('SIGTERM: serves as usual for the delay, drains, exits with 0', async () => {
    const { process: child, port } = await serving('{ signals: { SIGTERM: { delay: 2_000 } } }');
    const h1 = await connect(port);
    const h2 = await H2Client.connect({ port, tls: false });
    child.signal('SIGTERM');
    await child.says(/SIGTERM drain\nstopping, ready false\n/);
    const late = await connect(port);
    expect((await h1.fetch()).connectionHas('close')).to.equal(false);
    expect((await late.fetch()).connectionHas('close')).to.equal(false);
    await h2.fetch();
    expect(h2.goaways).to.deep.equal([]);
    await h2.until(() => h2.goaways.length > 0, 'GOAWAY');
    const slow = [late, h1].map((client) => client.fetch({ path: '/slow/100' }));
    for (const response of await Promise.all(slow)) expect(response.connectionHas('close')).to.equal(true);
    for (const client of [h1, h2, late]) client.end();
    expect(await child.ended).to.include({ code: 0, stderr: '' });
  });

  it('SIGINT: drains at once, and exits with 0', async () => {
    const { process: child, port } = await serving('{}');
    const client = await asking(child, port, '/drained/300');
    const began = performance.now();
    child.signal('SIGINT');
    expect((await client.response()).connectionHas('close')).to.equal(true);
    expect((await child.ended).code).to.equal(0);
    expect(performance.now() - began, 'SIGTERM has a delay of 5,000').to.be.below(4_500);
  });

  it('a second signal cuts; exit code 1', async () => {
    const { process: child, port } = await serving('{}');
    const client = await asking(child, port, '/slow/60000');
    child.signal('SIGTERM');
    await child.says(/SIGTERM drain/);
    child.signal('SIGINT');
    expect(await client.ended()).to.equal('reset');
    const { code, stdout } = await child.ended;
    expect(stdout).to.match(/SIGINT cut\n/);
    expect(code).to.equal(1);
  });

  for (const [what, cleanup] of [
    ['', '[]'],
    [', also if a cleanup fails then', '() => { throw new Error("no database"); }'],
  ] as const) {
    it(`the timeout cuts; exit code 1${what}`, async () => {
      const { process: child, port } = await serving(
        `{ timeout: 400, signals: { SIGTERM: { delay: 100 } }, cleanup: ${cleanup} }`,
      );
      const client = await asking(child, port, '/slow/60000');
      child.signal('SIGTERM');
      expect(await client.ended()).to.equal('reset');
      const { code, stderr } = await child.ended;
      expect(stderr).to.match(what === '' ? /^$/ : /no database/);
      expect(code).to.equal(1);
    });
  }

  it('nothing is connected: a second signal changes nothing, exit code 0', async () => {
    const { process: child } = await serving('{}');
    child.signal('SIGTERM');
    await child.says(/SIGTERM drain/);
    child.signal('SIGTERM');
    expect((await child.ended).code).to.equal(0);
  });

  for (const [what, cleanup, expected] of [
    ['exit code 2', '[]', 2],
    ['exit code 3 if a cleanup fails then', '() => { throw new Error("no database"); }', 3],
  ] as const) {
    it(`a request that crosses the close: ${what}`, async () => {
      const { process: child, port } = await serving(
        `{ signals: { SIGTERM: { delay: 0, idleWait: 0 } }, cleanup: ${cleanup} }`,
      );
      const client = await connect(port);
      await client.fetch();
      child.signal('SIGTERM');
      expect(await client.ended()).to.equal('fin');
      client.request({ path: '/late' });
      client.end();
      const { code, stdout } = await child.ended;
      expect(stdout).not.to.contain('/late');
      expect(code).to.equal(expected);
    });
  }

  it('connections that nobody knows are still there when the time is over: exit code 1', async () => {
    const child = start(process.execPath, [ADOPTED]);
    const [, port] = await child.says(/serving (\d+) \n/);
    const client = await connect(Number(port));
    client.request({ headers: { Connection: 'Upgrade', Upgrade: 'websocket' } });
    await child.says(/upgraded/);
    child.signal('SIGTERM');
    expect((await child.ended).code).to.equal(1);
    client.destroy();
  });

  it('a second signal waits for no connections that nobody knows: cleans up, exit code 1', async () => {
    const child = start(process.execPath, [ADOPTED], { TIMEOUT: '20000' });
    const [, port] = await child.says(/serving (\d+) \n/);
    const client = await connect(Number(port));
    client.request({ headers: { Connection: 'Upgrade', Upgrade: 'websocket' } });
    await child.says(/upgraded/);
    child.signal('SIGTERM');
    await child.says(/SIGTERM drain/);
    const from = performance.now();
    child.signal('SIGTERM');
    const { code, stdout } = await child.ended;
    expect(stdout).to.match(/SIGTERM cut\ncleanup\n$/);
    expect(code).to.equal(1);
    expect(performance.now() - from).to.be.below(3_000);
    client.destroy();
  });

  for (const [how, onSignal] of [
    ['throws', '() => { throw new Error("no registry"); }'],
    ['rejects', 'async () => { throw new Error("no registry"); }'],
  ] as const) {
    it(`an onSignal that ${how} is told on stderr, and all is drained; exit code 0`, async () => {
      const { process: child, port } = await serving(`{ signals: { SIGTERM: { delay: 0 } }, onSignal: ${onSignal} }`);
      const client = await asking(child, port, '/drained/200');
      child.signal('SIGTERM');
      const answer = await client.response();
      expect([answer.text, answer.connectionHas('close')]).to.deep.equal(['slow', true]);
      const { code, stderr } = await child.ended;
      expect(stderr).to.match(/onSignal failed: Error: no registry/);
      expect(code).to.equal(0);
    });
  }

  describe('cleanup', () => {
    it('runs when nothing is connected any more, one after the other, with the summary', async () => {
      const { process: child, port } = await serving(`{ cleanup: [
        async ({ served, outcomes }) => { await new Promise((done) => setTimeout(done, 200)); say('first ' + served + ' ' + outcomes.drained); },
        () => say('then'),
      ] }`);
      const client = await asking(child, port, '/drained/200');
      child.signal('SIGINT');
      await client.response();
      const { code, stdout } = await child.ended;
      expect(stdout).to.match(/first 1 1\nthen\n$/);
      expect(code).to.equal(0);
    });

    it('is told when what the budget had left is over, then the process ends; exit code 3', async () => {
      const { process: child } = await serving(`{
        timeout: 1500,
        onSignal: () => { process.signalledAt = performance.now(); },
        cleanup: (summary, signal) => new Promise(() => {
          signal.addEventListener('abort', () => say('over after ' + Math.round(performance.now() - process.signalledAt)));
        }),
      }`);
      child.signal('SIGINT');
      const [, after] = await child.says(/over after (\d+)\n/);
      // Less the fraction of a ms by which timers may be early.
      expect(Number(after)).to.be.within(1_490, 6_000);
      expect((await child.ended).code).to.equal(3);
    });

    it('has a second even if the drain has used up the budget', async () => {
      const { process: child, port } =
        await serving(`{ timeout: 100, signals: { SIGTERM: { delay: 0 } }, cleanup: async () => {
        await new Promise((done) => setTimeout(done, 500)); say('clean');
      } }`);
      const client = await asking(child, port, '/slow/60000');
      child.signal('SIGTERM');
      const { code, stdout } = await child.ended;
      expect(stdout).to.match(/clean\n$/);
      expect(code).to.equal(1);
      client.destroy();
    });

    it('that fails is told on stderr, the next one runs; exit code 3', async () => {
      const { process: child } = await serving(
        "{ cleanup: [() => { throw new Error('database gone'); }, () => say('next')] }",
      );
      child.signal('SIGINT');
      const { code, stdout, stderr } = await child.ended;
      expect(stderr).to.match(/a cleanup failed: Error: database gone/);
      expect(stdout).to.match(/next\n$/);
      expect(code).to.equal(3);
    });

    it('has a second after a second signal; exit code 3 when it takes longer, as nothing was cut', async () => {
      const { process: child } = await serving(`{ cleanup: () => {
        const at = performance.now();
        process.on('exit', () => say('hung for ' + Math.round(performance.now() - at)));
        return new Promise(() => {});
      } }`);
      child.signal('SIGTERM');
      await child.says(/SIGTERM drain/);
      child.signal('SIGTERM');
      const { code, stdout } = await child.ended;
      expect(code).to.equal(3);
      expect(Number(/hung for (\d+)\n/.exec(stdout)?.[1])).to.be.within(990, 10_000);
    });

    it('is cut by a second signal', async () => {
      const { process: child } = await serving('{ cleanup: () => { say("hangs"); return new Promise(() => {}); } }');
      child.signal('SIGINT');
      await child.says(/hangs/);
      child.signal('SIGINT');
      expect((await child.ended).code).to.equal(3);
    });
  });

  describe('during start-up', () => {
    it('before the server listens: cleans up and exits with 0', async () => {
      const child = run({ LISTEN: 'never', OPTIONS: '{ cleanup: () => say("clean") }' });
      await child.says(/starting/);
      child.signal('SIGTERM');
      const { code, stdout } = await child.ended;
      expect(stdout)
        .to.match(/clean\n$/)
        .and.not.contain('after all');
      expect(code).to.equal(0);
    });

    it('before a server listens that listens all the same, while it cleans up: drains it, exits with 0', async () => {
      const options = '{ cleanup: () => new Promise((done) => setTimeout(done, 300)) }';
      const child = run({ LISTEN: 'late', LATE: '/slow/800', OPTIONS: options });
      const { code, stdout } = await child.ended;
      expect(stdout).to.contain('late, ready false\n').and.contain('answered with close\n');
      expect(code).to.equal(0);
    });

    it('before a server listens that listens all the same, while another drains: drains both, exits with 0', async () => {
      const { process: child, port } = await serving('{ signals: { SIGTERM: { delay: 0 } } }', {
        LISTEN: 'another late',
        LATE: '/slow/800',
      });
      const client = await asking(child, port, '/drained/400');
      child.signal('SIGTERM');
      const { code, stdout } = await child.ended;
      expect(stdout).to.contain('late, ready false\n').and.contain('answered with close\n');
      expect(code).to.equal(0);
      client.destroy();
    });

    it('before a server listens that listens all the same: a second signal cuts; exit code 1', async () => {
      const options = '{ cleanup: () => new Promise((done) => setTimeout(done, 300)).then(() => say("clean")) }';
      const child = run({ LISTEN: 'late', LATE: '/slow/60000', OPTIONS: options });
      // Either may be first where the process stands still.
      await child.says(/request \/slow\/60000\n/);
      await child.says(/clean\n/);
      child.signal('SIGTERM');
      const { code, stdout } = await child.ended;
      expect(stdout).to.match(/SIGTERM cut\n/);
      expect(code).to.equal(1);
    });

    it('while listen() is pending: never listens, exits with 0', async () => {
      const child = run({ LISTEN: 'pending' });
      const { code, stdout } = await child.ended;
      expect(stdout)
        .to.match(/SIGTERM drain/)
        .and.not.contain('after all');
      expect(code).to.equal(0);
    });
  });

  it('a server that listens again while it drains is not ready, and is drained again; exits with 0', async () => {
    const { process: child, port } = await serving(
      "{ signals: { SIGTERM: { delay: 0 } }, cleanup: () => say('clean') }",
      { LISTEN: 'again', LATE: '/slow/1500' },
    );
    const client = await asking(child, port, '/drained/1000');
    child.signal('SIGTERM');
    const { code, stdout } = await child.ended;
    expect(stdout)
      .to.contain('late, ready false\n')
      .and.match(/answered with close\nclean\n$/);
    expect(code).to.equal(0);
    client.destroy();
  });

  it('a server that listens again whenever it closes keeps the process no longer than its timeout', async () => {
    const { process: child } = await serving('{ timeout: 1_000, signals: { SIGTERM: { delay: 0 } } }', {
      LISTEN: 'always',
    });
    const began = performance.now();
    child.signal('SIGTERM');
    expect((await child.ended).code).to.equal(0);
    expect(performance.now() - began).to.be.below(10_000);
  });

  it('several servers: the process ends when the last one is drained', async () => {
    const { process: child, port, second } = await serving('{ signals: { SIGTERM: { delay: 0 } } }', { LISTEN: 'two' });
    const slow = await connect(second);
    slow.transport.socket.once('end', () => slow.end());
    slow.request();
    await child.says(/request of the second\n/);
    const quick = await asking(child, port, '/drained/200');
    child.signal('SIGTERM');
    expect((await slow.response()).text).to.equal('second');
    const { code, stdout } = await child.ended;
    expect(stdout).not.to.contain('warning');
    expect(code).to.equal(0);
    quick.destroy();
  });

  it('warns of another listener for the same signal, once', async () => {
    const { process: child } = await serving('{}', { BEFORE: "process.on('SIGTERM', () => say('mine'))" });
    await child.says(/warning LASTCALL_SIGNAL_LISTENER: another listener for SIGTERM exists/);
    child.signal('SIGTERM');
    await child.says(/SIGTERM drain/);
    child.signal('SIGTERM');
    const { stdout } = await child.ended;
    expect(stdout.match(/LASTCALL_SIGNAL_LISTENER/g)).to.have.length(1);
  });

  it('warns of one that was added later, when the signal comes', async () => {
    const { process: child } = await serving('{}', {
      BEFORE: "setTimeout(() => { process.on('SIGINT', () => {}); say('added'); }, 50)",
    });
    await child.says(/added/);
    child.signal('SIGINT');
    const { stdout } = await child.ended;
    expect(stdout).to.match(/LASTCALL_SIGNAL_LISTENER: another listener for SIGINT/);
  });

  it('does not warn when it is alone', async () => {
    const { process: child } = await serving('{}');
    child.signal('SIGINT');
    expect((await child.ended).stdout).not.to.contain('warning');
  });

  it('a signal set to false is left alone; another one can be added', async () => {
    const { process: child } = await serving('{ signals: { SIGTERM: false, SIGHUP: { delay: 0 } } }');
    child.signal('SIGHUP');
    const { stdout, code } = await child.ended;
    expect(stdout).to.match(/SIGHUP drain/);
    expect(code).to.equal(0);
    const left = await serving('{ signals: { SIGTERM: false } }');
    left.process.signal('SIGTERM');
    expect((await left.process.ended).code).to.equal(null);
  });

  it('the function it returns takes the listeners off', async () => {
    const child = run({ LISTEN: 'disposed' });
    await child.says(/serving 0\n/);
    child.signal('SIGTERM');
    const { code, stdout } = await child.ended;
    expect(code).to.equal(null);
    expect(stdout).not.to.contain('drain');
  });

  it('drains as PID 1', async function () {
    const unshare = ['unshare', '--pid', '--fork', '--kill-child'];
    if (spawnSync(unshare[0] ?? '', [...unshare.slice(1), 'true']).status !== 0) this.skip();
    // unshare ignores SIGTERM while it waits; its child, PID 1 there, gets the signal by its own number here.
    const child = start(unshare[0] ?? '', [...unshare.slice(1), process.execPath, SERVER], {
      OPTIONS: `(say('pid ' + process.pid), { signals: { SIGTERM: { delay: 0 } } })`,
    });
    const [, port] = await child.says(/pid 1\n(?:.*\n)*serving (\d+) /);
    const client = await asking(child, Number(port), '/drained/300');
    const { stdout } = spawnSync('pgrep', ['-P', String(child.pid)], { encoding: 'utf8' });
    process.kill(Number(stdout), 'SIGTERM');
    expect((await client.response()).text).to.equal('slow');
    expect((await child.ended).code).to.equal(0);
  });

  describe('in a node:cluster worker', () => {
    const cluster = async (env: NodeJS.ProcessEnv = {}): Promise<Serving & { readonly worker: number }> => {
      const child = start(process.execPath, [CLUSTER], env);
      const [, port, worker] = await child.says(/serving (\d+) (\d+) \n/);
      return { process: child, port: Number(port), second: 0, worker: Number(worker) };
    };

    for (const [name, env] of [
      ['', {}],
      [', and one whose server is adopted', { ADOPT: 'yes' }],
    ] as const)
      it(`the primary's worker.disconnect() drains, cleans up and ends it with 0${name}`, async () => {
        const { process: child, port } = await cluster(env);
        const client = await asking(child, port, '/drained/500');
        const idle = await connect(port);
        await idle.fetch();
        child.signal('SIGUSR2');
        await child.says(/disconnect drain/);
        const last = await idle.fetch();
        expect(last.connectionHas('close')).to.equal(true);
        idle.end();
        expect((await client.response()).text).to.equal('slow');
        const { stdout } = await child.ended;
        expect(stdout).to.match(/cleanup, 2 served, undefined\nworker ended with 0, after a disconnect\n$/);
      });

    it('worker.disconnect() drains without onSignals, too', async () => {
      const { process: child, port } = await cluster({ ON_SIGNALS: 'off' });
      const client = await asking(child, port, '/drained/500');
      child.signal('SIGUSR2');
      expect((await client.response()).connectionHas('close')).to.equal(true);
      expect((await child.ended).stdout).to.match(/worker ended with 0, after a disconnect\n$/);
    });

    it('worker.disconnect() takes no longer than the timeout', async () => {
      const { process: child, port } = await cluster({ TIMEOUT: '400' });
      const client = await asking(child, port, '/slow/60000');
      child.signal('SIGUSR2');
      expect(await client.ended()).to.equal('reset');
      expect((await child.ended).stdout).to.match(/worker ended with 1, after a disconnect\n$/);
    });

    it('worker.disconnect() ends a worker that does not listen yet, cleaned up', async () => {
      const child = start(process.execPath, [CLUSTER], { LISTEN: 'never' });
      await child.says(/starting/);
      child.signal('SIGUSR2');
      expect((await child.ended).stdout).to.match(
        /disconnect drain\ncleanup, 0 served, undefined\nworker ended with 0, after a disconnect\n$/,
      );
    });

    it('worker.disconnect() drains a worker that listens by itself', async () => {
      const { process: child, port } = await cluster({ LISTEN: 'exclusive' });
      const client = await asking(child, port, '/drained/500');
      child.signal('SIGUSR2');
      await child.says(/disconnect drain/);
      expect((await client.response()).connectionHas('close')).to.equal(true);
      expect((await child.ended).stdout).to.match(/worker ended with 0, after a disconnect\n$/);
    });

    it('so does a worker that disconnects itself; the primary knows that it was meant', async () => {
      const { process: child, port } = await cluster();
      const client = await asking(child, port, '/leave');
      await client.response();
      const { stdout } = await child.ended;
      expect(stdout)
        .to.match(/disconnect drain/)
        .and.match(/worker ended with 0, after a disconnect\n$/);
    });

    it('SIGTERM to the worker serves on for the delay, then drains it', async () => {
      const { process: child, port, worker } = await cluster({ DELAY: '2000' });
      process.kill(worker, 'SIGTERM');
      await child.says(/SIGTERM drain/);
      const client = await connect(port);
      expect((await client.fetch()).connectionHas('close')).to.equal(false);
      expect((await client.fetch({ path: '/drained/200' })).connectionHas('close')).to.equal(true);
      client.end();
      expect((await child.ended).stdout).to.match(/worker ended with 0/);
    });
  });

  it('has defaults for every platform', () => {
    expect(defaultSignals(25_000, 'linux', true)).to.deep.equal({ SIGTERM: { delay: 5_000 }, SIGINT: { idleWait: 0 } });
    expect(defaultSignals(10_000, 'linux', false)).to.deep.equal({
      SIGTERM: { delay: 2_000 },
      SIGINT: { idleWait: 1_000 },
    });
    expect(defaultSignals(undefined, 'win32', true)).to.deep.equal({
      SIGTERM: { delay: 5_000 },
      SIGINT: { idleWait: 0 },
      SIGBREAK: { idleWait: 0 },
    });
  });

  for (const [timeout, code] of [
    [3_000, 0],
    [200, 1],
  ] as const)
    it(`a signal's own timeout of ${timeout} ms leaves most of it to the drain`, async () => {
      const { process: child, port } = await serving(`{ signals: { SIGTERM: { timeout: ${timeout} } } }`);
      const client = await asking(child, port, code === 0 ? '/drained/1200' : '/slow/60000');
      child.signal('SIGTERM');
      expect((await child.ended).code).to.equal(code);
      client.destroy();
    });

  it('takes options that are undefined for ones that are not given', () => {
    const before = process.listenerCount('SIGWINCH');
    const server = createServer({ cleartext: true });
    const asked: (ShutdownOptions | undefined)[] = [];
    server.shutdown = (options) => {
      asked.push(options);
      return new Promise(() => {});
    };
    const own = { delay: undefined, timeout: undefined } as object;
    const dispose = onSignals(server, { timeout: 60_000, signals: { SIGTERM: own, SIGWINCH: undefined } as object });
    expect(process.listenerCount('SIGWINCH')).to.equal(before);
    process.emit('SIGTERM');
    dispose();
    expect(asked[0]).to.include({ timeout: 60_000, delay: 5_000 });
  });

  const bad: [options: object, name: RegExp][] = [
    [{ singals: {} }, /unknown option onSignals\.singals/],
    [{ signals: { SIGTERM: { dealy: 1 } } }, /unknown option onSignals\.signals\.SIGTERM\.dealy/],
    [{ signals: { SIGTERM: { delay: -1 } } }, /onSignals\.signals\.SIGTERM\.delay must be at least 0/],
    [{ signals: { SIGTERM: true } }, /onSignals\.signals\.SIGTERM must be an object or false/],
    [{ signals: { SIGKILL: {} } }, /onSignals\.signals\.SIGKILL must be a signal that can be caught/],
    [
      { timeout: 4_000, signals: { SIGTERM: { delay: 5_000 } } },
      /onSignals\.signals\.SIGTERM\.delay must be at most .*timeout \(4000 ms\), got 5000/,
    ],
    [{ timeout: 'long' }, /onSignals\.timeout/],
    [{ cleanup: 'database' }, /onSignals\.cleanup must be a function or an array of functions/],
    [{ onSignal: 1 }, /onSignals\.onSignal must be a function/],
  ];
  for (const [options, message] of bad) {
    it(`refuses ${JSON.stringify(options)}, and listens to nothing`, async () => {
      const listeners = process.listenerCount('SIGTERM');
      const error = await thrown(() => onSignals(createServer({ cleartext: true }), options));
      expect(error.code).to.equal('ERR_LASTCALL_OPTION');
      expect(error.message).to.match(message);
      expect(process.listenerCount('SIGTERM')).to.equal(listeners);
    });
  }

  it('refuses a signal that no system has', async () => {
    const signals = { SIGTREM: {} } as object;
    const error = await thrown(() => onSignals(createServer({ cleartext: true }), { signals }));
    expect(error.message).to.match(/onSignals\.signals\.SIGTREM/);
  });
});
