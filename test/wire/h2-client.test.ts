import { once } from 'node:events';
import {
  constants,
  createSecureServer,
  createServer,
  type Http2SecureServer,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { expect } from 'chai';
import { certificate } from './certificate.js';
import { H2Client, type H2ClientOptions } from './h2-client.js';
import {
  encodeFrame,
  Flag,
  FrameReader,
  FrameType,
  goawayPayload,
  HpackCodec,
  MAX_STREAM_ID,
  PREFACE,
  Setting,
} from './h2-frames.js';
import { runH2Client } from './h2-runner.js';
import { Relay } from './relay.js';

describe('raw HTTP/2 client', () => {
  const cleanups: (() => unknown)[] = [];

  afterEach(async () => {
    for (const clean of cleanups.splice(0).reverse()) await clean();
  });

  async function listen(server: Http2Server | Http2SecureServer): Promise<number> {
    const sessions = new Set<ServerHttp2Session>();
    server.on('session', (session) => {
      sessions.add(session);
      session.on('error', () => {});
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanups.push(() => {
      for (const session of sessions) session.destroy();
      server.close();
    });
    return (server.address() as AddressInfo).port;
  }

  async function connect(port: number, options: Partial<H2ClientOptions> = {}): Promise<H2Client> {
    const client = await H2Client.connect({ port, tls: false, ...options });
    cleanups.push(() => client.destroy());
    return client;
  }

  it('speaks h2 over TLS and reads status, fields and body', async () => {
    const server = createSecureServer(await certificate(), (req, res) => {
      res.setHeader('x-path', req.url);
      res.end('hello');
    });
    const client = await connect(await listen(server), { tls: true });
    expect(client.transport.alpn).to.equal('h2');
    for (const path of ['/a', '/b', '/a']) {
      const response = await client.fetch({ path });
      expect(response.status).to.equal(200);
      expect(response.headers).to.deep.include(['x-path', path]);
      expect(response.text).to.equal('hello');
    }
    expect(client.violations).to.deep.equal([]);
  });

  it('reads frames and header blocks however they are split', async () => {
    const hpack = new HpackCodec();
    const block = hpack.encode([
      [':status', '200'],
      ['x-long', 'v'.repeat(300)],
    ]);
    const bytes = Buffer.concat([
      encodeFrame(FrameType.SETTINGS, 0, 0),
      encodeFrame(FrameType.HEADERS, 0, 1, block.subarray(0, 7)),
      encodeFrame(FrameType.CONTINUATION, 0, 1, block.subarray(7, 100)),
      encodeFrame(FrameType.CONTINUATION, Flag.END_HEADERS, 1, block.subarray(100)),
      encodeFrame(FrameType.DATA, Flag.PADDED, 1, Buffer.from('\x02hi\0\0')),
      encodeFrame(FrameType.DATA, Flag.END_STREAM, 1, Buffer.from('!')),
    ]);
    const server = createTcpServer({ noDelay: true }, (socket) => {
      socket.on('error', () => {});
      socket.once('data', async () => {
        for (let i = 0; i < bytes.length; i += 37) {
          socket.write(bytes.subarray(i, i + 37));
          await new Promise((next) => setTimeout(next, 1));
        }
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanups.push(() => server.close());
    const client = await connect((server.address() as AddressInfo).port);
    const response = await client.fetch();
    expect(response.text).to.equal('hi!');
    expect(response.headers).to.deep.include(['x-long', 'v'.repeat(300)]);
  });

  it('keeps the windows: uploads wait for credit, and manual credit stops the server', async () => {
    const server = createServer((req, res) => {
      let size = 0;
      req.on('data', (chunk: Buffer) => {
        size += chunk.length;
      });
      req.on('end', () => res.end(Buffer.alloc(size)));
    });
    const client = await connect(await listen(server), { credit: 'manual' });
    const id = client.request({ method: 'POST', body: Buffer.alloc(200_000) });
    expect(client.uploadLeft(id)).to.be.above(100_000);
    await client.until(() => client.receiveWindow === 0, 'connection window used up');
    expect(client.stream(id).ended).to.equal(false);
    client.windowUpdate(0, 200_000);
    client.windowUpdate(id, 200_000);
    expect((await client.response(id)).text.length).to.equal(200_000);
    expect(client.violations).to.deep.equal([]);
    const auto = await connect(await listen(createServer((_req, res) => res.end(Buffer.alloc(1_000_000)))));
    expect((await auto.fetch()).text.length).to.equal(1_000_000);
    expect(auto.violations).to.deep.equal([]);
  });

  it('withholds and delays acknowledgements', async () => {
    const server = createServer();
    const rtt = new Promise<number>((resolve) => {
      server.on('session', (session) => session.ping((_error, duration) => resolve(duration)));
    });
    const client = await connect(await listen(server), { pingAck: { afterMs: 40 }, settingsAck: 'manual' });
    expect(await rtt).to.be.at.least(39);
    await client.expect('SETTINGS');
    expect(client.ackSettings()).to.equal(true);
  });

  it('sends illegal frames as they are told', async () => {
    const client = await connect(await listen(createServer()));
    client.frame(FrameType.DATA, 0, 2, Buffer.from('x'));
    const goaway = await client.expect('GOAWAY');
    expect(goaway.payload.readUInt32BE(4)).to.equal(constants.NGHTTP2_PROTOCOL_ERROR);
  });

  it('notes what a server does against the RFC', async () => {
    const server = createTcpServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => {
        socket.write(encodeFrame(FrameType.GOAWAY, 0, 0, goawayPayload(3, 0)));
        socket.write(encodeFrame(FrameType.GOAWAY, 0, 0, goawayPayload(5, 0)));
        socket.write(encodeFrame(FrameType.DATA, 0, 1, Buffer.alloc(20)));
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanups.push(() => server.close());
    const client = await connect((server.address() as AddressInfo).port, {
      settings: [[Setting.INITIAL_WINDOW_SIZE, 10]],
    });
    client.request();
    await client.until(() => client.violations.length === 3);
    expect(client.violations.join())
      .to.contain('rose from 3 to 5')
      .and.to.contain('DATA before')
      .and.to.contain('window of stream 1');
  });

  describe('in a closed loop', () => {
    const echo = (n: number): { path: string; expectedBody: string } => ({ path: `/${n}`, expectedBody: `ok /${n}` });

    it('counts every stream answered, uploads among them', async () => {
      const server = createSecureServer(await certificate(), (req, res) => {
        req.resume().on('end', () => res.end(`ok ${req.url}`));
      });
      const result = await runH2Client({
        port: await listen(server),
        exchange: (n) => (n % 3 === 0 ? { ...echo(n), body: Buffer.alloc(40_000), bodyPauseMs: 2 } : echo(n)),
        inFlight: 8,
        maxRequests: 100,
      });
      expect(result).to.include({ sent: 100, answered: 100, wrong: 0, refused: 0, unserved: 0, reset: false });
      expect(result.violations).to.deep.equal([]);
    });

    it('opens nothing after a GOAWAY that it has read, and waits for what is open', async () => {
      const inFlight = 4;
      let served = 0;
      let held: (() => void)[] = [];
      const server = createServer((req, res) => {
        held.push(() => res.end(`ok ${req.url}`));
        if (held.length < inFlight) return;
        // All that the client may have open is here, and nothing on its way, which node:http2 would drop.
        served += held.length;
        if (served === 20) req.stream.session?.close();
        for (const answer of held) answer();
        held = [];
      });
      const result = await runH2Client({ port: await listen(server), tls: false, exchange: echo, inFlight });
      expect(result).to.include({ sent: 20, answered: 20, unserved: 0, stoppedBy: 'goaway' });
    });

    it('counts what node:http2 drops when it closes a session behind a delay', async () => {
      let sent = 0;
      let served = 0;
      let session: ServerHttp2Stream['session'];
      const server = createSecureServer(await certificate(), (req, res) => {
        ({ session } = req.stream);
        res.end(`ok ${req.url}`);
        served += 1;
      });
      const relay = await Relay.open({
        port: await listen(server),
        delayMs: 10,
        // The GOAWAY comes to nobody before the next requests are on their way.
        onEvent: ({ direction, side }) => {
          if (direction === 'to-server' && side === 'in' && served >= 20 && sent > served) session?.close();
        },
      });
      cleanups.push(() => relay.close());
      const exchange = (n: number): ReturnType<typeof echo> => {
        sent = n + 1;
        return echo(n);
      };
      const result = await runH2Client({ port: relay.port, exchange, inFlight: 4 });
      expect(result.sent).to.equal(result.answered + result.refused + result.unserved);
      expect(result.refused + result.unserved).to.be.above(0);
      expect(result.firstFault).to.be.a('string');
    });

    it('tells a refused stream, a reset stream and a wrong answer apart', async () => {
      const server = createServer();
      server.on('stream', (stream, headers) => {
        const path = headers[':path'] ?? '';
        stream.on('error', () => {});
        if (path === '/1') stream.close(constants.NGHTTP2_REFUSED_STREAM);
        else if (path === '/2') stream.close(constants.NGHTTP2_CANCEL);
        else if (path === '/3') stream.respond({ ':status': 503 }, { endStream: true });
        else {
          stream.respond({ ':status': 200 });
          stream.end(`ok ${path}`);
        }
      });
      const result = await runH2Client({ port: await listen(server), tls: false, exchange: echo, maxRequests: 6 });
      expect(result).to.include({ sent: 6, answered: 3, refused: 1, streamResets: 1, wrong: 1, unserved: 0 });
    });

    it('counts a connection that is cut as unserved streams and a reset', async () => {
      const server = createTcpServer((socket: Socket) => {
        socket.on('error', () => {});
        const reader = new FrameReader();
        let isPreface = true;
        socket.on('data', (bytes: Buffer) => {
          reader.push(isPreface ? bytes.subarray(PREFACE.length) : bytes, (frame) => {
            if (frame.type === FrameType.HEADERS && frame.streamId === 5) socket.resetAndDestroy();
          });
          isPreface = false;
        });
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      cleanups.push(() => server.close());
      const port = (server.address() as AddressInfo).port;
      const result = await runH2Client({ port, tls: false, exchange: echo, inFlight: 3 });
      expect(result).to.include({ sent: 3, answered: 0, unserved: 3, reset: true, stoppedBy: 'server-closed' });
    });

    it('writes one late stream when its writer runs apart from its reader', async () => {
      const received: number[] = [];
      const server = createTcpServer((socket: Socket) => {
        socket.on('error', () => {});
        const reader = new FrameReader();
        let isPreface = true;
        socket.on('data', (bytes: Buffer) => {
          reader.push(isPreface ? bytes.subarray(PREFACE.length) : bytes, (frame) => {
            if (frame.type !== FrameType.HEADERS) return;
            received.push(frame.streamId);
            if (frame.streamId === 1) {
              socket.write(encodeFrame(FrameType.GOAWAY, 0, 0, goawayPayload(MAX_STREAM_ID, 0)));
            } else {
              socket.end(encodeFrame(FrameType.GOAWAY, 0, 0, goawayPayload(0, 0)));
            }
          });
          isPreface = false;
        });
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      cleanups.push(() => server.close());
      const port = (server.address() as AddressInfo).port;
      // On a machine that stalls, the late stream is left out rather than sent later than it claims to be.
      for (let tries = 0; tries < 5; tries += 1) {
        received.length = 0;
        const result = await runH2Client({ port, tls: false, exchange: echo, lateStreamMs: 3, stallTimeoutMs: 1_500 });
        if (result.afterGoaway === 0) continue;
        expect(result).to.include({ sent: 2, answered: 0, refused: 2, unserved: 0, afterGoaway: 1 });
        expect(received).to.deep.equal([1, 3]);
        return;
      }
      expect.fail('no late stream in five runs');
    });
  });
});
