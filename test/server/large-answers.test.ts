/**
 * Large answers leave the event loop to the others: what one turn of it writes of them is little, however many clients,
 * or a kernel with room, would take more; and all of it arrives.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { connect as connectTcp, Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { expect } from 'chai';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { encodeFrame, encodeLiterals, Flag, FrameType, PREFACE, Setting, settingsPayload } from '../wire/h2-frames.js';
import { eventually, PORTS, type PortKind, Servers, uncaughtDuring } from './support.js';

const BODY = Buffer.from(Array.from({ length: 3_000_000 }, (_, i) => (i * 7 + (i >> 14) * 13) & 0xff));
const CLIENTS = 5;
/** A share, begun as long as there is any of it left, and what each client is written over HTTP/2 without being asked for. */
const MOST_IN_TURN = 1_048_576 + 65_536 + CLIENTS * 65_536;
/** To clients of which nobody knows whether they read. */
const MOST_TO_NEW = 1.5 * 131_072;
/** Where a turn writes less, it writes something else. */
const LEAST_IN_TURN = 65_536;

/** What the sockets of this process are given to write, by turns of the event loop. */
class Turns {
  all = 0;
  readonly #large: number[] = [];
  #inTurn = 0;
  #going = true;
  readonly #proto = Socket.prototype as unknown as { _writeGeneric(...args: [boolean, unknown, ...unknown[]]): void };
  readonly #original = this.#proto._writeGeneric;

