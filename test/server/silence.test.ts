import { expect } from 'chai';
import { PORTS, Servers, silentClient } from './support.js';

for (const kind of PORTS) {
  describe(`a client that says nothing (${kind})`, () => {
    const servers = new Servers();

    it('does not hold up the shutdown that accepted it', async () => {
      const { server, port } = await servers.start(kind);
      const connecting = silentClient(port);
      // The kernel has its connection, the server doesn't.
      expect(server.connections.size).to.equal(0);
      const stopped = server.shutdown({ idleWait: 0, timeout: 8_000 });
      const client = await connecting;
      client.once('end', () => client.end());
      const summary = await stopped;
      expect(summary.connections).to.equal(1);
      expect(summary.outcomes.drained).to.equal(1);
      expect(summary.duration).to.be.below(3_000);
      client.destroy();
    });
  });
}
