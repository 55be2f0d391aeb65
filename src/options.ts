/**
 * createServer's options: their types, their defaults and their checks. A bad one throws at once, naming it.
 */
import { constants } from 'node:crypto';
import type { ServerOpts as NetServerOpts } from 'node:net';
import type { SecureContextOptions, TlsOptions } from 'node:tls';
import { type KeepAliveOptions, type KeepAliveSettings, keepAliveSettings } from './core/keep-alive.js';
import { duration, ERR_OPTION, flag, givenOptions, integer, optionsObject } from './core/options.js';
import { type RecycleOptions, type RecycleSettings, recycleSettings } from './core/recycle.js';
import { type DrainOptions, type DrainSettings, drainSettings } from './core/shutdown.js';
import { type H1Options, type H1Settings, h1Settings } from './h1/options.js';
import { type H2Options, type H2Settings, h2Settings } from './h2/options.js';
import { type ProxyProtocolOption, type ProxyTrust, proxyTrust } from './proxy-header.js';

/**
 * Options of `createServer`: those of `tls.createServer` (key, cert, …; ALPN is lastcall's own), and:
 */
export interface ServerOptions extends Omit<TlsOptions, 'ALPNProtocols' | 'ALPNCallback' | keyof NetServerOpts> {
  /** No TLS: HTTP/1.1 and prior-knowledge HTTP/2 on one port (default false). */
  cleartext?: boolean;
  /** Limits of HTTP/1.1 connections. */
  h1?: H1Options;
  /** Limits of HTTP/2 connections; `false`: HTTP/1.1 only, in ALPN too, as with LASTCALL_H2=off in the environment. */
  h2?: H2Options | false;
  /**
   * Defaults for `gracefulShutdown`, `drain` and `rotate`; for `shutdown`, `onSignals` and recycling, too, where they have
   * none of their own (all have a `timeout`).
   */
  drain?: DrainOptions;
  /** How long idle connections are kept, and what clients are told about it. */
  keepAlive?: KeepAliveOptions;
  /** When connections are drained by themselves (default: never but for `keepAlive.hold`). */
  recycle?: RecycleOptions;
  /**
   * `true`: every connection begins with a PROXY header (version 1 or 2), which says whose it is; addresses and CIDR
   * ranges: those from there do. Without one, or with a malformed one, it is closed (default false).
   */
  proxyProtocol?: ProxyProtocolOption;
  /** ms for the TLS handshake from its first byte on, for that byte, and for the PROXY header before it (default 10,000). */
  handshakeTimeout?: number;
}

/** Every option checked, every default in place. */
export interface ServerSettings {
  /** `undefined`: cleartext. */
  tls: TlsOptions | undefined;
  readonly h1: H1Settings;
  /** `undefined`: HTTP/1.1 only. */
  readonly h2: H2Settings | undefined;
  readonly drain: DrainOptions;
  readonly recycling: DrainSettings;
  /** `undefined`: nothing is recycled. */
  readonly recycle: RecycleSettings | undefined;
  /** `undefined`: no connection begins with a PROXY header. */
  readonly proxied: ProxyTrust | undefined;
  readonly handshakeTimeout: number;
  keepAlive: KeepAliveSettings;
}

const OWN_OPTIONS = ['cleartext', 'h1', 'h2', 'drain', 'keepAlive', 'recycle', 'proxyProtocol'];

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

/** Of these, what tls.Server takes once, when it is made: in a new secure context it would be ignored. */
const TLS_SERVER_OPTIONS = [
  'allowPartialTrustChain',
  'enableTrace',
  'handshakeTimeout',
  'pskCallback',
  'pskIdentityHint',
  'rejectUnauthorized',
  'requestCert',
  'secureContext',
  'SNICallback',
];

const CONTEXT_OPTIONS = TLS_OPTIONS.filter((name) => !TLS_SERVER_OPTIONS.includes(name));

/** Any one of these is enough to shake hands. */
const TLS_MATERIAL = ['cert', 'pfx', 'SNICallback', 'secureContext', 'pskCallback'] as const;

/** What belongs to one certificate: new material replaces all of it. */
const CERTIFICATE_OPTIONS = ['cert', 'key', 'passphrase', 'pfx', 'privateKeyEngine', 'privateKeyIdentifier'] as const;

