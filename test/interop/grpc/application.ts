/**
 * gRPC by hand, as a `(req, res)` listener: length-prefixed messages, and the status in the trailers. Three methods:
 * `/test.Echo/Unary` answers with its message, `/test.Echo/Count` with as many messages as its one says, and
 * `/test.Echo/Chat` with each as it comes. What a call is, its message says: `<number> <ms, or how many>`.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';

/** ms between two messages of a count. */
const BETWEEN = 4;

/** How often each call was handled, by its method and message. */
export type Handled = Map<string, number>;

export function echo(handled: Handled): RequestListener {
  return async (req, res) => {
    const method = req.url?.split('/')[2];
    res.writeHead(200, { 'content-type': 'application/grpc', trailer: 'grpc-status' });
    let isFirst = true;
    for await (const message of messagesOf(req)) {
      const [, number = ''] = /^\d+ (\d+)$/.exec(message) ?? [];
      const key = `${method} ${message}`;
      if (isFirst) handled.set(key, (handled.get(key) ?? 0) + 1);
      isFirst = false;
      if (method === 'Count') await count(res, Number(number));
      else {
        if (method === 'Unary') await delay(Number(number));
        res.write(framed(message));
      }
    }
    res.addTrailers({ 'grpc-status': '0' });
    res.end();
  };
}

async function count(res: ServerResponse, to: number): Promise<void> {
  for (let i = 1; i <= to; i++) {
    await delay(BETWEEN);
    res.write(framed(`${i}`));
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Not compressed, and its length. */
function framed(message: string): Buffer {
  const body = Buffer.from(message);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(body.length, 1);
  return Buffer.concat([prefix, body]);
}

async function* messagesOf(req: IncomingMessage): AsyncGenerator<string> {
  let bytes = Buffer.alloc(0);
  for await (const chunk of req as AsyncIterable<Buffer>) {
    bytes = Buffer.concat([bytes, chunk]);
    while (bytes.length >= 5 && bytes.length >= 5 + bytes.readUInt32BE(1)) {
      const end = 5 + bytes.readUInt32BE(1);
      yield bytes.toString('utf8', 5, end);
      bytes = bytes.subarray(end);
    }
  }
}
