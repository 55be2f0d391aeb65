/**
 * What an idle HTTP/2 connection weighs in its server's process: resident memory before and after a thousand of them
 * were opened, each with one answered request behind it.
 */
import { H2Client } from '../../test/wire/h2-client.js';
import { ServerChild } from './child.js';
import type { ServerKind } from './servers/messages.js';

/** Connections that are opened and closed first, so that pools and code are in memory already. */
const WARM_UP = 50;

/** Bytes per connection, one value for each repetition; every repetition has new processes, in turns. */
export async function idleMemory(
  kinds: readonly ServerKind[],
  connections: number,
  repetitions: number,
): Promise<ReadonlyMap<ServerKind, readonly number[]>> {
  const bytes = new Map<ServerKind, number[]>(kinds.map((kind) => [kind, []]));
  for (let i = 0; i < repetitions; i += 1) {
    for (const kind of kinds) bytes.get(kind)?.push(await once(kind, connections));
  }
  return bytes;
}

async function once(kind: ServerKind, connections: number): Promise<number> {
  const server = await ServerChild.start({ kind }, ['--expose-gc']);
  for (const client of await openAll(server.port, WARM_UP)) client.destroy();
  const before = await server.status();
  const clients = await openAll(server.port, connections);
  const after = await server.status();
  for (const client of clients) client.destroy();
  await server.stop();
  if (before === undefined || after === undefined) throw new Error(`the ${kind} server died: ${server.death}`);
  return (after.rss - before.rss) / connections;
}

async function openAll(port: number, count: number): Promise<H2Client[]> {
  const clients: H2Client[] = [];
  for (let i = 0; i < count; i += 1) {
    const client = await H2Client.connect({ port, record: false });
    await client.fetch({ path: '/small/0/0' });
    clients.push(client);
  }
  return clients;
}
