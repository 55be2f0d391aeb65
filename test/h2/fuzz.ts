/**
 * Plays random clients to the protocol core: conversations that are mostly legal, then mutated, cut and split at
 * random. Whatever they send, the session serves them or ends in a protocol error; see `watch.ts` for what is checked.
 * As a program it is `npm run fuzz`.
 */
import { argumentsOrExit } from '../../bench/lib/arguments.js';
import { Random } from '../wire/random.js';
import {
  block,
  continuation,
  data,
  frame,
  goaway,
  headers,
  PREFACE,
  ping,
  priorityUpdate,
  request,
  rstStream,
  SETTINGS_ACK,
  settings,
  windowUpdate,
} from './script.js';
import { Watch } from './watch.js';

const MAX_FRAMES = 60;
/** Memory that a case may hold at any time: what the limits allow, and more than a case needs. */
const MAX_OUTPUT = 4 * 2 ** 20;

const pick = <T>(random: Random, from: readonly T[]): T => from[random.below(from.length)] as T;

const VALUES = ['', 'x', '1', 'close', 'trailers', 'a\nb', ' a', '100-continue', '\xff', 'y'.repeat(300), 'u=1, i'];
const NAMES = [
  ':path',
  ':authority',
  ':status',
  'host',
  'te',
  'cookie',
  'connection',
  'content-length',
  'expect',
  'X',
  'x-a',
  'priority',
  '',
];
const SETTING_VALUES = [0, 1, 2, 100, 4_096, 16_384, 65_535, 100_000, 2 ** 24, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1];

/** Heads that are right, built once. */
const HEADS = ['GET', 'POST', 'HEAD', 'OPTIONS'].map((method) => block(request(method, '/x', ['accept', '*/*'])));
const INDEXED = Buffer.from([0x82, 0x87, 0x84, 0x41, 0x01, 0x61]);
const CONNECT = block([
  [':method', 'CONNECT'],
  [':authority', 'a:1'],
]);

/** A client: it remembers which streams it has opened and not ended. A wild one often does what it must not. */
class Client {
  readonly #random: Random;
  readonly #wild: boolean;
  #next = 1;
  #sending: number[] = [];

  constructor(random: Random, wild: boolean) {
    this.#random = random;
    this.#wild = wild;
  }

