import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { expect } from 'chai';
import { Alarm, now } from '../../src/core/timing.js';
import { stall } from '../wire/waiting.js';

/** When an alarm rings, on the `now()` clock. */
function rung(set: (alarm: Alarm) => void): Promise<number> {
  return new Promise((resolve) => set(new Alarm(() => resolve(now()))));
}

describe('Alarm', () => {
  const closers: (() => void)[] = [];
  afterEach(() => {
    for (const close of closers.splice(0)) close();
  });

  /** A connection within this process: `request` puts bytes into the kernel at once, `order` gets when they were read. */
  async function connection() {
    const order: string[] = [];
    const server = createServer((socket) => socket.on('data', () => order.push('request'))).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
    closers.push(() => {
      client.destroy();
      server.close();
    });
    await Promise.all([once(server, 'connection'), once(client, 'connect')]);
    return { order, request: () => client.write('request') };
  }

  // Alarms don't keep the process alive.
  let alive: NodeJS.Timeout;
  before(() => {
    alive = setInterval(() => {}, 10_000);
  });
  after(() => clearInterval(alive));

  it('rings once its time has come, never before', async () => {
    const at = now() + 30;
    expect(await rung((alarm) => alarm.set(at))).to.be.at.least(at);
  });

  it('rings after what the kernel already held was delivered, even when the loop had stalled', async () => {
    const { order, request } = await connection();
    new Alarm(() => order.push('alarm')).set(now() + 20);
    // The client's bytes arrive, and the alarm's time comes, while nothing can run.
    request();
    stall(60);
    while (order.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(order).to.deep.equal(['request', 'alarm']);
  });

  it('rings after what came while the loop stalled between its poll and the alarm', async () => {
    const { order, request } = await connection();
    setTimeout(() => {
      setImmediate(() => {
        request();
        stall(60);
      });
    }, 1);
    new Alarm(() => order.push('alarm')).set(now() + 5);
    // Both are due in the next turn: first the timer, with its immediate, then the alarm with its own.
    stall(30);
    while (order.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(order).to.deep.equal(['request', 'alarm']);
  });

  it('can be moved, both ways', async () => {
    const later = now() + 60;
    const moved = await rung((alarm) => {
      alarm.set(now() + 10);
      alarm.set(later);
    });
    expect(moved).to.be.at.least(later);
    const sooner = await rung((alarm) => {
      alarm.set(now() + 60_000);
      alarm.set(now() + 10);
    });
    expect(sooner).to.be.below(later + 8_000);
  });

  it('atMost only brings it forward', async () => {
    const alarm = new Alarm(() => {});
    alarm.set(100);
    alarm.atMost(200);
    expect(alarm.at).to.equal(100);
    alarm.atMost(50);
    expect(alarm.at).to.equal(50);
    alarm.clear();
    expect(alarm.at).to.equal(Infinity);
  });

  it('does not ring once it is cleared, not even in the turn of its time', async () => {
    let rang = false;
    const alarm = new Alarm(() => {
      rang = true;
    });
    alarm.set(now() + 5);
    // Both timers run in the same turn; the alarm would ring after it.
    setTimeout(() => alarm.clear(), 6);
    stall(20);
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(rang).to.equal(false);
  });

  it('waits longer than a timer of Node can, and for ever', () => {
    const real = globalThis.setTimeout;
    const delays: number[] = [];
    globalThis.setTimeout = ((run: () => void, ms: number) => {
      delays.push(ms);
      return real(run, ms);
    }) as typeof setTimeout;
    try {
      const alarm = new Alarm(() => {});
      alarm.set(now() + 2 ** 40);
      expect(delays).to.deep.equal([2 ** 31 - 1]);
      alarm.set(Infinity);
      expect(alarm.at).to.equal(Infinity);
      alarm.clear();
    } finally {
      globalThis.setTimeout = real;
    }
  });
});
