/**
 * createServer's options: their types, their defaults and their checks. A bad one throws at once, naming it.
 */
import { constants } from 'node:crypto';
import type { ServerOpts as NetServerOpts } from 'node:net';
import type { TlsOptions } from 'node:tls';
import { type KeepAliveOptions, type KeepAliveSettings, keepAliveSettings } from './core/keep-alive.js';
import { duration, ERR_OPTION, flag, optionsObject } from './core/options.js';
import { type DrainOptions, type DrainSettings, drainSettings } from './core/shutdown.js';
import { type H1Options, type H1Settings, h1Settings } from './h1/options.js';

/**
 * Options of `createServer`: those of `tls.createServer` (key, cert, …; ALPN is lastcall's own), and:
 */
export interface ServerOptions extends Omit<TlsOptions, 'ALPNProtocols' | 'ALPNCallback' | keyof NetServerOpts> {
  /** No TLS: HTTP/1.1 and prior-knowledge HTTP/2 on one port (default false). */
  cleartext?: boolean;
  /** Limits of HTTP/1.1 connections. */
  h1?: H1Options;
  /** `false`: HTTP/1.1 only, in ALPN too. The environment's LASTCALL_H2=off does the same. */
  h2?: false;
  /** Defaults for every drain of this server. */
  drain?: DrainOptions;
  /** How long idle connections are kept, and what clients are told about it. */
  keepAlive?: KeepAliveOptions;
  /** ms for the TLS handshake (default 10,000). */
  handshakeTimeout?: number;
}

/** Every option checked, every default in place. */
export interface ServerSettings {
  /** `undefined`: cleartext. */
  readonly tls: TlsOptions | undefined;
  readonly h1: H1Settings;
  readonly h2: boolean;
  readonly drain: DrainOptions;
  readonly recycling: DrainSettings;
  keepAlive: KeepAliveSettings;
}

const OWN_OPTIONS = ['cleartext', 'h1', 'h2', 'drain', 'keepAlive'];

/** What tls.createServer takes, less ALPN, which is ours. A name that is in neither list is a typo. */
const TLS_OPTIONS = [
  'allowPartialTrustChain',
  'ca',
  'cert',
  'ciphers',
  'clientCertEngine',
  'crl',
  'dhparam',
  'ecdhCurve',
  'enableTrace',
  'handshakeTimeout',
  'honorCipherOrder',
  'key',
  'maxVersion',
  'minVersion',
  'passphrase',
  'pfx',
  'privateKeyEngine',
  'privateKeyIdentifier',
  'pskCallback',
  'pskIdentityHint',
  'rejectUnauthorized',
  'requestCert',
  'secureContext',
  'secureOptions',
  'secureProtocol',
  'sessionIdContext',
  'sessionTimeout',
  'sigalgs',
  'SNICallback',
  'ticketKeys',
];

/** Any one of these is TLS material. */
const TLS_MATERIAL = ['cert', 'pfx', 'SNICallback', 'secureContext', 'pskCallback'] as const;

export function serverSettings(options: ServerOptions): ServerSettings {
  optionsObject('options', options, [...OWN_OPTIONS, ...TLS_OPTIONS]);
  drainSettings(options.drain);
  return {
    tls: flag('cleartext', options.cleartext, false) ? undefined : tlsOptions(options),
    h1: h1Settings(options.h1),
    h2: flag('h2', options.h2, true) && process.env.LASTCALL_H2 !== 'off',
    drain: options.drain ?? {},
    recycling: drainSettings({ ...options.drain, timeout: Infinity }),
    keepAlive: keepAliveSettings(options.keepAlive),
  };
}

function tlsOptions(options: ServerOptions): TlsOptions {
  if (TLS_MATERIAL.every((name) => options[name as keyof ServerOptions] === undefined)) {
    throw Object.assign(
      new TypeError(
        `no TLS material: give options key and cert (or one of ${TLS_MATERIAL.slice(1).join(', ')}), or cleartext: true`,
      ),
      { code: ERR_OPTION },
    );
  }
  const tls: TlsOptions = {};
  for (const name of TLS_OPTIONS as (keyof TlsOptions)[]) {
    const value = options[name as keyof ServerOptions];
    if (value !== undefined) Object.assign(tls, { [name]: value });
  }
  return {
    minVersion: 'TLSv1.2',
    ...tls,
    secureOptions: (options.secureOptions ?? 0) | constants.SSL_OP_NO_RENEGOTIATION,
    handshakeTimeout: duration('handshakeTimeout', options.handshakeTimeout, 10_000, { min: 1 }),
  };
}
