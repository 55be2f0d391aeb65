/**
 * The soak's well-behaved clients over raw sockets, which never retry and count every request: keep-alive and
 * one-request connections, HTTP/2 with several streams, uploads, event streams; over TLS and cleartext.
 */
import { H1Client } from '../../../test/wire/h1-client.js';
import { type H1RunResult, runH1Client } from '../../../test/wire/h1-runner.js';
import { H2Client } from '../../../test/wire/h2-client.js';
import { type H2RunResult, runH2Client } from '../../../test/wire/h2-runner.js';
import type { Random } from '../../../test/wire/random.js';
import { h1Exchanges, h2Exchanges, type Mix } from '../exchanges.js';
import { KIND_FIELD } from './app.js';
import type { Kind } from './messages.js';
import type { ClientTally, Tallies } from './tally.js';

export interface Field {
  readonly tlsPort: number;
  readonly cleartextPort: number;
  readonly stop: AbortSignal;
  readonly tallies: Tallies;
}

/** Where a client connects to. */
export interface Target {
  readonly port: number;
  readonly tls: boolean;
}

/** Every third connection is cleartext. */
export function drawTarget(field: Field, random: Random): Target {
  return random.chance(1 / 3) ? { port: field.cleartextPort, tls: false } : { port: field.tlsPort, tls: true };
}

export const MIX: Mix = { serviceMs: 30, uploads: 0.15, early: 0.15, large: 0.05, uploadPauseMs: 30 };

/** Waits between connections of one client, ms. */
const RECONNECT_MS = 100;

/** Runs something over and over until the soak is over; what it throws is a connection that could not be made. */
export async function untilStopped(
  { stop, tallies }: Field,
  tally: ClientTally,
  random: Random,
  once: () => Promise<void>,
  pauseMs = RECONNECT_MS,
): Promise<void> {
  while (!stop.aborted) {
    try {
      tally.connections++;
      await once();
    } catch (error) {
      tally.lost++;
      tallies.fault(tally, `no connection: ${String(error)}`);
    }
    await pause(random.exponential(pauseMs), stop);
  }
}

/** Waits, but not beyond the end. */
export function pause(ms: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      stop.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (stop.aborted) done();
    else stop.addEventListener('abort', done);
  });
}

/** HTTP/1.1, one connection after another, each for as long as the server keeps it or for `maxRequests`. */
export function h1Client(field: Field, tally: ClientTally, random: Random, meanThinkMs: number, maxRequests?: number) {
  const exchange = h1Exchanges(MIX);
  return untilStopped(field, tally, random, async () => {
    const result = await runH1Client({
      ...drawTarget(field, random),
      seed: random.below(2 ** 32),
      think: { kind: 'exponential', meanMs: meanThinkMs },
      honourHint: true,
      stop: field.stop,
      ...(maxRequests !== undefined && { maxRequests }),
      exchange: (n, drawn) => {
        const { request, ...expected } = exchange(n, drawn);
        return { ...expected, request: { ...request, headers: { ...request.headers, [KIND_FIELD]: 'good' } } };
      },
    });
    addH1(field, tally, result);
  });
}

function addH1({ tallies }: Field, tally: ClientTally, result: H1RunResult): void {
  tally.sent += result.sent;
  tally.answered += result.answered;
  tally.lost += result.wrong + result.unserved;
  if (result.reset) tally.resets++;
  if (result.firstFault !== undefined) tallies.fault(tally, result.firstFault);
}

/** HTTP/2, one connection after another, several streams at once. */
export function h2Client(field: Field, tally: ClientTally, random: Random, meanThinkMs: number, kind: Kind = 'good') {
  const exchange = h2Exchanges(MIX);
  return untilStopped(field, tally, random, async () => {
    const result = await runH2Client({
      ...drawTarget(field, random),
      seed: random.below(2 ** 32),
      inFlight: 1 + random.below(6),
      think: { kind: 'exponential', meanMs: meanThinkMs },
      stop: field.stop,
      exchange: (n, drawn) => ({ ...exchange(n, drawn), headers: [[KIND_FIELD, kind]] }),
    });
    addH2(field, tally, result);
  });
}

function addH2({ tallies }: Field, tally: ClientTally, result: H2RunResult): void {
  tally.sent += result.sent;
  tally.answered += result.answered;
  tally.refused += result.refused;
  tally.lost += result.wrong + result.streamResets + result.unserved;
  if (result.reset) tally.resets++;
  const lost = result.wrong + result.streamResets + result.unserved;
  if (lost > 0) tallies.fault(tally, result.firstFault ?? `${lost} lost`);
  tallies.violated(result.violations);
}

const UPLOAD_PARTS = 24;
const UPLOAD_PART = Buffer.alloc(16_384, 'u');

/** A chunked upload of 384 KiB, a part every few ms. */
export function uploader(field: Field, tally: ClientTally, random: Random) {
  return untilStopped(field, tally, random, async () => {
    const client = await H1Client.connect(drawTarget(field, random));
    client.write(
      `POST /upload/up/0 HTTP/1.1\r\nHost: localhost\r\n${KIND_FIELD}: good\r\nTransfer-Encoding: chunked\r\n\r\n`,
      ['POST'],
    );
    tally.sent++;
    for (let i = 0; i < UPLOAD_PARTS; i++) {
      client.write(`${UPLOAD_PART.length.toString(16)}\r\n`);
      client.write(UPLOAD_PART);
      client.write('\r\n');
      await new Promise((resolve) => setTimeout(resolve, random.between(0, 60)));
    }
    client.write('0\r\n\r\n');
    await settle(
      field,
      tally,
      client.response(30_000),
      (text) => text === `ok up ${UPLOAD_PARTS * UPLOAD_PART.length}`,
    );
    client.end();
    client.destroy();
  });
}

/** A stream of events over either protocol, which must be whole however it ends. */
export function listener(field: Field, tally: ClientTally, random: Random) {
  const { tallies } = field;
  return untilStopped(field, tally, random, async () => {
    const target = drawTarget(field, random);
    const path = `/events/${random.below(200)}`;
    tally.sent++;
    if (random.chance(0.5)) {
      const client = await H1Client.connect(target);
      client.request({ path, headers: { [KIND_FIELD]: 'good' } });
      await settle(field, tally, client.response(60_000), isWhole);
      client.end();
      client.destroy();
    } else {
      const client = await H2Client.connect({ ...target, record: false });
      const stream = client.request({ path, headers: [[KIND_FIELD, 'good']] });
      await settle(field, tally, client.response(stream, 60_000), isWhole);
      tallies.violated(client.violations);
      client.end();
      client.destroy();
    }
  });
}

async function settle(
  { tallies }: Field,
  tally: ClientTally,
  answer: Promise<{ readonly text: string; readonly reset?: number | undefined }>,
  isRight: (text: string) => boolean,
): Promise<void> {
  try {
    const { text, reset } = await answer;
    if (reset === undefined && isRight(text)) {
      tally.answered++;
      return;
    }
    tallies.fault(tally, `reset ${reset}, ${JSON.stringify(text.slice(-80))}`);
  } catch (error) {
    tallies.fault(tally, String(error));
  }
  tally.lost++;
}

function isWhole(text: string): boolean {
  const events = [...text.matchAll(/^data: (.*)$/gm)].map(([, data]) => data);
  const last = events.pop();
  return last === `end ${events.length}` && events.every((data, i) => data === String(i));
}
