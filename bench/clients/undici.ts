/**
 * undici in a loop, over HTTP/2 and one connection at a time.
 */
import { Agent, request } from 'undici';
import { loop, loopArguments, PATIENCE_MS } from './loop.js';

const args = loopArguments();
const dispatcher = new Agent({
  allowH2: true,
  connections: 1,
  pipelining: args.atATime,
  headersTimeout: PATIENCE_MS,
  bodyTimeout: PATIENCE_MS,
  connect: { rejectUnauthorized: false },
});

await loop(args, async (path, body) => {
  const answer = await request(`${args.origin}${path}`, {
    dispatcher,
    method: body === undefined ? 'GET' : 'POST',
    body: body ?? null,
  });
  return answer.body.text();
});
