import { expect } from 'chai';
import { ArgumentError, helpText, parseArguments } from '../../bench/lib/arguments.js';
import { ServerChild } from '../../bench/lib/child.js';
import { cpuBetween, cpuTimeOf } from '../../bench/lib/cpu.js';
import { barsH1, lossH1 } from '../../bench/lib/loss-h1.js';
import { barsH2, lossH2 } from '../../bench/lib/loss-h2.js';
import { table } from '../../bench/lib/results.js';
import {
  bootstrapMedian,
  median,
  pairedRatio,
  percentile,
  poissonInterval,
  pooledRatio,
  verdictAtMost,
} from '../../bench/lib/stats.js';
import { timelineSvg } from '../../bench/lib/timeline.js';
import { Random } from './random.js';

describe('bench library', () => {
  const usage = {
    command: 'npm run x --',
    summary: 'Does x.',
    options: {
      short: { kind: 'flag', help: 'quick' },
      drains: { kind: 'number', fallback: 10, min: 1, max: 100, help: 'how many' },
      rtt: { kind: 'numbers', fallback: [0, 50], min: 0, max: 500, help: 'ms' },
      proto: { kind: 'choice', choices: ['h1', 'h2'], fallback: 'h1', help: 'protocol' },
    },
  } as const;

  it('reads arguments, with their defaults', () => {
    expect(parseArguments(usage, [])).to.deep.equal({ short: false, drains: 10, rtt: [0, 50], proto: 'h1' });
    const parsed = parseArguments(usage, ['--short', '--drains', '7', '--rtt', '1,2.5', '--proto', 'h2']);
    expect(parsed).to.deep.equal({ short: true, drains: 7, rtt: [1, 2.5], proto: 'h2' });
    expect(parseArguments(usage, ['--help'])).to.equal('help');
    expect(helpText(usage)).to.contain('--proto h1|h2').and.to.contain('default 10');
  });

  for (const [argv, named] of [
    [['--drains', '0'], '--drains must be a number from 1 to 100'],
    [['--drains', 'x'], '--drains'],
    [['--drains', ''], '--drains'],
    [['--rtt', '1,,2'], '--rtt'],
    [['--proto', 'h3'], '--proto must be one of h1, h2'],
    [['--wat'], '--wat'],
    [['stray'], 'stray'],
  ] as const) {
    it(`refuses ${argv.join(' ')} by name`, () => {
      expect(() => parseArguments(usage, argv)).to.throw(ArgumentError, named);
    });
  }

  it('computes percentiles and medians', () => {
    expect(median([3, 1, 2])).to.equal(2);
    expect(median([4, 1, 2, 3])).to.equal(2.5);
    expect(percentile([10, 20], 75)).to.equal(17.5);
    expect(median([])).to.be.NaN;
  });

  it('gives a 95 % interval that holds the true median about 95 times in 100', () => {
    const random = new Random(5);
    let holds = 0;
    for (let i = 0; i < 60; i += 1) {
      const sample = Array.from({ length: 40 }, () => random.exponential(1));
      const { low, high } = bootstrapMedian(sample);
      if (low <= Math.LN2 && Math.LN2 <= high) holds += 1;
    }
    expect(holds).to.be.within(51, 60);
  }).timeout(60_000);

  it('is less sure of values that share what disturbs them', () => {
    const random = new Random(9);
    const values = Array.from({ length: 8 }, () => random.between(0.9, 1.1)).flatMap((process) =>
      Array.from({ length: 10 }, () => process * random.between(0.99, 1.01)),
    );
    const alone = bootstrapMedian(values);
    const together = bootstrapMedian(values, 10);
    expect(together.median).to.equal(alone.median);
    expect(together.high - together.low).to.be.above(1.5 * (alone.high - alone.low));
  });

  it('takes a percentile of all phases together, and is surer of it the more there are', () => {
    const random = new Random(7);
    const phases = (count: number, slower: number): [number[], number[]][] =>
      Array.from({ length: count }, () => [
        Array.from({ length: 200 }, () => random.exponential(slower)),
        Array.from({ length: 200 }, () => random.exponential(1)),
      ]);
    const few = pooledRatio(phases(4, 2), 99);
    const many = pooledRatio(phases(32, 2), 99);
    expect(many.median).to.be.within(1.7, 2.3);
    expect(many.low).to.be.within(1.4, 2);
    expect(many.high).to.be.within(2, 2.7);
    expect(many.high - many.low).to.be.below((few.high - few.low) / 1.5);
    // One phase in ten that stood still is in the percentile of all, and in the interval.
    const [stalled] = phases(1, 50);
    const withOne = pooledRatio([...phases(9, 1), stalled as [number[], number[]]], 99);
    expect(withOne.median).to.be.above(10);
    expect(withOne.low).to.be.below(2);
  }).timeout(60_000);

  it('never passes a ratio whose limit lies inside the noise', () => {
    const random = new Random(3);
    const pairs = (ratio: number, noise: number): [number, number][] =>
      Array.from({ length: 60 }, () => [ratio * (1 + random.between(-noise, noise)), 1]);
    const quiet = pairedRatio(pairs(1, 0.005));
    expect(verdictAtMost(pairedRatio(pairs(1.0, 0.005)), 1.03, quiet)).to.equal('passed');
    expect(verdictAtMost(pairedRatio(pairs(1.1, 0.005)), 1.03, quiet)).to.equal('failed');
    const noisy = pairedRatio(pairs(1, 0.4));
    expect(verdictAtMost(pairedRatio(pairs(1.0, 0.005)), 1.0, noisy)).to.equal('unresolved');
    expect(verdictAtMost(pairedRatio(pairs(1.0, 0.4)), 1.03, quiet)).to.equal('unresolved');
    // a limit inside the noise can still be met, or missed, by what stands clear of the noise
    expect(verdictAtMost(pairedRatio(pairs(0.5, 0.005)), 1.0, noisy)).to.equal('passed');
    expect(verdictAtMost(pairedRatio(pairs(1.9, 0.005)), 1.0, noisy)).to.equal('failed');
  });

  it('knows how far a Poisson count may stray', () => {
    expect(poissonInterval(0.001)).to.deep.equal({ low: 0, high: 1 });
    const { low, high } = poissonInterval(10);
    expect(low).to.be.within(1, 3);
    expect(high).to.be.within(20, 24);
  });

  it('aligns tables', () => {
    const lines = table([
      { server: 'a', sent: 1_234 },
      { server: 'longer', sent: 5 },
    ]).split('\n');
    expect(lines).to.deep.equal(['server   sent', '──────  ─────', 'a       1,234', 'longer      5']);
  });

  it('reads the CPU time of a process', function () {
    if (process.platform !== 'linux') this.skip();
    const before = cpuTimeOf(process.pid);
    const from = process.cpuUsage();
    let spent = 0;
    // By the process's own account: time alone says nothing on a busy machine.
    while (spent < 120_000) spent = Object.values(process.cpuUsage(from)).reduce((sum, part) => sum + part);
    expect(cpuBetween(before, cpuTimeOf(process.pid))).to.be.within(90_000, 2_000_000);
    expect(() => cpuTimeOf(2 ** 30)).to.throw();
  });

  it('draws a timeline that is well-formed and names what happened', () => {
    const svg = timelineSvg('A <drain>', [
      {
        title: 'one',
        marks: [{ at: 5, label: 'the drain begins' }],
        arrows: [
          { from: 'client', start: 0, end: 25, kind: 'request' },
          { from: 'server', start: 30, end: 55, kind: 'announcement', label: 'GOAWAY(7)' },
          { from: 'client', start: 10, end: 35, kind: 'lost', label: 'lost' },
        ],
      },
    ]);
    expect(svg).to.contain('GOAWAY(7)').and.to.contain('the drain begins').and.to.contain('A &#60;drain&#62;');
    expect(svg.match(/<g /g)?.length).to.equal(svg.match(/<\/g>/g)?.length);
    expect(svg).to.not.contain('NaN');
  });

  it('says why a server did not start', async () => {
    const starting = ServerChild.start({ kind: 'lastcall', keepAlive: { advertise: 10, hold: 5 } });
    const failed = await starting.then(
      (server) => server.stop(),
      (error: Error) => error,
    );
    expect(failed).to.be.an('error');
    expect(String(failed)).to.contain('did not start').and.to.contain('keepAlive.hold');
  }).timeout(30_000);

  describe('fails for a server that drops one request in 50', () => {
    const plan = {
      rtts: [0],
      streams: [4],
      drains: 24,
      peerDrains: 0,
      servers: ['lastcall'],
      seed: 1,
      judgesTimes: false,
      dropEvery: 50,
    } as const;

    it('over HTTP/1.1', async () => {
      const cells = await lossH1(plan, () => {});
      expect(cells[0]?.tally.lost).to.be.above(0);
      expect(barsH1(cells, plan).some(({ verdict }) => verdict === 'failed')).to.equal(true);
    }).timeout(60_000);

    it('over HTTP/2', async () => {
      const cells = await lossH2(plan, () => {});
      expect(cells[0]?.tally.lost).to.be.above(0);
      expect(barsH2(cells, plan).some(({ verdict }) => verdict === 'failed')).to.equal(true);
    }).timeout(60_000);
  });
});
