/**
 * Attacks before any protocol: connections that never speak, handshakes that are begun and abandoned, renegotiation.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import type { Attack, Outcome, Target } from './attack.js';

const HANDSHAKE = 800;

/** A TCP connection, watched to its end. */
class RawPeer {
  readonly socket: Socket;
  readonly #target: Target;
  sent = 0;
  received = 0;
  ending = 'open';

  constructor(target: Target) {
    this.#target = target;
    this.socket = connectTcp({ port: target.port, host: '127.0.0.1', noDelay: true });
    this.socket.on('data', (bytes: Buffer) => {
      this.received += bytes.length;
    });
    this.socket.on('end', () => this.#end('closed'));
    this.socket.on('error', () => this.#end('reset'));
  }

  async write(bytes: Buffer): Promise<void> {
    await this.#target.pace.bytes(bytes.length);
    this.socket.write(bytes);
    this.sent += bytes.length;
  }

  /** Until the server closes it, or the attacker's time is over, or something comes in. */
  async wait(forBytes: boolean): Promise<void> {
    const left = Math.max(1, this.#target.until - performance.now());
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, left);
      const done = (): void => {
        clearTimeout(timer);
        resolve();
      };
      this.socket.once('close', done);
      if (forBytes) this.socket.once('data', done);
    });
  }

  outcome(): Outcome {
    this.socket.resetAndDestroy();
    return { sent: this.sent, ending: this.ending };
  }

  #end(how: string): void {
    if (this.ending === 'open') this.ending = how;
  }
}

let recorded: Promise<Buffer> | undefined;

/** The first record of a TLS client. */
function clientHello(): Promise<Buffer> {
  recorded ??= new Promise((resolve) => {
    const socket = new Duplex({
      read() {},
      write(bytes: Buffer, _encoding, done) {
        resolve(bytes);
        done();
      },
    });
    connectTls({ socket, servername: 'localhost', ALPNProtocols: ['h2'] }).on('error', () => {});
  });
  return recorded;
}

export const TLS: readonly Attack[] = [
  {
    name: 'half-open',
    title: 'connections that never speak',
    protocol: 'tls',
    sees: 'is closed after handshakeTimeout',
    ends: /^(closed|reset)$/,
    limits: ['handshakeTimeout'],
    server: { handshakeTimeout: HANDSHAKE },
    connections: 200,
    perSecond: 400,
    run: async (target) => {
      const peer = new RawPeer(target);
      await peer.wait(false);
      return peer.outcome();
    },
  },
  {
    name: 'abandoned-handshakes',
    title: 'ClientHello, and never a word more',
    protocol: 'tls',
    sees: 'is closed after handshakeTimeout',
    ends: /^(closed|reset)$/,
    limits: ['handshakeTimeout'],
    server: { handshakeTimeout: HANDSHAKE },
    connections: 200,
    perSecond: 100,
    run: async (target) => {
      const peer = new RawPeer(target);
      await peer.write(await clientHello());
      await peer.wait(false);
      return peer.outcome();
    },
  },
  {
    name: 'handshake-flood',
    title: 'TLS handshake flood: ClientHello, the server’s answer, reset',
    protocol: 'tls',
    sees: 'has its handshakes answered, one at a time',
    ends: /^open$/,
    limits: ['handshakeErrors'],
    connections: 8,
    perSecond: 200,
    run: async (target) => {
      const peer = new RawPeer(target);
      await peer.write(await clientHello());
      await peer.wait(true);
      return peer.outcome();
    },
  },
  {
    name: 'tls-garbage',
    title: 'bytes that are no TLS',
    protocol: 'tls',
    sees: 'is closed',
    ends: /^(closed|reset)$/,
    limits: ['handshakeErrors'],
    perSecond: 200,
    run: async (target) => {
      const peer = new RawPeer(target);
      await peer.write(Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'));
      await peer.wait(false);
      return peer.outcome();
    },
  },
  {
    name: 'renegotiation',
    title: 'renegotiation (TLS 1.2, CVE-2011-1473)',
    protocol: 'tls',
    sees: 'is refused',
    ends: /^refused: ERR_SSL_NO_RENEGOTIATION$/,
    perSecond: 50,
    run: renegotiate,
  },
];

async function renegotiate(target: Target): Promise<Outcome> {
  const socket = connectTls({
    port: target.port,
    rejectUnauthorized: false,
    maxVersion: 'TLSv1.2',
    ALPNProtocols: ['http/1.1'],
  });
  const ending = await new Promise<string>((resolve) => {
    const timer = setTimeout(() => resolve('open'), Math.max(1, target.until - performance.now()));
    const done = (how: string): void => {
      clearTimeout(timer);
      resolve(how);
    };
    socket.on('error', (error: NodeJS.ErrnoException) => done(`refused: ${error.code}`));
    socket.once('close', () => done('closed'));
    socket.once('secureConnect', () =>
      socket.renegotiate({ rejectUnauthorized: false }, (error) => {
        if (error === null) done('renegotiated');
      }),
    );
  });
  const sent = socket.bytesWritten;
  socket.destroy();
  return { sent, ending };
}
