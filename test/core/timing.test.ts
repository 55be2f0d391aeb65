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
    const order: string[] = [];
    const server = createServer((socket) => {
      socket.on('data', () => order.push('request'));
      const alarm = new Alarm(() => order.push('alarm'));
      alarm.set(now() + 20);
      // The client's bytes arrive, and the alarm's time comes, while nothing can run.
      client.write('request');
      setImmediate(() => stall(60));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
    while (order.length < 2) await new Promise((resolve) => setImmediate(resolve));
    expect(order).to.deep.equal(['request', 'alarm']);
    client.destroy();
    server.close();
  });

  it('rings after what came while the loop stalled between its poll and the alarm', async () => {
    const order: string[] = [];
    const server = createServer((socket) => {
      socket.on('data', () => order.push('request'));
      // In the same turn: first the stall's immediate, then the alarm's.
      setTimeout(() => {
        setImmediate(() => {
          client.write('request');
          stall(60);
        });
      }, 20);
      const alarm = new Alarm(() => order.push('alarm'));
      alarm.set(now() + 19.5);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
    while (order.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    client.destroy();
    server.close();
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
    expect(sooner).to.be.below(later + 1_000);
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
    const alarm = new Alarm(() => {});
    alarm.set(now() + 2 ** 40);
    alarm.set(Infinity);
    expect(alarm.at).to.equal(Infinity);
  });
});
