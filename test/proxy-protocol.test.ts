import { once } from 'node:events';
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http';
import { connect as connectH2, createServer as createH2Server, type Http2Server } from 'node:http2';
import { type AddressInfo, createServer, connect as netConnect, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type Server as TlsServer, connect as tlsConnect } from 'node:tls';
import { expect } from 'chai';
import fc from 'fast-check';
import { overrideRemoteEnd, proxyTrust, readProxyHeader } from '../src/proxy-header.js';
import { type ProxyEndpoint, type ProxyHeader, ProxyHeaderParser, ProxyProtocolError } from '../src/proxy-protocol.js';
import { certificate } from './wire/certificate.js';

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');

function v2(command: number, kind: number, body: Buffer | string, length = body.length): Buffer {
  const head = Buffer.from([command, kind, length >> 8, length & 0xff]);
  return Buffer.concat([SIGNATURE, head, typeof body === 'string' ? Buffer.from(body) : body]);
}

const TCP4_BODY = Buffer.from('cb007109c0000202d431 01bb'.replaceAll(' ', ''), 'hex');
const TCP6_BODY = Buffer.from(
  '20010db8000000000000000000000001 20010db80000000000000000000000ff d43101bb'.replaceAll(' ', ''),
  'hex',
);

const ends = (version: 1 | 2, source: ProxyEndpoint, destination: ProxyEndpoint): ProxyHeader => ({
  version,
  source,
  destination,
});
const own = (version: 1 | 2): ProxyHeader => ({ version, source: undefined, destination: undefined });

const v4Ends = [
  { address: '203.0.113.9', port: 54_321, family: 'IPv4' },
  { address: '192.0.2.2', port: 443, family: 'IPv4' },
] as const;
const v6Ends = [
  { address: '2001:db8::1', port: 54_321, family: 'IPv6' },
  { address: '2001:db8::ff', port: 443, family: 'IPv6' },
] as const;

const HEADERS: [name: string, bytes: Buffer, header: ProxyHeader][] = [
  ['v1 TCP4', Buffer.from('PROXY TCP4 203.0.113.9 192.0.2.2 54321 443\r\n'), ends(1, ...v4Ends)],
  ['v1 TCP6', Buffer.from('PROXY TCP6 2001:DB8:0:0::1 2001:db8::ff 54321 443\r\n'), ends(1, ...v6Ends)],
  ['v1 UNKNOWN', Buffer.from('PROXY UNKNOWN\r\n'), own(1)],
  [
    'v1 UNKNOWN of the greatest length',
    Buffer.from(`PROXY UNKNOWN ${'ffff:'.repeat(7)}ffff ${'ffff:'.repeat(7)}ffff 65535 65535\r\n`),
    own(1),
  ],
  ['v2 TCP4', v2(0x21, 0x11, TCP4_BODY), ends(2, ...v4Ends)],
  ['v2 TCP6', v2(0x21, 0x21, TCP6_BODY), ends(2, ...v6Ends)],
  [
    'v2 TCP4 with TLVs',
    v2(0x21, 0x11, Buffer.concat([TCP4_BODY, Buffer.from('02000b6578616d706c652e636f6d', 'hex')])),
    ends(2, ...v4Ends),
  ],
  ['v2 of 4,096 bytes', v2(0x21, 0x11, Buffer.concat([TCP4_BODY, Buffer.alloc(4_096 - 28)])), ends(2, ...v4Ends)],
  ['v2 LOCAL', v2(0x20, 0x00, ''), own(2)],
  ['v2 LOCAL with addresses and an unknown family, all to be ignored', v2(0x20, 0xf7, TCP4_BODY), own(2)],
  ['v2 UNSPEC', v2(0x21, 0x00, ''), own(2)],
  ['v2 UNSPEC with bytes to be ignored', v2(0x21, 0x00, TCP4_BODY), own(2)],
  ['v2 of a Unix socket', v2(0x21, 0x31, Buffer.alloc(216)), own(2)],
  ['v2 UDP4', v2(0x21, 0x12, TCP4_BODY), own(2)],
];

