/**
 * One shutdown under load: clients in closed loops at 20 ms round trip, new connections through a balancer that stops
 * routing in the middle of the delay, a server whose loop stalls, and SIGTERM in the midst of it.
 */
import { runH1Client } from '../../../test/wire/h1-runner.js';
import { runH2Client } from '../../../test/wire/h2-runner.js';
import { Random } from '../../../test/wire/random.js';
import { Relay } from '../../../test/wire/relay.js';
import { h1Exchanges, h2Exchanges, type Mix } from '../exchanges.js';
import { Balancer } from './balancer.js';
import { type Exit, ShutdownChild } from './child.js';
import { type ShutdownKind, type Spoken, spokenBy } from './messages.js';

export interface ShutdownPlan {
  readonly rttMs: number;
  readonly delayMs: number;
  /** ms from SIGTERM until a server that is still there is killed, as an orchestrator would */
  readonly graceMs: number;
  /** new connections per second */
  readonly arrivals: number;
  readonly stallMs: number;
  /** closed loops over HTTP/1.1, and connections over HTTP/2 with STREAMS loops each */
  readonly h1Clients: number;
  readonly h2Clients: number;
  readonly dropEvery: number | undefined;
}

/** What clients of one kind counted. */
export interface Counted {
  connections: number;
  sent: number;
  answered: number;
  /** h2: the client was told; retrying is safe */
  refused: number;
  /** sent and neither answered nor refused; of new connections also those that were reset before they could ask */
  lost: number;
  /** connections on which the client saw a reset */
  resets: number;
}

export interface ShutdownRun {
  /** the closed loops, by protocol */
  readonly loops: Readonly<Record<Spoken, Counted>>;
  /** the new connections, one request each */
  readonly arrivals: Counted;
  /** new connections that were not made in time, as the clients' machine was too busy */
  readonly skipped: number;
  /** new connections that came when nothing listened any more */
  readonly connectsRefused: number;
  /** new connections that came when the balancer had taken the server out of rotation already */
  readonly routedElsewhere: number;
  readonly exit: Exit;
  readonly faults: readonly string[];
}

/** Streams in flight on an HTTP/2 connection. */
const STREAMS = 4;

/** Time for every client to have been answered once, and then some, ms. */
const WARM_MS = 1_000;

/**
 * ms that a new connection takes where nothing waits, and some. On a machine that is too busy for the pace, those that
 * come all the same would only wait for each other, until the balancer has stopped routing.
 */
const ARRIVAL_MS = 500;

/** Between two stalls of the server's loop, from the beginning of one to that of the next, ms. */
const STALL_EVERY_MS = 1_500;

/** A request that nobody answers any more is given up at the end of the grace, and some. */
const GIVE_UP_MS = 5_000;

const MIX: Mix = { serviceMs: 10, uploads: 0.15, early: 0.15, large: 0.1, uploadPauseMs: 20 };

export function nobody(): Counted {
  return { connections: 0, sent: 0, answered: 0, refused: 0, lost: 0, resets: 0 };
}

