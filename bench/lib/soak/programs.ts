/**
 * The soak's clients that others wrote: node:http2, undici, ws, curl and h2load. What they lose by their own mistakes
 * can't be told from here, so it is only shown; what the server says of their requests counts all the same.
 */
import { spawn } from 'node:child_process';
import { type ClientHttp2Session, connect } from 'node:http2';
import { Agent, request } from 'undici';
import { WebSocket } from 'ws';
import type { Random } from '../../../test/wire/random.js';
import { h2load } from '../h2load.js';
import { KIND_FIELD } from './app.js';
import { drawTarget, type Field, pause, untilStopped } from './clients.js';
import type { ClientTally } from './tally.js';

const PATIENCE_MS = 20_000;

/** node:http2's client: one session after another, each used until it says that it is going away. */
export async function nodeHttp2(field: Field, tally: ClientTally, random: Random): Promise<void> {
  let current: ClientHttp2Session | undefined;
  const session = (): ClientHttp2Session => {
    if (current !== undefined && !current.closed && !current.destroyed) return current;
    tally.connections++;
    const opened = connect(`https://127.0.0.1:${field.tlsPort}`, { rejectUnauthorized: false });
    const retire = (): void => {
      if (current === opened) current = undefined;
    };
    for (const event of ['goaway', 'close', 'error']) opened.on(event, retire);
    current = opened;
    return opened;
  };
  for (let n = 0; !field.stop.aborted; n++) {
    const stream = session().request({ ':path': `/small/${n}/20`, [KIND_FIELD]: 'foreign' });
    await count(tally, `ok ${n}`, async () => {
      let text = '';
      for await (const chunk of stream.setEncoding('utf8')) text += chunk;
      return text;
    });
    await pause(random.exponential(100), field.stop);
  }
  current?.close();
}

/** undici, over HTTP/1.1 or HTTP/2. */
export async function undici(field: Field, tally: ClientTally, random: Random, allowH2: boolean): Promise<void> {
  const dispatcher = new Agent({
    allowH2,
    connections: 1,
    headersTimeout: PATIENCE_MS,
    bodyTimeout: PATIENCE_MS,
    connect: { rejectUnauthorized: false },
  });
  dispatcher.on('connect', () => tally.connections++);
  for (let n = 0; !field.stop.aborted; n++) {
    await count(tally, `ok ${n} 1000`, async () => {
      const { body } = await request(`https://127.0.0.1:${field.tlsPort}/upload/${n}/20`, {
        dispatcher,
        method: 'POST',
        headers: { [KIND_FIELD]: 'foreign' },
        body: 'u'.repeat(1_000),
      });
      return body.text();
    });
    await pause(random.exponential(100), field.stop);
  }
  await dispatcher.destroy();
}

async function count(tally: ClientTally, expected: string, ask: () => Promise<string>): Promise<void> {
  tally.sent++;
  try {
    if ((await ask()) === expected) tally.answered++;
    else tally.lost++;
  } catch {
    tally.lost++;
  }
}

/** A WebSocket that sends now and then, and expects every message back until one side closes in order. */
export function webSocket(field: Field, tally: ClientTally, random: Random) {
  return untilStopped(field, tally, random, async () => {
    const { port, tls } = drawTarget(field, random);
    const socket = new WebSocket(`${tls ? 'wss' : 'ws'}://127.0.0.1:${port}/`, {
      rejectUnauthorized: false,
      headers: { [KIND_FIELD]: 'good' },
    });
    const wanted = 1 + random.below(60);
    let sent = 0;
    let echoed = 0;
    tally.sent++;
    const [code, failure] = await new Promise<[number, string]>((resolve) => {
      let error = '';
      let timer: NodeJS.Timeout | undefined;
      const speak = (): void => {
        if (socket.readyState !== WebSocket.OPEN) return;
        if (sent >= wanted || field.stop.aborted) socket.close(1000);
        else socket.send(`message ${sent++}`);
      };
      socket.on('open', speak);
      socket.on('message', (text) => {
        if (String(text) === `message ${echoed}`) echoed++;
        timer = setTimeout(speak, random.exponential(150));
      });
      socket.on('error', ({ message }) => {
        error = message;
      });
      socket.on('close', (closeCode) => {
        clearTimeout(timer);
        resolve([closeCode, error]);
      });
    });
    // What was sent as the server said goodbye isn't echoed.
    const inOrder = (code === 1000 && echoed === sent) || (code === 1012 && sent - echoed <= 1);
    if (inOrder) tally.answered++;
    else {
      tally.lost++;
      field.tallies.fault(tally, `closed with ${code} ${failure}, ${echoed} of ${sent} messages echoed`);
    }
  });
}

/** A burst of curl now and then. */
export async function curl(field: Field, tally: ClientTally, random: Random): Promise<void> {
  for (let n = 0; !field.stop.aborted; n++) {
    const urls = Array.from({ length: 5 }, (_, i) => `https://127.0.0.1:${field.tlsPort}/small/${n}-${i}/20`);
    const protocol = random.chance(0.5) ? '--http2' : '--http1.1';
    const text = await output('curl', ['-sk', protocol, '-m', '20', '-H', `${KIND_FIELD}: foreign`, ...urls]);
    if (text === undefined) return;
    tally.connections++;
    tally.sent += urls.length;
    const answered = urls.filter((_, i) => text.includes(`ok ${n}-${i}`)).length;
    tally.answered += answered;
    tally.lost += urls.length - answered;
    await pause(random.exponential(4_000), field.stop);
  }
}

function output(command: string, args: readonly string[]): Promise<string | undefined> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'ignore'] });
    let text = '';
    child.stdout.on('data', (bytes: Buffer) => {
      text += bytes.toString();
    });
    child.once('error', () => resolve(undefined));
    child.once('close', () => resolve(text));
  });
}

/**
 * A burst of h2load now and then. It opens no second connection and fails what was left when a GOAWAY came, so its
 * connections aren't drained, once a request has said whose they are.
 */
export async function h2loadBursts(field: Field, tally: ClientTally, random: Random): Promise<void> {
  for (;;) {
    await pause(random.exponential(10_000), field.stop);
    if (field.stop.aborted) return;
    const options = { requests: 400, connections: 4, streams: 10, header: `${KIND_FIELD}: undrained` };
    const result = await h2load(`https://127.0.0.1:${field.tlsPort}/small/0/0`, options);
    if (result === undefined) return;
    tally.connections += options.connections;
    tally.sent += result.total;
    tally.answered += result.succeeded;
    tally.lost += result.total - result.succeeded;
  }
}
