/** What clients of adopted servers see between the call of `shutdown` and the end. */
import { expect } from 'chai';
import { eventually } from '../server/support.js';
import { H1Client } from '../wire/h1-client.js';
import { AdoptedServers, H1_SERVERS, h1Server } from './support.js';

describe('the delay of a shutdown of adopted servers', () => {
  const servers = new AdoptedServers();

  for (const kind of H1_SERVERS) {
    it(`${kind}: not ready at once, as usual for the delay, then drained`, async () => {
      let told = 0;
      const tls = kind !== 'http';
      const { watch, port } = await servers.start(await h1Server(kind, (_req, res) => void res.end('ok')));
      watch.on('stopping', () => told++);
      expect(watch.ready).to.equal(true);
      const old = await H1Client.connect({ port, tls });
      // Long enough for a stall and two handshakes.
      const stopped = watch.shutdown({ delay: 1_500 });
      expect(watch.ready).to.equal(false);
      const young = await H1Client.connect({ port, tls });
      for (const client of [old, young]) {
        expect((await client.fetch()).connectionHas('close')).to.equal(false);
        expect((await client.fetch()).connectionHas('close')).to.equal(false);
      }
      await eventually(() => [...watch.connections].every(({ state }) => state === 'draining'), 'the drains');
      for (const client of [old, young]) {
        expect((await client.fetch()).connectionHas('close')).to.equal(true);
        client.end();
      }
      expect((await stopped).outcomes).to.deep.equal({ drained: 2, lossy: 0, forced: 0, peer: 0 });
      expect(told).to.equal(1);
      expect(watch.ready).to.equal(false);
    });
  }
});
