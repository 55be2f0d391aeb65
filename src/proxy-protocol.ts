/**
 * The header of the PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt), with which an L4 balancer says
 * whose connection it passes on. Bytes in, header out: it knows no socket, and trusts nobody; proxy-header.ts does.
 */
import { isIPv4, isIPv6, SocketAddress } from 'node:net';

/** What a balancer said about a connection. */
export interface ProxyHeader {
  readonly version: 1 | 2;
  /** The client's end; `undefined`: the connection's own ends are the real ones (a health check, or no TCP). */
  readonly source: ProxyEndpoint | undefined;
  /** The balancer's end, as the client reached it. */
  readonly destination: ProxyEndpoint | undefined;
}

export interface ProxyEndpoint {
  readonly address: string;
  readonly port: number;
  readonly family: 'IPv4' | 'IPv6';
}

/** A connection that had to begin with a PROXY header and didn't. */
export class ProxyProtocolError extends Error {
  override readonly name = 'ProxyProtocolError';
  readonly code = 'ERR_LASTCALL_PROXY_PROTOCOL';

  constructor(problem: string) {
    super(`PROXY protocol: ${problem}`);
  }
}

const V1_SIGNATURE = Buffer.from('PROXY ');
const V2_SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');

/** The longest line of version 1, CRLF included (§2.1). */
const MAX_V1 = 107;
const CR = 0x0d;
const LF = 0x0a;

/** Signature, version and command, family and transport, length (§2.2). */
const V2_FIXED = 16;
/** More than addresses and every registered TLV take; the length field alone would allow 64 KiB for each connection. */
const MAX_V2 = 4_096;

/** What the parser waits for. */
type State = 'signature' | 'v1' | 'v2' | 'done';

/** One header, in whatever pieces it arrives. */
export class ProxyHeaderParser {
  #state: State = 'signature';
  #bytes: Buffer = Buffer.alloc(0);

  /** Bytes that have been received, and belong to the header as far as is known. */
  get received(): number {
    return this.#bytes.length;
  }

