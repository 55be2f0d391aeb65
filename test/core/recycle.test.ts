import { expect } from 'chai';
import type { ConnectionState } from '../../src/core/connection.js';
import {
  type RecycleOptions,
  Recycler,
  type RecycleSettings,
  type RequestObserver,
  recycleSettings,
} from '../../src/core/recycle.js';
import type { DrainSettings } from '../../src/core/shutdown.js';
import { FakeClock } from './fake-clock.js';

const ADVERTISE = 5_000;

function settingsOf(options: RecycleOptions): RecycleSettings {
  const settings = recycleSettings(options, {}, ADVERTISE);
  if (settings === undefined) throw new Error('recycling is off');
  return settings;
}

/** A connection that counts its requests and tells its observer, as a live one does. */
class Conn {
  state: ConnectionState = 'open';
  active = 0;
  readonly closed: Promise<void>;
  observer: RequestObserver | undefined;
  #close: () => void = () => {};

  constructor() {
    this.closed = new Promise((resolve) => {
      this.#close = resolve;
    });
  }

  begin(): void {
    this.active++;
    this.observer?.began();
  }

  end(): void {
    this.active--;
    this.observer?.ended();
  }

  request(): void {
    this.begin();
    this.end();
  }

  close(): void {
    this.state = 'closed';
    this.#close();
  }
}

