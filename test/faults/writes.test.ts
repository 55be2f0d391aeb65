/**
 * Writes that fail: peers that are gone while we write (EPIPE, ECONNRESET), and a kernel that has no room (ENOBUFS, from
 * a real socket's handle that is made to say so).
 */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { expect } from 'chai';
import type { LiveConnection } from '../../src/core/connection.js';
import { turns } from '../wire/waiting.js';
import { checkReport, drained, type Ground, groundForEach, nameOf, WAYS, within } from './harness.js';

/** -ENOBUFS, as libuv returns it on Linux. */
const UV_ENOBUFS = -105;

interface Handle {
  writev(...args: unknown[]): number;
  writeBuffer(...args: unknown[]): number;
  writeUtf8String(...args: unknown[]): number;
  writeLatin1String(...args: unknown[]): number;
}

/** Every write on this socket fails from now on. */
function failWrites(socket: Socket): void {
  const handle = (socket as Socket & { _handle: Handle })._handle;
  for (const name of ['writev', 'writeBuffer', 'writeUtf8String', 'writeLatin1String'] as const) {
    handle[name] = () => UV_ENOBUFS;
  }
}

for (const way of WAYS) {
  describe(`a write that fails, ${nameOf(way)}`, function () {
    this.timeout(30_000);
    let ground: Ground;
    groundForEach(way, { drain: { linger: 200 } }, (opened) => {
      ground = opened;
    });

    const start = async () => {
      const client = await ground.connect();
      const connection: LiveConnection = await ground.connectionOf(client.transport.localPort);
      client.request({ path: '/hold' });
      while (ground.held.size === 0) await turns(1);
      return { client, connection };
    };

    for (const inDrain of [false, true]) {
      const where = inDrain ? ', in a drain' : '';

      it(`because the peer is gone as the answer begins${where}`, async () => {
        const { client, connection } = await start();
        const draining = inDrain ? drained(connection) : undefined;
        const [res] = ground.held;
        client.reset();
        // Before the server has read the reset.
        res?.write('x'.repeat(100_000));
        res?.write('y');
        await within(connection.closed, 'end of the connection');
        expect(connection.counts.aborted).to.equal(1);
        if (draining !== undefined) checkReport(await draining);
      });

      it(`because the peer goes while the answer is written${where}`, async () => {
        const { client, connection } = await start();
        const draining = inDrain ? drained(connection) : undefined;
        const [res] = ground.held;
        const write = (): void => {
          if (res?.destroyed === false) res.write('x'.repeat(200_000));
        };
        res?.on('drain', write);
        write();
        await once(client.transport.socket, 'data');
        client.reset();
        await within(connection.closed, 'end of the connection');
        expect(connection.counts.aborted).to.equal(1);
        if (draining !== undefined) {
          const report = await draining;
          checkReport(report);
          expect(report.outcome).to.equal('peer');
        }
      });

      it(`because the kernel has no buffers${where}`, async () => {
        const { connection, client } = await start();
        const draining = inDrain ? drained(connection) : undefined;
        if (inDrain) await turns(4);
        failWrites(connection.socket as TLSSocket);
        ground.release('x'.repeat(50_000));
        await within(connection.closed, 'end of the connection');
        expect(connection.counts, JSON.stringify(connection.counts)).to.include({ aborted: 1, served: 0 });
        if (draining !== undefined) {
          const report = await draining;
          checkReport(report);
          expect(report).to.include({ outcome: 'peer', aborted: 1, served: 0 });
        }
        client.destroy();
      });
    }

    it('as a drain is announced, commits or ends', async () => {
      for (const after of [0, 2, 8]) {
        const client = await ground.connect();
        const connection = await ground.connectionOf(client.transport.localPort);
        client.request({ path: '/ok' });
        await turns(6);
        const draining = drained(connection, { idleWait: 0 });
        await turns(after);
        if (connection.state !== 'closed') failWrites(connection.socket);
        const report = await draining;
        checkReport(report);
        expect(report.aborted).to.equal(0);
        client.destroy();
      }
    });
  });
}
