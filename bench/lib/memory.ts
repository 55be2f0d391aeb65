/**
 * What an idle HTTP/2 connection weighs in its server's process: resident memory before and after a thousand of them
 * were opened, each with one answered request behind it.
 */
import { H2Client } from '../../test/wire/h2-client.js';
import { ServerChild } from './child.js';
import type { ServerKind, ServerStatus } from './servers/messages.js';

/** Connections that are opened and closed first, so that pools and code are in memory already. */
const WARM_UP = 50;

/** How often a server is asked whether the connections that were opened first are gone, 20 ms apart. */
const MAX_LOOKS = 250;

/**
 * Bytes per connection, one value for each repetition; every repetition has new processes, in turns. The last of
 * `kinds` is measured twice, as its own control.
 */
export async function idleMemory(
  kinds: readonly ServerKind[],
  connections: number,
  repetitions: number,
): Promise<ReadonlyMap<ServerKind | 'control', readonly number[]>> {
  const bytes = new Map<ServerKind | 'control', number[]>();
  const note = (kind: ServerKind | 'control', value: number): void => {
    bytes.set(kind, [...(bytes.get(kind) ?? []), value]);
  };
  for (let i = 0; i < repetitions; i += 1) {
    for (const kind of kinds) note(kind, await once(kind, connections));
    const last = kinds.at(-1);
    if (last !== undefined) note('control', await once(last, connections));
  }
  return bytes;
}

async function once(kind: ServerKind, connections: number): Promise<number> {
  const server = await ServerChild.start({ kind }, ['--expose-gc']);
  for (const client of await openAll(server.port, WARM_UP)) client.destroy();
  const before = await emptied(server);
  const clients = await openAll(server.port, connections);
  const after = await server.status();
  for (const client of clients) client.destroy();
  await server.stop();
  if (before === undefined || after === undefined) throw new Error(`the ${kind} server died: ${server.death}`);
  if (after.ports.length !== connections) throw new Error(`the ${kind} server has ${after.ports.length} connections`);
  return (after.rss - before.rss) / connections;
}

/** The server's status once it has no connection. */
async function emptied(server: ServerChild): Promise<ServerStatus | undefined> {
  for (let looks = 0; looks < MAX_LOOKS; looks += 1) {
    const status = await server.status();
    if (status === undefined || status.ports.length === 0) return status;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('the connections that were opened first do not close');
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
