/**
 * One schedule of HTTP/1.1 connections: the server as it is (LiveConnection, node:http's parser, gracefulShutdown),
 * simulated clients, networks and application; then every invariant of a drain is checked against what the clients saw.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { LiveConnection } from '../../src/core/connection.js';
import { noLimits } from '../../src/core/limits.js';
import { Recycler, recycleSettings } from '../../src/core/recycle.js';
import { Registry } from '../../src/core/registry.js';
import { drainSettings } from '../../src/core/shutdown.js';
import { type H1Context, h1ConnectionOf } from '../../src/h1/connection.js';
import { h1Settings } from '../../src/h1/options.js';
import { attachH1, createH1Server } from '../../src/h1/server.js';
import { drainOf } from '../../src/stop.js';
import { Random } from '../wire/random.js';
import { Application } from './application.js';
import { Drains } from './drains.js';
import { drawSchedule } from './draw.js';
import { type ClientRequest, H1SimClient } from './h1-client.js';
import { CROWD, hasCut, limitViolations, roundTripOf, STALLS } from './innocence.js';
import { Loop } from './loop.js';
import { type ConnectionPlan, LAST_DRAIN_AT, type SchedulePlan } from './plan.js';
import type { Feature, Result } from './result.js';

const AFTERGLOW = 300;
const LONGEST = 200_000;

/** ms between the poll that read everything and the decision that followed from it, at most. */
const SAME_TURN = 1;

const CLOSE = Buffer.from('onnection: close\r\n');

class SimulatedConnection {
  /** Its place in the plan. */
  readonly index: number;
  readonly client: H1SimClient;
  readonly connection: LiveConnection;
  readonly limitCounts = noLimits();
  readonly drains: Drains;
  /** What the server's parser was given: how many bytes it then had, and when. */
  readonly #reads: { readonly bytes: number; readonly at: number }[] = [];
  closed = false;
  /** How many bytes the parser had been given when the head that says `close` was written. */
  #committed: number | undefined;
  /** How many bytes the parser had been given when the server last wrote. */
  #givenAtWrite = 0;
  /** When the drain began, a request was in flight whose answer had not begun. */
  #busyAtDrain = false;
  activeAtDrain = 0;
  uploading = false;

  constructor(index: number, client: H1SimClient, connection: LiveConnection, drains: Drains) {
    this.index = index;
    this.client = client;
    this.connection = connection;
    this.drains = drains;
    connection.limitCounts = this.limitCounts;
    const { socket } = client.tcp;
    socket.on('close', () => {
      this.closed = true;
    });
    socket.onWrite = (bytes) => {
      this.#givenAtWrite = this.#given;
      if (this.#committed === undefined && bytes.includes(CLOSE)) this.#committed = this.#given;
    };
    drains.onBegin = () => {
      this.activeAtDrain = connection.active;
      this.#busyAtDrain = connection.active > 0 && (this.came.at(-1)?.headEnd ?? 0) > this.#givenAtWrite;
      this.uploading = client.requests.some((one) => this.#has(one.headEnd) && !this.#has(one.bodyEnd));
    };
  }

  /** Follows what the parser is given; before it is there, so that a request is in time exactly when it is known here. */
  watch(loop: Loop): void {
    this.client.tcp.socket.prependListener('data', () => {
      this.#reads.push({ bytes: this.#given, at: loop.time });
    });
  }

  /** How many bytes the parser has been given. What it has put back, or what waits for it, isn't among them. */
  get #given(): number {
    const { bytesRead, readableLength } = this.client.tcp.socket;
    return bytesRead - readableLength;
  }

  #has(bytes: number): boolean {
    return bytes <= this.#given;
  }

  get readToTheEnd(): boolean {
    return this.client.tcp.clientRead === this.client.tcp.socket.given;
  }

  /** Requests whose head came. */
  get came(): ClientRequest[] {
    return this.client.requests.filter(({ headEnd }) => this.#has(headEnd));
  }

  /** When the request's head was read. */
  #readAt({ headEnd }: ClientRequest): number {
    return this.#reads.find(({ bytes }) => bytes >= headEnd)?.at ?? Infinity;
  }

  *violations(application: Application, schedule: SchedulePlan): Iterable<string> {
    const { client, connection } = this;
    yield* client.violations;
    if (!this.closed) {
      yield `the connection is not closed, but ${connection.state}`;
      return;
    }
    yield* this.drains.violations();
    yield* limitViolations(this.limitCounts, client, schedule);
    if (connection.active !== 0) yield `${connection.active} requests are active on a closed connection`;
    yield* this.#orderViolations(application);
    yield* this.#countViolations();
  }

