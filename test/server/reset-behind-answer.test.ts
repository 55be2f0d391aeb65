import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { type Connection, connectionOf, createServer, gracefulShutdown } from '../../src/index.js';
import { certificate } from '../wire/certificate.js';

/**
 * A client in a process of its own, which resets its connection as soon as it has read so many octets of the answer, and
 * leaves a file then.
 */
const CLIENT = `
const [, port, alpn, enough, file] = process.argv;
const raw = require('node:net').connect(Number(port), '127.0.0.1');
const socket = require('node:tls').connect({ socket: raw, rejectUnauthorized: false, ALPNProtocols: [alpn] });
let got = 0;
const count = (bytes) => {
  got += bytes.length;
  if (got < Number(enough)) return;
  raw.resetAndDestroy();
  require('node:fs').writeFileSync(file, '');
};
socket.on('error', () => {});
socket.once('secureConnect', () => {
  if (alpn === 'h2') {
    const session = require('node:http2').connect('https://localhost', { createConnection: () => socket });
    session.on('error', () => {});
    session.request().on('error', () => {}).on('data', count);
  } else {
    socket.write('GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n');
    let head = '';
    socket.on('data', (bytes) => {
      if (head.includes('\\r\\n\\r\\n')) return count(bytes);
      head += bytes.toString('latin1');
      const end = head.indexOf('\\r\\n\\r\\n');
      if (end >= 0) count(bytes.subarray(bytes.length - (head.length - end - 4)));
    });
  }
});
`;

const NODE = Number.parseInt(process.versions.node, 10);

/** The loop stands still, so that the client's reset is there before word of the write. */
function stallUntilExists(file: string): void {
  const until = performance.now() + 5_000;
  while (!existsSync(file) && performance.now() < until);
}

for (const alpn of ['http/1.1', 'h2']) {
  describe(`a client that resets behind its answer, ${alpn} over TLS`, () => {
    async function drained(answer: string, enough: number) {
      const { key, cert } = await certificate();
      const folder = await mkdtemp(join(tmpdir(), 'lastcall-reset-'));
      const file = join(folder, 'reset');
      let connection: Connection | undefined;
      const server = createServer({ key, cert }, (req, res) => {
        connection = connectionOf(req);
        // Where the head is a write of its own, nothing follows before Node has told of it.
        res.flushHeaders();
        // Of what TLS writes in a timer Node tells after the poll that follows; HTTP/2 writes in an immediate.
        setTimeout(() => {
          res.end(answer);
          if (alpn === 'h2') setImmediate(stallUntilExists, file);
          else stallUntilExists(file);
        }, 5);
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      const client = spawn(process.execPath, ['-e', CLIENT, `${port}`, alpn, `${enough}`, file], { stdio: 'ignore' });
      await once(server, 'request');
      const report = gracefulShutdown(connection as Connection);
      await once(client, 'exit');
      const result = await report;
      server.close();
      expect(existsSync(file), 'the client has reset').to.equal(true);
      await rm(folder, { recursive: true });
      return result;
    }

    it('has been served, once the kernel had all of it', async () => {
      for (let i = 0; i < 5; i++) {
        expect(await drained('hello', 5)).to.include({ outcome: 'drained', served: 1, aborted: 0 });
      }
    }).timeout(20_000);

    // The second is two slices, and fewer characters than octets.
    for (const [what, answer] of [
      ['a part of it', 'x'.repeat(40_000_000)],
      ['its first slice', 'é'.repeat(200_000)],
    ] as const) {
      // From Node 24 on the next slice follows at once.
      if (what === 'its first slice' && (alpn === 'h2' || NODE >= 24)) continue;
      it(`has not been served while the kernel had ${what} only`, async () => {
        const report = await drained(answer, 1);
        expect({ ...report }, JSON.stringify(report)).to.include({ outcome: 'peer', served: 0, aborted: 1 });
      }).timeout(20_000);
    }
  });
}
