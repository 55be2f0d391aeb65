import { expect } from 'chai';
import { connectionOf, createServer, drainSignal, gracefulShutdown, type ServerOptions } from '../../src/index.js';
import { certificate, makeCertificate } from '../wire/certificate.js';
import { thrown } from './support.js';

/** Each throws at once, is a TypeError or a RangeError, and names what is wrong. */
const BAD_OPTIONS: readonly [
  what: string,
  options: object,
  kind: typeof TypeError | typeof RangeError,
  names: RegExp,
][] = [
  ['an unknown name', { certt: 'x' }, TypeError, /options\.certt/],
  ['an unknown name of h1', { h1: { headerTimeout: 1 } }, TypeError, /h1\.headerTimeout/],
  ['an unknown name of h2', { h2: { maxStreams: 1 } }, TypeError, /h2\.maxStreams/],
  ['an unknown name of drain', { drain: { timeOut: 1 } }, TypeError, /drain\.timeOut/],
  ['an unknown name of keepAlive', { keepAlive: { holds: 1 } }, TypeError, /keepAlive\.holds/],
  ['cleartext that is no boolean', { cleartext: 'yes' }, TypeError, /cleartext/],
  ['h1 that is no object', { h1: true }, TypeError, /h1/],
  ['h2 that is neither an object nor false', { h2: true }, TypeError, /h2/],
  ['drain that is an array', { drain: [] }, TypeError, /drain/],
  ['keepAlive that is null', { keepAlive: null }, TypeError, /keepAlive/],
  ['a head timeout that is negative', { h1: { headersTimeout: -1 } }, RangeError, /h1\.headersTimeout/],
  ['a head timeout that is no number', { h1: { headersTimeout: '60s' } }, TypeError, /h1\.headersTimeout/],
  ['a body timeout that is NaN', { h1: { bodyTimeout: Number.NaN } }, TypeError, /h1\.bodyTimeout/],
  ['a request timeout that is infinite', { h1: { requestTimeout: Infinity } }, RangeError, /h1\.requestTimeout/],
  ['a head size that is too small', { h1: { maxHeaderSize: 10 } }, RangeError, /h1\.maxHeaderSize/],
  ['half a request', { h1: { maxRequestsPerSocket: 1.5 } }, RangeError, /h1\.maxRequestsPerSocket/],
  ['no streams', { h2: { maxConcurrentStreams: 0 } }, RangeError, /h2\.maxConcurrentStreams/],
  ['a drain timeout that is negative', { drain: { timeout: -1 } }, RangeError, /drain\.timeout/],
  ['an infinite settle', { drain: { settle: Infinity } }, RangeError, /drain\.settle/],
  ['a reason that is no string', { drain: { reason: 1 } }, TypeError, /drain\.reason/],
  ['a reason that is a document', { drain: { reason: 'x'.repeat(1025) } }, RangeError, /drain\.reason/],
  ['a signal that is none', { drain: { signal: {} } }, TypeError, /drain\.signal/],
  [
    'hold that is not longer than advertise',
    { keepAlive: { advertise: 5_000, hold: 5_000 } },
    RangeError,
    /keepAlive\.hold.*keepAlive\.advertise/,
  ],
  ['hold below the default of advertise', { keepAlive: { hold: 1_000 } }, RangeError, /keepAlive\.hold/],
  ['a handshake timeout of 0', { handshakeTimeout: 0 }, RangeError, /handshakeTimeout/],
  ['secureOptions that are no number', { secureOptions: 'all' }, TypeError, /secureOptions/],
  ['ALPN, which is lastcall’s own', { ALPNProtocols: ['h2'] }, TypeError, /ALPNProtocols/],
];

