/**
 * The contract of a Connection: what it tells its owner, and its drain signal, whatever protocol it speaks. How it ends
 * is drain.contract.ts's. Run against every implementation.
 */
import { addAbortListener, once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { expect } from 'chai';
import { epochNow } from '../../src/core/timing.js';
import {
  type Connection,
  type ConnectionState,
  connectionOf,
  type DrainReport,
  drainSignal,
  gracefulShutdown,
} from '../../src/index.js';
import { eventually, useHarness } from './harness.js';
import type { Implementation } from './implementation.js';

export function describeConnection(implementation: Implementation): void {
  const { name, protocol, tls } = implementation;

  describe(`Connection: ${name}`, () => {
    const harness = useHarness(implementation);
    const { established, busy } = harness;

    describe('what it tells', () => {
      const { knownAtOnce } = implementation;
      const since = knownAtOnce ? 'with its protocol' : 'before its protocol is known';
      it(`is registered when it is accepted, ${since}`, async () => {
        const opened = once(harness.running.connections, 'open');
        const client = connectTcp(harness.running.port, '127.0.0.1');
        const [connection] = (await opened) as [Connection];
        expect(connection.state).to.equal(knownAtOnce ? 'open' : 'handshaking');
        expect(connection.protocol).to.equal(knownAtOnce ? protocol : undefined);
        expect(harness.running.connections.get(connection.id)).to.equal(connection);
        client.destroy();
        await connection.closed;
        expect(harness.running.connections.size).to.equal(0);
      });

      it('goes from handshaking to open, draining, lingering and closed', async () => {
        const states: ConnectionState[] = [];
        harness.running.connections.on('open', (connection) => states.push(connection.state));
        const { peer, connection, res, answered } = await busy({ closesToo: false });
        states.push(connection.state);
        const drained = gracefulShutdown(connection);
        states.push(connection.state);
        res.end('last');
        await answered;
        await peer.ended();
        states.push(connection.state);
        peer.transport.end();
        await drained;
        states.push(connection.state);
        expect(states).to.deep.equal(['handshaking', 'open', 'draining', 'lingering', 'closed']);
      });

      it('knows its protocol, addresses and server name', async () => {
        const { peer, connection } = await established({ servername: 'localhost' });
        expect(connection.protocol).to.equal(protocol);
        expect(connection.secure).to.equal(tls);
        expect(connection.servername).to.equal(tls ? 'localhost' : undefined);
        expect(connection.remoteAddress).to.equal('127.0.0.1');
        expect(connection.remotePort).to.equal(peer.transport.localPort);
        expect(connection.localPort).to.equal(harness.running.port);
        expect(connection.localAddress).to.equal('127.0.0.1');
        expect('encrypted' in connection.socket).to.equal(tls);
        expect(connection.openedAt).to.be.closeTo(Date.now(), 5_000);
      });

      it('keeps its addresses after it has closed', async () => {
        const { peer, connection } = await established();
        connection.destroy();
        await connection.closed;
        expect(connection.remotePort).to.equal(peer.transport.localPort);
        expect(connection.localPort).to.equal(harness.running.port);
        expect(connection.protocol).to.equal(protocol);
      });

      it('counts requests in flight and requests served', async () => {
        const { connection, res, answered, peer } = await busy();
        expect({ active: connection.active, served: connection.served }).to.deep.equal({ active: 1, served: 0 });
        res.end();
        await answered;
        await peer.ask('/');
        await eventually(() => connection.active === 0, 'no request in flight');
        expect(connection.served).to.equal(2);
      });

      it('was last active when a request last began or ended', async () => {
        const { peer, connection } = await established();
        await eventually(() => connection.active === 0, 'no request in flight');
        const before = connection.lastActiveAt;
        // The system's clock may have been set, or read a few ms apart, since the process began.
        await eventually(() => epochNow() > before, 'the clock to move');
        await peer.ask('/');
        expect(connection.lastActiveAt).to.be.greaterThan(before);
        expect(connection.lastActiveAt).to.be.at.most(epochNow());
      });

      it('carries the tags of the application, which select it', async () => {
        const { connection } = await established();
        const other = await established();
        connection.tags.set('tenant', 'acme');
        other.connection.tags.set('tenant', 'other');
        expect(harness.running.connections.select({ tags: { tenant: 'acme' } })).to.deep.equal([connection]);
        expect(harness.running.connections.select({ protocol })).to.have.length(2);
      });

      it('has an id that no other connection has', async () => {
        const { connection } = await established();
        const other = await established();
        expect(other.connection.id).to.be.greaterThan(connection.id);
      });

      it('is found from its request, response and socket, also when they are over', async () => {
        const { connection, req, res, answered } = await busy();
        expect(connectionOf(req)).to.equal(connection);
        expect(connectionOf(res)).to.equal(connection);
        expect(connectionOf(req.socket)).to.equal(connection);
        expect(connectionOf(connection.socket)).to.equal(connection);
        res.end();
        await answered;
        connection.destroy();
        await connection.closed;
        expect(connectionOf(req)).to.equal(connection);
        expect(connectionOf(res)).to.equal(connection);
      });
    });

    describe('its drain signal', () => {
      it('aborts when the drain begins, for whoever asked before', async () => {
        const { connection, req, res } = await busy();
        const signal = drainSignal(req);
        expect(signal).to.equal(connection.drainSignal);
        expect(signal.aborted).to.equal(false);
        const aborted = once(signal, 'abort');
        const drained = gracefulShutdown(connection);
        expect(signal.aborted).to.equal(true);
        await aborted;
        res.end();
        await drained;
      });

      it('is aborted for whoever asks later', async () => {
        const { connection, req, res } = await busy();
        const drained = gracefulShutdown(connection);
        expect(drainSignal(req).aborted).to.equal(true);
        res.end();
        await drained;
        expect(connection.drainSignal.aborted).to.equal(true);
      });

      it('never aborts for a connection that ends without a drain', async () => {
        const { connection, req } = await busy();
        const signal = drainSignal(req);
        connection.destroy();
        await connection.closed;
        expect([signal.aborted, drainSignal(req).aborted]).to.deep.equal([false, false]);
      });

      it('may have a listener of each request in flight', async () => {
        const { connection, req } = await busy();
        const warnings: string[] = [];
        const warned = ({ message }: Error): void => void warnings.push(message);
        process.on('warning', warned);
        const listening = Array.from({ length: 200 }, () => addAbortListener(drainSignal(req), () => {}));
        await new Promise((resolve) => setImmediate(resolve));
        for (const each of listening) each[Symbol.dispose]();
        process.off('warning', warned);
        connection.destroy();
        expect(warnings).to.deep.equal([]);
      });

      it('finds the drain under way when its listener calls gracefulShutdown', async () => {
        const { connection, res } = await busy();
        let joined: Promise<DrainReport> | undefined;
        connection.drainSignal.addEventListener('abort', () => {
          joined = gracefulShutdown(connection);
        });
        const drained = gracefulShutdown(connection);
        res.end();
        expect(await joined).to.equal(await drained);
      });
    });
  });
}
