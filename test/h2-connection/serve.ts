/**
 * What the tests of the connection layer share: a server and a raw client, both closed after the test.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { AssertionError } from 'chai';
import { H2Client, type H2ClientOptions } from '../wire/h2-client.js';
import { Flag } from '../wire/h2-frames.js';
import { type HostOptions, TestHost } from './host.js';

export type Handler = (req: IncomingMessage, res: ServerResponse) => void;

const opened: { close(): Promise<void> | void }[] = [];
const hosts: TestHost[] = [];

/** For `afterEach`. What a handler has found wrong fails the test, too: its exception is the host's otherwise. */
export async function closeEverything(): Promise<void> {
  for (const one of opened.splice(0).reverse()) await one.close();
  const errors = hosts.splice(0).flatMap(({ handlerErrors }) => handlerErrors);
  for (const error of errors) if (error instanceof AssertionError) throw error;
}

/** A cleartext server unless told otherwise. */
export async function serve(handler: Handler, options?: HostOptions): Promise<TestHost> {
  const host = await TestHost.open(handler, options);
  opened.push(host);
  hosts.push(host);
  return host;
}

export async function connect(host: TestHost, options: Partial<H2ClientOptions> = {}): Promise<H2Client> {
  const client = await H2Client.connect({ port: host.port, tls: false, ...options });
  opened.push({ close: () => client.destroy() });
  return client;
}

/** A server, a client, and the client's connection as the server has it. */
export async function pair(
  handler: Handler,
  options?: HostOptions,
  clientOptions?: Partial<H2ClientOptions>,
): Promise<[TestHost, H2Client]> {
  const host = await serve(handler, options);
  const client = await connect(host, { tls: options?.tls ?? false, ...clientOptions });
  return [host, client];
}

/** Opens a stream with a plain CONNECT (RFC 9113 §8.5) and returns its identifier. */
export function sendConnect(client: H2Client, flags: number = Flag.END_HEADERS): number {
  const id = client.nextStreamId();
  const fields = [
    [':method', 'CONNECT'],
    [':authority', 'example.com:443'],
  ] as const;
  client.headers(id, [...fields], flags);
  return id;
}

/** The values of a field, in order. */
export function valuesOf(headers: readonly (readonly [string, string])[], name: string): string[] {
  return headers.filter(([key]) => key === name).map(([, value]) => value);
}

/** Resolves once `condition` holds, looking once a turn. */
export async function until(condition: () => boolean, what: string, ms = 8_000): Promise<void> {
  const deadline = performance.now() + ms;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`no ${what} after ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Notes the events of emitters in the order they come. */
export function notes(): {
  readonly seen: string[];
  on(name: string, emitter: NodeJS.EventEmitter, events: readonly string[]): void;
} {
  const seen: string[] = [];
  return {
    seen,
    on(name, emitter, events) {
      for (const event of events) emitter.on(event, () => seen.push(`${name} ${event}`));
    },
  };
}

/** Until the kernels take no more of what the only connection has to write; returns how much it has written. */
export async function standstill(host: TestHost): Promise<number> {
  await until(() => host.connections.length === 1 && host.connection.socket.writableLength > 0, 'full socket');
  let written = 0;
  await until(() => {
    const before = written;
    written = host.connection.socket.bytesWritten;
    return before === written;
  }, 'standstill');
  return written;
}
