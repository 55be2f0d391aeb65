/**
 * What real clients need of a drain beyond what RFC 9113 asks for.
 */
import { expect } from 'chai';
import { connectionOf, gracefulShutdown } from '../../src/index.js';
import { H2Client } from '../wire/h2-client.js';
import { FrameType } from '../wire/h2-frames.js';
import { serve } from './serving.js';

describe('a drain of an HTTP/2 connection', () => {
  it('is announced ahead of the answers that go out with it', async () => {
    // Node's client asks for more when it reads an answer, and fails that by itself if the GOAWAY comes after it.
    const serving = await serve((req, res) => {
      res.end('answer');
      const connection = connectionOf(req);
      if (connection !== undefined) void gracefulShutdown(connection);
    });
    const client = await H2Client.connect({ port: serving.port, record: true });
    const stream = client.request();
    expect((await client.response(stream)).text).to.equal('answer');
    const types = client.frames.map(({ type }) => type);
    expect(types).to.include(FrameType.GOAWAY);
    expect(types.indexOf(FrameType.GOAWAY)).to.be.below(types.indexOf(FrameType.HEADERS));
    client.end();
    await serving.stop();
  });
});