const MALFORMED: [what: string, bytes: Buffer | string, message: string][] = [
  ['a request', 'GET / HTTP/1.1\r\n\r\n', 'begins with something else'],
  ['a TLS handshake', Buffer.from([0x16, 0x03, 0x01]), 'begins with something else'],
  ['the HTTP/2 preface', 'PRI * HTTP/2.0', 'begins with something else'],
  ['lower case', 'proxy TCP4', 'begins with something else'],
  ['a tab', 'PROXY\tTCP4', 'begins with something else'],
  ['another protocol', 'PROXY UDP4 203.0.113.9 192.0.2.2 1 2\r\n', 'neither TCP4, TCP6 nor UNKNOWN'],
  ['no protocol', 'PROXY \r\n', 'neither TCP4, TCP6 nor UNKNOWN'],
  ['two spaces', 'PROXY TCP4  203.0.113.9 192.0.2.2 1 2\r\n', 'too many parts'],
  ['an IPv6 address in TCP4', 'PROXY TCP4 ::1 192.0.2.2 1 2\r\n', 'address that is none of TCP4'],
  ['an IPv4 address in TCP6', 'PROXY TCP6 ::1 192.0.2.2 1 2\r\n', 'address that is none of TCP6'],
  ['a zone', 'PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n', 'address that is none of TCP6'],
  ['a leading zero in an address', 'PROXY TCP4 203.0.113.09 192.0.2.2 1 2\r\n', 'address that is none of TCP4'],
  ['a leading zero in a port', 'PROXY TCP4 203.0.113.9 192.0.2.2 01 2\r\n', 'a port that is none'],
  ['a port over 65535', 'PROXY TCP4 203.0.113.9 192.0.2.2 1 65536\r\n', 'a port that is none'],
  ['a negative port', 'PROXY TCP4 203.0.113.9 192.0.2.2 -1 2\r\n', 'a port that is none'],
  ['no port', 'PROXY TCP4 203.0.113.9 192.0.2.2 1\r\n', 'a port that is none'],
  ['a part too many', 'PROXY TCP4 203.0.113.9 192.0.2.2 1 2 3\r\n', 'too many parts'],
  ['a space at the end', 'PROXY TCP4 203.0.113.9 192.0.2.2 1 2 \r\n', 'too many parts'],
  ['LF alone', 'PROXY UNKNOWN\n', 'does not end with CR LF'],
  ['CR alone', 'PROXY UNKNOWN\rGET', 'does not end with CR LF'],
  ['a line without end', `PROXY UNKNOWN ${'x'.repeat(93)}`, 'longer than 107 bytes'],
  ['a line of 108 bytes', `PROXY UNKNOWN ${'x'.repeat(92)}\r\n`, 'longer than 107 bytes'],
  ['version 3', v2(0x31, 0x11, TCP4_BODY), 'unknown version or command (0x31)'],
  ['an unknown command', v2(0x22, 0x11, TCP4_BODY), 'unknown version or command (0x22)'],
  ['an unknown family', v2(0x21, 0x41, TCP4_BODY), 'unknown family or transport (0x41)'],
  ['an unknown transport', v2(0x21, 0x13, TCP4_BODY), 'unknown family or transport (0x13)'],
  ['too few bytes for IPv4', v2(0x21, 0x11, TCP4_BODY.subarray(0, 11)), 'too short for its addresses'],
  ['too few bytes for IPv6', v2(0x21, 0x21, TCP4_BODY), 'too short for its addresses'],
  ['a length over the limit', v2(0x21, 0x11, '', 4_081), 'longer (4097 bytes) than 4096 bytes'],
];

describe('a PROXY header', () => {
  const REST = Buffer.from('GET / HTTP/1.1\r\n\r\n');
  for (const [name, bytes, header] of HEADERS) {
    it(`${name} is read, in one piece or byte by byte, and what follows is left`, () => {
      expect(new ProxyHeaderParser().receive(Buffer.concat([bytes, REST]))).to.deep.equal({ header, rest: REST });
      expect(new ProxyHeaderParser().receive(bytes)).to.deep.equal({ header, rest: Buffer.alloc(0) });
      const parser = new ProxyHeaderParser();
      for (const byte of bytes.subarray(0, -1)) expect(parser.receive(Buffer.from([byte]))).to.equal(undefined);
      expect(parser.receive(bytes.subarray(-1))).to.deep.equal({ header, rest: Buffer.alloc(0) });
    });
  }

  for (const [what, bytes, message] of MALFORMED) {
    it(`with ${what} is malformed`, () => {
      const whole = Buffer.from(bytes);
      expect(() => new ProxyHeaderParser().receive(whole))
        .to.throw(ProxyProtocolError, message)
        .with.property('code', 'ERR_LASTCALL_PROXY_PROTOCOL');
      const parser = new ProxyHeaderParser();
      expect(() => {
        for (const byte of whole) parser.receive(Buffer.from([byte]));
      }).to.throw(ProxyProtocolError);
    });
  }

  it('is refused at the first byte that no header begins with', () => {
    expect(() => new ProxyHeaderParser().receive(Buffer.from('PROXI'))).to.throw(ProxyProtocolError);
    expect(() => new ProxyHeaderParser().receive(Buffer.from('\r\n\r\r'))).to.throw(ProxyProtocolError);
  });

  it('of any bytes is a header, unfinished or malformed, and never keeps more than 4,096 bytes', () => {
    const start = fc.constantFrom(
      '',
      'PROXY ',
      'PROXY TCP4 ',
      SIGNATURE.toString('latin1'),
      `${SIGNATURE.toString('latin1')}!\x11`,
    );
    fc.assert(
      fc.property(
        start,
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { maxLength: 40 }),
        (begin, chunks) => {
          const parser = new ProxyHeaderParser();
          try {
            for (const chunk of [Buffer.from(begin, 'latin1'), ...chunks]) {
              if (parser.receive(Buffer.from(chunk)) !== undefined) return;
              expect(parser.received).to.be.at.most(4_096);
            }
          } catch (error) {
            expect(error).to.be.instanceOf(ProxyProtocolError);
          }
        },
      ),
    );
  });
});

