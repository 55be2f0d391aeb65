import { expect } from 'chai';
import type { ConnectionState } from '../../src/core/connection.js';
import { type DrainReport, noRequests } from '../../src/core/report.js';
import { now } from '../../src/core/timing.js';
import {
  type DrainProgress,
  drainInWaves,
  type WaveOptions,
  type WaveResult,
  waveSettings,
} from '../../src/core/waves.js';
import { FakeClock } from './fake-clock.js';

const REPORT: DrainReport = {
  id: 1,
  protocol: 'h2',
  outcome: 'drained',
  ...noRequests(),
  cut: [],
  rtt: 50,
  phases: { announce: 0, settle: 50, finish: 0, linger: 0 },
  duration: 50,
};

interface Member {
  readonly index: number;
  state: ConnectionState;
}

const membersOf = (count: number): Member[] =>
  Array.from({ length: count }, (_, index) => ({ index, state: 'open' as const }));

/** Drains that take a time each, and when each began. */
class Drains {
  readonly begun: { index: number; at: number; turn: number }[] = [];
  running = 0;
  atMost = 0;
  result: WaveResult | undefined;
  error: unknown;

  constructor(clock: FakeClock, members: readonly Member[], options: WaveOptions, takes: (index: number) => number) {
    const begin = async (member: Member): Promise<DrainReport> => {
      this.begun.push({ index: member.index, at: now() - startedAt, turn: clock.turns });
      this.atMost = Math.max(this.atMost, ++this.running);
      await new Promise<void>((resolve) => setTimeout(resolve, takes(member.index)));
      this.running--;
      member.state = 'closed';
      return { ...REPORT, id: member.index };
    };
    const startedAt = now();
    const closes = (closed: (member: Member) => void): (() => void) => {
      this.watchers.add(closed);
      return () => void this.watchers.delete(closed);
    };
    drainInWaves(members, begin, waveSettings(options), () => this.newcomers.splice(0), closes).then(
      (result) => {
        this.result = result;
      },
      (error: unknown) => {
        this.error = error;
      },
    );
  }

  readonly newcomers: Member[] = [];
  readonly watchers = new Set<(member: Member) => void>();

  /** They close by themselves. */
  close(members: readonly Member[]): void {
    for (const member of members) {
      member.state = 'closed';
      for (const closed of this.watchers) closed(member);
    }
  }

  get times(): number[] {
    return this.begun.map(({ at }) => at);
  }

  /** How many began in each of the spans of `ms` that follow each other from `from` on. */
  per(ms: number, from = 0): number[] {
    const counts: number[] = [];
    for (const at of this.times) {
      const span = Math.floor((at - from) / ms);
      if (span >= 0) counts[span] = (counts[span] ?? 0) + 1;
    }
    return Array.from(counts, (count = 0) => count);
  }
}

