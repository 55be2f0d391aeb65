/**
 * Shares of turns of the event loop: nobody who waits is passed by, or waits for ever, whoever else takes how much.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { stat } from 'node:fs';
import { expect } from 'chai';
import { inLaterTurn, Share } from '../../src/core/turns.js';
import { stall, turns } from '../wire/waiting.js';

/** Others work in every turn, and ask nobody; returns what ends it. */
function others(work: () => void): () => void {
  let working = true;
  const turn = (): void => {
    work();
    if (working) setImmediate(turn);
  };
  setImmediate(turn);
  return () => {
    working = false;
  };
}

describe('a later turn', () => {
  it('comes when the loop has polled, also for who asks for it in a poll', async () => {
    const order: string[] = [];
    for (let round = 0; round < 3; round++) {
      await new Promise<void>((resolve) => {
        stat('.', () => {
          inLaterTurn(() => order.push('who waited'));
          setImmediate(() => {
            order.push('the end of the turn');
            resolve();
          });
        });
      });
      await turns(3);
    }
    const once = ['the end of the turn', 'who waited'];
    expect(order).to.deep.equal([...once, ...once, ...once]);
  });
});

describe('a share of turns', () => {
  it('goes to those who wait though others spend all of it in every turn', async () => {
    const share = new Share(0.25);
    let served = 0;
    // Before, or behind, those who wait.
    const end = others(() => share.spent(1));
    await turns(3);
    expect(share.hasRoom).to.equal(false);
    for (let i = 0; i < 5; i++) {
      share.whenRoom(() => {
        served++;
        share.spent(1);
      });
    }
    await turns(12);
    end();
    expect(served).to.equal(5);
  });

  it('goes from one to the next, and not twice to the same', async () => {
    const share = new Share(0.25);
    const MANY = 50;
    const left = [MANY, MANY, MANY, MANY, MANY];
    const served: number[] = [];
    const go = (i: number): void => {
      if (share.hasRoom) served.push(i);
      for (; share.hasRoom && (left[i] ?? 0) > 0; left[i]--) share.spent(0.2);
      if ((left[i] ?? 0) > 0) share.whenRoom(() => go(i));
    };
    share.spent(1);
    for (let i = 0; i < left.length; i++) go(i);
    while (Math.min(...left) > 0) await turns(1);
    // However much each of them took.
    expect(served).to.deep.equal(served.map((_, n) => n % left.length));
  });

  it('is one for what the loop polls and for what has to wait then', async () => {
    const share = new Share(0.25);
    const order: string[] = [];
    for (let round = 0; round < 3; round++) {
      await new Promise<void>((resolve) => {
        setTimeout(() => {
          share.spent(1);
          share.whenRoom(() => order.push('who waited'));
          setImmediate(() => {
            order.push('the end of the turn');
            resolve();
          });
        }, 1);
      });
      await turns(3);
    }
    const once = ['the end of the turn', 'who waited'];
    expect(order).to.deep.equal([...once, ...once, ...once]);
  });

  it('is not for newcomers while somebody waits', async () => {
    const share = new Share(0.25);
    share.spent(1);
    const order: string[] = [];
    share.whenRoom(() => order.push('who waited'));
    // Behind a turn that had none of it left: the share is there anew, and still not for it.
    setImmediate(() => {
      if (share.hasRoom) order.push('a newcomer');
      else share.whenRoom(() => order.push('a newcomer'));
    });
    await turns(4);
    expect(order).to.deep.equal(['who waited', 'a newcomer']);
  });

  it('comes anew with the next turn, also when nobody waits', async () => {
    const share = new Share(0.25);
    share.spent(1);
    expect(share.hasRoom).to.equal(false);
    await turns(2);
    expect(share.hasRoom).to.equal(true);
  });

  it('is a part of turns that others make long', async () => {
    const share = new Share(0.25);
    let served = 0;
    const end = others(() => stall(8));
    for (let i = 0; i < 1_000; i++) {
      share.do(() => {
        served++;
        stall(0.25);
      });
    }
    await turns(20);
    end();
    // One in each, if it were as small as ever.
    expect(served).to.be.at.least(50);
    while (served < 1_000) await turns(1);
  });

  it('is that part though others spend all of it in every turn, too', async () => {
    const share = new Share(0.25);
    let served = 0;
    const end = others(() => {
      share.spent(8);
      stall(8);
    });
    await turns(4);
    for (let i = 0; i < 1_000; i++) {
      share.whenRoom(() => {
        served++;
        share.spent(0.25);
      });
    }
    await turns(20);
    end();
    // 8 in every other turn; one, if it were as small as ever.
    expect(served).to.be.at.least(40);
    while (served < 1_000) await turns(1);
  });

  it('counts the time of what it does', async () => {
    const share = new Share(0.25);
    const order: number[] = [];
    let inTurn = 0;
    let most = 0;
    for (let i = 0; i < 10; i++) {
      share.do(() => {
        order.push(i);
        if (inTurn++ === 0) {
          setImmediate(() => {
            most = Math.max(most, inTurn);
            inTurn = 0;
          });
        }
        stall(0.3);
      });
    }
    while (order.length < 10) await turns(1);
    await turns(2);
    expect(order).to.deep.equal([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(most).to.be.at.most(2);
  });

  it('goes on when one of those who waited throws, whose exception is the process’s', async () => {
    const uncaught = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    const errors: string[] = [];
    process.on('uncaughtException', (error) => errors.push(error.message));
    try {
      const called: number[] = [];
      for (let i = 0; i < 3; i++) {
        inLaterTurn(() => {
          called.push(i);
          if (i === 0) throw new Error('of a listener');
        });
      }
      for (let i = 0; i < 10_000 && (errors.length === 0 || called.length < 3); i++) await turns(1);
      expect(called).to.deep.equal([0, 1, 2]);
      expect(errors).to.deep.equal(['of a listener']);
    } finally {
      process.removeAllListeners('uncaughtException');
      for (const listener of uncaught) process.on('uncaughtException', listener);
    }
  });

  it('is nobody’s async context', async () => {
    const storage = new AsyncLocalStorage<string>();
    const seen: unknown[] = [];
    storage.run('a request', () => {
      inLaterTurn(() => seen.push(storage.getStore()));
      const share = new Share(1);
      share.spent(2);
      share.whenRoom(() => seen.push(storage.getStore()));
    });
    await turns(4);
    expect(seen).to.deep.equal([undefined, undefined]);
  });
});
