/**
 * node:http2's client in a loop. It leaves connections to its user: here a session is used until it says by any of its
 * ways that it is going away, and then another is opened.
 */
import { type ClientHttp2Session, connect, constants } from 'node:http2';
import { loop, loopArguments, PATIENCE_MS } from './loop.js';

const args = loopArguments();
let current: ClientHttp2Session | undefined;

function session(): ClientHttp2Session {
  if (current !== undefined && !current.closed && !current.destroyed) return current;
  const opened = connect(args.origin, { rejectUnauthorized: false });
  const retire = (): void => {
    if (current === opened) current = undefined;
  };
  opened.on('goaway', retire);
  opened.on('close', retire);
  // What fails with the session fails in its streams too.
  opened.on('error', retire);
  current = opened;
  return opened;
}

await loop(
  args,
  (path, body) =>
    new Promise((resolve, reject) => {
      const stream = session().request(
        { ':path': path, ':method': body === undefined ? 'GET' : 'POST' },
        { endStream: body === undefined },
      );
      let text = '';
      let responded = false;
      stream.setEncoding('utf8');
      stream.setTimeout(PATIENCE_MS, () => stream.close(constants.NGHTTP2_CANCEL));
      stream.on('response', () => {
        responded = true;
      });
      stream.on('data', (chunk: string) => {
        text += chunk;
      });
      stream.on('error', reject);
      stream.on('close', () => {
        if (responded && stream.rstCode === constants.NGHTTP2_NO_ERROR) resolve(text);
        else reject(new Error(`closed with code ${stream.rstCode}, ${responded ? 'after' : 'before'} the response`));
      });
      if (body !== undefined) stream.end(body);
    }),
);
