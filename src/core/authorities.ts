/**
 * The hosts that requests on one connection named (`Host`, `:authority`): the handshake names one, but a browser uses
 * a connection for every host that its certificate covers (RFC 9113 §9.1.1).
 */

/** A proxy's connection carries any number of hosts; the ones named last are worth remembering. */
const MAX_AUTHORITIES = 64;

/** Characters of the longest host name (RFC 1035 §2.3.4) with a port, and some: what is longer names nobody. */
export const LONGEST_AUTHORITY = 300;

export class Authorities implements Iterable<string> {
  #seen: Set<string> | undefined;
  /** Those with a port, without it; none on the default ports. */
  #hosts: Set<string> | undefined;
  /** As it was sent: most connections name one host, and repeating it costs one comparison. */
  #last: string | undefined;

  /** A request named this host. */
  note(authority: string | undefined): void {
    if (authority === undefined || authority === '' || authority === this.#last) return;
    if (authority.length > LONGEST_AUTHORITY) return;
    // The last one is remembered when another follows, or somebody asks: most connections are never asked.
    if (this.#last !== undefined) this.#rememberLast();
    this.#last = authority;
  }

  #rememberLast(): Set<string> {
    this.#seen ??= new Set();
    if (this.#last === undefined) return this.#seen;
    const name = this.#last.toLowerCase();
    remember(this.#seen, name);
    const port = portAt(name);
    if (port !== -1) {
      this.#hosts ??= new Set();
      remember(this.#hosts, name.slice(0, port));
    }
    return this.#seen;
  }

  get size(): number {
    return this.#rememberLast().size;
  }

  /** Whether a request named it; a name in lower case without a port stands for every port. */
  has(authority: string): boolean {
    return this.#rememberLast().has(authority) || this.#hosts?.has(authority) === true;
  }

  /** In lower case, with the port where one was sent; the one named last comes last. */
  [Symbol.iterator](): Iterator<string> {
    return this.#rememberLast().values();
  }
}

function remember(names: Set<string>, name: string): void {
  names.delete(name);
  names.add(name);
  if (names.size <= MAX_AUTHORITIES) return;
  for (const oldest of names) {
    names.delete(oldest);
    return;
  }
}

/** Where `:8443` begins, or -1; the colons of `[2001:db8::1]` begin no port. */
function portAt(authority: string): number {
  const colon = authority.lastIndexOf(':');
  return colon > authority.lastIndexOf(']') ? colon : -1;
}
