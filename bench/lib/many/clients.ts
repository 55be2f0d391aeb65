/**
 * A process of idle clients: raw sockets that send one request each and then obey. They answer PINGs, close when the
 * server has closed, and every second HTTP/2 client closes at the first GOAWAY already, as it may with nothing open.
 * As lean as can be, because thousands of them share the machine with the server that is measured.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { ownCpuTime } from '../cpu.js';
import type { ClientCounts, FromClients, ToClients } from './messages.js';

/** Connections being opened at a time: fewer than an accept queue holds. */
const OPENING = 16;

const HEADER = 9;
const HEADERS = 0x1;
const SETTINGS = 0x4;
const PING = 0x6;
const GOAWAY = 0x7;
const ACK = 0x1;

const SETTINGS_ACK = Buffer.from([0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]);

/** Preface, empty SETTINGS, and stream 1: GET https://localhost/ (RFC 7541 §6.1 static indices, §6.2.2 `:authority`). */
const H2_OPENING = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  Buffer.from([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]),
  Buffer.from([0, 0, 14, HEADERS, 0x5, 0, 0, 0, 1, 0x82, 0x87, 0x84, 0x01, 9]),
  Buffer.from('localhost'),
]);
const H1_OPENING = Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');

const NOTHING: Buffer = Buffer.alloc(0);

let open = 0;
let ended = 0;
let unannounced = 0;
let failed = 0;
let firstFailure: string | undefined;

process.on('message', (message: ToClients) => {
  if (message.type === 'open') void openAll(message);
  else send({ type: 'counted', counts: counts() });
});
process.on('disconnect', () => process.exit(0));

function counts(): ClientCounts {
  const { user, system } = ownCpuTime();
  return { open, ended, unannounced, failed, firstFailure, cpuMs: (user + system) / 1_000 };
}

async function openAll(target: ToClients & { type: 'open' }): Promise<void> {
  const count = target.h1 + target.h2;
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) {
      const n = next++;
      // Both protocols in turns, as far as there are some of both.
      const h2 = n < 2 * Math.min(target.h1, target.h2) ? n % 2 === 0 : target.h2 > target.h1;
      await openOne(target, h2, n % 4 < 2);
    }
  };
  await Promise.all(Array.from({ length: OPENING }, lane));
  send({ type: 'opened' });
}

/** Resolves when its request is being answered, or it has failed. */
function openOne(target: ToClients & { type: 'open' }, h2: boolean, prompt: boolean): Promise<void> {
  return new Promise((resolve) => {
    const { port, cleartext, localAddress } = target;
    const to = { host: '127.0.0.1', port, ...(localAddress !== undefined && { localAddress }) };
    const socket = cleartext
      ? connectTcp(to)
      : connectTls({ ...to, rejectUnauthorized: false, ALPNProtocols: [h2 ? 'h2' : 'http/1.1'] });
    open++;
    let answered = false;
    let goaways = 0;
    let rest = NOTHING;
    socket.on('data', (bytes: Buffer) => {
      if (!h2) {
        answered = true;
        resolve();
        return;
      }
      let all = rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
      for (; all.length >= HEADER; ) {
        const end = HEADER + all.readUIntBE(0, 3);
        if (all.length < end) break;
        const type = all[3];
        const acks = ((all[4] ?? 0) & ACK) !== 0;
        if (type === PING && !acks) answerPing(socket, all.subarray(HEADER, end));
        else if (type === SETTINGS && !acks) socket.write(SETTINGS_ACK);
        else if (type === GOAWAY) goaways++;
        else if (type === HEADERS) {
          answered = true;
          resolve();
        }
        all = all.subarray(end);
      }
      rest = all;
      if (prompt && goaways > 0 && !socket.writableEnded) socket.end();
    });
    // The server has closed: nothing more to say, as far as these clients go.
    socket.on('end', () => socket.destroy());
    socket.on('error', (error) => {
      firstFailure ??= error.message;
    });
    socket.on('close', (hadError) => {
      open--;
      if (hadError || !answered) failed++;
      else ended++;
      if (!answered) firstFailure ??= 'closed before it was answered';
      if (h2 && goaways === 0) unannounced++;
      resolve();
    });
    socket.write(h2 ? H2_OPENING : H1_OPENING);
  });
}

function answerPing(socket: Socket, opaque: Buffer): void {
  const ack = Buffer.allocUnsafe(HEADER + opaque.length);
  ack.fill(0, 0, HEADER);
  ack[2] = opaque.length;
  ack[3] = PING;
  ack[4] = ACK;
  opaque.copy(ack, HEADER);
  if (!socket.writableEnded) socket.write(ack);
}

function send(message: FromClients): void {
  process.send?.(message);
}
