/**
 * What clients that never retry lose when connections of a node:https server are drained under load, through the
 * delaying relay: adopted nothing, closed in the usual way a good part.
 */
import { expect } from 'chai';
import { type LossPlan, lossH1 } from '../../bench/lib/loss-h1.js';
import { sum } from '../../bench/lib/stats.js';

describe('an adopted node:https server under load', () => {
  it('loses nothing in 300 drains at a round trip of 20 and 50 ms, where closing bare connections does', async () => {
    const plan: LossPlan = {
      rtts: [20, 50],
      streams: [1],
      drains: 150,
      peerDrains: 40,
      servers: ['adopted https', 'node:https'],
      seed: 1,
      judgesTimes: false,
      dropEvery: undefined,
    };
    const cells = await lossH1(plan, () => {});
    const of = (kind: string) => cells.filter(({ server }) => server === kind).map(({ tally }) => tally);
    const adopted = of('adopted https');
    expect(sum(adopted.map(({ drains }) => drains))).to.be.at.least(300);
    expect(adopted.flatMap(({ faults }) => faults)).to.deep.equal([]);
    expect(sum(adopted.map(({ lost, stuck }) => lost + stuck))).to.equal(0);
    expect(sum(adopted.flatMap(({ reports }) => reports.map(({ unserved, aborted }) => unserved + aborted)))).to.equal(
      0,
    );
    expect(sum(of('node:https').map(({ lost }) => lost))).to.be.above(0);
  }).timeout(120_000);
});
