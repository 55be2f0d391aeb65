// A process that connects COUNT times at once, asks one request on each connection and counts the answers.
import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';

const { PORT, TLS, COUNT } = process.env;
const connect = TLS ? connectTls : connectTcp;

const ask = () =>
  new Promise((resolve) => {
    const socket = connect({ port: Number(PORT), host: '127.0.0.1', rejectUnauthorized: false });
    let text = '';
    socket.on('data', (bytes) => {
      text += bytes;
      if (text.endsWith('served')) socket.end();
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(text.endsWith('served') ? 1 : 0));
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  });

const answers = Array.from({ length: Number(COUNT) }, ask);
process.stdout.write('connecting\n');
const answered = (await Promise.all(answers)).reduce((sum, one) => sum + one, 0);
process.stdout.write(`answered ${answered} of ${COUNT}\n`);
