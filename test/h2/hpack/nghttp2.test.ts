import http2 from 'node:http2';
import net from 'node:net';
import { expect } from 'chai';
import fc from 'fast-check';
import { HpackDecoder } from '../../../src/h2/hpack/decoder.js';
import { HpackEncoder } from '../../../src/h2/hpack/encoder.js';
import { decode, encode, type Field } from './support.js';

// Just enough of RFC 9113's framing to exchange header blocks with node:http2, whose HPACK is nghttp2's.
const HEADERS = 1;
const SETTINGS = 4;
const CONTINUATION = 9;
const ACK = 1;
const END_STREAM = 1;
const END_HEADERS = 4;
const PADDED = 8;
const PRIORITY = 0x20;
const HEADER_TABLE_SIZE = 1;
const MAX_CONCURRENT_STREAMS = 3;
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

function frame(type: number, flags: number, streamId: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, payload]);
}

function settings(...entries: readonly (readonly [id: number, value: number])[]): Buffer {
  const payload = Buffer.alloc(6 * entries.length);
  for (const [i, [id, value]] of entries.entries()) {
    payload.writeUInt16BE(id, 6 * i);
    payload.writeUInt32BE(value, 6 * i + 2);
  }
  return frame(SETTINGS, 0, 0, payload);
}

/** A peer of node:http2 with our HPACK: decodes every header block, and follows both table sizes. */
class RawPeer {
  readonly encoder = new HpackEncoder();
  readonly #decoder = new HpackDecoder();
  readonly #socket: net.Socket;
  readonly #onFields: (streamId: number, fields: Field[]) => void;
  /** Table sizes that were sent and not acknowledged yet. */
  readonly #unacknowledged: number[] = [];
  #received = Buffer.alloc(0);
  #block = Buffer.alloc(0);

  constructor(socket: net.Socket, preface: Buffer, onFields: (streamId: number, fields: Field[]) => void) {
    this.#socket = socket;
    socket.setNoDelay(true);
    this.#onFields = onFields;
    let skip = preface.length;
    socket.on('data', (bytes) => {
      this.#received = Buffer.concat([this.#received, bytes]);
      if (skip > 0 && this.#received.length >= skip) {
        expect(this.#received.subarray(0, skip)).to.deep.equal(preface);
        this.#received = this.#received.subarray(skip);
        skip = 0;
      }
      if (skip === 0) this.#frames();
    });
  }

  setTableSize(size: number): void {
    this.#unacknowledged.push(size);
    this.#socket.write(settings([HEADER_TABLE_SIZE, size], [MAX_CONCURRENT_STREAMS, 1000]));
  }

  send(streamId: number, fields: readonly Field[]): void {
    this.#socket.write(frame(HEADERS, END_STREAM | END_HEADERS, streamId, encode(this.encoder, fields)));
  }

  #frames(): void {
    while (this.#received.length >= 9) {
      const end = 9 + this.#received.readUIntBE(0, 3);
      if (this.#received.length < end) return;
      const [type, flags] = [this.#received.readUInt8(3), this.#received.readUInt8(4)];
      const streamId = this.#received.readUInt32BE(5);
      const payload = this.#received.subarray(9, end);
      this.#received = this.#received.subarray(end);
      if (type === SETTINGS) this.#settings(flags, payload);
      if (type === HEADERS || type === CONTINUATION) this.#headers(type, flags, streamId, payload);
    }
  }

  #settings(flags: number, payload: Buffer): void {
    if ((flags & ACK) !== 0) {
      const size = this.#unacknowledged.shift();
      if (size !== undefined) this.#decoder.setMaxTableSize(size);
      return;
    }
    for (let at = 0; at < payload.length; at += 6) {
      if (payload.readUInt16BE(at) === HEADER_TABLE_SIZE)
        this.encoder.setPeerMaxTableSize(payload.readUInt32BE(at + 2));
    }
    this.#socket.write(frame(SETTINGS, ACK, 0, Buffer.alloc(0)));
  }

  #headers(type: number, flags: number, streamId: number, payload: Buffer): void {
    let from = 0;
    let padding = 0;
    if (type === HEADERS && (flags & PADDED) !== 0) padding = payload.readUInt8(from++);
    if (type === HEADERS && (flags & PRIORITY) !== 0) from += 5;
    this.#block = Buffer.concat([this.#block, payload.subarray(from, payload.length - padding)]);
    if ((flags & END_HEADERS) === 0) return;
    const fields = decode(this.#decoder, this.#block);
    this.#block = Buffer.alloc(0);
    this.#onFields(streamId, fields);
  }
}

const LISTS = 2000;
const AT_ONCE = 40;

const NAMES = [
  'accept',
  'cache-control',
  'cookie',
  'etag',
  'server',
  'user-agent',
  'vary',
  'via',
  'x-a',
  'x-request-id',
];
const text = fc.string({
  unit: fc
    .oneof(fc.integer({ min: 0x21, max: 0x7e }), fc.integer({ min: 0xa1, max: 0xff }))
    .map((c) => String.fromCharCode(c)),
  maxLength: 80,
});
const value = fc.oneof(
  fc.constantFrom('', 'a', 'no-cache', 'gzip, deflate', 'session=0123456789abcdef; v=1'),
  fc.nat(30).map(String),
  text,
);
const name = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...NAMES) },
  { weight: 1, arbitrary: fc.stringMatching(/^x-[a-z0-9]{1,20}$/) },
);
const fieldLists = fc.array(
  fc.uniqueArray(fc.tuple(name, value), { selector: ([fieldName]) => fieldName, maxLength: 12 }),
  {
    minLength: LISTS,
    maxLength: LISTS,
  },
);

