/**
 * One schedule of HTTP/2 connections: the server as it is (LiveConnection, attachH2, gracefulShutdown), simulated
 * clients, networks and application; then every invariant of a drain is checked against what the clients saw.
 */
import type { Socket } from 'node:net';
import { LiveConnection } from '../../src/core/connection.js';
import { noLimits } from '../../src/core/limits.js';
import { Recycler, recycleSettings } from '../../src/core/recycle.js';
import { Registry } from '../../src/core/registry.js';
import { drainSettings } from '../../src/core/shutdown.js';
import { attachH2, type H2Connection } from '../../src/h2/connection.js';
import { h2Settings } from '../../src/h2/options.js';
import { drainOf } from '../../src/stop.js';
import { ErrorCode, MAX_STREAM_ID } from '../wire/h2-frames.js';
import { Random } from '../wire/random.js';
import { Application } from './application.js';
import { Drains } from './drains.js';
import { drawSchedule } from './draw.js';
import { H2SimClient } from './h2-client.js';
import type { ClientStream } from './h2-stream.js';
import { CROWD, hasCut, limitViolations, roundTripOf, STALLS } from './innocence.js';
import { Loop } from './loop.js';
import { type ConnectionPlan, LAST_DRAIN_AT, type SchedulePlan } from './plan.js';
import type { Feature, Result } from './result.js';

/** Timers that a connection leaves behind may take so long to find that there is nothing to do. */
const AFTERGLOW = 300;

/** No schedule takes longer than this, in simulated ms. */
const LONGEST = 200_000;

/** How a request ended, by what its client knows; `'none'`: the server never got it. */
type Fate = 'served' | 'cancelled' | 'malformed' | 'refused' | 'aborted' | 'none';

class SimulatedConnection {
  /** Its place in the plan. */
  readonly index: number;
  readonly client: H2SimClient;
  readonly connection: LiveConnection;
  readonly driver: H2Connection;
  readonly limitCounts = noLimits();
  readonly drains: Drains;
  /** Bytes that the server has received, and those of them that its session has read. */
  #received = 0;
  #read = 0;
  closed = false;
  blockedOnWindows = false;
  uploading = false;

  constructor(index: number, client: H2SimClient, connection: LiveConnection, driver: H2Connection, drains: Drains) {
    this.index = index;
    this.client = client;
    this.connection = connection;
    this.driver = driver;
    this.drains = drains;
    connection.limitCounts = this.limitCounts;
    const { socket } = client.tcp;
    socket.on('data', (bytes: Buffer) => {
      this.#received += bytes.length;
    });
    socket.on('close', () => {
      this.closed = true;
    });
    const { session } = driver;
    const receive = session.receive.bind(session);
    session.receive = (...args) => {
      const read = receive(...args);
      this.#read += read;
      return read;
    };
    drains.onBegin = () => this.#look();
  }