describe('recycling', () => {
  let clock: FakeClock;
  let drained: { conn: Conn; at: number; turn: number; settings: DrainSettings }[];
  beforeEach(() => {
    clock = new FakeClock();
    drained = [];
  });
  afterEach(() => clock.restore());

  function recycler(options: RecycleOptions, random?: () => number): Recycler<Conn> {
    const startedAt = clock.now;
    const begin = (conn: Conn, settings: DrainSettings): void => {
      conn.state = 'draining';
      drained.push({ conn, at: clock.now - startedAt, turn: clock.turns, settings });
    };
    return new Recycler(settingsOf(options), begin, random);
  }

  function connect(to: Recycler<Conn>): Conn {
    const conn = new Conn();
    conn.observer = to.watch(conn);
    return conn;
  }

  it('is off by default, and when no limit is given', () => {
    expect(recycleSettings(undefined, {}, ADVERTISE)).to.equal(undefined);
    expect(recycleSettings({ jitter: 0.5, timeout: 1_000, maxAge: Infinity }, {}, ADVERTISE)).to.equal(undefined);
  });

  it('drains a connection at its maximum age, idle or busy, and not before', async () => {
    const recycling = recycler({ maxAge: 60_000, jitter: 0 });
    const idle = connect(recycling);
    const busy = connect(recycling);
    busy.begin();
    await clock.advance(59_999);
    expect(drained).to.deep.equal([]);
    await clock.advance(1_100);
    expect(drained.map(({ conn }) => conn)).to.have.members([idle, busy]);
    expect(recycling.waiting).to.equal(0);
  });

  it('never cuts by default, whatever the timeout of other drains is', async () => {
    const settings = recycleSettings({ maxAge: 1_000 }, { timeout: 5, linger: 77 }, ADVERTISE);
    expect(settings?.drain.age).to.include({ timeout: Infinity, linger: 77, idleWait: undefined });
    expect(settingsOf({ maxAge: 1_000, timeout: 9_000 }).drain.age.timeout).to.equal(9_000);
  });

  it('spreads what connected together by the jitter, never over the maximum age', async () => {
    const recycling = recycler({ maxAge: 100_000, jitter: 0.5 });
    for (let n = 0; n < 1_000; n++) connect(recycling);
    await clock.advance(49_999);
    expect(drained).to.deep.equal([]);
    await clock.advance(51_000);
    expect(drained).to.have.length(1_000);
    const perTenth = Array.from({ length: 10 }, () => 0);
    for (const { at } of drained) {
      const tenth = Math.min(9, Math.floor((at - 50_000) / 5_000));
      perTenth[tenth] = (perTenth[tenth] ?? 0) + 1;
    }
    // 100 expected in each, with a standard deviation of 10.
    for (const count of perTenth) expect(count).to.be.within(45, 160);
  });

  it('drains a connection when its last request begins, once', () => {
    const conn = connect(recycler({ maxRequests: 3 }));
    conn.request();
    conn.request();
    expect(drained).to.deep.equal([]);
    conn.begin();
    expect(drained).to.have.length(1);
    expect(drained[0]?.settings).to.include({ reason: 'maximum requests', timeout: Infinity });
    conn.begin();
    conn.end();
    expect(drained).to.have.length(1);
  });

  it('drains a connection that was idle for long, at once: it has had its time', async () => {
    const recycling = recycler({ maxIdle: 10_000 });
    const conn = connect(recycling);
    for (let n = 0; n < 5; n++) {
      await clock.advance(9_000);
      conn.request();
    }
    await clock.advance(9_999);
    expect(drained).to.deep.equal([]);
    await clock.advance(600);
    expect(drained).to.have.length(1);
    expect(drained[0]?.settings.idleWait).to.equal(0);
  });

  it('is never idle while a request is in flight', async () => {
    const conn = connect(recycler({ maxIdle: 10_000 }));
    conn.begin();
    await clock.advance(100_000);
    expect(drained).to.deep.equal([]);
    conn.end();
    await clock.advance(9_999);
    expect(drained).to.deep.equal([]);
    await clock.advance(10_600);
    expect(drained).to.have.length(1);
  });

  it('leaves alone what is being drained, lingers or is closed', async () => {
    const recycling = recycler({ maxAge: 10_000, maxRequests: 2 });
    const [draining, lingering, closed] = [connect(recycling), connect(recycling), connect(recycling)];
    draining.state = 'draining';
    lingering.state = 'lingering';
    closed.close();
    draining.request();
    draining.request();
    await clock.advance(11_000);
    expect(drained).to.deep.equal([]);
    expect(recycling.waiting).to.equal(0);
  });

  it('forgets a connection that closes', async () => {
    const recycling = recycler({ maxAge: 3_600_000 });
    const conns = Array.from({ length: 10 }, () => connect(recycling));
    expect(recycling.waiting).to.equal(10);
    for (const conn of conns) conn.close();
    await clock.turn();
    expect(recycling.waiting).to.equal(0);
  });

  it('begins a few drains per turn of the event loop when many are due', async () => {
    const recycling = recycler({ maxAge: 10_000, jitter: 0 });
    for (let n = 0; n < 1_000; n++) connect(recycling);
    await clock.advance(11_000);
    expect(drained).to.have.length(1_000);
    const perTurn = new Map<number, number>();
    for (const { turn } of drained) perTurn.set(turn, (perTurn.get(turn) ?? 0) + 1);
    expect(Math.max(...perTurn.values())).to.be.at.most(64);
    expect((drained.at(-1)?.at ?? 0) - (drained[0]?.at ?? 0)).to.be.below(100);
  });

  it('sets one timer for any number of connections, and none for a request', () => {
    const recycling = recycler({ maxAge: 60_000, maxIdle: 30_000, maxRequests: 1e6 });
    const conns = Array.from({ length: 1_000 }, () => connect(recycling));
    const timers = clock.pending;
    expect(timers).to.equal(1);
    for (const conn of conns) for (let n = 0; n < 100; n++) conn.request();
    expect(clock.pending).to.equal(timers);
  });

  it('keeps no timer going for nothing', async () => {
    const recycling = recycler({ maxAge: 10_000 });
    connect(recycling).close();
    await clock.advance(20_000);
    expect(clock.pending).to.equal(0);
  });

  for (const [options, type, message] of [
    [{ maxAge: 0 }, RangeError, 'recycle.maxAge must be at least 1 ms'],
    [{ maxAge: '1h' }, TypeError, 'recycle.maxAge must be a number of milliseconds'],
    [{ maxIdle: 5_000 }, RangeError, 'recycle.maxIdle must be longer than keepAlive.advertise (5000 ms), got 5000'],
    [{ maxRequests: 0 }, RangeError, 'recycle.maxRequests must be a whole number from 1'],
    [{ jitter: 1 }, RangeError, 'recycle.jitter must be at least 0 and less than 1, got 1'],
    [{ jitter: '10%' }, TypeError, 'recycle.jitter must be a number'],
    [{ timeout: -1 }, RangeError, 'recycle.timeout'],
    [{ maxage: 1 }, TypeError, 'unknown option recycle.maxage (known: maxAge, jitter, maxRequests, maxIdle, timeout)'],
  ] as const) {
    it(`throws for ${JSON.stringify(options)}`, () => {
      expect(() => recycleSettings(options as unknown as RecycleOptions, {}, ADVERTISE))
        .to.throw(type, message)
        .with.property('code', 'ERR_LASTCALL_OPTION');
    });
  }
});
