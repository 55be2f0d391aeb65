/**
 * What makes a field section a request: RFC 9113 §8.2 and §8.3, RFC 8441. Field lists in, a RequestHead or the reason
 * why the request is malformed out. Limits on their size, and the content-length of the DATA that follows, are
 * `session.ts`.
 */
import { AUTHORITY, NAME, PATH, SCHEME, TOKEN, VALUE } from './hpack/octets.js';

/** A complete, valid request head. */
export class RequestHead {
  readonly method: string;
  /** Empty for CONNECT. */
  readonly scheme: string;
  /** `:authority`, or the field `host` where there is none. */
  readonly authority: string | undefined;
  /** Empty for CONNECT. */
  readonly path: string;
  /** The `:protocol` of an extended CONNECT. (RFC 8441) */
  readonly protocol: string | undefined;
  /** Name, value… as received, without pseudo-headers; cookie crumbs joined; `host` first, from `:authority`, when absent. */
  readonly rawHeaders: string[];
  /** -1 when not given. */
  readonly contentLength: number;
  /** Neither body nor trailers follow. */
  readonly endStream: boolean;
  /** `expect: 100-continue`. */
  readonly expectContinue: boolean;
  /** The value of the `priority` field. (RFC 9218) */
  readonly priority: string | undefined;

  constructor(
    method: string,
    scheme: string,
    authority: string | undefined,
    path: string,
    protocol: string | undefined,
    rawHeaders: string[],
    contentLength: number,
    endStream: boolean,
    expectContinue: boolean,
    priority: string | undefined,
  ) {
    this.method = method;
    this.scheme = scheme;
    this.authority = authority;
    this.path = path;
    this.protocol = protocol;
    this.rawHeaders = rawHeaders;
    this.contentLength = contentLength;
    this.endStream = endStream;
    this.expectContinue = expectContinue;
    this.priority = priority;
  }
}

/** Says what kind of field a regular name is, so that only the few that have rules of their own are looked at. */
function isConnectionSpecific(name: string): boolean {
  switch (name.length) {
    case 7:
      return name === 'upgrade';
    case 10:
      return name === 'connection' || name === 'keep-alive';
    case 16:
      return name === 'proxy-connection';
    case 17:
      return name === 'transfer-encoding';
    default:
      return false;
  }
}

/** Whether a value is this one, in whatever case. Of a long one there is nothing to be converted. */
function is(value: string, lowerCase: string): boolean {
  return value.length === lowerCase.length && value.toLowerCase() === lowerCase;
}

function isDigits(value: string): boolean {
  if (value.length === 0 || value.length > 15) return false;
  for (let i = 0; i < value.length; i++) {
    const c = value.charCodeAt(i);
    if (c < 0x30 || c > 0x39) return false;
  }
  return true;
}

/** Names in an error message: cut, and printable. */
function show(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}

/**
 * Reads the head of a request.
 *
 * @param fields name, value… as decoded, pseudo-headers included
 * @param kinds what each field consists of (octets.ts)
 * @param endStream whether the request ends with this field section
 * @param extendedConnect whether we have allowed extended CONNECT (RFC 8441)
 * @returns the head, or why the request is malformed (RFC 9113 §8.1.1)
 */