  constructor() {
    const turns = this;
    this.#proto._writeGeneric = function (vector, data, ...more) {
      const chunks = vector ? (data as { chunk: Buffer | string }[]).map(({ chunk }) => chunk) : [data as Buffer];
      for (const { length } of chunks) turns.#inTurn += length;
      turns.#original.call(this, vector, data, ...more);
    };
    const turn = (): void => {
      this.all += this.#inTurn;
      if (this.#inTurn >= LEAST_IN_TURN) this.#large.push(this.#inTurn);
      this.#inTurn = 0;
      if (this.#going) setImmediate(turn);
    };
    setImmediate(turn);
  }

  /** Of the turns that wrote of large answers, the median: those that are long for other reasons may write more. */
  get usual(): number {
    return this.#large.toSorted((a, b) => a - b)[this.#large.length >> 1] ?? 0;
  }

  get most(): number {
    return Math.max(...this.#large);
  }

  stop(): void {
    this.#going = false;
    this.#proto._writeGeneric = this.#original;
  }
}

/** What a client says that takes a large answer, its nth. */
function h1Words(): Buffer {
  return Buffer.from('GET /large HTTP/1.1\r\nHost: x\r\n\r\n');
}
function h2Words(n = 0): Buffer {
  const block = encodeLiterals([
    [':method', 'GET'],
    [':scheme', 'https'],
    [':authority', 'x'],
    [':path', '/large'],
  ]);
  const request = encodeFrame(FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, 2 * n + 1, block);
  return n > 0 ? request : Buffer.concat([...H2_OPENING, request]);
}
const H2_OPENING = [
  PREFACE,
  encodeFrame(FrameType.SETTINGS, 0, 0, settingsPayload([[Setting.INITIAL_WINDOW_SIZE, 2 ** 31 - 1]])),
  encodeFrame(FrameType.WINDOW_UPDATE, 0, 0, Buffer.from([0x7f, 0, 0, 0])),
];

describe('large answers', () => {
  const servers = new Servers();
  const sockets: Socket[] = [];
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy();
  });

  async function deaf(kind: PortKind, port: number, alpn: string): Promise<Socket> {
    const socket =
      kind === 'TLS'
        ? connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols: [alpn] })
        : connectTcp(port, '127.0.0.1');
    sockets.push(socket);
    socket.on('error', () => {});
    await once(socket, kind === 'TLS' ? 'secureConnect' : 'connect');
    return socket.pause();
  }

  for (const kind of PORTS) {
    for (const [alpn, words] of [
      ['http/1.1', h1Words],
      ['h2', h2Words],
    ] as const) {
      it(`${alpn}: to ${CLIENTS} clients that don't read, a turn writes little (${kind})`, async () => {
        const { port } = await servers.start(kind, {}, (_req, res) => res.end(BODY));
        const clients = await Promise.all(Array.from({ length: CLIENTS }, () => deaf(kind, port, alpn)));
        const turns = new Turns();
        try {
          for (const client of clients) client.write(words());
          // More than all may write in one turn together, and less than the kernel takes of one.
          await eventually(() => turns.all > CLIENTS * 1_000_000, 'as much as the kernel takes');
          expect(turns.usual).to.be.within(LEAST_IN_TURN, MOST_TO_NEW);
          expect(turns.most).to.be.below((CLIENTS * BODY.length) / 2);
        } finally {
          turns.stop();
        }
      });

      it(`${alpn}: to clients that have read much, it writes more (${kind})`, async () => {
        const { port } = await servers.start(kind, {}, (_req, res) => res.end(BODY));
        const clients = await Promise.all(Array.from({ length: CLIENTS }, () => deaf(kind, port, alpn)));
        for (let n = 0; n < 3; n++) {
          const reading = clients.map(async (client) => {
            let left = BODY.length;
            client.write(words(n));
            for await (const bytes of client.iterator({ destroyOnReturn: false })) {
              left -= bytes.length;
              if (left <= 0) return;
            }
          });
          await Promise.all(reading);
        }
        const turns = new Turns();
        try {
          for (const client of clients) client.pause().write(words(3));
          await eventually(() => turns.all > CLIENTS * 1_000_000, 'as much as the kernel takes');
          expect(turns.usual).to.be.within(MOST_TO_NEW, MOST_IN_TURN);
        } finally {
          turns.stop();
        }
      });

      it(`${alpn}: all of them arrive whole, at the same time (${kind})`, async () => {
        const { port } = await servers.start(kind, {}, (_req, res) => res.end(BODY));
        const sha = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
        const tls = kind === 'TLS';
        const answers = await Promise.all(
          Array.from({ length: CLIENTS }, async () => {
            const client =
              alpn === 'h2' ? await H2Client.connect({ port, tls }) : await H1Client.connect({ port, tls });
            const { body } = await client.fetch({ path: '/large' });
            client.destroy();
            return sha(Array.isArray(body) ? Buffer.concat(body) : body);
          }),
        );
        expect(new Set(answers)).to.deep.equal(new Set([sha(BODY)]));
      });
    }
  }

  for (const kind of PORTS) {
    it(`http/1.1: what comes of a write is told in the context of whoever wrote (${kind})`, async () => {
      const storage = new AsyncLocalStorage<number>();
      const told: unknown[] = [];
      let requests = 0;
      const { port } = await servers.start(kind, {}, (_req, res) => {
        const number = ++requests;
        storage.run(number, () => {
          res.write(BODY, () => told.push([number, storage.getStore()]));
          res.end(BODY, () => told.push([number, storage.getStore()]));
        });
      });
      await Promise.all(
        Array.from({ length: CLIENTS }, async () => {
          const client = await H1Client.connect({ port, tls: kind === 'TLS' });
          await client.fetch({ path: '/large' });
          client.destroy();
        }),
      );
      await eventually(() => told.length === 2 * CLIENTS, 'word of every write');
      const each = Array.from({ length: CLIENTS }, (_, i) => [i + 1, i + 1]);
      expect(told).to.have.deep.members([...each, ...each]);
    });
  }

  for (const kind of PORTS) {
    for (const alpn of ['http/1.1', 'h2'] as const) {
      it(`${alpn}: a connection that closes meanwhile fails its writes (${kind})`, async () => {
        const errors: unknown[] = [];
        let wrote = 0;
        const { server, port } = await servers.start(kind, {}, (_req, res) => {
          res.write(BODY, (error) => errors.push(error));
          if (++wrote < CLIENTS) return;
          // In this turn, while most still wait for room.
          setImmediate(() => server.closeAllConnections());
        });
        const words = alpn === 'h2' ? h2Words() : h1Words();
        const clients = await Promise.all(Array.from({ length: CLIENTS }, () => deaf(kind, port, alpn)));
        for (const client of clients) client.write(words);
        await eventually(() => errors.length === CLIENTS, 'word of every write');
        expect(errors.filter((error) => error instanceof Error)).to.have.length.of.at.least(1);
      });
    }
  }

  /** A large answer has begun, and its client takes no more. */
  async function standstill(): Promise<void> {
    const turns = new Turns();
    try {
      let written = 0;
      let looks = 0;
      await eventually(() => {
        looks = written === turns.all ? looks + 1 : 0;
        written = turns.all;
        // On a machine that is busy the next slice may be late.
        return written > 1_000_000 && looks > 20;
      }, 'a client that takes no more');
    } finally {
      turns.stop();
    }
  }

  for (const kind of PORTS) {
    it(`http/1.1: what waits for its turn fails before its socket is closed (${kind})`, async () => {
      const events: string[] = [];
      let wrote = 0;
      const { server, port } = await servers.start(kind, {}, (_req, res) => {
        const isLast = ++wrote === 3 * CLIENTS;
        if (isLast) res.socket?.on('close', () => events.push('socket closed'));
        res.write(BODY, (error) => {
          if (!isLast) return;
          events.push(error instanceof Error ? 'failed' : 'written');
          // Its exception is the process's, and keeps no socket.
          throw new Error('of a callback');
        });
        // Once node:http has given the socket what it was given.
        if (isLast) process.nextTick(setImmediate, () => server.closeAllConnections());
      });
      const clients = await Promise.all(Array.from({ length: 3 * CLIENTS }, () => deaf(kind, port, 'http/1.1')));
      await uncaughtDuring(
        (message) => events.push(message),
        async () => {
          for (const client of clients) client.write(h1Words());
          await eventually(() => events.length === 3, 'the last connection closed');
        },
      );
      expect(events[0]).to.equal('failed');
      expect(events).to.have.members(['failed', 'of a callback', 'socket closed']);
    });

    for (const alpn of ['http/1.1', 'h2'] as const) {
      it(`${alpn}: a callback that throws as its write is cut keeps no connection (${kind})`, async () => {
        const events: string[] = [];
        const { server, port } = await servers.start(kind, {}, (_req, res) => {
          // More than the kernel takes.
          res.write(Buffer.alloc(64_000_000), (error) => {
            events.push(error instanceof Error ? 'failed' : 'written');
            throw new Error('of a callback');
          });
        });
        const client = await deaf(kind, port, alpn);
        await uncaughtDuring(
          (message) => events.push(message),
          async () => {
            client.write(alpn === 'h2' ? h2Words() : h1Words());
            await standstill();
            server.closeAllConnections();
            await eventually(() => events.length === 2 && server.connections.size === 0, 'the connection closed');
          },
        );
        expect(events).to.deep.equal(['failed', 'of a callback']);
      });
    }

    it(`http/1.1: a callback that throws as its write fails keeps no connection of a client that is gone (${kind})`, async () => {
      const events: string[] = [];
      let answer: ServerResponse | undefined;
      const { server, port } = await servers.start(kind, {}, (req, res) => {
        // Its body is not read, so that nothing is.
        answer = res;
        req.pause();
      });
      const raw = connectTcp(port, '127.0.0.1').on('error', () => {});
      sockets.push(raw);
      await once(raw, 'connect');
      const client = kind === 'TLS' ? connectTls({ socket: raw, rejectUnauthorized: false }) : raw;
      client.on('error', () => {});
      client.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n');
      client.write(Buffer.alloc(9_000_000));
      await eventually(() => answer?.socket?.isPaused() === true, 'a connection that is not read from');
      raw.resetAndDestroy();
      await once(raw, 'close');
      await uncaughtDuring(
        (message) => events.push(message),
        async () => {
          answer?.write(BODY, (error) => {
            events.push(error instanceof Error ? 'failed' : 'written');
            throw new Error('of a callback');
          });
          await eventually(() => events.length === 2 && server.connections.size === 0, 'the connection closed');
        },
      );
      expect(events).to.deep.equal(['failed', 'of a callback']);
    });
  }
});
