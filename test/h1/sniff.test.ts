/**
 * HTTP/1.1 on a port that takes HTTP/2 with prior knowledge too: its first bytes, however they are cut.
 */
import { expect } from 'chai';
import { gracefulShutdown } from '../../src/index.js';
import { H2Client } from '../wire/h2-client.js';
import { stall } from '../wire/waiting.js';
import { closeEverything, counters, delay, Site } from './support.js';

describe('sniffing the protocol of a cleartext connection', () => {
  afterEach(closeEverything);

  it('takes requests shorter than the preface for HTTP/1', async () => {
    const site = await Site.open({ tls: false });
    const client = await site.connect();
    client.write('GET / HTTP/1.0\r\n\r\n', ['GET']);
    expect((await client.response()).status).to.equal(200);
  });

  it('waits with what begins like the preface', async () => {
    const site = await Site.open({ tls: false });
    for (const method of ['POST', 'PUT', 'PROPFIND']) {
      const client = await site.connect();
      for (const byte of `${method} /${method} HTTP/1.1\r\nHost: x\r\n`) {
        client.write(byte);
        await delay(1);
      }
      client.write('Content-Length: 0\r\n\r\n', [method]);
      expect((await client.response()).text).to.equal(`/${method}`);
    }
  });

  it('speaks HTTP/2 to the preface', async () => {
    const site = await Site.open({ tls: false });
    const client = await H2Client.connect({ port: site.relay.port, tls: false });
    expect((await client.fetch({ path: '/two' })).status).to.equal(200);
    client.destroy();
  });

  it('serves what came while the loop was stalled past hold', async () => {
    const site = await Site.open({ tls: false, options: { keepAlive: { advertise: 0, hold: 400 } } });
    const client = await site.connectDirectly();
    await site.connection();
    client.request();
    stall(450);
    expect((await client.response()).status).to.equal(200);
  });

  it('waits for the rest of a request whose first byte has come when idleWait runs out', async () => {
    const site = await Site.open({ tls: false });
    const client = await site.connectDirectly();
    const drained = gracefulShutdown(await site.connection(), { idleWait: 400 });
    client.write('P', ['POST']);
    await delay(600);
    expect(client.ending).to.equal('open');
    client.write('OST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
    const answer = await client.response();
    expect([answer.text, answer.connectionHas('close')]).to.deep.equal(['/post', true]);
    client.end();
    expect(counters(await drained)).to.deep.equal({ served: 1 });
  });

  it('closes with a client that leaves without a byte', async () => {
    const site = await Site.open({ tls: false });
    const client = await site.connect();
    const connection = await site.connection();
    client.end();
    await connection.closed;
    expect(connection.protocol).to.equal(undefined);
  });
});
