/**
 * What looks like an attack and is none: each is carried out against a server and says what was wrong, if anything.
 * Sizes and times are parameters, so that tests have a short form of what really takes minutes.
 */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from '../../src/index.js';
import { FakeClock } from '../core/fake-clock.js';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { ErrorCode } from '../wire/h2-frames.js';
import { Random } from '../wire/random.js';
import type { Transport } from '../wire/transport.js';
import { delay } from './attack.js';

export type Protocol = 'h1' | 'h2';

/** Requests sent, and those that weren't answered as they had to be, in words. */
export interface Innocence {
  readonly sent: number;
  readonly wrong: readonly string[];
}

/** Reads at most so many octets a second. */
function readSlowly(transport: Transport, perSecond: number): void {
  const { socket } = transport;
  socket.on('data', (bytes: Buffer) => {
    socket.pause();
    setTimeout(() => socket.resume(), (bytes.length / perSecond) * 1_000);
  });
}

/** An answer given to `res.end` in one piece, to a client that reads slowly. */
export async function slowReader(
  port: number,
  protocol: Protocol,
  octets: number,
  perSecond: number,
): Promise<Innocence> {
  const path = `/large/0/${octets}`;
  const patience = (octets / perSecond) * 2_000 + 10_000;
  const client = protocol === 'h1' ? await H1Client.connect({ port }) : await H2Client.connect({ port, record: false });
  readSlowly(client.transport, perSecond);
  try {
    let received: number;
    if (client instanceof H1Client) {
      client.request({ path });
      received = (await client.response(patience)).text.length;
    } else {
      const stream = await client.response(client.request({ path }), patience);
      received = stream.ended ? stream.text.length : -1;
    }
    return { sent: 1, wrong: received === octets ? [] : [`${received} of ${octets} octets came`] };
  } catch (error) {
    return { sent: 1, wrong: [error instanceof Error ? error.message : String(error)] };
  } finally {
    client.destroy();
  }
}

/** A body that comes in small pieces for a long time. */
export async function slowUpload(port: number, protocol: Protocol, ms: number, perSecond: number): Promise<Innocence> {
  const pieces = Math.floor(ms / PIECE_MS);
  const piece = Buffer.alloc(Math.floor((perSecond * PIECE_MS) / 1_000), 'x');
  const octets = pieces * piece.length;
  const path = '/upload/0/0';
  const client = protocol === 'h1' ? await H1Client.connect({ port }) : await H2Client.connect({ port, record: false });
  try {
    let answer: () => Promise<string>;
    let send: (last: boolean) => boolean;
    if (client instanceof H1Client) {
      client.write(`POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${octets}\r\n\r\n`, ['POST']);
      send = () => client.write(piece);
      answer = async () => (await client.response()).text;
    } else {
      const id = client.request({ method: 'POST', path, open: true });
      send = (last) => client.data(id, piece, last);
      answer = async () => (await client.response(id)).text;
    }
    for (let i = 0; i < pieces; i++) {
      await delay(PIECE_MS);
      if (!send(i === pieces - 1)) break;
    }
    const text = await answer();
    return { sent: 1, wrong: text === `ok 0 ${octets}` ? [] : [`answered ${JSON.stringify(text)}`] };
  } catch (error) {
    return { sent: 1, wrong: [error instanceof Error ? error.message : String(error)] };
  } finally {
    client.destroy();
  }
}

const PIECE_MS = 100;

/** Streams that a proxy has open at once: fewer than the server allows. */
const AT_ONCE = 80;

/**
 * A proxy that multiplexes many users on one connection: some of them go away, now one by one, now many at once when
 * something upstream of the proxy fails.
 */
export async function cancellingProxy(port: number, served: number, cancels: number): Promise<Innocence> {
  const random = new Random(11);
  const client = await H2Client.connect({ port, record: false });
  const total = served + cancels;
  const wrong: string[] = [];
  const isCancelled = new Uint8Array(total);
  // Half of those who leave do so by themselves, the others in crowds of 40.
  for (let left = cancels; left > 0; ) {
    const crowd = left % 80 < 40 ? 1 : Math.min(40, left);
    const at = random.below(total - crowd);
    for (let i = at; i < at + crowd; i++) {
      if (isCancelled[i] === 1) continue;
      isCancelled[i] = 1;
      left--;
    }
  }
  let open = 0;
  let answered = 0;
  const numbers = new Map<number, number>();
  client.onStreamEnd = (stream) => {
    const number = numbers.get(stream.id);
    numbers.delete(stream.id);
    if (number !== undefined) {
      open--;
      if (Buffer.concat(stream.body).toString() === `ok ${number}`) answered++;
      else wrong.push(`stream ${stream.id} ended with reset ${stream.reset}`);
    }
    client.forget(stream.id);
  };
  for (let number = 0; number < total && client.ending === 'open'; number++) {
    if (open >= AT_ONCE) await client.wait(() => open < AT_ONCE / 2 || client.ending !== 'open', 10_000);
    const leaves = isCancelled[number] === 1;
    const id = client.request({ path: `/small/${number}/${leaves ? 50 : 0}` });
    if (leaves) client.rst(id, ErrorCode.CANCEL);
    else {
      numbers.set(id, number);
      open++;
    }
  }
  await client.wait(() => open === 0 || client.ending !== 'open', 10_000);
  if (client.goaways.length > 0) wrong.push('the server sent GOAWAY');
  if (answered !== served) wrong.push(`${answered} of ${served} answered`);
  client.destroy();
  return { sent: total, wrong: wrong.slice(0, 5) };
}

/** A stream on which both sides say something now and then, on a clock that goes on when it is told to. */
export async function longStream(ms: number, every: number): Promise<Innocence> {
  const clock = new FakeClock();
  const server = createServer({ cleartext: true }, (req, res) => void req.pipe(res));
  try {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const client = await H2Client.connect({ port, tls: false });
    const id = client.request({ method: 'POST', open: true });
    const stream = client.stream(id);
    let said = '';
    for (let at = 0; at < ms; at += every) {
      said += 'x';
      client.data(id, 'x');
      await untilReal(clock, () => Buffer.concat(stream.body).length >= said.length);
      await clock.advance(every);
    }
    client.data(id, 'y', true);
    await untilReal(clock, () => stream.ended || stream.reset !== undefined);
    const heard = Buffer.concat(stream.body).toString();
    client.destroy();
    const whole = stream.ended && heard === `${said}y`;
    return {
      sent: 1,
      wrong: whole ? [] : [`${heard.length} of ${said.length + 1} octets came back, reset ${stream.reset}`],
    };
  } finally {
    server.closeAllConnections();
    // What was put off on this clock would never happen on the real one.
    do await clock.turn();
    while (server.connections.size > 0);
    clock.restore();
    server.close();
  }
}

/** Bytes travel in real time while the clock stands still. */
async function untilReal(clock: FakeClock, holds: () => boolean): Promise<void> {
  for (let turns = 0; turns < 5_000 && !holds(); turns++) await clock.turn();
}
