/**
 * Marks a response head with `Connection: close`, whatever path writes it and whatever the handler set itself: its own
 * `Connection: keep-alive` is overruled, its other connection options stay (RFC 9110 §7.6.1).
 */
import { OutgoingMessage, type ServerResponse } from 'node:http';
import { formattedHead, rawHeaderNames, replaceHead, storeHeader } from '../http-internals.js';

/** Formats a head that says `Connection: close`. */
export function storeHeaderWithClose(res: ServerResponse, firstLine: string, headers: unknown): void {
  res.shouldKeepAlive = false;
  if (!Array.isArray(headers) && rawHeaderNames(res).length > 0) {
    // What was set is formatted as it is: node:http has checked it, and what it makes of some fields wouldn't pass again.
    const options = connectionOptions(res.getHeader('connection') ?? '');
    OutgoingMessage.prototype.setHeader.call(res, 'Connection', [...options, 'close'].join(', '));
    OutgoingMessage.prototype.removeHeader.call(res, 'keep-alive');
    storeHeader(res, firstLine, headers);
    return;
  }
  storeHeader(res, firstLine, withClose(fieldsOf(headers)));
}

/** Has a head that was formatted earlier, but not sent yet, say `Connection: close`; `false`: there is none. */
export function markFormattedHead(res: ServerResponse): boolean {
  const head = formattedHead(res);
  if (head === undefined) return false;
  const [firstLine = '', ...lines] = head.slice(0, -'\r\n\r\n'.length).split('\r\n');
  const fields = lines.flatMap((line) => {
    const colon = line.indexOf(':');
    // Other white space than HTTP's is a part of the value.
    return [line.slice(0, colon), line.slice(colon + 1).replace(/^[\t ]+|[\t ]+$/g, '')];
  });
  const marked = withClose(fields);
  let text = `${firstLine}\r\n`;
  for (let i = 0; i < marked.length; i += 2) text += `${marked[i]}: ${marked[i + 1]}\r\n`;
  replaceHead(res, `${text}\r\n`);
  return true;
}

/** The forms in which the fields of writeHead() reach Node's formatter, as one: name, value, name, value. */
function fieldsOf(headers: unknown): unknown[] {
  if (Array.isArray(headers)) return Array.isArray(headers[0]) ? headers.flat(1) : headers;
  return typeof headers === 'object' && headers !== null ? Object.entries(headers).flat(1) : [];
}

function withClose(fields: readonly unknown[]): unknown[] {
  const kept: unknown[] = [];
  const options: string[] = [];
  for (let i = 0; i < fields.length; i += 2) {
    const name = String(fields[i]).toLowerCase();
    if (name === 'connection') options.push(...connectionOptions(fields[i + 1]));
    else if (name !== 'keep-alive') kept.push(fields[i], fields[i + 1]);
  }
  kept.push('Connection', [...options, 'close'].join(', '));
  return kept;
}

function connectionOptions(value: unknown): string[] {
  return String(value)
    .split(',')
    .map((option) => option.trim())
    .filter((option) => option !== '' && !/^(?:close|keep-alive)$/i.test(option));
}