  /** A stream that was opened lately, whatever has become of it; for a wild client, any. */
  #some(): number {
    const random = this.#random;
    if (this.#wild && random.chance(0.05)) return random.below(20);
    if (this.#wild && random.chance(0.02)) return this.#next + 2 * random.below(3);
    return Math.max(1, this.#next - 2 - 2 * random.below(5));
  }

  #open(endStream: boolean): number {
    const id = this.#next;
    this.#next += this.#wild && this.#random.chance(0.03) ? 6 : 2;
    if (!endStream) this.#sending.push(id);
    return id;
  }

  /** A stream on which more may be sent. */
  #unended(endStream: boolean): number | undefined {
    if (this.#wild && this.#random.chance(0.1)) return this.#some();
    if (this.#sending.length === 0) return undefined;
    const at = this.#random.below(this.#sending.length);
    const id = this.#sending[at];
    if (endStream) this.#sending.splice(at, 1);
    return id;
  }

  #request(): Buffer {
    const random = this.#random;
    const endStream = random.chance(0.5);
    const pad = random.chance(0.1) ? { pad: random.below(256) } : {};
    switch (random.below(8)) {
      case 0:
        return headers(this.#open(endStream), INDEXED, { endStream, priority: [random.below(9), 1] });
      case 1: {
        const fields = request(pick(random, ['GET', 'POST', 'CONNECT', '']), pick(random, ['/', '', '*', 'x']));
        for (let i = random.below(4); i > 0; i--) fields.push([pick(random, NAMES), pick(random, VALUES)]);
        return headers(this.#open(endStream), fields, { endStream });
      }
      case 2: {
        const id = this.#open(endStream);
        const head = pick(random, HEADS);
        const cut = random.below(head.length);
        const whole = !this.#wild || random.chance(0.9);
        return Buffer.concat([
          headers(id, head.subarray(0, cut), { endStream, endHeaders: false, ...pad }),
          continuation(id, head.subarray(cut), whole),
        ]);
      }
      case 3:
        return headers(this.#open(endStream), CONNECT, { endStream });
      default:
        return headers(this.#open(endStream), pick(random, HEADS), { endStream, ...pad });
    }
  }

  frame(): Buffer {
    const random = this.#random;
    if (this.#next === 1 || random.chance(0.3)) return this.#request();
    const pad = random.chance(0.1) ? { pad: random.below(256) } : {};
    const endStream = random.chance(0.3);
    switch (random.below(14)) {
      case 0:
      case 1:
      case 2:
      case 3: {
        const id = this.#unended(endStream);
        const length = random.below(random.chance(0.1) ? 16_000 : 60);
        return id === undefined ? this.#request() : data(id, Buffer.alloc(length), { endStream, ...pad });
      }
      case 4: {
        const last = !this.#wild || random.chance(0.9);
        const id = this.#unended(last);
        return id === undefined
          ? this.#request()
          : headers(id, [['x-trailer', pick(random, VALUES)]], { endStream: last });
      }
      case 5: {
        const id = this.#some();
        this.#sending = this.#sending.filter((other) => other !== id);
        return rstStream(id, random.below(16));
      }
      case 6:
        return windowUpdate(0, this.#wild ? pick(random, [0, 2 ** 31 - 1, 1_000]) : 1 + random.below(100_000));
      case 7:
        return windowUpdate(this.#some(), pick(random, [1, 10, 1_000, 65_535, 65_535, 2 ** 31 - 1, 0]));
      case 8: {
        const values = this.#wild ? SETTING_VALUES : [16_384, 20_000, 65_535, 65_535];
        const ids = this.#wild ? 10 : 7;
        return settings(
          ...Array.from({ length: random.below(3) }, () => [random.below(ids), pick(random, values)] as const).filter(
            ([id]) => this.#wild || id !== 2,
          ),
        );
      }
      case 9:
        return random.chance(0.5) ? ping('abcdefgh', random.below(2)) : SETTINGS_ACK;
      case 10:
        if (random.chance(0.3)) return goaway(random.below(20), random.below(14), 'bye');
        return frame(2, 0, this.#some(), Buffer.alloc(5));
      case 11:
        return priorityUpdate(this.#some(), pick(random, ['u=0', 'i', 'u=7, i', '', '?!']));
      case 12: {
        const type = this.#wild ? random.below(32) : 32 + random.below(200);
        return frame(type, random.below(256), this.#some(), Buffer.alloc(random.below(20), random.below(256)));
      }
      default: {
        const id = this.#unended(endStream);
        return id === undefined ? this.#request() : data(id, '', { endStream });
      }
    }
  }
}

/** Changes, removes or repeats some bytes. */
function mutate(random: Random, bytes: Buffer): Buffer {
  if (bytes.length === 0) return bytes;
  const at = random.below(bytes.length);
  switch (random.below(4)) {
    case 0: {
      const changed = Buffer.from(bytes);
      changed[at] = random.below(256);
      return changed;
    }
    case 1:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + random.below(10))]);
    case 2:
      return Buffer.concat([
        bytes.subarray(0, at),
        Buffer.alloc(random.below(10), random.below(256)),
        bytes.subarray(at),
      ]);
    default:
      return Buffer.concat([bytes, bytes.subarray(at)]);
  }
}

export interface FuzzResult {
  readonly requests: number;
  readonly answered: number;
  readonly failed: boolean;
}

/** One random conversation. Throws when something that must hold doesn't. */
export function fuzzCase(seed: number): FuzzResult {
  const random = new Random(seed);
  const watch = new Watch(random, {
    enableConnectProtocol: random.chance(0.5),
    maxConcurrentStreams: random.chance(0.5) ? 100 : 3,
    initialWindowSize: pick(random, [0, 100, 65_535, 262_144]),
    maxHeaderListSize: random.chance(0.9) ? 65_536 : 200,
    streamHighWaterMark: random.chance(0.5) ? 65_536 : 100,
    floodBudget: random.chance(0.9) ? 2_000 : 20,
    resetWindow: random.chance(0.9) ? 500 : 6,
  });
  const client = new Client(random, random.chance(0.3));
  const mutation = random.chance(0.7) ? 0 : 0.05;
  let bytes: Buffer = Buffer.concat([PREFACE, settings(), SETTINGS_ACK]);
  for (let i = random.below(MAX_FRAMES); i >= 0; i--) {
    if (random.chance(mutation)) bytes = mutate(random, bytes);
    // several frames in a read, or a frame in several reads
    if (random.chance(0.3)) {
      bytes = Buffer.concat([bytes, client.frame()]);
      continue;
    }
    while (bytes.length > 0) {
      const cut = random.chance(0.7) ? bytes.length : 1 + random.below(bytes.length);
      watch.session.receive(bytes.subarray(0, cut));
      bytes = bytes.subarray(cut);
      if (watch.session.output.size > MAX_OUTPUT) throw new Error(`output of ${watch.session.output.size} octets`);
    }
    watch.act();
    watch.check();
    if (watch.session.state === 'failed') break;
    bytes = client.frame();
  }
  watch.finish();
  return { requests: watch.requests, answered: watch.answered, failed: watch.failedWith !== undefined };
}

function main(): void {
  const args = argumentsOrExit({
    command: 'npm run fuzz --',
    summary: 'Random and mutated frames against the HTTP/2 engine.',
    options: {
      cases: { kind: 'number', fallback: 200_000, min: 1, max: 1e9, help: 'how many conversations' },
      minutes: { kind: 'number', fallback: 0, min: 0, max: 10_000, help: 'instead: as many as fit; 0: no' },
      seed: {
        kind: 'number',
        fallback: 0,
        min: 0,
        max: 2 ** 32,
        help: 'of the first, those after it count up; 0: drawn',
      },
    },
  });
  const started = performance.now();
  const first = args.seed > 0 ? args.seed : Date.now() % 1_000_000_000;
  const until = args.minutes > 0 ? started + args.minutes * 60_000 : Infinity;
  const cases = args.minutes > 0 ? Infinity : args.cases;
  let requests = 0;
  let answered = 0;
  let failed = 0;
  let done = 0;
  for (; done < cases && performance.now() < until; done++) {
    const seed = first + done;
    try {
      const result = fuzzCase(seed);
      requests += result.requests;
      answered += result.answered;
      if (result.failed) failed++;
    } catch (error) {
      console.error(`seed ${seed} fails; again with: npm run fuzz -- --seed ${seed} --cases 1`);
      console.error(error);
      process.exitCode = 1;
      return;
    }
  }
  const seconds = ((performance.now() - started) / 1_000).toFixed(1);
  console.log(
    `${done.toLocaleString('en')} cases from seed ${first} in ${seconds} s: ${requests.toLocaleString('en')} requests, ` +
      `${answered.toLocaleString('en')} answered; ${failed.toLocaleString('en')} connections ended in a protocol error`,
  );
}

if (process.argv[1]?.endsWith('fuzz.ts') === true) main();
