/**
 * The fields of a response head, in every form that writeHead() and setHeader() take them: checked, lower-cased, and
 * without those that HTTP/2 has no place for. Encoding them is the session's.
 */
import { validateHeaderName, validateHeaderValue } from 'node:http';

/** Names that were checked before, and their lower-case form. */
const lowerCase = new Map<string, string>();

/** Applications have a fixed set of names; what goes beyond was made up from input. */
const MAX_NAMES = 1_000;

/** RFC 9110 §5.5; node:http's own check. */
const INVALID_VALUE = /[^\t\x20-\x7e\x80-\xff]/;

/** @throws {TypeError} ERR_INVALID_HTTP_TOKEN */
function checkedName(name: string): string {
  const known = lowerCase.get(name);
  if (known !== undefined) return known;
  validateHeaderName(name);
  const lower = name.toLowerCase();
  if (lowerCase.size >= MAX_NAMES) lowerCase.clear();
  lowerCase.set(name, lower);
  return lower;
}

/** RFC 9113 §8.2.1: a value neither begins nor ends with white space; HTTP/1.1 parsers cut it off. */
function trimmed(value: string): string {
  const { length } = value;
  if (length === 0) return value;
  if (value.charCodeAt(0) > 0x20 && value.charCodeAt(length - 1) > 0x20) return value;
  return value.replace(/^[\t ]+|[\t ]+$/g, '');
}

/** RFC 9113 §8.2.2; HTTP2-Settings belongs to an upgrade that HTTP/2 doesn't have any more. */
function isConnectionSpecific(lower: string): boolean {
  switch (lower.length) {
    case 7:
      return lower === 'upgrade';
    case 10:
      return lower === 'connection' || lower === 'keep-alive';
    case 14:
      return lower === 'http2-settings';
    case 16:
      return lower === 'proxy-connection';
    case 17:
      return lower === 'transfer-encoding';
    default:
      return false;
  }
}

/** The fields of a head or trailer section, and what is to be known of them. Made to be used again. */
export class FieldList {
  /** Name, value… up to `size`; what follows is left over. */
  readonly items: string[] = [];
  size = 0;
  hasDate = false;
  hasTrailer = false;
  /** What content-length says, or -1. */
  contentLength = -1;

  clear(): void {
    this.size = 0;
    this.hasDate = false;
    this.hasTrailer = false;
    this.contentLength = -1;
  }

  /**
   * Adds a field in any form that setHeader() takes.
   *
   * @throws {TypeError} ERR_INVALID_HTTP_TOKEN, ERR_INVALID_CHAR, ERR_HTTP_INVALID_HEADER_VALUE
   */
  add(name: string, value: unknown): void {
    const lower = checkedName(name);
    if (Array.isArray(value)) {
      if (lower === 'cookie') this.#addValue(name, lower, value.join('; '));
      else for (const item of value) this.#addValue(name, lower, item);
    } else {
      this.#addValue(name, lower, value);
    }
  }

  /** Adds a field that is known to be good. */
  put(lower: string, value: string): void {
    this.items[this.size] = lower;
    this.items[this.size + 1] = value;
    this.size += 2;
  }

  #addValue(name: string, lower: string, value: unknown): void {
    const text = typeof value === 'string' ? value : String(value);
    if (value === undefined || INVALID_VALUE.test(text)) validateHeaderValue(name, value as string);
    if (isConnectionSpecific(lower)) return;
    const clean = trimmed(text);
    if (lower === 'date') this.hasDate = true;
    else if (lower === 'trailer') this.hasTrailer = true;
    else if (lower === 'content-length') this.contentLength = Number(clean);
    this.put(lower, clean);
  }
}

/** `Name: value` lines as node:http formats trailers and interim responses, as a list of name, value… */
export function fieldsOfLines(lines: string): string[] {
  const list = new FieldList();
  for (const line of lines.split('\r\n')) {
    const colon = line.indexOf(':');
    if (colon > 0) list.add(line.slice(0, colon), line.slice(colon + 1));
  }
  return list.items;
}

/** What is thrown for a status that can't be an answer's. */
export function invalidStatus(status: number): RangeError & { code: string } {
  const error = new RangeError(`Invalid status code: ${status} is no final status`);
  return Object.assign(error, { code: 'ERR_HTTP_INVALID_STATUS_CODE' });
}