  *#orderViolations(application: Application): Iterable<string> {
    let last: ClientRequest | undefined;
    for (const request of this.client.requests) {
      const handled = application.handled.get(request.plan.key) ?? 0;
      if (handled > 1) yield `/${request.plan.key} was handled ${handled} times`;
      if (handled > 0 && !this.#has(request.headEnd)) yield `/${request.plan.key} was handled before it came`;
      if (handled > 0 && last?.close === true) yield `/${request.plan.key} was handled after the answer with close`;
      last = request;
    }
  }

  /** It ended before all that came had been parsed: by a deadline, the client, or when lingering was over. */
  get #isCut(): boolean {
    const { report, lingerMax } = this.drains;
    if (this.client.left || this.connection.counts.aborted > 0) return true;
    return report !== undefined && report.phases.linger >= lingerMax;
  }

  *#countViolations(): Iterable<string> {
    const { client } = this;
    const { counts } = this.connection;
    const counted =
      counts.served + counts.cancelled + counts.malformed + counts.refused + counts.aborted + counts.unserved;
    const came = this.came.length;
    // What is no request counts as one if it came in time; what waited for its turn at a cut has not been parsed.
    const isHeldBack = counted >= CROWD && counted < came && this.#isCut;
    // A head that took too long is a request that failed, whether the rest of it comes or not.
    const failed = client.broke ? 1 : this.limitCounts.headersTimeout;
    if (counted !== came && counted !== came + failed && !isHeldBack)
      yield `${counted} requests were counted, ${came} came`;
    if (counts.refused + counts.cancelled > 0) yield 'HTTP/1.1 refuses nothing, and nobody can cancel';
    // The head is all of an answer to HEAD: its client has it before the handler has ended it. A tunnel is served when it
    // was closed by whom it was given to, or by the client.
    let answered = 0;
    let perhaps = 0;
    for (const request of client.requests) {
      if (request.plan.tunnel || request.plan.method === 'HEAD') perhaps++;
      else if (request.answered && request.status === 200) answered++;
    }
    const { served, aborted } = counts;
    const wrong = this.readToTheEnd ? served < answered || served > answered + perhaps : answered > served + aborted;
    if (wrong) yield `${served} were counted as served, ${answered} were by the client, and perhaps ${perhaps} more`;
    if (
      counts.malformed > 0 &&
      !client.broke &&
      !client.closedBeforeFin &&
      this.limitCounts.headersTimeout + this.limitCounts.bodyTimeout === 0 &&
      !client.left
    )
      yield `${counts.malformed} were malformed`;
  }

  /** What must not be lost when nobody is to blame for it. */
  *lossViolations(loop: Loop, burnt: number): Iterable<string> {
    const { client, connection, drains } = this;
    const { plan, tcp } = client;
    const { report } = drains;
    if (report === undefined || client.left || client.broke || drains.pastDeadline) return;
    if (hasCut(this.limitCounts)) return;
    const { aborted, unserved } = connection.counts;
    const fails = client.requests.some(({ plan: { answer } }) => answer.destroys !== 'no');
    if (aborted > 0 && !fails) yield `${aborted} were aborted, though no handler failed and nobody else did`;
    const roundTrip = roundTripOf(plan);
    const patience = Math.max(0, drains.patience - loop.stalledFor);
    if (
      !this.readToTheEnd &&
      aborted === 0 &&
      !client.closedBeforeFin &&
      patience > 2 * (roundTrip + plan.closeDelay) + 100
    ) {
      yield `${tcp.socket.given - tcp.clientRead} bytes of the server never reached a client that reads`;
    }
    const last = this.client.requests.at(-1);
    const told = last !== undefined && (this.#busyAtDrain || this.#readAt(last) > drains.beganAt);
    // What came behind a body that is not read yet isn't known when its answer begins.
    const isEarly = plan.pipelines && last?.plan.bodySize !== 0 && last?.plan.answer.when === 'at once';
    if (told && last.answered && !last.close && !last.plan.tunnel && !isEarly)
      yield `/${last.plan.key} was answered during the drain without close`;
    if (unserved === 0) return;
    if (client.closeSeen && client.takesTurns && plan.afterGoaway === 'stops') {
      yield `${unserved} requests of a client were lost that takes turns and was told`;
    }
    // Whoever is lost came after the last moment in which it could be answered. (A handler that begins the drain itself
    // and answers at once leaves no moment to see what else was read; one that says close means it.)
    if (plan.requests.some(({ answer }) => answer.drains || answer.closes)) return;
    for (const request of this.came.slice(-unserved)) {
      const inTime =
        this.#committed === undefined
          ? this.#readAt(request) < (tcp.socket.endedAt ?? 0) - SAME_TURN - burnt
          : request.headEnd <= this.#committed;
      if (inTime) yield `/${request.plan.key} was lost, but came in time`;
    }
  }
}

