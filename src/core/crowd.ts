/**
 * Making room: when a server is nearly full (`maxConnections`), the connections that have been idle longest are drained,
 * so that new clients aren't refused for the sake of those that went away. What happens at the limit itself is
 * net.Server's: it closes what it accepts beyond it, and emits 'drop'.
 */
import type { LiveConnection } from './connection.js';
import type { DrainReport } from './report.js';
import { epochNow, now } from './timing.js';
import { drainInWaves, waveSettings } from './waves.js';

/** One place in so many is kept free. */
const PLACES_PER_RESERVE = 16;

/** Every connection is looked at: not for each that is accepted. In ms. */
const BETWEEN_LOOKS = 100;

/** What a look needs to know. */
export interface Crowded {
  /** live connections, in whatever state */
  readonly connections: { readonly size: number; live(): LiveConnection[] };
  /** 0 or undefined: no limit */
  readonly maxConnections: number | undefined;
  /** ms that clients may expect an idle connection to be kept: those that were idle for less are left alone */
  readonly promised: number;
}

export class Crowd {
  readonly #drain: (connection: LiveConnection) => Promise<DrainReport>;
  #nextLook = 0;

  /** @param drain drains a connection without waiting for another request */
  constructor(drain: (connection: LiveConnection) => Promise<DrainReport>) {
    this.#drain = drain;
  }

  /** A connection has been accepted, or refused. */
  makeRoom({ connections, maxConnections, promised }: Crowded): void {
    if (!maxConnections) return;
    const tooMany = connections.size + Math.ceil(maxConnections / PLACES_PER_RESERVE) - maxConnections;
    if (tooMany <= 0) return;
    const at = now();
    if (at < this.#nextLook) return;
    this.#nextLook = at + BETWEEN_LOOKS;
    const live = connections.live();
    const staying = live.filter(({ state }) => state === 'handshaking' || state === 'open');
    const idleSince = epochNow() - promised;
    const idle = staying.filter(({ active, lastActiveAt }) => active === 0 && lastActiveAt <= idleSince);
    idle.sort((a, b) => a.lastActiveAt - b.lastActiveAt);
    const leaving = live.length - staying.length;
    void drainInWaves(idle.slice(0, Math.max(0, tooMany - leaving)), this.#drain, waveSettings());
  }
}
