/**
 * Exchanges that outlive their connection's maximum age many times: event streams and uploads, over both protocols,
 * one after the other until they are told to stop.
 */
import { H1Client } from '../../../test/wire/h1-client.js';
import { H2Client } from '../../../test/wire/h2-client.js';

export interface LongCounts {
  /** complete and as they had to be */
  whole: number;
  /** cut, or otherwise not as they had to be */
  cut: number;
  readonly faults: string[];
}

/** Between two events, and between two pieces of an upload, ms. */
const PACE_MS = 100;

const PIECE = Buffer.alloc(1_000, 'u');

type Exchange = (port: number, ms: number) => Promise<void>;

const eventsH1: Exchange = async (port, ms) => {
  const client = await H1Client.connect({ port });
  const count = Math.round(ms / PACE_MS);
  client.request({ path: `/events/${count}/${ms}` });
  expectEvents((await client.response(2 * ms + 10_000)).text, count);
  client.end();
  await client.transport.closed;
};

const eventsH2: Exchange = async (port, ms) => {
  const client = await H2Client.connect({ port, record: false });
  const count = Math.round(ms / PACE_MS);
  const { text } = await client.response(client.request({ path: `/events/${count}/${ms}` }), 2 * ms + 10_000);
  expectEvents(text, count);
  client.end();
  await client.transport.closed;
};

const uploadH1: Exchange = async (port, ms) => {
  const client = await H1Client.connect({ port });
  const pieces = Math.round(ms / PACE_MS);
  const size = pieces * PIECE.length;
  client.write(`POST /upload/1/0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${size}\r\n\r\n`, ['POST']);
  await paced(pieces, () => client.write(PIECE));
  expectUpload((await client.response(10_000)).text, size);
  client.end();
  await client.transport.closed;
};

const uploadH2: Exchange = async (port, ms) => {
  const client = await H2Client.connect({ port, record: false });
  const pieces = Math.round(ms / PACE_MS);
  const stream = client.request({ method: 'POST', path: '/upload/1/0', open: true });
  await paced(pieces, (n) => client.upload(stream, PIECE, n === pieces));
  expectUpload((await client.response(stream, 10_000)).text, pieces * PIECE.length);
  client.end();
  await client.transport.closed;
};

export const LONG_EXCHANGES: Readonly<Record<string, Exchange>> = {
  'event stream, h1': eventsH1,
  'event stream, h2': eventsH2,
  'upload, h1': uploadH1,
  'upload, h2': uploadH2,
};

/** Shorter than this it is not worth beginning, ms. */
const SHORTEST_MS = 1_000;

/** One exchange of `ms` after the other, the last one shorter, until `until` (`performance.now()`'s clock). */
export async function repeat(exchange: Exchange, port: number, ms: number, until: number): Promise<LongCounts> {
  const counts: LongCounts = { whole: 0, cut: 0, faults: [] };
  for (let left = ms; left >= SHORTEST_MS; left = until - performance.now()) {
    try {
      await exchange(port, Math.min(ms, left));
      counts.whole += 1;
    } catch (error) {
      counts.cut += 1;
      counts.faults.push(error instanceof Error ? error.message : String(error));
    }
  }
  return counts;
}

async function paced(count: number, act: (n: number) => unknown): Promise<void> {
  const began = performance.now();
  for (let n = 1; n <= count; n += 1) {
    act(n);
    const due = began + n * PACE_MS - performance.now();
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, due)));
  }
}

function expectEvents(text: string, count: number): void {
  const events = text.split('\n\n').length - 1;
  if (events !== count || !text.endsWith(`data: ${count}\n\n`)) throw new Error(`${events} events of ${count}`);
}

function expectUpload(text: string, size: number): void {
  if (text !== `ok 1 ${size}`) throw new Error(`answered ${JSON.stringify(text.slice(0, 80))} to ${size} bytes`);
}