export async function runShutdown(kind: ShutdownKind, plan: ShutdownPlan, seed: number): Promise<ShutdownRun> {
  const random = new Random(seed);
  const child = await ShutdownChild.start({
    kind,
    delayMs: plan.delayMs,
    // The server's own deadline comes before the orchestrator's.
    timeoutMs: plan.graceMs - 1_000,
    stalls: { ms: plan.stallMs, everyMs: STALL_EVERY_MS, firstMs: random.between(0, STALL_EVERY_MS) },
    dropEvery: plan.dropEvery,
  });
  const relay = await Relay.open({ port: child.port, delayMs: plan.rttMs / 2 });
  const balancer = await Balancer.open(child.port);
  const toBalancer = await Relay.open({ port: balancer.port, delayMs: plan.rttMs / 2 });
  const spoken = spokenBy(kind);
  const load = new Load(plan.graceMs + GIVE_UP_MS);
  const loops = { h1: nobody(), h2: nobody() };
  const arrivals = nobody();
  for (const protocol of spoken) {
    const count = protocol === 'h1' ? plan.h1Clients : plan.h2Clients;
    for (let i = 0; i < count; i += 1) void load.add(protocol, relay.port, random.below(2 ** 32), loops[protocol]);
  }
  // A stall collects what comes while it lasts.
  const mostArriving = Math.ceil((plan.arrivals * (plan.stallMs + ARRIVAL_MS)) / 1_000);
  let arriving = 0;
  let skipped = 0;
  const stopArriving = arriveEvery(1_000 / plan.arrivals, (n) => {
    if (arriving >= mostArriving) {
      skipped += 1;
      return;
    }
    const protocol = spoken[n % spoken.length] ?? 'h1';
    arriving += 1;
    void load.add(protocol, toBalancer.port, random.below(2 ** 32), arrivals, 1).then(() => {
      arriving -= 1;
    });
  });
  await pause(WARM_MS + random.between(0, STALL_EVERY_MS));
  child.terminate();
  const killer = setTimeout(() => child.kill(), plan.graceMs);
  const routed = pause(plan.delayMs / 2).then(() => {
    balancer.routes = false;
    stopArriving();
  });
  const exit = await child.exited;
  clearTimeout(killer);
  await routed;
  await load.over();
  await Promise.all([relay.close(), toBalancer.close()]);
  await balancer.close();
  const { refused, elsewhere } = balancer;
  arrivals.lost -= refused + elsewhere;
  arrivals.resets -= refused + elsewhere;
  return { loops, arrivals, skipped, connectsRefused: refused, routedElsewhere: elsewhere, exit, faults: load.faults };
}

/** All clients of a run. */
class Load {
  readonly #running: Promise<void>[] = [];
  readonly #limitMs: number;
  readonly faults: string[] = [];

  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  /** Starts a client; over when that has got all its answers, and never a rejection. */
  add(
    protocol: Spoken,
    port: number,
    seed: number,
    counted: Counted,
    maxRequests = Number.POSITIVE_INFINITY,
  ): Promise<void> {
    const run = this.#run(protocol, port, seed, counted, maxRequests);
    this.#running.push(run);
    return run;
  }

  async over(): Promise<void> {
    await Promise.all(this.#running);
  }

  async #run(protocol: Spoken, port: number, seed: number, counted: Counted, maxRequests: number): Promise<void> {
    const isArrival = maxRequests === 1;
    counted.connections += 1;
    try {
      const common = { port, seed, maxRequests };
      const result =
        protocol === 'h1'
          ? {
              refused: 0,
              streamResets: 0,
              goaways: [],
              ...(await runH1Client({ ...common, exchange: h1Exchanges(MIX), answerTimeoutMs: this.#limitMs })),
            }
          : await runH2Client({
              ...common,
              exchange: h2Exchanges(MIX),
              inFlight: isArrival ? 1 : STREAMS,
              stallTimeoutMs: this.#limitMs,
            });
      const { sent, answered, refused, reset, firstFault } = result;
      const lost = result.wrong + result.unserved + result.streamResets;
      // Told to go before it had asked: it may ask elsewhere.
      const turnedAway = isArrival && sent === 0 && result.goaways.length === 0;
      counted.sent += sent;
      counted.answered += answered;
      counted.refused += refused;
      counted.lost += lost + (turnedAway ? 1 : 0);
      if (reset) counted.resets += 1;
      if (lost > 0 || turnedAway) this.#fault(`${protocol}: ${firstFault ?? 'closed before it could ask'}`);
    } catch (error) {
      counted.lost += 1;
      counted.resets += 1;
      this.#fault(`${protocol}: no connection: ${String(error)}`);
    }
  }

  #fault(what: string): void {
    if (this.faults.length < 5) this.faults.push(what);
  }
}

/** Calls at an even pace, late calls made up for; returns how to stop. */
function arriveEvery(everyMs: number, arrive: (n: number) => void): () => void {
  const began = performance.now();
  let n = 0;
  const timer = setInterval(() => {
    for (; began + n * everyMs <= performance.now(); n += 1) arrive(n);
  }, everyMs);
  return () => clearInterval(timer);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
