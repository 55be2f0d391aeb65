// An Express app that moves connections on: node examples/adopted.js [PORT], then
//   curl localhost:8080/                    hello
//   curl localhost:8080/events              ends by itself when its connection is drained
//   curl -X POST localhost:8080/move        drain what is older than ten seconds, over a minute
// In a clone of lastcall: npm run build, first.
import { addAbortListener } from 'node:events';
import express from 'express';
import { adopt, drainSignal, parseFilter } from 'lastcall';

const app = express();

app.get('/', (_req, res) => res.send('hello\n'));

app.get('/events', (req, res) => {
  res.type('text/event-stream').write('data: hello\n\n');
  const listening = addAbortListener(drainSignal(req), () => res.end('retry: 500\n\n'));
  res.on('close', () => listening[Symbol.dispose]());
});

app.post('/move', (_req, res) => {
  watch.drain(parseFilter('age>10s'), { spread: 60_000 }).then(console.log);
  res.status(202).send('on their way\n');
});

const server = app.listen(process.argv[2] ?? 8080, () => console.log(`http://localhost:${server.address().port}`));
const watch = adopt(server, { recycle: { maxAge: 3_600_000 } });
process.once('SIGINT', async () => console.log(await watch.shutdown({ idleWait: 0 })));
