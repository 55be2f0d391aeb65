/**
 * Who may use the operator endpoint. Loopback alone does not protect it: any page in a browser on this machine can send
 * requests there, by a cross-site form or by a host name that it makes resolve to 127.0.0.1 (DNS rebinding).
 */
import type { IncomingMessage } from 'node:http';

const LOOPBACK_HOST = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/i;

/** Why a request is refused, or `undefined` when it may pass. */
export function refusal({ headers }: IncomingMessage): string | undefined {
  const { host, origin } = headers;
  if (host === undefined || !LOOPBACK_HOST.test(host))
    return 'the Host header must name this machine: localhost or 127.0.0.1';
  const site = headers['sec-fetch-site'];
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return 'cross-site requests are refused';
  if (origin !== undefined && origin !== `http://${host}`) return 'cross-origin requests are refused';
  return undefined;
}
