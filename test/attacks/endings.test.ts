import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import { App } from '../../bench/lib/servers/app.js';
import { createServer } from '../../src/index.js';
import { certificate } from '../wire/certificate.js';
import { H2Client } from '../wire/h2-client.js';
import { type Attack, delay, type Outcome, patience, UNPACED } from './attack.js';
import { ATTACKS } from './catalogue.js';

/** Attacks that wait for the server are carried out at the same time; those that work it, one by one. */
const TOGETHER = 30;

interface Result extends Outcome {
  /** what a well-behaved client was answered while it lasted and after it */
  readonly innocent: ReadonlySet<string>;
  /** limits that fired */
  readonly limits: readonly string[];
}

/** One connection of an attack against a server of its own, beside a client that asks all the while. */
async function carryOut(attack: Attack): Promise<Result> {
  const material = await certificate();
  const app = new App({ kind: 'lastcall', ...material });
  const server = createServer({ ...material, ...attack.server, drain: { linger: 200 } }, app.listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const client = await H2Client.connect({ port, record: false });
  const innocent = new Set<string>();
  const ask = async (): Promise<void> => void innocent.add((await client.fetch({ path: '/small/innocent/0' })).text);
  let attacking = true;
  const outcome = attack.run({ port, pace: UNPACED, until: performance.now() + patience(attack) }).finally(() => {
    attacking = false;
  });
  try {
    while (attacking) {
      await ask();
      await Promise.race([outcome, delay(50)]);
    }
    await ask();
    const limits = Object.entries(server.limits).filter(([, count]) => count > 0);
    return { ...(await outcome), innocent, limits: limits.map(([limit]) => limit) };
  } finally {
    client.destroy();
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  }
}

/** Begins with as many as may run at once; the next begins when one has ended. */
function allOf(attacks: readonly Attack[], atOnce: number): Map<Attack, Promise<Result>> {
  const running: Promise<unknown>[] = [];
  const results = new Map<Attack, Promise<Result>>();
  for (const [i, attack] of attacks.entries()) {
    const before = running[i - atOnce] ?? Promise.resolve();
    const result = before.then(() => carryOut(attack));
    result.catch(() => {});
    running.push(result.catch(() => {}));
    results.set(attack, result);
  }
  return results;
}

for (const [protocol, what] of [
  ['h2', 'HTTP/2'],
  ['h1', 'HTTP/1.1'],
  ['tls', 'TLS'],
] as const) {
  describe(`an attacker over ${what}`, () => {
    const attacks = ATTACKS.filter((attack) => attack.protocol === protocol);
    const waits = attacks.filter((attack) => attack.server !== undefined);
    const works = attacks.filter((attack) => !waits.includes(attack));
    let results: Map<Attack, Promise<Result>>;

    before(() => {
      results = new Map([...allOf(works, 1), ...allOf(waits, TOGETHER)]);
    });

    for (const attack of attacks) {
      it(`${attack.title}: ${attack.sees}`, async () => {
        const result = await results.get(attack);
        expect(result?.ending).to.match(attack.ends);
        expect([...(result?.innocent ?? [])], 'what others are answered').to.deep.equal(['ok innocent']);
        expect(result?.limits, 'limits that fired').to.deep.equal(attack.limits ?? []);
      }).timeout(60_000);
    }
  });
}
