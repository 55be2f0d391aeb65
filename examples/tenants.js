// Moves one tenant away while everybody else is served: node examples/tenants.js [PORT], then
//   (printf 'GET / HTTP/1.1\r\nhost: x\r\nx-tenant: acme\r\n\r\n'; sleep 60) | nc localhost 8080    tag a connection
//   curl -X DELETE localhost:8080/tenants/acme    in another terminal: drain all that carry the tag
// In a clone of lastcall: npm run build, first.
import { connectionOf, createServer } from 'lastcall';

const server = createServer({ cleartext: true }, (req, res) => {
  const tenant = req.headers['x-tenant'];
  if (tenant !== undefined) connectionOf(req)?.tags.set('tenant', String(tenant));

  const [, evicted] = /^\/tenants\/(\w+)$/.exec(req.url) ?? [];
  if (req.method !== 'DELETE' || evicted === undefined) {
    res.end('hello\n');
    return;
  }
  // Not awaited before the answer: it would wait for this request if the connection carried the tag, too.
  server.drain({ tags: { tenant: evicted } }, { timeout: 10_000, reason: 'moved' }).then(console.log);
  res.writeHead(202).end('they are being moved\n');
});

server.listen(process.argv[2] ?? 8080, () => console.log(`http://localhost:${server.address().port}`));
process.once('SIGINT', async () => console.log(await server.shutdown({ idleWait: 0 })));