  /** What was going on when the drain began. */
  #look(): void {
    const { session } = this.driver;
    for (const stream of session.streams.values()) {
      if (stream.queuedBytes > 0 && (stream.sendWindow <= 0 || !session.wantsPump)) this.blockedOnWindows = true;
      if (stream.receiving) this.uploading = true;
    }
  }

  /** Everything that the server wrote has been read by the client. */
  get readToTheEnd(): boolean {
    return this.client.tcp.clientRead === this.client.tcp.socket.given;
  }

  /** How much of what the client sent the server got. What waited for its turn at the client's reset, or at a cut, is read no more. */
  get #got(): number {
    const isCut = this.client.tcp.resetAtServer || this.drains.report?.outcome === 'forced' || hasCut(this.limitCounts);
    return isCut ? this.#read : this.#received;
  }

  /** The server got this request. */
  got(stream: ClientStream): boolean {
    return stream.headersEnd <= this.#got;
  }

  get final(): number {
    return this.client.goaways.at(-1) ?? Infinity;
  }

  fateOf(stream: ClientStream): Fate {
    if (!this.got(stream)) return 'none';
    if (stream.ended) return 'served';
    if (stream.reset === ErrorCode.REFUSED_STREAM || stream.id > this.final) return 'refused';
    if (stream.reset === ErrorCode.PROTOCOL_ERROR) return 'malformed';
    if (stream.reset !== undefined) return 'aborted';
    if (stream.cancelEnd <= this.#got) return 'cancelled';
    return 'aborted';
  }

  *violations(application: Application, schedule: SchedulePlan): Iterable<string> {
    const { client, connection, driver } = this;
    yield* client.violations;
    if (!this.closed) {
      yield `the connection is not closed, but ${connection.state}`;
      return;
    }
    yield* this.drains.violations();
    yield* limitViolations(this.limitCounts, client, schedule);
    if (connection.active !== 0) yield `${connection.active} requests are active on a closed connection`;
    if (driver.session.active !== 0) yield `${driver.session.active} streams are open on a closed connection`;

    const seen = { served: 0, cancelled: 0, malformed: 0, refused: 0, aborted: 0, none: 0 };
    for (const stream of client.streams.values()) {
      const fate = this.fateOf(stream);
      seen[fate]++;
      const handled = application.handled.get(stream.plan.key) ?? 0;
      if (handled > 1) yield `/${stream.plan.key} was handled ${handled} times`;
      if (handled > 0 && (fate === 'refused' || fate === 'none')) yield `stream ${stream.id} was ${fate}, but handled`;
      if (fate === 'none' && stream.id <= this.final && this.final !== MAX_STREAM_ID && this.final !== Infinity) {
        yield `stream ${stream.id} never came, but the last-stream-id is ${this.final}`;
      }
    }
    yield* this.#countViolations(seen);
  }

  /** The server's counters, and what the client saw. */
  *#countViolations(seen: Record<Fate, number>): Iterable<string> {
    const { counts } = this.connection;
    const counted =
      counts.served + counts.cancelled + counts.malformed + counts.refused + counts.aborted + counts.unserved;
    const got = this.client.streams.size - seen.none;
    if (counted !== got) yield `${counted} requests were counted, ${got} came`;
    if (counts.unserved > 0) yield `${counts.unserved} requests were unserved`;
    // what a client that left had still coming isn't known to it
    if (!this.readToTheEnd || this.client.left) {
      if (seen.served > counts.served + counts.aborted) yield `${seen.served} were answered, ${counts.served} counted`;
      return;
    }
    if (!hasCut(this.limitCounts)) {
      for (const stream of this.client.streams.values()) {
        if (stream.reset === undefined && this.fateOf(stream) === 'aborted')
          yield `stream ${stream.id} was cut without a word`;
      }
    }
    const failed = counts.malformed + counts.aborted;
    for (const fate of ['served', 'cancelled', 'refused'] as const) {
      if (counts[fate] !== seen[fate])
        yield `${counts[fate]} were counted as ${fate}, ${seen[fate]} were by the client`;
    }
    if (failed !== seen.malformed + seen.aborted)
      yield `${failed} failed, ${seen.malformed + seen.aborted} by the client`;
    if (this.limitCounts.bodyTimeout === 0 && counts.malformed !== seen.malformed) {
      yield `${counts.malformed} were malformed, ${seen.malformed} by the client`;
    }
  }
}