/** Header lists for one direction, the same in every run. */
function generate(seed: number): Field[][] {
  return fc.sample(fieldLists, { numRuns: 1, seed })[0] as Field[][];
}

const TABLE_SIZES = [4096, 0, 100, 8192, 256, 4096, 1000];

function plain(fields: readonly Field[]): Field[] {
  return fields.filter(([fieldName]) => !fieldName.startsWith(':') && fieldName !== 'date').map(([n, v]) => [n, v]);
}

function flatToFields(flat: readonly string[]): Field[] {
  return plain(flat.flatMap((item, i) => (i % 2 === 0 ? [[item, flat[i + 1] as string] as const] : [])));
}

/** Runs `one` for every list, AT_ONCE at a time. */
async function forAll(one: (i: number) => Promise<void>): Promise<void> {
  for (let from = 0; from < LISTS; from += AT_ONCE) {
    await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => one(from + i)));
  }
}

async function listening(server: net.Server | http2.Http2Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as net.AddressInfo).port;
}

describe('HPACK with nghttp2, through node:http2', () => {
  it("its client's requests to our decoder, our encoder's responses to its client, table sizes changing", async () => {
    const requests = generate(1);
    const responses = generate(2);
    const received = new Map<number, Field[]>();
    const server = net.createServer((socket) => {
      const peer = new RawPeer(socket, PREFACE, (streamId, fields) => {
        received.set(streamId, fields);
        const i = (streamId - 1) / 2;
        if (i % 97 === 0) peer.setTableSize(TABLE_SIZES[(i / 97) % TABLE_SIZES.length] as number);
        peer.send(streamId, [[':status', String(200 + (i % 300))], ...(responses[i] as Field[])]);
      });
      peer.setTableSize(4096);
    });
    const client = http2.connect(`http://127.0.0.1:${await listening(server)}`);
    let failed: Error | undefined;
    client.on('error', (error) => {
      failed = error;
    });
    try {
      await forAll(async (i) => {
        if (i % 83 === 0) client.settings({ headerTableSize: TABLE_SIZES[(i / 83) % TABLE_SIZES.length] as number });
        const fields = requests[i] as Field[];
        const headers: http2.OutgoingHttpHeaders = { ':path': `/${i % 7}`, ...Object.fromEntries(fields) };
        // Some as never-indexed literals
        if (i % 5 === 0) headers[http2.sensitiveHeaders as unknown as string] = NAMES;
        const stream = client.request(headers);
        const [status, flat] = await new Promise<[number | undefined, string[]]>((resolve, reject) => {
          stream.on('error', reject);
          // Its third argument, the raw list, is missing in the types.
          stream.on('response', (...args: unknown[]) => {
            resolve([(args[0] as http2.IncomingHttpHeaders)[':status'] as unknown as number, args[2] as string[]]);
          });
        });
        stream.resume();
        const id = stream.id as number;
        expect(plain(received.get(id) as Field[])).to.deep.equal(fields);
        expect(received.get(id)).to.deep.include([':path', `/${i % 7}`]);
        const sent = (id - 1) / 2;
        expect(status).to.equal(200 + (sent % 300));
        expect(flatToFields(flat)).to.deep.equal(plain(responses[sent] as Field[]));
      });
      expect(failed).to.equal(undefined);
    } finally {
      client.destroy();
      server.close();
    }
  });

  it("our encoder's requests to its server, its server's responses to our decoder, table sizes changing", async () => {
    const requests = generate(3);
    const responses = generate(4);
    const seen = new Map<number, Field[]>();
    const server = http2.createServer();
    let sessions = 0;
    server.on('session', () => sessions++);
    server.on('stream', (stream: http2.ServerHttp2Stream, ...args: unknown[]) => {
      const id = stream.id as number;
      const i = (id - 1) / 2;
      seen.set(id, flatToFields(args[2] as string[]));
      if (i % 89 === 0) {
        stream.session?.settings({ headerTableSize: TABLE_SIZES[(i / 89) % TABLE_SIZES.length] as number });
      }
      stream.respond(
        { ':status': 200 + (i % 200), ...Object.fromEntries(responses[i] as Field[]) },
        { endStream: true },
      );
    });
    const socket = net.connect(await listening(server), '127.0.0.1');
    const waiting = new Map<number, (fields: Field[]) => void>();
    const peer = new RawPeer(socket, Buffer.alloc(0), (streamId, fields) => waiting.get(streamId)?.(fields));
    socket.write(PREFACE);
    peer.setTableSize(4096);
    const closed = new Promise<never>((_, reject) => {
      socket.on('error', reject);
      socket.on('close', () => reject(new Error('the server closed the connection')));
    });
    closed.catch(() => {});
    try {
      await forAll(async (i) => {
        const id = 2 * i + 1;
        if (i % 79 === 0) peer.setTableSize(TABLE_SIZES[(i / 79) % TABLE_SIZES.length] as number);
        const answered = new Promise<Field[]>((resolve) => waiting.set(id, resolve));
        const fields = requests[i] as Field[];
        const pseudo: Field[] = [
          [':method', 'GET'],
          [':scheme', 'http'],
          [':authority', 'localhost'],
          [':path', `/${i}`],
        ];
        peer.send(id, [...pseudo, ...fields]);
        const response = await Promise.race([answered, closed]);
        expect(seen.get(id)).to.deep.equal(fields);
        expect(response).to.deep.include([':status', String(200 + (i % 200))]);
        expect(plain(response)).to.deep.equal(plain(responses[i] as Field[]));
      });
      expect(sessions).to.equal(1);
    } finally {
      socket.destroy();
      server.close();
    }
  });
});
