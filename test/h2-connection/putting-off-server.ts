/**
 * A server in a process of its own, for a client that resets what it opens: it is shut down as soon as what that client
 * sends is put off, and says how its connections have ended.
 */
import type { AddressInfo } from 'node:net';
import { createServer } from '../../src/index.js';

/** The first that is opened when no free reset is left. */
const PUTS_OFF = 201;

let requests = 0;
const server = createServer({ cleartext: true }, (req, res) => {
  if (++requests === PUTS_OFF) {
    void server.shutdown().then(({ outcomes }) => console.log(JSON.stringify(outcomes)));
  }
  if (req.url === '/last') res.end('x');
});
server.listen(0, '127.0.0.1', () => console.log((server.address() as AddressInfo).port));
