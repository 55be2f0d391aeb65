/**
 * Draws a schedule. Everything random about what happens is drawn here, beforehand, so that a seed stands for one
 * schedule.
 */
import type { RecycleOptions } from '../../src/core/recycle.js';
import type { Random } from '../wire/random.js';
import type { Stall } from './loop.js';
import type { Network } from './pipe.js';
import type { AnswerPlan, ConnectionPlan, DrainPlan, RequestPlan, SchedulePlan } from './plan.js';

function pick<T>(random: Random, ...choices: readonly T[]): T {
  return choices[random.below(choices.length)] as T;
}

function sometimes(random: Random, probability: number, value: () => number, otherwise: number): number {
  return random.chance(probability) ? value() : otherwise;
}

/** Draws what happens. */
export function drawSchedule(random: Random): SchedulePlan {
  const count = pick(random, 1, 1, 1, 2, 2, 3);
  const keys = { next: 0 };
  const connections: ConnectionPlan[] = [];
  for (let i = 0; i < count; i++) connections.push(drawConnection(random, keys));
  const stalls: Stall[] = [];
  if (random.chance(0.25)) {
    const [first] = connections;
    const { at: drainAt = 100, settle = 0 } = first?.drains[0] ?? {};
    // the PING's answer lies in the kernel when settle runs out
    if (settle < 1_500 && random.chance(0.4))
      stalls.push({ at: drainAt + random.next(), ms: settle + random.between(5, 100) });
    for (let n = 1 + random.below(2); n > 0; n--) {
      stalls.push({ at: drainAt + random.between(-50, 200), ms: pick(random, 5, 20, 60, 150, 400, 1_200) });
    }
  }
  return {
    connections,
    stalls,
    maxConcurrentStreams: pick(random, 100, 100, 100, 100, 100, 3),
    initialWindowSize: pick(random, 262_144, 262_144, 65_535, 1_000),
    hold: sometimes(random, 0.06, () => random.between(40, 300), 620_000),
    prefaceTimeout: sometimes(random, 0.05, () => random.between(100, 400), 10_000),
    times: {
      headersTimeout: sometimes(random, 0.05, () => random.between(100, 400), 60_000),
      bodyTimeout: sometimes(random, 0.05, () => random.between(100, 400), 60_000),
      sendTimeout: sometimes(random, 0.05, () => random.between(200, 900), 60_000),
    },
    recycle: drawRecycling(random),
    ping: random.chance(0.06) ? { interval: random.between(20, 300), timeout: random.between(50, 600) } : undefined,
  };
}

function drawRecycling(random: Random): RecycleOptions {
  if (random.chance(0.9)) return {};
  return pick<RecycleOptions>(
    random,
    { maxRequests: 1 + random.below(5) },
    { maxAge: random.between(20, 300), jitter: 0.5 },
    { maxIdle: random.between(5, 200) },
    { maxRequests: 3, maxAge: 200, timeout: random.between(0, 300) },
  );
}

function drawNetwork(random: Random): Network {
  return {
    delay: pick(random, 0.05, 0.5, 2, 10, 10, 25, 50, 100),
    jitter: pick(random, 0, 0, 0.3, 2),
    towardsClient: pick(random, 4_000, 30_000, 200_000, 1_000_000, 1_000_000),
    towardsServer: pick(random, 8_000, 100_000, 1_000_000, 1_000_000),
    split: pick(random, 0, 0.1, 0.3, 0.8),
    resetDropsUnread: random.chance(0.5),
  };
}

function drawConnection(random: Random, keys: { next: number }): ConnectionPlan {
  const network = drawNetwork(random);
  const { delay } = network;
  const openAt = random.chance(0.7) ? 0 : random.between(0, 100);
  const drainAt = openAt + (random.chance(0.06) ? random.between(0, 3 * delay) : random.between(delay, 150 + delay));
  const drains = drawDrains(random, drainAt, network);
  const requests: RequestPlan[] = [];
  // In some schedules the client has hardly begun, in others it is busy all the time around the drain.
  const from = openAt;
  const to = drainAt + 3 * delay + random.between(0, 60);
  for (let left = pick(random, 0, 1, 1, 2, 3, 4, 5, 6, 8); left > 0; left--) {
    const near = random.chance(0.5);
    const at = near ? drainAt + random.between(-delay - 20, 2 * delay + 20) : random.between(from, to);
    requests.push(drawRequest(random, keys.next++, Math.max(openAt, at)));
  }
  if (random.chance(0.05)) requests.push(...drawCrowd(random, keys, openAt, drainAt, delay));
  requests.sort((a, b) => a.at - b.at);
  const fussy = random.chance(0.3);
  const odd = (probability: number): boolean => fussy && random.chance(probability);
  const end = (): number => Math.max(openAt, drainAt + random.between(-60, 4 * delay + 150));
  return {
    openAt,
    prefaceDelay: sometimes(random, 0.1, () => random.between(0, 200), 0),
    network,
    readDelay: sometimes(random, 0.2, () => random.between(0, 20), 0),
    readPauses: random.chance(0.1) ? [{ at: end(), ms: random.between(10, 400) }] : [],
    initialWindow: pick(random, 65_535, 65_535, 65_535, 1_000_000, 5_000, 200, 0),
    windowsFrom: sometimes(random, 0.15, () => (random.chance(0.3) ? Infinity : end()), 0),
    windowDelay: sometimes(random, 0.3, () => random.between(0, 30), 0),
    pingAckDelay: odd(0.4) ? pick(random, 5, 50, 300, 800, Infinity, Infinity) : sometimes(random, 0.2, () => 3, 0),
    afterGoaway: random.chance(0.18) ? 'goes on' : 'stops',
    goesOnFor: random.between(0, 60),
    pipelines: random.chance(0.4),
    closes: pick(random, 'idle', 'idle', 'on FIN', 'on FIN', 'on FIN', 'never'),
    closeDelay: sometimes(random, 0.3, () => random.between(0, 100), 0),
    chatty: sometimes(random, 0.15, () => random.between(1, 15), Infinity),
    leaves: odd(0.4) ? { at: end(), how: pick(random, 'half-closes', 'closes', 'resets') } : undefined,
    goawayAt: odd(0.2) ? end() : Infinity,
    illegalAt: odd(0.15) ? end() : Infinity,
    trickle: odd(0.1) ? { at: end(), every: pick(random, 1, 20, 200) } : undefined,
    requests,
    drains,
  };
}

