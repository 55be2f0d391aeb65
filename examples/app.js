// A listener for the command: lastcall serve examples/app.js (in a clone: npm run build, node dist/cli/main.js serve …)
import { addAbortListener } from 'node:events';
import { connectionOf, drainSignal } from 'lastcall';

// biome-ignore lint/style/noDefaultExport: it is what `lastcall serve` serves
export default function app(req, res) {
  if (req.url === '/clock') clock(req, res);
  else res.end(`hello on connection ${connectionOf(req)?.id}\n`);
}

/** An event stream that ends when its connection is drained, and tells its client when to come back. */
function clock(req, res) {
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  const timer = setInterval(() => res.write(`data: ${new Date().toISOString()}\n\n`), 1000);
  // Also if that drain has begun already.
  const listening = addAbortListener(drainSignal(req), () => {
    clearInterval(timer);
    res.end('retry: 500\n\n');
  });
  res.on('close', () => {
    clearInterval(timer);
    listening[Symbol.dispose]();
  });
}