describe('who must send a PROXY header', () => {
  it('nobody, everybody, or who comes from the ranges given', () => {
    expect(proxyTrust(undefined)).to.equal(undefined);
    expect(proxyTrust(false)).to.equal(undefined);
    expect(proxyTrust(true)?.('203.0.113.1')).to.equal(true);
    const trusted = proxyTrust(['10.0.0.0/8', '::1']);
    expect(trusted?.('::ffff:10.1.2.3')).to.equal(true);
    expect(trusted?.('::1')).to.equal(true);
    expect(trusted?.('203.0.113.1')).to.equal(false);
    expect(trusted?.(undefined)).to.equal(false);
  });

  for (const option of ['10.0.0.0/8', [], {}, 1, ['10.0.0.0/99']]) {
    it(`throws for ${JSON.stringify(option)}`, () => {
      expect(() => proxyTrust(option as unknown as boolean))
        .to.throw(Error, 'option proxyProtocol must be')
        .with.property('code', 'ERR_LASTCALL_OPTION');
    });
  }
});

/** A server that reads a PROXY header from every connection, and then speaks TLS or not, HTTP/1.1 or HTTP/2. */
describe('a connection behind a balancer that sends a PROXY header', () => {
  const sockets = new Set<Socket>();
  let http: HttpServer;
  let h2: Http2Server;
  let tls: TlsServer;
  let secure: boolean;
  let protocol: 'http/1.1' | 'h2';
  let front: Server;
  let headers: ProxyHeader[];
  let failures: ProxyProtocolError[];
  const source = new WeakMap<Socket, ProxyEndpoint>();

  const serve = (socket: Socket): void => {
    if (protocol === 'h2') {
      // It takes what is on the socket by itself.
      h2.emit('connection', socket);
      return;
    }
    http.emit('connection', socket);
    socket.resume();
  };

  beforeEach(async () => {
    headers = [];
    failures = [];
    secure = false;
    protocol = 'http/1.1';
    const { key, cert } = await certificate();
    http = createHttpServer((req, res) => {
      const { remoteAddress, remotePort, remoteFamily, localPort } = req.socket;
      res.end(JSON.stringify({ remoteAddress, remotePort, remoteFamily, localPort }));
    });
    h2 = createH2Server((req, res) => {
      const { remoteAddress, remotePort, remoteFamily, localPort } = req.socket;
      res.end(JSON.stringify({ remoteAddress, remotePort, remoteFamily, localPort }));
    });
    tls = createTlsServer({ key, cert, ALPNProtocols: ['h2', 'http/1.1'] }, (socket) => {
      const end = source.get((socket as unknown as { _parent: Socket })._parent);
      if (end !== undefined) overrideRemoteEnd(socket, end);
      serve(socket);
    });
    tls.on('tlsClientError', (_, socket) => socket.destroy());
    front = createServer((socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
      readProxyHeader(socket, 1_000, {
        found(header) {
          headers.push(header);
          if (header.source !== undefined) {
            source.set(socket, header.source);
            overrideRemoteEnd(socket, header.source);
          }
          if (secure) tls.emit('connection', socket);
          else serve(socket);
        },
        failed(error) {
          failures.push(error);
          socket.destroy();
        },
      });
    });
    front.listen(0, '127.0.0.1');
    await once(front, 'listening');
  });

  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    front.close();
    await once(front, 'close');
  });

  const port = (): number => (front.address() as AddressInfo).port;

  async function dial(): Promise<Socket> {
    const socket = netConnect(port(), '127.0.0.1');
    socket.on('error', () => {});
    await once(socket, 'connect');
    return socket;
  }

  async function bodyOf(socket: Socket): Promise<Record<string, unknown>> {
    let text = '';
    for await (const chunk of socket) text += chunk;
    return JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4));
  }

  const expected = () => ({
    remoteAddress: '203.0.113.9',
    remotePort: 54_321,
    remoteFamily: 'IPv4',
    localPort: port(),
  });
  const REQUEST = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';
  const HEADER = v2(0x21, 0x11, TCP4_BODY);

  it('cleartext: req.socket says who the client is; the request may come with the header', async () => {
    const socket = await dial();
    socket.write(Buffer.concat([HEADER, Buffer.from(REQUEST)]));
    expect(await bodyOf(socket)).to.deep.equal(expected());
  });

  it('cleartext: the header may come in pieces, and the request later', async () => {
    const socket = await dial();
    socket.setNoDelay();
    for (const byte of HEADER) {
      socket.write(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    while (headers.length === 0) await new Promise((resolve) => setImmediate(resolve));
    socket.write(REQUEST);
    expect(await bodyOf(socket)).to.deep.equal(expected());
  });

  it("cleartext: a balancer's own connection keeps its own address", async () => {
    const socket = await dial();
    const { localPort } = socket;
    socket.write(Buffer.concat([v2(0x20, 0, ''), Buffer.from(REQUEST)]));
    expect(await bodyOf(socket)).to.include({ remoteAddress: '127.0.0.1', remotePort: localPort });
  });

  it('TLS: the header comes before the handshake, and the TLS socket says who the client is', async () => {
    secure = true;
    const raw = await dial();
    raw.write(HEADER);
    const socket = tlsConnect({ socket: raw, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] });
    socket.write(REQUEST);
    expect(await bodyOf(socket)).to.deep.equal(expected());
  });

  it('TLS: the handshake may come in the same packet as the header', async () => {
    secure = true;
    const raw = await dial();
    raw.cork();
    raw.write('PROXY TCP4 203.0.113.9 192.0.2.2 54321 443\r\n');
    const socket = tlsConnect({ socket: raw, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] });
    process.nextTick(() => raw.uncork());
    socket.write(REQUEST);
    expect(await bodyOf(socket)).to.deep.equal(expected());
  });

  for (const withTls of [false, true]) {
    it(`HTTP/2 ${withTls ? 'over TLS' : 'in cleartext'}: req.socket says who the client is`, async () => {
      secure = withTls;
      protocol = 'h2';
      const raw = await dial();
      raw.write(HEADER);
      const session = connectH2(`${withTls ? 'https' : 'http'}://127.0.0.1`, {
        createConnection: () =>
          withTls ? tlsConnect({ socket: raw, rejectUnauthorized: false, ALPNProtocols: ['h2'] }) : raw,
      });
      const stream = session.request();
      let text = '';
      for await (const chunk of stream.setEncoding('utf8')) text += chunk;
      expect(JSON.parse(text)).to.deep.equal(expected());
      session.close();
    });
  }

  it('keeps its address after it is closed', async () => {
    const socket = await dial();
    socket.write(HEADER);
    while (headers.length === 0) await new Promise((resolve) => setImmediate(resolve));
    const [served] = sockets;
    socket.destroy();
    if (served !== undefined) await once(served, 'close');
    expect(served?.remoteAddress).to.equal('203.0.113.9');
  });

  it('is closed when it begins with something else', async () => {
    const socket = await dial();
    socket.write(REQUEST);
    await once(socket, 'close');
    expect(failures.map(({ message }) => message)).to.deep.equal([
      'PROXY protocol: the connection begins with something else',
    ]);
  });

  it('is closed when the header does not come in time', async () => {
    const socket = await dial();
    socket.write(HEADER.subarray(0, 20));
    await once(socket, 'close');
    expect(failures.map(({ message }) => message)).to.deep.equal(['PROXY protocol: the header did not come in time']);
  });

  it('is closed when the peer leaves in the middle of the header', async () => {
    const socket = await dial();
    socket.end(HEADER.subarray(0, 20));
    await once(socket.resume(), 'close');
    expect(failures.map(({ message }) => message)).to.deep.equal([
      'PROXY protocol: the peer left in the middle of the header',
    ]);
  });

  it('that closes without a byte is no failure', async () => {
    const socket = await dial();
    socket.end();
    await once(socket.resume(), 'close');
    while (sockets.size > 0) await new Promise((resolve) => setImmediate(resolve));
    expect(failures).to.deep.equal([]);
  });
});
