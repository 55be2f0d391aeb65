/** What operators read. */
import { expect } from 'chai';
import type { DrainReport } from '../../src/index.js';
import { formatDuration, formatReport, formatSummary } from '../../src/ops/text.js';

const report: DrainReport = {
  id: 7,
  protocol: 'h2',
  outcome: 'forced',
  served: 2,
  cancelled: 0,
  malformed: 0,
  refused: 1,
  aborted: 1,
  unserved: 0,
  cut: [{ method: 'GET', path: '/a\u001b[2Jb', ageMs: 30_100 }],
  rtt: 12.4,
  phases: { announce: 0.2, settle: 12.6, finish: 30_000, linger: 0 },
  duration: 30_013,
};

describe('text for operators', () => {
  for (const [ms, text] of [
    [0.4, '0 ms'],
    [999, '999 ms'],
    [999.7, '1.0 s'],
    [9_940, '9.9 s'],
    [9_960, '10 s'],
    [59_600, '1 min 0 s'],
    [3_599_000, '59 min 59 s'],
    [3_661_000, '1 h 1 min'],
    [Infinity, 'for ever'],
  ] as const) {
    it(`writes ${ms} ms as ${text}`, () => expect(formatDuration(ms)).to.equal(text));
  }

  it('tells a drain in a paragraph, and keeps control characters of clients from the terminal', () => {
    expect(formatReport(report)).to.equal(
      'connection 7 (h2): forced in 30 s\n' +
        '  requests: 2 served, 1 refused, 1 aborted\n' +
        '  phases: announce 0 ms, settle 13 ms, finish 30 s, linger 0 ms, round trip 12 ms\n' +
        '  cut: GET /a?[2Jb, 30 s old\n',
    );
  });

  it('sums up several drains and shows those that went wrong', () => {
    const outcomes = { drained: 3, lossy: 0, forced: 1, peer: 0 };
    const text = formatSummary({
      ...report,
      connections: 4,
      outcomes,
      left: 0,
      gone: 0,
      durations: { p50: 1, p90: 1, p99: 1, max: 1 },
      notDrained: [report],
    });
    expect(text).to.match(/^3 of 4 connections drained, 1 forced, in 30 s; requests: 2 served, 1 refused, 1 aborted\n/);
    expect(text).to.contain('connection 7 (h2): forced');
  });
});
