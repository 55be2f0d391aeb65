import type { IncomingMessage } from 'node:http';
import { type AddressInfo, connect as connectTcp, createServer as createTcpServer } from 'node:net';
import type { Duplex } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { expect } from 'chai';
import { gracefulShutdown } from '../../src/core/shutdown.js';
import type { H2Tunnel } from '../../src/h2/tunnel.js';
import type { H2Client } from '../wire/h2-client.js';
import { ErrorCode, Flag, Setting } from '../wire/h2-frames.js';
import type { TestHost } from './host.js';
import { closeEverything, pair, sendConnect, until, valuesOf } from './serve.js';

const CONNECT = Flag.END_HEADERS;

describe('CONNECT on HTTP/2', () => {
  afterEach(closeEverything);

  it('is accepted without a content-length, which a tunnel has none of', async () => {
    const [host, client] = await pair(() => {});
    host.on('connect', (_req, stream: H2Tunnel) => {
      stream.respond(200, { 'content-length': '0', 'x-a': '1' });
      stream.end('bytes');
    });
    const id = sendConnect(client);
    const { headers, text } = await client.response(id);
    expect([valuesOf(headers, 'content-length'), valuesOf(headers, 'x-a'), text]).to.deep.equal([[], ['1'], 'bytes']);
  });

  it('is answered 501 when nobody listens', async () => {
    const [host, client] = await pair(() => {});
    const id = sendConnect(client);
    await until(() => client.stream(id).status !== undefined, 'answer');
    expect(client.stream(id).status).to.equal(501);
    await until(() => host.connection.active === 0, 'end');
  });

  it('gives the application a duplex, with an end for each direction', async () => {
    const [host, client] = await pair(() => {});
    let seen: IncomingMessage | undefined;
    host.on('connect', (req: IncomingMessage, stream: Duplex) => {
      seen = req;
      stream.write('hello ');
      stream.pipe(stream);
    });
    const id = sendConnect(client);
    client.data(id, 'echo');
    client.data(id, ' me', true);
    const { status, text } = await client.response(id);
    expect([status, text]).to.deep.equal([200, 'hello echo me']);
    expect([seen?.method, seen?.url, seen?.httpVersion]).to.deep.equal(['CONNECT', 'example.com:443', '2.0']);
    await until(() => host.connection.active === 0, 'end');
    expect(host.connection.counts.served).to.equal(1);
  });

  it('serves a proxy that was written for HTTP/1.1', async () => {
    const upstream = createTcpServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
    await until(() => upstream.listening, 'upstream');
    const [host, client] = await pair(() => {});
    host.on('connect', (req: IncomingMessage, clientSocket: Duplex, head: Buffer) => {
      const [name, port] = (req.url ?? '').split(':');
      const server = connectTcp(Number(port), name, () => {
        clientSocket.write('HTTP/1.1 200 Connection Established\r\nProxy-Agent: test\r\n\r\n');
        server.write(head);
        server.pipe(clientSocket);
        clientSocket.pipe(server);
      });
    });
    const id = client.nextStreamId();
    client.headers(
      id,
      [
        [':method', 'CONNECT'],
        [':authority', `127.0.0.1:${(upstream.address() as AddressInfo).port}`],
      ],
      CONNECT,
    );
    client.data(id, 'through', true);
    const { status, headers, text } = await client.response(id);
    expect([status, text]).to.deep.equal([200, 'through']);
    expect(valuesOf(headers, 'proxy-agent')).to.deep.equal(['test']);
    upstream.close();
  });

  it('may be refused with a body', async () => {
    const [host, client] = await pair(() => {});
    host.on('connect', (_req, stream: Duplex) =>
      stream.end('HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\n\r\nno'),
    );
    const id = sendConnect(client, CONNECT | Flag.END_STREAM);
    const { status, text } = await client.response(id);
    expect([status, text]).to.deep.equal([403, 'no']);
  });

  it('is extended when that was allowed', async () => {
    const [host, client] = await pair(() => {}, { h2: { enableConnectProtocol: true } });
    host.on('connect', (req: IncomingMessage, stream: H2Tunnel) => {
      stream.respond(200, { 'Sec-WebSocket-Protocol': 'chat' });
      stream.end(`${stream.protocol} ${req.url} ${req.headers.host}`);
    });
    await client.expect('SETTINGS');
    expect(client.serverSettings.get(Setting.ENABLE_CONNECT_PROTOCOL)).to.equal(1);
    const id = client.nextStreamId();
    const fields = [
      [':method', 'CONNECT'],
      [':protocol', 'websocket'],
      [':scheme', 'http'],
      [':authority', 'localhost'],
      [':path', '/chat'],
    ] as const;
    client.headers(id, fields, CONNECT);
    client.data(id, '', true);
    const { status, headers, text } = await client.response(id);
    expect([status, text]).to.deep.equal([200, 'websocket /chat localhost']);
    expect(valuesOf(headers, 'sec-websocket-protocol')).to.deep.equal(['chat']);
  });

  it('goes on behind an empty write', async () => {
    const [host, client] = await pair(() => {});
    let empty = (): void => {};
    host.on('connect', (_req, stream: Duplex) => {
      stream.write('first');
      empty = () => {
        stream.write(Buffer.alloc(0));
        stream.end(' second');
      };
    });
    const id = sendConnect(client, CONNECT);
    await until(() => Buffer.concat(client.stream(id).body).toString() === 'first', 'the first bytes');
    client.ping();
    await client.expectAck('PING');
    empty();
    expect((await client.response(id)).text).to.equal('first second');
  });

  it('takes no status and no fields that can’t be an answer’s', async () => {
    const [host, client] = await pair((_req, res) => res.end('ok'));
    const thrown: string[] = [];
    host.on('connect', (_req, stream: H2Tunnel) => {
      const bad: [number, Record<string, string>][] = [
        [101, {}],
        [1_000, {}],
        [undefined as unknown as number, {}],
        [200, { 'x-proto': 'a\r\nset-cookie: s=1' }],
        [200, { 'bad name': 'x' }],
      ];
      for (const [status, fields] of bad) {
        try {
          stream.respond(status, fields);
        } catch (error) {
          thrown.push((error as { code: string }).code);
        }
      }
      stream.respond(502);
      stream.end('no');
    });
    const { status, text, headers } = await client.response(sendConnect(client, CONNECT | Flag.END_STREAM));
    expect([status, text]).to.deep.equal([502, 'no']);
    expect(valuesOf(headers, 'set-cookie')).to.deep.equal([]);
    const invalid = 'ERR_HTTP_INVALID_STATUS_CODE';
    expect(thrown).to.deep.equal([invalid, invalid, invalid, 'ERR_INVALID_CHAR', 'ERR_INVALID_HTTP_TOKEN']);
    expect((await client.fetch()).text).to.equal('ok');
  });

  it('is reset when what it relays begins with a head that is none', async () => {
    const [host, client] = await pair((_req, res) => res.end('ok'));
    host.on('connect', (_req, stream: Duplex) => stream.write('HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n'));
    const { reset } = await client.response(sendConnect(client, CONNECT | Flag.END_STREAM));
    expect(reset).to.equal(ErrorCode.CONNECT_ERROR);
    expect((await client.fetch()).text).to.equal('ok');
  });

  it('is cut when the application destroys it, or the client does', async () => {
    const [host, client] = await pair(() => {});
    const closed: string[] = [];
    host.on('connect', (req: IncomingMessage, stream: Duplex) => {
      stream.on('error', () => {});
      stream.on('close', () => closed.push(req.url ?? ''));
      stream.write('x');
      if (req.url === 'server:1') stream.destroy();
    });
    const [one, two] = ['server:1', 'client:2'].map((authority) => {
      const id = client.nextStreamId();
      client.headers(
        id,
        [
          [':method', 'CONNECT'],
          [':authority', authority],
        ],
        CONNECT,
      );
      return id;
    });
    expect((await client.response(one ?? 0)).reset).to.equal(ErrorCode.CANCEL);
    client.rst(two ?? 0, ErrorCode.CANCEL);
    await until(() => closed.length === 2, 'close');
    expect(host.connection.counts).to.include({ aborted: 1, cancelled: 1 });
  });

  it('holds a drain until its deadline', async () => {
    const [host, client] = await pair(() => {});
    let draining = false;
    host.on('connect', (_req, stream: Duplex) => {
      stream.on('error', () => {});
      stream.write('x');
      host.connection.drainSignal.addEventListener('abort', () => {
        draining = true;
      });
    });
    const id = client.nextStreamId();
    client.headers(
      id,
      [
        [':method', 'CONNECT'],
        [':authority', 'a:1'],
      ],
      CONNECT,
    );
    await until(() => client.stream(id).status === 200, 'tunnel');
    const report = await gracefulShutdown(host.connection, { timeout: 100 });
    expect(draining).to.equal(true);
    expect(report).to.include({ outcome: 'forced', aborted: 1 });
  });

  /** Opens a tunnel whose application listens for nothing but what it has to. */
  async function tunnel(
    begin: (stream: Duplex) => void,
  ): Promise<{ host: TestHost; client: H2Client; id: number; stream: () => Duplex }> {
    const [host, client] = await pair(() => {});
    let duplex: Duplex | undefined;
    host.on('connect', (_req, stream: Duplex) => {
      duplex = stream;
      begin(stream);
    });
    const id = sendConnect(client);
    await until(() => client.stream(id).status === 200, 'tunnel');
    const stream = (): Duplex => {
      if (duplex === undefined) throw new Error('no tunnel');
      return duplex;
    };
    return { host, client, id, stream };
  }

  const ENDS: Readonly<Record<string, (client: H2Client, id: number, host: TestHost) => void>> = {
    'a RST of its connection': (client) => client.reset(),
    'the end of its connection': (client) => client.end(),
    'a broken frame': (client) => void client.frame(0x6, 0, 0, Buffer.alloc(3)),
    'a stream error': (client, id) => void client.windowUpdate(id, 0),
    RST_STREAM: (client, id) => void client.rst(id, ErrorCode.CANCEL),
    'the deadline of a drain': (_client, _id, host) => void gracefulShutdown(host.connection, { timeout: 5 }),
  };
  for (const [what, end] of Object.entries(ENDS)) {
    for (const half of [false, true]) {
      it(`closes the application’s ${half ? 'half-closed ' : ''}end on ${what}, and crashes nobody`, async () => {
        const { host, client, id, stream } = await tunnel((duplex) => {
          duplex.resume();
          if (half) duplex.end('bye');
          else duplex.write(Buffer.alloc(200_000));
        });
        await turn();
        end(client, id, host);
        await until(() => stream().destroyed, 'close');
        client.destroy();
      });
    }
  }

  it('has its end at once when the client has sent nothing but CONNECT', async () => {
    const [host, client] = await pair(() => {});
    host.on('connect', (_req, stream: Duplex) => stream.pipe(stream));
    const id = sendConnect(client, CONNECT | Flag.END_STREAM);
    const done = gracefulShutdown(host.connection, { timeout: 3_000 });
    expect((await client.response(id)).status).to.equal(200);
    expect((await done).outcome).to.equal('drained');
  });

  it('keeps the client’s direction through a drain when the application has ended its own', async () => {
    let read = 0;
    const { host, client, id } = await tunnel((duplex) => {
      duplex.on('data', (chunk: Buffer) => {
        read += chunk.length;
      });
      duplex.end('bye');
    });
    const done = gracefulShutdown(host.connection, { timeout: 5_000 });
    for (let i = 1; i <= 20; i++) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      client.data(id, 'y'.repeat(100), i === 20);
    }
    expect(await done).to.include({ outcome: 'drained', served: 1 });
    expect(read).to.equal(2_000);
  });
});
