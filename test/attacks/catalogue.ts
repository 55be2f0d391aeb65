/**
 * Every attack, in the order in which they are reported.
 */
import type { Attack } from './attack.js';
import { H1 } from './h1.js';
import { H2_FLOODS } from './h2-floods.js';
import { H2_HEADERS } from './h2-headers.js';
import { H2_HELD } from './h2-held.js';
import { TLS } from './tls.js';

export const ATTACKS: readonly Attack[] = [...H2_FLOODS, ...H2_HEADERS, ...H2_HELD, ...H1, ...TLS];

/** @throws {Error} when there is none of that name */
export function attackOf(name: string): Attack {
  const attack = ATTACKS.find((each) => each.name === name);
  if (attack === undefined) throw new Error(`there is no attack ${JSON.stringify(name)}`);
  return attack;
}
