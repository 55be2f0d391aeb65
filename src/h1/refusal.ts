/**
 * The answers that the server itself gives to what is no valid request. Each ends the connection.
 */
import { STATUS_CODES } from 'node:http';

const TIMED_OUT = 'ERR_HTTP_REQUEST_TIMEOUT';

export const REQUEST_TIMEOUT = 408;
export const HEAD_TOO_LARGE = 431;

/** The errors that have a better answer than 400. */
const STATUS_BY_CODE: Readonly<Record<string, number>> = {
  HPE_HEADER_OVERFLOW: HEAD_TOO_LARGE,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
  [TIMED_OUT]: REQUEST_TIMEOUT,
};

/** The status that an error of node:http's parser is answered with; `undefined` for errors of the transport. */
export function refusalFor(code: string | undefined): number | undefined {
  if (code === undefined || !/^(?:HPE_|ERR_HTTP_)/.test(code)) return undefined;
  return STATUS_BY_CODE[code] ?? 400;
}

/** The error that node:http reports for a request that doesn't come in time. */
export function requestTimeoutError(): Error & { code: string } {
  return Object.assign(new Error('Request timeout'), { code: TIMED_OUT });
}

export function refusal(status: number): string {
  return `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`;
}
