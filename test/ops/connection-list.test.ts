import { expect } from 'chai';
import type { Connection } from '../../src/index.js';
import { listing } from '../../src/ops/connection-list.js';

/** Connections of which each reading of the tags is counted, in the turn of the event loop in which it happens. */
function counted(count: number): { connections: Connection[]; perTurn: Map<number, number>; stop: () => void } {
  const perTurn = new Map<number, number>();
  let turn = 0;
  const next = (): void => {
    turn++;
    immediate = setImmediate(next);
  };
  let immediate = setImmediate(next);
  const connections = Array.from({ length: count }, (_, index) => ({
    id: index + 1,
    protocol: 'h2',
    secure: false,
    state: 'open',
    openedAt: 1,
    lastActiveAt: 2,
    active: 0,
    served: index,
    get tags() {
      perTurn.set(turn, (perTurn.get(turn) ?? 0) + 1);
      return new Map([['tenant', 'x'.repeat(index % 9)]]);
    },
  }));
  return { connections: connections as unknown as Connection[], perTurn, stop: () => clearImmediate(immediate) };
}

describe('the list of connections', () => {
  for (const json of [false, true]) {
    it(`lets the event loop turn between its pieces, and makes nothing else (${json ? 'JSON' : 'text'})`, async () => {
      const { connections, perTurn, stop } = counted(3_000);
      for await (const _ of listing(connections).pieces(json));
      stop();
      const readings = [...perTurn.values()];
      expect(Math.max(...readings)).to.be.at.most(500);
      expect(readings.reduce((sum, count) => sum + count, 0)).to.equal(3_000);
    });
  }

  for (const count of [0, 1, 3, 1_200]) {
    it(`of ${count} is the same in pieces as in one`, async () => {
      const { connections, stop } = counted(count);
      let text = '';
      for await (const piece of listing(connections, '\nhelp\n').pieces(false)) text += piece;
      let json = '';
      for await (const piece of listing(connections).pieces(true)) json += piece;
      stop();
      const parsed = JSON.parse(json) as { connections: { id: number; tags: Record<string, string> }[] };
      expect(json).to.equal(`${JSON.stringify(parsed, null, 2)}\n`);
      expect(parsed.connections.map(({ id }) => id)).to.deep.equal(connections.map(({ id }) => id));
      expect(parsed.connections.every(({ id, tags }) => tags.tenant === 'x'.repeat((id - 1) % 9))).to.equal(true);
      const lines = text.split('\n');
      expect(lines.slice(-3)).to.deep.equal(['', 'help', '']);
      const rows = lines.slice(0, -3);
      if (count === 0) expect(rows).to.deep.equal(['no connections']);
      else {
        expect(rows).to.have.length(count + 1);
        const column = rows[0]?.indexOf('TAGS') ?? 0;
        expect(rows.slice(1).every((row) => row.slice(column).startsWith('tenant='))).to.equal(true);
      }
    });
  }
});
