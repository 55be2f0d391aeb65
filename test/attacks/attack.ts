/**
 * What an attack is: how one connection of it is carried out, and how the server is to end it. Whoever runs it says how
 * fast and for how long; what one is made of is in the files beside this one.
 */
import type { Limit } from '../../src/core/limits.js';
import type { H1Options } from '../../src/h1/options.js';
import type { H2Options } from '../../src/h2/options.js';

/** Limits that a run shortens, so that nobody has to wait for a minute. */
export interface ServerLimits {
  readonly h1?: H1Options;
  readonly h2?: H2Options;
  readonly handshakeTimeout?: number;
}

/** How fast an attacker sends and connects, over all of its connections. */
export interface Pace {
  /** Resolves when this many octets may be sent. */
  bytes(count: number): Promise<void>;
}

/** Whom an attack is aimed at. */
export interface Target {
  readonly port: number;
  readonly pace: Pace;
  /** When the attacker gives up, on performance.now()'s clock. */
  readonly until: number;
}

/** How one connection went, as the attacker saw it. */
export interface Outcome {
  /** Octets sent, as the protocol under TLS counts them; of a handshake, those on the wire. */
  readonly sent: number;
  /** e.g. `GOAWAY ENHANCE_YOUR_CALM "flood of frames that serve no request"`, `reset`, `open` */
  readonly ending: string;
}

export interface Attack {
  /** for `--only` */
  readonly name: string;
  /** what it is known as */
  readonly title: string;
  readonly protocol: 'h2' | 'h1' | 'tls';
  /** what the attacker sees in the end; the name of its test */
  readonly sees: string;
  /** the ending in the words of {@link Outcome} */
  readonly ends: RegExp;
  /** what `server.limits` counts because of it, in its order (default: nothing) */
  readonly limits?: readonly Limit[];
  readonly server?: ServerLimits;
  /** connections at once when it goes on and on (default 4) */
  readonly connections?: number;
  /** new connections a second then (default 20) */
  readonly perSecond?: number;
  /** ms that one connection goes on unless the server ends it; see {@link patience} */
  readonly holds?: number;
  /** Carries it out on one connection. */
  run(target: Target): Promise<Outcome>;
}

/** How long one connection that isn't refused goes on, in ms, and one that is going to be. */
const HELD = 1_800;
const UNTIL_REFUSED = 30_000;

/** For how long one connection of an attack is worth carrying out, in ms. */
export function patience({ holds, ends }: Attack): number {
  // The word: a refusal may say "streams are opened to be reset".
  return holds ?? (/\bopen\b/.test(ends.source) ? HELD : UNTIL_REFUSED);
}

/** As fast as the socket takes it. */
export const UNPACED: Pace = { bytes: () => Promise.resolve() };

/** A bucket that fills evenly; what is taken too early is waited for. */
export class Rate implements Pace {
  readonly #perSecond: number;
  #nextAt = performance.now();

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  async bytes(count: number): Promise<void> {
    const at = Math.max(performance.now(), this.#nextAt);
    this.#nextAt = at + (count / this.#perSecond) * 1_000;
    const wait = at - performance.now();
    if (wait > 0.5) await delay(wait);
  }
}

export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
