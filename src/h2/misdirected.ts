/**
 * Whether a request came to the wrong connection: browsers send requests for other names on one whose certificate they
 * think good for them (RFC 9113 §9.1.1). What is answered then is the connection's.
 */
import type { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { LONGEST_AUTHORITY } from '../core/authorities.js';

/** What was found out for the certificate of a connection, by authority. */
const verdicts = new WeakMap<TLSSocket, Map<string, boolean>>();

/** Clients send few different authorities on one connection; what goes beyond is asked again. */
const MAX_VERDICTS = 100;

/** True if the connection's own certificate doesn't name the authority. Never for cleartext. */
export function isMisdirected(socket: TLSSocket, authority: string | undefined): boolean {
  if (authority === undefined || !socket.encrypted) return false;
  // No certificate names it, and it isn't worth remembering.
  if (authority.length > LONGEST_AUTHORITY) return true;
  let known = verdicts.get(socket);
  if (known === undefined) {
    known = new Map();
    verdicts.set(socket, known);
  }
  const verdict = known.get(authority);
  if (verdict !== undefined) return verdict;
  const certificate = socket.getX509Certificate();
  const misdirected = certificate !== undefined && !names(certificate, hostOf(authority));
  if (known.size >= MAX_VERDICTS) known.clear();
  known.set(authority, misdirected);
  return misdirected;
}

function names(certificate: X509Certificate, host: string): boolean {
  try {
    return (isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host)) !== undefined;
  } catch {
    // OpenSSL's idea of a name or an address is narrower than ours: it throws at an address with a zone.
    return false;
  }
}

function hostOf(authority: string): string {
  if (authority.startsWith('[')) return authority.slice(1, authority.indexOf(']'));
  const colon = authority.lastIndexOf(':');
  return colon < 0 ? authority : authority.slice(0, colon);
}
