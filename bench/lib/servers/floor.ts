/**
 * The floor under every HTTP/2 server in JavaScript: TLS, frames cut out of the byte stream, and a fixed answer for each
 * HEADERS. No HPACK, no flow control, no request, no response.
 */
import type { AddressInfo, Socket } from 'node:net';
import { createServer } from 'node:tls';
import type { MakeServer } from './server.js';

const PREFACE_LENGTH = 24;
const HEADERS = 0x1;
const SETTINGS = 0x4;
const PING = 0x6;
const ACK = 0x1;
const BODY = 'ok 0';
/** :status 200 from the static table, content-length as a literal */
const BLOCK = Buffer.from([0x88, 0x0f, 0x0d, 0x01, 0x34]);
const SETTINGS_FRAME = Buffer.from([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]);
const SETTINGS_ACK = Buffer.from([0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]);

/** HEADERS and DATA with END_STREAM; the two stream identifiers are filled in. */
const ANSWER = Buffer.concat([
  Buffer.from([0, 0, BLOCK.length, HEADERS, 0x4, 0, 0, 0, 0]),
  BLOCK,
  Buffer.from([0, 0, BODY.length, 0x0, 0x1, 0, 0, 0, 0]),
  Buffer.from(BODY),
]);
const FIRST_ID = 5;
const SECOND_ID = 9 + BLOCK.length + 5;

export const makeFloor: MakeServer = (config) => {
  const sockets = new Set<Socket>();
  const server = createServer({ key: config.key, cert: config.cert, ALPNProtocols: ['h2'] }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
    socket.setNoDelay(true);
    serve(socket);
  });
  return {
    ownDrains: [],
    get ports() {
      return [...sockets].map((socket) => socket.remotePort ?? 0);
    },
    listen: () =>
      new Promise((resolve) => {
        server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () =>
          resolve((server.address() as AddressInfo).port),
        );
      }),
    drain: () => Promise.resolve(undefined),
  };
};

function serve(socket: Socket): void {
  let rest: Buffer = Buffer.alloc(0);
  let preface = PREFACE_LENGTH;
  socket.write(SETTINGS_FRAME);
  socket.on('data', (bytes: Buffer) => {
    rest = rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
    let at = Math.min(preface, rest.length);
    preface -= at;
    const out: Buffer[] = [];
    while (rest.length - at >= 9) {
      const end = at + 9 + rest.readUIntBE(at, 3);
      if (end > rest.length) break;
      const answer = answerTo(rest, at, end);
      if (answer !== undefined) out.push(answer);
      at = end;
    }
    rest = rest.subarray(at);
    if (out.length > 0) socket.write(out.length === 1 ? (out[0] ?? '') : Buffer.concat(out));
  });
}

function answerTo(bytes: Buffer, at: number, end: number): Buffer | undefined {
  const type = bytes[at + 3];
  if (type === HEADERS) {
    const answer = Buffer.from(ANSWER);
    bytes.copy(answer, FIRST_ID, at + 5, at + 9);
    bytes.copy(answer, SECOND_ID, at + 5, at + 9);
    return answer;
  }
  const isAck = ((bytes[at + 4] ?? 0) & ACK) !== 0;
  if (isAck) return undefined;
  if (type === SETTINGS) return SETTINGS_ACK;
  if (type !== PING) return undefined;
  const pong = Buffer.from(bytes.subarray(at, end));
  pong[4] = ACK;
  return pong;
}
