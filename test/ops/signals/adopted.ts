/** A process whose server of node:http is adopted once a WebSocket is open, which nobody knows then. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { adopt, onSignals } from '../../../src/index.js';

const server = createServer().on('upgrade', (_req, socket) => {
  socket.on('error', () => {});
  onSignals(adopt(server), {
    timeout: Number(process.env.TIMEOUT ?? 300),
    signals: { SIGTERM: { delay: 0 } },
    onSignal: (cause, step) => process.stdout.write(`${cause} ${step}\n`),
    cleanup: () => process.stdout.write('cleanup\n'),
  });
  process.stdout.write('upgraded\n');
});
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`serving ${(server.address() as AddressInfo).port} \n`);
});
