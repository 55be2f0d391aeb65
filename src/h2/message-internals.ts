/**
 * The undocumented members of Node's IncomingMessage and ServerResponse that the HTTP/2 subclasses read or write, each
 * probed when this module loads. What they are used for is in request.ts and response.ts.
 */
import { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Needs, symbolOf } from '../node-needs.js';

/** Fields set on a response: the name in lower case, and the name as it was given with its value. */
export type OutHeaders = Record<string, [name: string, value: HeaderValue]>;
export type HeaderValue = number | string | readonly string[];

/** What a response holds under undocumented names. */
export interface ResponseInternals {
  /** The formatted head; `null` as long as it is unsent. */
  _header: string | null;
  _headerSent: boolean;
  /** `false` for HEAD, 204 and 304. */
  _hasBody: boolean;
  _contentLength: number | null;
  _removedContLen: boolean;
  /** Trailers, formatted. */
  _trailer: string;
  _closed: boolean;
  finished: boolean;
  _implicitHeader(): void;
  _finish(): void;
  /** What we put in the place of Node's own. */
  _storeHeader: unknown;
  _send: unknown;
  _writeRaw: unknown;
  [kOutHeaders]: OutHeaders | null;
  [kNeedDrain]: boolean;
  [kCorked]: number;
}

/** What a request holds under undocumented names. */
export interface RequestInternals {
  _consuming: boolean;
  _dumped: boolean;
  _addHeaderLines(headers: readonly string[], length: number): void;
  _dump(): void;
  readonly _readableState: { readonly ended: boolean; readonly resumeScheduled: boolean };
}

const { need, check } = new Needs();

const sampleRequest = new IncomingMessage(undefined as unknown as Socket);
sampleRequest.httpVersionMajor = 1;
sampleRequest.httpVersionMinor = 1;
const sampleResponse = new ServerResponse(sampleRequest);

function needSymbol(description: string): symbol {
  const symbol = symbolOf(sampleResponse, description);
  need(symbol !== undefined, `OutgoingMessage[${description}]`);
  return symbol ?? Symbol(description);
}

/** Where a response keeps its fields. */
export const kOutHeaders: unique symbol = needSymbol('kOutHeaders') as never;
/** Whether `'drain'` is owed. */
export const kNeedDrain: unique symbol = needSymbol('kNeedDrain') as never;
/** How often a response was corked. */
export const kCorked: unique symbol = needSymbol('corked') as never;

const kWritableFinished = symbolOf(sampleResponse, 'kWritableFinished');

/** Node 24 and later keep in a field what earlier ones work out. */
export function markFinished(res: ServerResponse): void {
  if (kWritableFinished !== undefined) (res as unknown as Record<symbol, boolean>)[kWritableFinished] = true;
}

for (const name of [
  '_header',
  '_headerSent',
  '_hasBody',
  '_contentLength',
  '_removedContLen',
  '_trailer',
  '_closed',
  'finished',
]) {
  need(name in sampleResponse, `OutgoingMessage.${name}`);
}
for (const name of ['_implicitHeader', '_finish', '_storeHeader', '_send', '_writeRaw'] as const) {
  need(typeof (sampleResponse as unknown as Record<string, unknown>)[name] === 'function', `OutgoingMessage.${name}`);
}
for (const name of ['_addHeaderLines', '_dump', '_read', '_destroy'] as const) {
  need(typeof (sampleRequest as unknown as Record<string, unknown>)[name] === 'function', `IncomingMessage.${name}`);
}
for (const name of ['_consuming', '_dumped', '_readableState']) need(name in sampleRequest, `IncomingMessage.${name}`);
for (const name of ['ended', 'resumeScheduled']) {
  need(name in (sampleRequest as unknown as RequestInternals)._readableState, `ReadableState.${name}`);
}

check();