export function serverSettings(options: ServerOptions): ServerSettings {
  const given = optionsObject('options', options, [...OWN_OPTIONS, ...TLS_OPTIONS]) as ServerOptions;
  drainSettings(given.drain);
  const keepAlive = keepAliveSettings(given.keepAlive);
  return {
    tls: flag('cleartext', given.cleartext, false) ? noTls(given) : tlsOptions(given),
    h1: h1Settings(given.h1),
    h2: http2(given.h2),
    drain: given.drain ?? {},
    recycling: drainSettings({ ...given.drain, timeout: Infinity }),
    recycle: recycleSettings(given.recycle, given.drain ?? {}, keepAlive.advertise),
    proxied: proxyTrust(given.proxyProtocol),
    handshakeTimeout: duration('handshakeTimeout', given.handshakeTimeout, 10_000, { min: 1 }),
    keepAlive,
  };
}

/** Bad options throw on a server that is switched off too. */
function http2(options: H2Options | false | undefined): H2Settings | undefined {
  const settings = options === false ? undefined : h2Settings(options);
  return process.env.LASTCALL_H2 === 'off' ? undefined : settings;
}

/** A server with a certificate that talks cleartext is a mistake. */
function noTls(options: ServerOptions): undefined {
  for (const name of TLS_OPTIONS as (keyof ServerOptions)[]) {
    // A PROXY header has as much time.
    if (name === 'handshakeTimeout') continue;
    if (options[name] !== undefined) throw optionError(`option ${name} contradicts cleartext: true`);
  }
}

function tlsOptions(options: ServerOptions): TlsOptions {
  requireMaterial(options);
  const tls: TlsOptions = {};
  for (const name of TLS_OPTIONS as (keyof TlsOptions)[]) {
    const value = options[name as keyof ServerOptions];
    if (value !== undefined) Object.assign(tls, { [name]: value });
  }
  return {
    ...secureDefaults(tls),
    handshakeTimeout: duration('handshakeTimeout', options.handshakeTimeout, 10_000, { min: 1 }),
  };
}

/**
 * Options for a new secure context of a running server: what isn't given stays as it was, and a certificate comes with
 * everything that belongs to it.
 *
 * @param name how the errors call the options
 * @throws {TypeError} ERR_LASTCALL_OPTION for an option that is unknown, or that a running server can't change
 */
export function renewedContext(before: TlsOptions, options: SecureContextOptions, name: string): TlsOptions {
  const given = givenOptions(name, options, CONTEXT_OPTIONS) as SecureContextOptions;
  const kept: TlsOptions = { ...before };
  if (CERTIFICATE_OPTIONS.some((name) => given[name] !== undefined)) {
    for (const name of CERTIFICATE_OPTIONS) delete kept[name];
    requireMaterial(given);
  }
  return secureDefaults({ ...kept, ...given });
}

/** TLS 1.2 and up, and no renegotiation. */
function secureDefaults(tls: TlsOptions): TlsOptions {
  const secureOptions = integer('secureOptions', tls.secureOptions, 0, 0, 2 ** 32 - 1);
  return {
    // Node refuses minVersion beside the older secureProtocol.
    ...(tls.secureProtocol === undefined && { minVersion: 'TLSv1.2' }),
    ...tls,
    secureOptions: Number(BigInt(secureOptions) | BigInt(constants.SSL_OP_NO_RENEGOTIATION)),
  };
}

function requireMaterial(
  options: SecureContextOptions & Pick<ServerOptions, 'SNICallback' | 'pskCallback' | 'secureContext'>,
): void {
  if (TLS_MATERIAL.every((name) => options[name] === undefined)) {
    throw optionError(
      `no TLS material: give options key and cert (or one of ${TLS_MATERIAL.slice(1).join(', ')}), or cleartext: true`,
    );
  }
  if (options.cert !== undefined && options.key === undefined && options.privateKeyIdentifier === undefined) {
    throw optionError('no TLS material: option cert is given without its key');
  }
}

/** What OpenSSL says about a key, a certificate or another TLS option that it can't use. */
export function tlsMaterialError(cause: unknown): TypeError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return optionError(`TLS options can't be used, look at key and cert first: ${reason}`, { cause });
}

function optionError(message: string, options?: ErrorOptions): TypeError {
  return Object.assign(new TypeError(message, options), { code: ERR_OPTION });
}