describe('createServer: options', () => {
  for (const [what, options, kind, names] of BAD_OPTIONS) {
    it(`throws at once for ${what}, naming it`, async () => {
      const error = await thrown(async () => createServer({ ...(await certificate()), ...options }));
      expect(error).to.be.instanceOf(kind);
      expect(error.code).to.equal('ERR_LASTCALL_OPTION');
      expect(error.message).to.match(names);
    });
  }

  const MISSING: readonly [string, (pem: { key: string; cert: string }) => object, RegExp][] = [
    ['nothing', () => ({}), /key and cert/],
    ['undefined material', () => ({ key: undefined, cert: undefined }), /key and cert/],
    ['a key alone', ({ key }) => ({ key }), /cert/],
    ['a certificate alone', ({ cert }) => ({ cert }), /key/],
    ['a certificate and an undefined key', ({ cert }) => ({ cert, key: undefined }), /key/],
  ];
  for (const [what, options, names] of MISSING) {
    it(`throws for TLS with ${what}, naming what is missing`, async () => {
      const pem = await certificate();
      const error = await thrown(() => createServer(options(pem)));
      expect(error).to.be.instanceOf(TypeError);
      expect(error.code).to.equal('ERR_LASTCALL_OPTION');
      expect(error.message)
        .to.match(/no TLS material/)
        .and.match(names);
    });
  }

  it('throws without options, as for missing material', async () => {
    const error = await thrown(() => createServer(undefined as unknown as ServerOptions));
    expect(error.message).to.match(/no TLS material/);
  });

  it('throws for a listener in the place of the options', async () => {
    const error = await thrown(() => createServer((() => {}) as unknown as ServerOptions));
    expect(error.message).to.match(/option options must be an object, got a function/);
  });

  it('throws for a certificate beside cleartext: true', async () => {
    const error = await thrown(async () => createServer({ ...(await certificate()), cleartext: true }));
    expect(error.code).to.equal('ERR_LASTCALL_OPTION');
    expect(error.message).to.match(/cleartext/);
    // Nobody would be asked for a certificate.
    for (const option of [{ requestCert: true }, { ca: 'x' }, { minVersion: 'TLSv1.3' as const }, { ciphers: 'x' }]) {
      const [name] = Object.keys(option);
      const { message } = await thrown(async () => createServer({ ...option, cleartext: true }));
      expect(message).to.equal(`option ${name} contradicts cleartext: true`);
    }
  });

  it('throws for a key that does not belong to the certificate', async () => {
    const { cert } = await certificate();
    const { key } = await makeCertificate('localhost');
    const error = await thrown(() => createServer({ key, cert }));
    expect(error.code).to.equal('ERR_LASTCALL_OPTION');
    expect(error.message).to.match(/key and cert.*mismatch/);
    expect(error.cause).to.be.instanceOf(Error);
  });

  it('throws for a key that is none', async () => {
    const { cert } = await certificate();
    const error = await thrown(() => createServer({ key: 'not a key', cert }));
    expect(error.code).to.equal('ERR_LASTCALL_OPTION');
    expect(error.message).to.match(/key and cert/);
  });

  it('throws for bad HTTP/2 options even when HTTP/2 is switched off by the environment', async () => {
    process.env.LASTCALL_H2 = 'off';
    try {
      const error = await thrown(() => createServer({ cleartext: true, h2: { maxConcurrentStreams: -1 } }));
      expect(error.message).to.match(/h2\.maxConcurrentStreams/);
    } finally {
      delete process.env.LASTCALL_H2;
    }
  });

  it('takes the setters of http.Server, and checks them', async () => {
    const server = createServer({ cleartext: true });
    server.headersTimeout = 1_000;
    server.requestTimeout = 2_000;
    server.keepAliveTimeout = 3_000;
    server.maxRequestsPerSocket = 4;
    server.maxHeadersCount = 5;
    server.timeout = 6;
    expect(server.headersTimeout).to.equal(1_000);
    expect(server.requestTimeout).to.equal(2_000);
    expect(server.keepAliveTimeout).to.equal(3_000);
    expect(server.maxRequestsPerSocket).to.equal(4);
    expect(server.maxHeadersCount).to.equal(5);
    expect(server.timeout).to.equal(6);
    for (const name of ['headersTimeout', 'requestTimeout', 'maxRequestsPerSocket', 'timeout'] as const) {
      const error = await thrown(() => {
        server[name] = -1;
      });
      expect(error.message).to.include(name);
    }
    const error = await thrown(() => {
      server.keepAliveTimeout = 700_000;
    });
    expect(error.message).to.match(/keepAlive\.hold.*keepAlive\.advertise/);
  });

  it('has nothing to say about certificates in cleartext', async () => {
    const server = createServer({ cleartext: true });
    for (const call of [
      () => server.setSecureContext({}),
      () => server.addContext('localhost', {}),
      () => server.getTicketKeys(),
    ]) {
      expect((await thrown(call)).code).to.equal('ERR_LASTCALL_CLEARTEXT');
    }
  });
});

describe('arguments', () => {
  it('gracefulShutdown throws for what is no connection of ours', async () => {
    for (const value of [undefined, null, {}, 1]) {
      const error = await thrown(() => gracefulShutdown(value as never));
      expect(error).to.be.instanceOf(TypeError);
      expect(error.code).to.equal('ERR_LASTCALL_OPTION');
    }
  });

  it('connectionOf is undefined and drainSignal never aborts for what is not ours', () => {
    for (const value of [{}, { socket: {} }, { req: { socket: null } }, null, undefined, 7]) {
      expect(connectionOf(value as object)).to.equal(undefined);
      expect(drainSignal(value as object).aborted).to.equal(false);
    }
  });

  it('server.drain and server.shutdown check theirs', async () => {
    const server = createServer({ cleartext: true });
    expect((await thrown(() => server.drain('all', { timeout: -1 }))).message).to.match(/drain\.timeout/);
    expect((await thrown(() => server.shutdown({ timeout: -1 }))).message).to.match(/shutdown\.timeout/);
    expect((await thrown(() => server.shutdown({ forever: true } as never))).message).to.match(/shutdown\.forever/);
  });
});
