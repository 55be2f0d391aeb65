import { expect } from 'chai';
import { keepAliveSettings } from '../../src/core/keep-alive.js';
import { type DrainReport, noRequests, outcomeOf, summarize } from '../../src/core/report.js';

describe('outcome of a drain', () => {
  const cases: readonly [string, Partial<ReturnType<typeof noRequests>>, boolean, string][] = [
    ['nothing happened', {}, false, 'drained'],
    ['nothing was in flight at the deadline', {}, true, 'drained'],
    [
      'requests were served, cancelled, malformed and refused',
      { served: 3, cancelled: 1, malformed: 1, refused: 2 },
      false,
      'drained',
    ],
    ['a request came too late', { served: 3, unserved: 1 }, false, 'lossy'],
    ['the deadline aborted a request', { aborted: 1 }, true, 'forced'],
    ['the peer left a request unanswered', { aborted: 1 }, false, 'peer'],
    ['a request was aborted and one came too late', { aborted: 1, unserved: 1 }, true, 'forced'],
  ];
  for (const [what, counts, forced, outcome] of cases) {
    it(`is '${outcome}' when ${what}`, () => {
      expect(outcomeOf({ ...noRequests(), ...counts }, forced)).to.equal(outcome);
    });
  }
});

describe('summary of several drains', () => {
  const report = (id: number, fields: Partial<DrainReport>): DrainReport => ({
    ...noRequests(),
    id,
    protocol: 'h2',
    outcome: 'drained',
    cut: [],
    rtt: undefined,
    phases: { announce: 0, settle: 0, finish: 0, linger: 0 },
    duration: 0,
    ...fields,
  });

  it('adds the counters up and keeps the reports of what did not end well', () => {
    const forced = report(2, { outcome: 'forced', served: 1, aborted: 2, duration: 9 });
    const lossy = report(3, { outcome: 'lossy', unserved: 4, duration: 5 });
    const summary = summarize([report(1, { served: 5, duration: 2 }), forced, lossy], 12, { left: 1, gone: 2 });
    expect(summary).to.deep.equal({
      ...noRequests(),
      served: 6,
      aborted: 2,
      unserved: 4,
      connections: 3,
      outcomes: { drained: 1, lossy: 1, forced: 1, peer: 0 },
      left: 1,
      gone: 2,
      duration: 12,
      durations: { p50: 5, p90: 9, p99: 9, max: 9 },
      notDrained: [forced, lossy],
    });
  });

  it('of none is empty', () => {
    expect(summarize([], 0)).to.include({ connections: 0, served: 0 });
  });
});

describe('keep-alive times', () => {
  it('advertise less than is kept, by default', () => {
    expect(keepAliveSettings(undefined)).to.deep.equal({ advertise: 5_000, hold: 620_000 });
  });

  it('may keep a connection for ever, and advertise nothing', () => {
    expect(keepAliveSettings({ advertise: 0, hold: Infinity })).to.deep.equal({ advertise: 0, hold: Infinity });
  });

  it('never advertise what is not kept', () => {
    expect(() => keepAliveSettings({ advertise: 6_000, hold: 6_000 })).to.throw(RangeError, /keepAlive\.hold/);
  });
});