export function readRequest(
  fields: readonly string[],
  kinds: Uint8Array,
  endStream: boolean,
  extendedConnect: boolean,
): RequestHead | string {
  let method: string | undefined;
  let scheme: string | undefined;
  let authority: string | undefined;
  let path: string | undefined;
  let protocol: string | undefined;

  const { length } = fields;
  let at = 0;
  for (; at < length; at += 2) {
    const name = fields[at] as string;
    if (name.charCodeAt(0) !== 0x3a) break;
    const value = fields[at + 1] as string;
    const kindsOfValue = kinds[at >> 1] as number;
    let previous: string | undefined;
    switch (name) {
      case ':method':
        if ((kindsOfValue & TOKEN) === 0) return `:method of ${show(value)} is not a method`;
        previous = method;
        method = value;
        break;
      case ':scheme':
        if ((kindsOfValue & SCHEME) === 0) return `:scheme of ${show(value)} is not a scheme`;
        previous = scheme;
        scheme = value;
        break;
      case ':authority':
        if ((kindsOfValue & AUTHORITY) === 0) return `:authority of ${show(value)} is not an authority`;
        previous = authority;
        authority = value;
        break;
      case ':path':
        if ((kindsOfValue & PATH) === 0) return `:path of ${show(value)} holds a forbidden character`;
        previous = path;
        path = value;
        break;
      case ':protocol':
        if (!extendedConnect) return 'the pseudo-header :protocol has not been allowed';
        if ((kindsOfValue & TOKEN) === 0) return `:protocol of ${show(value)} is not a token`;
        previous = protocol;
        protocol = value;
        break;
      default:
        return `${show(name)} is not a pseudo-header of requests`;
    }
    if (previous !== undefined) return `the pseudo-header ${name} appears twice`;
  }

  if (method === undefined) return 'the pseudo-header :method is missing';
  const wrong =
    method === 'CONNECT' && protocol === undefined
      ? checkConnect(scheme, authority, path)
      : checkTarget(method, scheme, authority, path, protocol);
  if (wrong !== undefined) return wrong;

  const rawHeaders: string[] = [];
  let host: string | undefined;
  let cookieAt = -1;
  let contentLength = -1;
  let expectContinue = false;
  let priority: string | undefined;
  if (authority !== undefined) rawHeaders.push('host', authority);

  for (; at < length; at += 2) {
    const name = fields[at] as string;
    const value = fields[at + 1] as string;
    const kindsOfField = kinds[at >> 1] as number;
    if ((kindsOfField & NAME) === 0) return nameError(name);
    if ((kindsOfField & VALUE) === 0) return valueError(name);
    switch (name.length) {
      case 2:
        if (name === 'te' && !is(value, 'trailers')) {
          return `the field te may only say trailers, not ${show(value)}`;
        }
        break;
      case 4:
        if (name === 'host') {
          if (host !== undefined) return 'the field host appears twice';
          if ((kindsOfField & AUTHORITY) === 0) return `the field host of ${show(value)} is not an authority`;
          host = value;
          // the one derived from :authority stands first already
          if (authority !== undefined) continue;
        }
        break;
      case 6:
        if (name === 'cookie') {
          // RFC 9113 §8.2.3
          if (cookieAt >= 0) {
            rawHeaders[cookieAt] = `${rawHeaders[cookieAt]}; ${value}`;
            continue;
          }
          cookieAt = rawHeaders.length + 1;
        } else if (name === 'expect') {
          expectContinue = is(value, '100-continue');
        }
        break;
      case 8:
        // a list field: further lines continue it (RFC 9110 §5.3)
        if (name === 'priority') priority = priority === undefined ? value : `${priority}, ${value}`;
        break;
      case 14:
        if (name === 'content-length') {
          if (!isDigits(value)) return `content-length of ${show(value)} is not a number of octets`;
          if (contentLength >= 0) return 'the field content-length appears twice';
          contentLength = Number(value);
        }
        break;
      case 7:
      case 10:
      case 16:
      case 17:
        if (isConnectionSpecific(name)) return `the connection-specific field ${name} is forbidden in HTTP/2`;
        break;
      default:
        break;
    }
    rawHeaders.push(name, value);
  }

  if (host !== undefined && authority !== undefined && host !== authority && !sameAuthority(host, authority, scheme)) {
    return `the field host of ${show(host)} disagrees with :authority of ${show(authority)}`;
  }
  // RFC 9113 §8.1.1; a CONNECT has no content (RFC 9110 §9.3.6)
  if (method === 'CONNECT') contentLength = -1;
  else if (endStream && contentLength > 0) {
    return `content-length promises ${contentLength.toLocaleString('en')} octets, but the request has no content`;
  } else if (!endStream && contentLength < 0) {
    // As the same request would look over HTTP/1.1: body parsers tell by it that there is a body.
    rawHeaders.push('transfer-encoding', 'chunked');
  }
  return new RequestHead(
    method,
    scheme ?? '',
    authority ?? (host === '' ? undefined : host),
    path ?? '',
    protocol,
    rawHeaders,
    contentLength,
    endStream,
    expectContinue,
    priority,
  );
}

