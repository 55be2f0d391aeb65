/** The request-target of a request (RFC 9112 §3.2), taken apart without ever throwing, which `new URL` does for `//`. */
import type { IncomingMessage } from 'node:http';

export interface RequestTarget {
  /** Always starts with `/`, except for `*`. */
  readonly path: string;
  readonly query: URLSearchParams;
}

const ABSOLUTE_FORM = /^[a-z][a-z0-9+.-]*:\/\/[^/?]*/i;

export function targetOf({ url = '/' }: IncomingMessage): RequestTarget {
  const origin = url.replace(ABSOLUTE_FORM, '');
  const at = origin.indexOf('?');
  const path = at === -1 ? origin : origin.slice(0, at);
  return { path: path === '' ? '/' : path, query: new URLSearchParams(at === -1 ? '' : origin.slice(at + 1)) };
}