  /**
   * Takes the next bytes of a connection.
   *
   * @returns the header and the bytes that came after it, once it is complete
   * @throws {ProxyProtocolError} ERR_LASTCALL_PROXY_PROTOCOL at the first byte that no header could have
   */
  receive(chunk: Buffer): { header: ProxyHeader; rest: Buffer } | undefined {
    if (this.#state === 'done') throw new ProxyProtocolError('the header was complete already');
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
    if (this.#state === 'signature') this.#state = recognize(this.#bytes);
    const length = this.#length();
    if (length === undefined || this.#bytes.length < length) return undefined;
    const bytes = this.#bytes.subarray(0, length);
    const header = this.#state === 'v1' ? parseV1(bytes) : parseV2(bytes);
    const rest = this.#bytes.subarray(length);
    this.#state = 'done';
    return { header, rest };
  }

  /** Bytes of the whole header, once that is known. */
  #length(): number | undefined {
    if (this.#state === 'v1') return lengthV1(this.#bytes);
    return this.#state === 'v2' ? lengthV2(this.#bytes) : undefined;
  }
}

/** Decides at the first byte that differs: nobody must wait for bytes of a header that won't come. */
function recognize(bytes: Buffer): State {
  for (const [state, signature] of [
    ['v1', V1_SIGNATURE],
    ['v2', V2_SIGNATURE],
  ] as const) {
    const length = Math.min(bytes.length, signature.length);
    if (signature.compare(bytes, 0, length, 0, length) === 0) return length === signature.length ? state : 'signature';
  }
  throw new ProxyProtocolError('the connection begins with something else');
}

function lengthV1(bytes: Buffer): number | undefined {
  const lf = bytes.indexOf(LF);
  const cr = bytes.indexOf(CR);
  if (lf !== -1 ? lf >= MAX_V1 : bytes.length >= MAX_V1) {
    throw new ProxyProtocolError(`the line of version 1 is longer than ${MAX_V1} bytes`);
  }
  if (lf === -1 ? cr !== -1 && cr !== bytes.length - 1 : cr !== lf - 1) {
    throw new ProxyProtocolError('the line of version 1 does not end with CR LF');
  }
  return lf === -1 ? undefined : lf + 1;
}

/** Decimal, without leading zeros. */
const PORT = /^(?:0|[1-9]\d{0,4})$/;

function parseV1(bytes: Buffer): ProxyHeader {
  const line = bytes.toString('latin1', 0, bytes.length - 2);
  const [, family, source = '', destination = '', sourcePort = '', destinationPort = '', ...more] = line.split(' ');
  // Whatever follows UNKNOWN is to be ignored.
  if (family === 'UNKNOWN') return { version: 1, source: undefined, destination: undefined };
  if (family !== 'TCP4' && family !== 'TCP6')
    throw new ProxyProtocolError('version 1 names neither TCP4, TCP6 nor UNKNOWN');
  if (more.length > 0) throw new ProxyProtocolError('the line of version 1 has too many parts');
  const endpoint = (address: string, port: string): ProxyEndpoint => {
    const fits = family === 'TCP4' ? isIPv4(address) : isIPv6(address) && !address.includes('%');
    if (!fits) throw new ProxyProtocolError(`version 1 has an address that is none of ${family}`);
    if (!PORT.test(port) || Number(port) > 65_535) throw new ProxyProtocolError('version 1 has a port that is none');
    if (family === 'TCP4') return { address, port: Number(port), family: 'IPv4' };
    return { address: canonicalIPv6(address), port: Number(port), family: 'IPv6' };
  };
  return {
    version: 1,
    source: endpoint(source, sourcePort),
    destination: endpoint(destination, destinationPort),
  };
}

/** §2.2, the 13th byte: version and command. */
const V2_LOCAL = 0x20;
const V2_PROXY = 0x21;
/** The 14th byte: family, and the bytes of its two addresses and ports; transport. */
const ADDRESS_BYTES: Readonly<Record<number, number>> = { 0: 0, 1: 12, 2: 36, 3: 216 };
const MAX_TRANSPORT = 0x2;
const TCP4 = 0x11;
const TCP6 = 0x21;

function lengthV2(bytes: Buffer): number | undefined {
  const command = bytes[12];
  if (command !== undefined && command !== V2_LOCAL && command !== V2_PROXY) {
    throw new ProxyProtocolError(`version 2 has an unknown version or command (0x${command.toString(16)})`);
  }
  if (bytes.length < V2_FIXED) return undefined;
  const length = V2_FIXED + bytes.readUInt16BE(14);
  if (length > MAX_V2) {
    throw new ProxyProtocolError(`the header of version 2 is longer (${length} bytes) than ${MAX_V2} bytes`);
  }
  return length;
}

function parseV2(bytes: Buffer): ProxyHeader {
  const local: ProxyHeader = { version: 2, source: undefined, destination: undefined };
  // Of a connection of the balancer's own, everything else is to be ignored.
  if (bytes[12] === V2_LOCAL) return local;
  const kind = bytes[13] ?? 0;
  const addressBytes = ADDRESS_BYTES[kind >> 4];
  if (addressBytes === undefined || (kind & 0xf) > MAX_TRANSPORT) {
    throw new ProxyProtocolError(`version 2 has an unknown family or transport (0x${kind.toString(16)})`);
  }
  if (bytes.length < V2_FIXED + addressBytes) throw new ProxyProtocolError('version 2 is too short for its addresses');
  if (kind === TCP4) return { version: 2, ...endpoints(bytes, 'IPv4', 4) };
  // UNSPEC, Unix sockets and datagrams have no client address that we could use: the real ends it is.
  return kind === TCP6 ? { version: 2, ...endpoints(bytes, 'IPv6', 16) } : local;
}

function endpoints(
  bytes: Buffer,
  family: ProxyEndpoint['family'],
  size: number,
): { source: ProxyEndpoint; destination: ProxyEndpoint } {
  const text = family === 'IPv4' ? textOfIPv4 : textOfIPv6;
  const ports = V2_FIXED + 2 * size;
  return {
    source: { address: text(bytes, V2_FIXED), port: bytes.readUInt16BE(ports), family },
    destination: { address: text(bytes, V2_FIXED + size), port: bytes.readUInt16BE(ports + 2), family },
  };
}

function textOfIPv4(bytes: Buffer, at: number): string {
  return bytes.subarray(at, at + 4).join('.');
}

function textOfIPv6(bytes: Buffer, at: number): string {
  const groups: string[] = [];
  for (let group = 0; group < 8; group++) groups.push(bytes.readUInt16BE(at + 2 * group).toString(16));
  return canonicalIPv6(groups.join(':'));
}

/** As the kernel spells it (RFC 5952), so that one client has one name. */
function canonicalIPv6(address: string): string {
  return new SocketAddress({ address, family: 'ipv6' }).address;
}