/**
 * Reads a trailer section. (RFC 9113 §8.1)
 *
 * @param kinds what each field consists of (octets.ts)
 * @returns name, value…, or why the request is malformed
 */
export function readTrailers(fields: readonly string[], kinds: Uint8Array): string[] | string {
  const trailers: string[] = [];
  for (let at = 0; at < fields.length; at += 2) {
    const name = fields[at] as string;
    const value = fields[at + 1] as string;
    const kindsOfField = kinds[at >> 1] as number;
    if ((kindsOfField & NAME) === 0) return nameError(name);
    if ((kindsOfField & VALUE) === 0) return valueError(name);
    if (isConnectionSpecific(name)) return `the connection-specific field ${name} is forbidden in HTTP/2`;
    trailers.push(name, value);
  }
  return trailers;
}

function nameError(name: string): string {
  if (name.charCodeAt(0) === 0x3a) return `the pseudo-header ${show(name)} is not where it may be`;
  return `the field name ${show(name)} holds a forbidden character`;
}

function valueError(name: string): string {
  return `the value of the field ${show(name)} holds a forbidden character`;
}

/** RFC 9113 §8.5. */
function checkConnect(
  scheme: string | undefined,
  authority: string | undefined,
  path: string | undefined,
): string | undefined {
  if (scheme !== undefined) return 'CONNECT with the pseudo-header :scheme';
  if (path !== undefined) return 'CONNECT with the pseudo-header :path';
  if (authority === undefined || authority.length === 0) return 'CONNECT without the pseudo-header :authority';
  return undefined;
}

/** RFC 9113 §8.3.1; RFC 8441 §4 for a request with :protocol. */
function checkTarget(
  method: string,
  scheme: string | undefined,
  authority: string | undefined,
  path: string | undefined,
  protocol: string | undefined,
): string | undefined {
  if (method.length === 0) return 'the pseudo-header :method is empty';
  if (scheme === undefined) return 'the pseudo-header :scheme is missing';
  if (path === undefined) return 'the pseudo-header :path is missing';
  if (!/^[A-Za-z]/.test(scheme)) return `:scheme of ${show(scheme)} is not a scheme`;
  if (path.length === 0) return 'the pseudo-header :path is empty';
  if (path.charCodeAt(0) !== 0x2f && !(path === '*' && method === 'OPTIONS')) {
    return `:path of ${show(path)} does not begin with a slash`;
  }
  if (authority === '') return 'the pseudo-header :authority is empty';
  if (protocol !== undefined) {
    if (method !== 'CONNECT') return `the pseudo-header :protocol with the method ${method}`;
    if (protocol.length === 0) return 'the pseudo-header :protocol is empty';
    if (authority === undefined) return 'an extended CONNECT without the pseudo-header :authority';
  }
  return undefined;
}

/** Whether two authorities are the same after RFC 3986 §6.2.2 and §6.2.3: case and the scheme's own port don't count. */
function sameAuthority(a: string, b: string, scheme: string | undefined): boolean {
  return normalized(a, scheme) === normalized(b, scheme);
}

function normalized(authority: string, scheme: string | undefined): string {
  const lower = authority.toLowerCase();
  if (scheme === 'https' && lower.endsWith(':443')) return lower.slice(0, -4);
  if (scheme === 'http' && lower.endsWith(':80')) return lower.slice(0, -3);
  return lower.endsWith(':') ? lower.slice(0, -1) : lower;
}
