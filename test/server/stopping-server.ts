/** A process that serves both protocols, shuts its server down, and then has to end by itself. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from '../../src/index.js';
import { certificate } from '../wire/certificate.js';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';

const tls = process.env.TLS === '1';
const server = createServer(tls ? await certificate() : { cleartext: true }, (_req, res) => res.end('ok'));
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = server.address() as AddressInfo;
const clients = [await H1Client.connect({ port, tls }), await H2Client.connect({ port, tls })];
for (const client of clients) {
  client.transport.socket.once('end', () => client.end());
  await client.fetch();
}
const began = performance.now();
await server.shutdown({ idleWait: 0 });
const stopped = performance.now();
process.once('exit', () => {
  const ended = performance.now();
  process.stdout.write(
    `stopped after ${Math.round(stopped - began)} ms, ended after ${Math.round(ended - stopped)} ms\n`,
  );
});
