/** Which counter of `server.limits` fires for what no attack of test/attacks brings about. */
import { expect } from 'chai';
import { noLimits } from '../../src/core/limits.js';
import { H2Client } from '../wire/h2-client.js';
import { ErrorCode, Flag } from '../wire/h2-frames.js';
import { eventually, Servers } from './support.js';

describe('server.limits', () => {
  const servers = new Servers();

  it('counts trailers that are too large as calmedStreams; the others of the connection go on', async () => {
    const { server, port } = await servers.start('TLS', { h2: { maxHeaderListSize: 1_024 } }, (req, res) => {
      req.resume().on('end', () => res.end('ok'));
    });
    const client = await H2Client.connect({ port });
    const id = client.request({ method: 'POST', open: true });
    client.headers(id, [['x-large', 'x'.repeat(1_024)]], Flag.END_HEADERS | Flag.END_STREAM);
    expect((await client.response(id)).reset).to.equal(ErrorCode.ENHANCE_YOUR_CALM);
    expect((await client.fetch()).text).to.equal('ok');
    expect(server.limits).to.deep.equal({ ...noLimits(), calmedStreams: 1 });
    client.destroy();
  });

  it('counts a client that answers no PING of ours, and closes it', async () => {
    const { server, port } = await servers.start('TLS', { h2: { ping: { interval: 50, timeout: 50 } } });
    const client = await H2Client.connect({ port, pingAck: 'manual' });
    await client.ended();
    expect(server.limits).to.deep.equal({ ...noLimits(), ping: 1 });
    await eventually(() => server.connections.size === 0, 'no connection');
    client.destroy();
  });
});