function drawDrains(random: Random, at: number, { delay, jitter }: Network): DrainPlan[] {
  const draw = (when: number): DrainPlan => ({
    at: when,
    timeout: pick(
      random,
      30_000,
      30_000,
      3_000,
      1_000,
      random.between(0, 300),
      random.between(0, 4 * delay + 100),
      Infinity,
    ),
    // sometimes it runs out just when the PING's answer comes
    settle: random.chance(0.2)
      ? 2 * (delay + jitter) + random.between(1, 10)
      : pick(random, 5_000, 5_000, random.between(0, 400), 1_000),
    idleWait: pick(random, undefined, 0, random.between(0, 100), random.between(0, 600)),
    linger: pick(random, 2_000, 2_000, random.between(0, 400)),
    lingerMax: pick(random, 30_000, 30_000, random.between(0, 2_000)),
    signalAt: sometimes(random, 0.03, () => when + random.between(0, 200), Infinity),
  });
  const drains = random.chance(0.97) ? [draw(at)] : [];
  if (random.chance(0.15)) drains.push(draw(at + random.between(0, 4 * delay + 150)));
  return drains;
}

/** More requests than are read, or begun, in one turn; most of them as large as a packet. */
function drawCrowd(
  random: Random,
  keys: { next: number },
  openAt: number,
  drainAt: number,
  delay: number,
): RequestPlan[] {
  const crowd: RequestPlan[] = [];
  const count = 10 + random.below(150);
  const at = Math.max(openAt, drainAt + random.between(-2 * delay - 20, 2 * delay + 20));
  const within = pick(random, 0, 0, 1, 20);
  while (crowd.length < count) {
    const request = drawRequest(random, keys.next++, at + random.next() * within);
    const { when, size } = request.answer;
    // Over HTTP/1.1 one that fails takes all behind it with it.
    const answer: AnswerPlan = {
      ...request.answer,
      when: when === 'at once' ? when : 'later',
      size: Math.min(size, 2_000),
      closes: false,
      destroys: 'no',
    };
    crowd.push({
      ...request,
      method: 'GET',
      bodySize: 0,
      tunnel: false,
      headPause: undefined,
      expects: 0,
      closes: false,
      malformed: false,
      answer,
    });
  }
  return crowd;
}

function drawRequest(random: Random, key: number, at: number): RequestPlan {
  const method = random.chance(0.03) ? 'HEAD' : random.chance(0.35) ? 'POST' : 'GET';
  const bodySize = method === 'POST' ? pick(random, 0, 10, 900, 5_000, 20_000, 70_000, 150_000) : 0;
  const tunnel = bodySize > 0 && random.chance(0.08);
  const hasBody = bodySize > 0 && !tunnel;
  return {
    key,
    at,
    writerLag: sometimes(random, 0.25, () => random.between(0, 5), 0),
    method,
    bodySize,
    tunnel,
    bodyPause: sometimes(random, 0.5, () => pick(random, 1, 5, 20), 0),
    headPause: random.chance(0.03)
      ? { part: random.next(), ms: pick(random, 1, 20, random.between(0, 400), Infinity) }
      : undefined,
    expects: sometimes(random, hasBody ? 0.15 : 0, () => pick(random, 5, 100, Infinity), 0),
    bodyStallsAt: sometimes(random, 0.08, () => random.below(bodySize + 1), Infinity),
    trailers: !tunnel && random.chance(0.1),
    closes: random.chance(0.02),
    malformed: !tunnel && random.chance(0.02),
    cancelAfter: sometimes(
      random,
      0.08,
      () => pick(random, 0, random.between(0, 50), random.between(0, 300)),
      Infinity,
    ),
    answer: drawAnswer(random, bodySize > 0),
  };
}

function drawAnswer(random: Random, hasBody: boolean): AnswerPlan {
  const size = pick(random, 0, 2, 100, 2_000, 2_000, 17_000, 70_000, 150_000);
  return {
    when: random.chance(0.02)
      ? 'never'
      : hasBody
        ? pick(random, 'read', 'read', 'at once', 'later')
        : pick(random, 'at once', 'later', 'later'),
    latency: pick(random, 1, random.between(0, 10), random.between(0, 60), random.between(0, 250)),
    headFirst: random.chance(0.08) ? { ms: random.between(1, 200), flushed: random.chance(0.5) } : undefined,
    size,
    writes: size > 10 ? pick(random, 1, 1, 2, 5) : 1,
    pause: sometimes(random, 0.6, () => pick(random, 1, 5, 30), 0),
    obeysDrain: random.chance(0.7),
    trailers: random.chance(0.1),
    interim: random.chance(0.05),
    destroys: random.chance(0.03) ? pick(random, 'before the head', 'in the body') : 'no',
    readPause: sometimes(random, 0.2, () => random.between(1, 60), 0),
    closes: random.chance(0.02),
    drains: random.chance(0.02),
    burns: sometimes(random, 0.02, () => pick(random, 2, 20, 100), 0),
  };
}