/** Draws the schedule of a seed, runs it, and tells what was wrong. */
export function runH2Schedule(seed: number, trace: (line: string) => void = () => {}): Result {
  const random = new Random(seed);
  const plan = drawSchedule(random);
  const loop = new Loop(plan.stalls, (count) => random.below(count));
  const told = (line: string): void => trace(`${loop.time.toFixed(3).padStart(10)}  ${line}`);
  return loop.within(() => {
    const all: SimulatedConnection[] = [];
    const registry = new Registry();
    const recycle = recycleSettings(plan.recycle, {}, 0);
    const recycler = recycle && new Recycler<LiveConnection>(recycle, drainOf, () => random.next());
    const application = new Application(
      loop,
      plan.connections.flatMap(({ requests }) => requests),
      (connection) => all.find((one) => one.connection === connection)?.drains.call({ timeout: 2_000 }),
    );
    const { maxConcurrentStreams, initialWindowSize, prefaceTimeout, times, ping, hold } = plan;
    const context = {
      host: application,
      settings: h2Settings({
        maxConcurrentStreams,
        initialWindowSize,
        prefaceTimeout,
        ...times,
        ...(ping && { ping }),
      }),
      keepAlive: { advertise: 0, hold },
      recycling: drainSettings({ timeout: Infinity }),
    };

    const open = (connectionPlan: ConnectionPlan, index: number): void => {
      const client = new H2SimClient(loop, random.fork(), connectionPlan, 10_000 + index, (line) =>
        told(`[${index}] ${line}`),
      );
      const connection = new LiveConnection(client.tcp.socket as unknown as Socket, false);
      registry.add(connection);
      connection.observer = recycler?.watch(connection);
      const driver = attachH2(connection, connection.socket, context);
      const drains = new Drains(loop, connection, plan.recycle.timeout);
      all.push(new SimulatedConnection(index, client, connection, driver, drains));
      client.start();
      for (const drain of connectionPlan.drains) {
        loop.applicationTimer(Math.max(1, drain.at - loop.time), () => {
          told(`[${index}] drain, timeout ${drain.timeout}, settle ${drain.settle}`);
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
    return check(settled, all, application, registry, loop, plan);
  });
}

function check(
  settled: boolean,
  all: readonly SimulatedConnection[],
  application: Application,
  registry: Registry,
  loop: Loop,
  plan: SchedulePlan,
): Result {
  const violations = [...application.violations];
  if (!settled) violations.push('the schedule does not end');
  if (registry.size > 0) violations.push(`${registry.size} connections are left in the registry`);
  if (loop.pending > 0) violations.push(`${loop.pending} timers are left`);
  const features = new Set<Feature>();
  let streams = 0;
  for (const one of all) {
    const { index } = one;
    streams += one.client.streams.size;
    for (const violation of one.violations(application, plan)) violations.push(`[${index}] ${violation}`);
    for (const violation of lossViolations(one, loop)) violations.push(`[${index}] ${violation}`);
    const { report } = one.drains;
    if (report !== undefined) {
      features.add(report.outcome);
      if (report.outcome === 'forced') features.add('requests cut by the deadline');
      if (report.refused > 0 && one.final !== MAX_STREAM_ID) features.add('streams after the final GOAWAY');
    }
    if (one.blockedOnWindows) features.add('streams blocked on flow control');
    if (one.uploading) features.add('uploads open');
    if (one.client.peakOpen >= CROWD) features.add('a crowd of requests');
    if ([...one.client.streams.values()].some(({ plan, ended }) => plan.tunnel && ended)) features.add('a tunnel');
    for (const limit of STALLS) if (one.limitCounts[limit] > 0) features.add(`${limit} fired`);
  }
  if (application.duringDrain > 0) features.add('streams between the GOAWAYs');
  if (loop.stalledFor > 0) features.add('a stalled loop');
  return { violations, features, requests: streams, connections: all.length, callbacks: loop.callbacks };
}

/** What must not be lost when nobody is to blame for it. */
function* lossViolations(
  { client, connection, limitCounts, drains, readToTheEnd, final }: SimulatedConnection,
  loop: Loop,
): Iterable<string> {
  const { plan, tcp } = client;
  const { report } = drains;
  if (report === undefined || client.left || hasCut(limitCounts) || drains.pastDeadline) return;
  const [first = MAX_STREAM_ID] = client.goaways;
  if (first !== MAX_STREAM_ID) yield `the first GOAWAY says ${first}`;

  const failed = [...client.streams.values()].filter(({ plan: { answer } }) => answer.destroys !== 'no').length;
  const { aborted } = connection.counts;
  if (aborted > failed) yield `${aborted} were aborted, though handlers failed in ${failed} and nobody else did`;

  const { delay } = plan.network;
  const roundTrip = roundTripOf(plan) + plan.pingAckDelay;

  const acked = drains.settle > roundTrip + 1 && !tcp.toServer.everBlocked;
  const orderly = plan.afterGoaway === 'stops' && client.peakOpen <= client.allowedOpen;
  if (acked && orderly && connection.counts.refused > 0) {
    yield `${connection.counts.refused} streams were refused to a client that obeys GOAWAY and answers PING`;
  }

  if (report.phases.settle > 0 && !tcp.toClient.everBlocked) {
    const longest = drains.settle / 2 + plan.prefaceDelay + delay + drains.settledBy - drains.beganAt + loop.stalledFor;
    const most = longest + Math.max(10, longest) + 40;
    if (report.phases.settle > most) yield `settling took ${report.phases.settle} ms, ${most} were allowed`;
  }

  const patience = Math.max(0, drains.patience - loop.stalledFor);
  const closesItself = client.closedBeforeFin;
  if (!readToTheEnd && !closesItself && patience > 2 * (roundTrip + plan.closeDelay) + 100) {
    yield `${tcp.socket.given - tcp.clientRead} bytes of the server never reached a client that reads`;
  }

  const walked = final !== MAX_STREAM_ID && report.phases.linger > 0 && !client.closedBeforeFin;
  if (acked && walked && report.rtt === undefined) yield 'no round trip was measured with a client that answers PING';

  if (acked && report.rtt !== undefined && !tcp.toClient.everBlocked && final !== MAX_STREAM_ID) {
    const { announce, settle } = report.phases;
    const measured = roundTrip + plan.prefaceDelay + loop.stalledFor;
    // The announcement waits for the ACK of our SETTINGS, another 10 ms, and half of `settle` at most.
    const announced = Math.min(measured + 10, drains.firstSettle / 2);
    const most = announced + measured + Math.max(10, measured) + 40;
    if (announce + settle > most) yield `settling took ${settle} ms, ${most} is enough for the round trip`;
    if (report.rtt < 2 * delay - 0.001) yield `the round trip of ${2 * delay} ms was measured as ${report.rtt}`;
  }
}