/** Draws the schedule of a seed, runs it, and tells what was wrong. */
export function runH1Schedule(seed: number, trace: (line: string) => void = () => {}): Result {
  const random = new Random(seed);
  const plan = drawSchedule(random);
  const loop = new Loop(plan.stalls, (count) => random.below(count));
  const told = (line: string): void => trace(`${loop.time.toFixed(3).padStart(10)}  ${line}`);
  return loop.within(() => {
    const all: SimulatedConnection[] = [];
    const registry = new Registry();
    const recycle = recycleSettings(plan.recycle, {}, 0);
    const recycler = recycle && new Recycler<LiveConnection>(recycle, drainOf, () => random.next());
    const requests = plan.connections.flatMap((connection) => connection.requests);
    const application = new Application(loop, requests, (connection) =>
      all.find((one) => one.connection === connection)?.drains.call({ timeout: 2_000 }),
    );
    const settings = h1Settings(plan.times);
    const server = theServer();
    const context: H1Context = {
      host: application,
      settings,
      keepAlive: { advertise: 0, hold: plan.hold },
      recycling: drainSettings({ timeout: Infinity }),
    };

    const open = (connectionPlan: ConnectionPlan, index: number): void => {
      const line = (text: string): void => told(`[${index}] ${text}`);
      const client = new H1SimClient(loop, random.fork(), connectionPlan, 10_000 + index, line);
      const connection = new LiveConnection(client.tcp.socket as unknown as Socket, false);
      registry.add(connection);
      connection.observer = recycler?.watch(connection);
      const drains = new Drains(loop, connection, plan.recycle.timeout);
      const one = new SimulatedConnection(index, client, connection, drains);
      all.push(one);
      attachH1(server, connection, connection.socket, context);
      one.watch(loop);
      client.start();
      for (const drain of connectionPlan.drains) {
        loop.applicationTimer(Math.max(1, drain.at - loop.time), () => {
          line(`drain, timeout ${drain.timeout}, idleWait ${drain.idleWait}`);
          drains.call(drain);
        });
      }
      loop.applicationTimer(LAST_DRAIN_AT, () => {
        if (connection.state !== 'closed') drains.call({ timeout: 200, linger: 300, lingerMax: 1_000 });
      });
    };
    for (const [index, connectionPlan] of plan.connections.entries()) {
      loop.applicationTimer(Math.max(1, connectionPlan.openAt), () => open(connectionPlan, index));
    }

    const everything = plan.connections.length;
    const settled = loop.run(
      () => all.length === everything && all.every((one) => one.closed && one.drains.over),
      LONGEST,
    );
    const end = loop.time + AFTERGLOW;
    loop.run(() => loop.time >= end && loop.pending === 0, AFTERGLOW + 1_000);
    const burnt = requests.reduce((sum, { answer }) => sum + answer.burns, 0);
    return check(settled, all, application, registry, loop, plan, burnt);
  });
}

let shared: Server | undefined;

/** The http.Server behind: one for all schedules, as there is one for all connections. */
function theServer(): Server {
  if (shared !== undefined) return shared;
  shared = createH1Server(h1Settings({}));
  shared.on('request', (req, res) => h1ConnectionOf(req.socket)?.deliver('request', res));
  return shared;
}

function check(
  settled: boolean,
  all: readonly SimulatedConnection[],
  application: Application,
  registry: Registry,
  loop: Loop,
  plan: SchedulePlan,
  burnt: number,
): Result {
  const violations = [...application.violations];
  if (!settled) violations.push('the schedule does not end');
  if (registry.size > 0) violations.push(`${registry.size} connections are left in the registry`);
  if (loop.pending > 0) violations.push(`${loop.pending} timers are left`);
  const features = new Set<Feature>();
  let requests = 0;
  for (const one of all) {
    const { index } = one;
    requests += one.client.requests.length;
    for (const violation of one.violations(application, plan)) violations.push(`[${index}] ${violation}`);
    for (const violation of one.lossViolations(loop, burnt)) violations.push(`[${index}] ${violation}`);
    if (one.client.peakOpen >= CROWD) features.add('a crowd of requests');
    if (one.client.requests.some(({ plan, answered }) => plan.tunnel && answered)) features.add('a tunnel');
    for (const limit of STALLS) if (one.limitCounts[limit] > 0) features.add(`${limit} fired`);
    const { report } = one.drains;
    if (report === undefined) continue;
    features.add(report.outcome);
    if (report.outcome === 'forced') features.add('requests cut by the deadline');
    if (report.unserved > 0) features.add('requests after the last answer');
    if (one.activeAtDrain > 1) features.add('several requests in flight');
    if (one.uploading) features.add('uploads open');
  }
  if (application.duringDrain > 0) features.add('requests while draining');
  if (loop.stalledFor > 0) features.add('a stalled loop');
  return { violations, features, requests, connections: all.length, callbacks: loop.callbacks };
}