describe('draining in waves', () => {
  let clock: FakeClock;
  beforeEach(() => {
    clock = new FakeClock();
  });
  afterEach(() => clock.restore());

  const start = (count: number, options: WaveOptions, takes: (index: number) => number = () => 50): Drains =>
    new Drains(clock, membersOf(count), options, takes);

  it('begins them evenly over the spread, in their order, and resolves when the last is over', async () => {
    const drains = start(100, { spread: 10_000 }, () => 200);
    await clock.advance(10_000);
    expect(drains.per(1_000)).to.deep.equal(Array(10).fill(10));
    expect(drains.begun.map(({ index }) => index)).to.deep.equal(membersOf(100).map(({ index }) => index));
    expect(drains.result).to.equal(undefined);
    await clock.advance(200);
    expect(drains.result?.reports).to.have.length(100);
    expect(drains.result).to.include({ left: 0, gone: 0 });
    expect(drains.result?.duration).to.be.within(10_100, 10_200);
    expect(clock.pending).to.equal(0);
  });

  it('begins each at a random moment of its share, two never together', async () => {
    const drains = start(100, { spread: 10_000 });
    await clock.advance(10_000);
    const gaps = drains.times.slice(1).map((at, index) => at - (drains.times[index] ?? 0));
    expect(Math.min(...gaps)).to.be.at.least(48);
    expect(Math.max(...gaps)).to.be.at.most(152);
    expect(new Set(gaps.map((gap) => Math.round(gap / 5))).size).to.be.above(8);
  });

  it('spreads 20,000 over 5 s without ever beginning more than a few together', async function () {
    this.timeout(30_000);
    const drains = start(20_000, { spread: 5_000 });
    await clock.advance(5_100);
    expect(drains.result?.reports).to.have.length(20_000);
    expect(drains.times.at(-1)).to.be.below(5_010);
    expect(Math.max(...drains.per(10))).to.be.below(60);
    expect(Math.min(...drains.per(100).slice(0, 50))).to.be.above(380);
  });

  it('after a stall catches up at twice the pace, not in one herd', async () => {
    const drains = start(1_000, { spread: 10_000 });
    await clock.advance(2_000);
    clock.stall(3_000);
    await clock.advance(10_000);
    const after = drains.per(100, 5_000);
    // 10 in 100 ms is the pace; 4 is what a late timer may bring at once.
    expect(Math.max(...after)).to.be.at.most(20 + 4);
    expect(after.slice(0, 25)).to.satisfy((counts: number[]) => counts.every((count) => count >= 19));
    expect(drains.times.at(-1)).to.be.within(9_900, 10_010);
    expect(drains.result?.reports).to.have.length(1_000);
  });

  it('after a stall longer than the spread still keeps the pace, however few they are', async () => {
    const drains = start(10, { spread: 10_000 });
    await clock.turn();
    clock.stall(20_000);
    await clock.advance(10_000);
    const gaps = drains.times.slice(1).map((at, index) => at - (drains.times[index] ?? 0));
    expect(drains.result?.reports).to.have.length(10);
    expect(Math.min(...gaps)).to.be.at.least(480);
  });

  it('without a spread begins all at once, a few per turn of the event loop', async () => {
    const drains = start(1_000, {});
    await clock.turn();
    expect(drains.begun).to.have.length(1_000);
    const perTurn = new Map<number, number>();
    for (const { turn } of drains.begun) perTurn.set(turn, (perTurn.get(turn) ?? 0) + 1);
    expect(Math.max(...perTurn.values())).to.be.at.most(64);
    expect(Math.max(...drains.times)).to.equal(0);
  });

  it('never drains more at once than the concurrency, and begins the next when one is over', async () => {
    const drains = start(100, { concurrency: 7 }, (index) => 10 + (index % 13) * 10);
    await clock.advance(5_000);
    expect(drains.result?.reports).to.have.length(100);
    expect(drains.atMost).to.equal(7);
    // 100 drains of 70 ms on average, seven at a time.
    expect(drains.result?.duration).to.be.below(1_200);
  });

  it('keeps to the concurrency within a spread; the backlog behind slow drains comes without a herd', async () => {
    const drains = start(100, { spread: 1_000, concurrency: 20 }, (index) => (index < 20 ? 5_000 : 10));
    await clock.advance(4_900);
    expect(drains.begun).to.have.length(20);
    await clock.advance(5_000);
    expect(drains.result?.reports).to.have.length(100);
    expect(drains.atMost).to.equal(20);
    expect(Math.max(...drains.per(50, 5_000))).to.be.at.most(10 + 4);
  });

  it('stops on the signal: what is under way goes on, the rest is left alone', async () => {
    const stop = new AbortController();
    const drains = start(100, { spread: 10_000, signal: stop.signal }, () => 500);
    await clock.advance(5_000);
    const begun = drains.begun.length;
    expect(drains.running).to.be.above(0);
    stop.abort();
    await clock.advance(499);
    expect(drains.begun).to.have.length(begun);
    await clock.advance(10);
    expect(drains.result?.reports).to.have.length(begun);
    expect(drains.result).to.include({ left: 100 - begun });
    expect(clock.pending).to.equal(0);
  });

  it('begins nothing when the signal was aborted before', async () => {
    const drains = start(3, { signal: AbortSignal.abort() });
    await clock.turn();
    expect(drains.begun).to.deep.equal([]);
    expect(drains.result).to.include({ left: 3, duration: 0 });
  });

  it('begins nothing more when the signal comes from a drain that begins', async () => {
    const stop = new AbortController();
    const result = drainInWaves(
      membersOf(10),
      async () => {
        stop.abort();
        return REPORT;
      },
      waveSettings({ signal: stop.signal }),
    );
    await clock.turn();
    expect(await result).to.include({ left: 9 });
  });

  it('passes over connections that closed before their turn', async () => {
    const members = membersOf(10);
    const drains = new Drains(clock, members, { spread: 1_000 }, () => 10);
    await clock.advance(450);
    for (const member of members.slice(7)) member.state = 'closed';
    await clock.advance(1_000);
    expect(drains.begun.map(({ index }) => index)).to.deep.equal([0, 1, 2, 3, 4, 5, 6]);
    expect(drains.result).to.include({ gone: 3, left: 0 });
  });

  it('is over as soon as the last of those that wait has closed by itself', async () => {
    const members = membersOf(100);
    const drains = new Drains(clock, members, { spread: 3_600_000 }, () => 50);
    await clock.advance(60_000);
    const begun = drains.begun.length;
    drains.close(members.slice(begun, 99));
    await clock.turn();
    expect(drains.result).to.equal(undefined);
    drains.close(members.slice(99));
    await clock.turn();
    expect(drains.result).to.deep.include({ gone: 100 - begun, left: 0, duration: 60_000 });
    expect(drains.result?.reports).to.have.length(begun);
    expect([clock.pending, drains.watchers.size]).to.deep.equal([0, 0]);
  });

  it('waits for the drains under way when all that wait have closed by themselves', async () => {
    const members = membersOf(3);
    const drains = new Drains(clock, members, { spread: 3_600_000, concurrency: 1 }, () => 5_000_000);
    await clock.advance(4_000_000);
    drains.close(members.slice(1));
    await clock.turn();
    expect(drains.result).to.equal(undefined);
    await clock.advance(5_000_000);
    expect(drains.result).to.include({ gone: 2, left: 0 });
  });

  it('begins the others when it would have without those that closed by themselves', async () => {
    const members = membersOf(100);
    const drains = new Drains(clock, members, { spread: 10_000 }, () => 50);
    await clock.advance(60);
    drains.close(members.filter(({ index }) => index % 10 > 0));
    await clock.advance(10_000);
    expect(drains.begun.map(({ index }) => index)).to.deep.equal([0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
    for (const { index, at } of drains.begun) expect(at - index * 100).to.be.within(0, 52);
    expect(drains.result).to.include({ gone: 90, left: 0 });
  });

  it('tells at once of those that close by themselves', async () => {
    const told: DrainProgress[] = [];
    const members = membersOf(10);
    const onProgress = (progress: DrainProgress): number => told.push(progress);
    const drains = new Drains(clock, members, { spread: 10_000, concurrency: 1, onProgress }, () => 60_000);
    await clock.advance(1_000);
    drains.close(members.slice(4, 7));
    await clock.turn();
    expect(told.at(-1)).to.deep.include({ total: 10, draining: 1, waiting: 6, gone: 3 });
  });

  for (const tells of [true, false]) {
    it(`has left alone only what is live at the end, told of ${tells ? 'the others' : 'nobody'}`, async () => {
      const stop = new AbortController();
      const members = membersOf(10);
      const drains = new Drains(clock, members, { spread: 10_000, signal: stop.signal }, () => 5_000);
      await clock.advance(3_900);
      stop.abort();
      if (!tells) drains.watchers.clear();
      drains.close(members.slice(7));
      await clock.advance(5_000);
      expect(drains.begun).to.have.length(4);
      expect(drains.result).to.include({ gone: 3, left: 3 });
    });
  }

  it('looks at none of the others when one of 20,000 closes', async () => {
    let looks = 0;
    const look = (): ConnectionState => {
      looks++;
      return 'open';
    };
    const members = membersOf(20_000);
    for (const member of members) Object.defineProperty(member, 'state', { get: look, set: () => {} });
    const drains = new Drains(clock, members, { spread: 3_600_000 }, () => 50);
    await clock.turn();
    drains.close(members);
    await clock.turn();
    expect(drains.result).to.not.equal(undefined);
    expect(looks).to.be.at.most(1);
  });

  it('of no connection at all resolves at once', async () => {
    const drains = start(0, { spread: 10_000, concurrency: 3 });
    await clock.turn();
    expect(drains.result).to.deep.equal({ reports: [], left: 0, gone: 0, duration: 0 });
  });

  it('rejects when a drain does, and begins no more', async () => {
    const problem = new Error('no');
    const begun: number[] = [];
    let error: unknown;
    drainInWaves(
      membersOf(10),
      ({ index }) => {
        begun.push(index);
        return index === 1 ? Promise.reject(problem) : Promise.resolve(REPORT);
      },
      waveSettings({ spread: 1_000 }),
    ).catch((reason: unknown) => {
      error = reason;
    });
    await clock.advance(2_000);
    expect(error).to.equal(problem);
    expect(begun).to.deep.equal([0, 1]);
    expect(clock.pending).to.equal(0);
  });

  for (const [when, count] of [
    ['while the drains go on', 10],
    ['at the end', 0],
  ] as const) {
    it(`rejects when onProgress throws ${when}, and begins no more`, async () => {
      const problem = new Error('no');
      const onProgress = (): void => {
        throw problem;
      };
      const drains = start(count, { spread: 1_000, onProgress });
      await clock.advance(2_000);
      expect(drains.error).to.equal(problem);
      expect(drains.begun.length).to.be.at.most(1);
      expect(clock.pending).to.equal(0);
    });
  }

  describe('follow', () => {
    it('rejects when looking for connections that follow throws, and begins no more', async () => {
      const problem = new Error('no');
      const drains = start(10, { spread: 1_000, follow: true });
      drains.newcomers.splice = () => {
        throw problem;
      };
      await clock.advance(2_000);
      expect(drains.error).to.equal(problem);
      expect(drains.begun.length).to.be.at.most(2);
      expect(clock.pending).to.equal(0);
    });

    it('false: connections that match later are not its business', async () => {
      const drains = start(10, { spread: 1_000 });
      drains.newcomers.push({ index: 10, state: 'open' });
      await clock.advance(2_000);
      expect(drains.result?.reports).to.have.length(10);
    });

    it('true: takes them too, until the spread is over and the first ones are drained', async () => {
      const drains = start(10, { spread: 1_000, follow: true });
      for (let n = 0; n < 30; n++) {
        drains.newcomers.push({ index: 10 + n, state: 'open' });
        await clock.advance(100);
      }
      const followed = drains.begun.filter(({ index }) => index >= 10);
      expect(followed.length).to.be.within(9, 12);
      expect(drains.result?.reports).to.have.length(drains.begun.length);
      expect(clock.pending).to.equal(0);
    });

    it('true: a crowd that connects anew at once is not drained at once', async () => {
      const drains = start(10, { spread: 1_000, follow: true });
      drains.newcomers.push(...membersOf(20));
      await clock.advance(10_000);
      expect(drains.result?.reports).to.have.length(30);
      // 6 in 200 ms is the pace of 30; 2 is what a late timer may bring at once.
      expect(Math.max(...drains.per(200))).to.be.at.most(12 + 2);
      expect(Math.max(...drains.per(200).slice(0, 4))).to.be.at.most(3);
    });

    for (const [initial, at, [earliest, latest]] of [
      [0, 200, [1_900, 2_010]],
      // The first one is drained at a random moment of the first half.
      [1, 200, [1_600, 2_450]],
      // The interval is 400 ms, or 333: they are caught up with at twice the pace.
      [0, 1_850, [2_650, 2_810]],
      [1, 1_850, [2_500, 2_810]],
    ] as const) {
      it(`true: ${initial} at first and 5 more ${at} ms later are spread over what is left`, async () => {
        const drains = start(initial, { spread: 2_000, follow: true });
        await clock.advance(at);
        drains.newcomers.push(...membersOf(5));
        await clock.advance(10_000);
        expect(drains.result?.reports).to.have.length(initial + 5);
        expect(drains.times.at(-1)).to.be.within(earliest, latest);
        const gaps = drains.times.slice(initial).map((time, index) => time - (drains.times[index + initial - 1] ?? 0));
        expect(Math.min(...gaps.slice(1))).to.be.at.least(140);
      });
    }

    it('true: once the spread is over, one that comes alone is drained when it is found', async () => {
      const drains = start(1, { spread: 1_000, follow: true }, (index) => (index === 0 ? 10_000 : 50));
      await clock.advance(5_000);
      drains.newcomers.push({ index: 1, state: 'open' });
      await clock.advance(200);
      expect(drains.begun).to.have.length(2);
      await clock.advance(10_000);
      expect(drains.result?.reports).to.have.length(2);
    });

    it('true: waits for the spread even if nothing matched at first', async () => {
      const drains = start(0, { spread: 1_000, follow: true });
      await clock.advance(500);
      drains.newcomers.push(...membersOf(2));
      await clock.advance(400);
      expect(drains.begun.length).to.be.at.least(1);
      await clock.advance(2_000);
      expect(drains.result?.reports).to.have.length(2);
    });

    it('true: those that follow do not wait for the moments of those that are gone', async () => {
      const members = membersOf(100);
      const drains = new Drains(clock, members, { spread: 100_000, follow: true }, () => 50);
      await clock.advance(10_000);
      const begun = drains.begun.length;
      const followers = membersOf(3);
      drains.close(members.slice(begun));
      drains.newcomers.push(...followers);
      const followed = (): number[] => drains.begun.slice(begun).map(({ index }) => index);
      await clock.advance(900);
      expect(followed()).to.deep.equal([0]);
      drains.close(followers.slice(1, 2));
      await clock.advance(900);
      expect(followed()).to.deep.equal([0, 2]);
    });

    it('true: goes on until the spread is over when all that were there are gone', async () => {
      const members = membersOf(10);
      const drains = new Drains(clock, members, { spread: 10_000, follow: true }, () => 50);
      await clock.turn();
      drains.close(members);
      await clock.advance(9_900);
      expect(drains.result).to.equal(undefined);
      await clock.advance(200);
      expect(drains.result?.duration).to.be.within(10_000, 10_100);
      expect([clock.pending, drains.watchers.size]).to.deep.equal([0, 0]);
    });

    it('true: stops on the signal', async () => {
      const stop = new AbortController();
      const drains = start(10, { spread: 1_000, follow: true, signal: stop.signal }, () => 10);
      drains.newcomers.push(...membersOf(5));
      await clock.advance(500);
      stop.abort();
      await clock.advance(100);
      expect(drains.result).to.not.equal(undefined);
      expect(drains.result?.left).to.be.at.least(5);
      expect(clock.pending).to.equal(0);
    });
  });

  it('tells of its progress, at most once per turn, and at the end', async () => {
    const told: (DrainProgress & { turn: number })[] = [];
    const members = membersOf(200);
    const gone = members.slice(0, 5);
    for (const member of gone) member.state = 'closed';
    const onProgress = (progress: DrainProgress): void => {
      told.push({ ...progress, turn: clock.turns });
    };
    new Drains(clock, members, { onProgress, concurrency: 100 }, () => 100);
    await clock.advance(50);
    expect(told.at(-1)).to.deep.include({ total: 200, draining: 100, waiting: 95, gone: 5 });
    await clock.advance(200);
    const { turn: _, ...last } = told.at(-1) ?? { turn: 0 };
    expect(last).to.deep.equal({
      total: 200,
      draining: 0,
      waiting: 0,
      gone: 5,
      outcomes: { drained: 195, lossy: 0, forced: 0, peer: 0 },
    });
    expect(told.length).to.be.below(20);
    for (const { total, draining, waiting, gone: closed, outcomes } of told) {
      expect(draining + waiting + closed + outcomes.drained).to.equal(total);
    }
  });

  for (const [options, type, message] of [
    [{ spread: -1 }, RangeError, 'drain.spread must be at least 0 ms and finite, got -1'],
    [{ spread: Infinity }, RangeError, 'drain.spread'],
    [{ spread: '5s' }, TypeError, 'drain.spread must be a number of milliseconds, got "5s"'],
    [{ concurrency: 0 }, RangeError, 'drain.concurrency must be a whole number from 1'],
    [{ concurrency: 1.5 }, RangeError, 'drain.concurrency'],
    [{ signal: {} }, TypeError, 'drain.signal must be an AbortSignal'],
    [{ onProgress: true }, TypeError, 'drain.onProgress must be a function'],
    [{ follow: 'yes' }, TypeError, 'drain.follow must be a boolean'],
  ] as const) {
    it(`throws for ${JSON.stringify(options)}`, () => {
      expect(() => waveSettings(options as unknown as WaveOptions))
        .to.throw(type, message)
        .with.property('code', 'ERR_LASTCALL_OPTION');
    });
  }
});
