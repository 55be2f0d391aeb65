import { AsyncLocalStorage } from 'node:async_hooks';
import { expect } from 'chai';
import { Alarm, now } from '../../src/core/timing.js';

/** Blocks the event loop. */
function busy(ms: number): void {
  const until = now() + ms;
  while (now() < until);
}

describe('thousands of alarms that are due at once', () => {
  // Alarms don't keep the process alive.
  let alive: NodeJS.Timeout;
  before(() => {
    alive = setInterval(() => {}, 10_000);
  });
  after(() => clearInterval(alive));

  it('ring in order, and the loop polls in between, whatever they lead to', async () => {
    const COUNT = 300;
    const rung: number[] = [];
    let turns = 0;
    let most = 0;
    let inTurn = 0;
    const counting = setInterval(() => {}, 1);
    const turn = (): void => {
      turns++;
      most = Math.max(most, inTurn);
      inTurn = 0;
      if (rung.length < COUNT) setImmediate(turn);
    };
    setImmediate(turn);
    const all = new Promise<void>((resolve) => {
      for (let i = 0; i < COUNT; i++) {
        new Alarm(() => {
          rung.push(i);
          inTurn++;
          // What they resolve does the work, as in a drain.
          void Promise.resolve().then(() => {
            busy(0.5);
            if (rung.length === COUNT) resolve();
          });
          // All are due: a timer of Node's has no order among those of different lengths.
        }).set(0);
      }
    });
    await all;
    clearInterval(counting);
    expect(rung).to.deep.equal(Array.from({ length: COUNT }, (_, i) => i));
    // 150 ms of work; a turn takes about 2 of it.
    expect(turns).to.be.above(25);
    expect(most).to.be.below(15);
  });

  it('do not ring once they are cleared while they wait for their turn', async () => {
    let rang = 0;
    const alarms = Array.from({ length: 50 }, () => {
      const alarm = new Alarm(() => {
        rang++;
        busy(4);
        if (rang === 1) for (const other of alarms) if (other !== alarm) other.clear();
      });
      alarm.set(now() + 5);
      return alarm;
    });
    while (rang === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(rang).to.equal(1);
    // And those set later ring as ever.
    await new Promise<void>((resolve) => new Alarm(resolve).set(now() + 5));
  });

  it('go on ringing when one of them throws', async () => {
    const uncaught = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    const thrown = new Promise((resolve) => process.once('uncaughtException', resolve));
    let rang = 0;
    const last = new Promise<void>((resolve) => {
      for (let i = 0; i < 400; i++) {
        new Alarm(() => {
          rang++;
          if (rang === 400) resolve();
          if (i === 10) throw new Error('in an alarm');
        }).set(now() + 5);
      }
    });
    expect(await thrown)
      .to.be.an('error')
      .with.property('message', 'in an alarm');
    for (const listener of uncaught) process.on('uncaughtException', listener);
    await last;
    expect(rang).to.equal(400);
  });

  it('ring in nobody’s async context', async () => {
    const storage = new AsyncLocalStorage<string>();
    const seen: (string | undefined)[] = [];
    await Promise.all(
      ['a', 'b'].map((name) =>
        storage.run(name, () => {
          return new Promise<void>((resolve) => {
            new Alarm(() => {
              seen.push(storage.getStore());
              resolve();
            }).set(now() + 5);
          });
        }),
      ),
    );
    expect(seen).to.deep.equal([undefined, undefined]);
  });
});
