/**
 * What the soak's clients counted, one line per kind of client.
 */

/** Whether its losses are the server's: those of clients whose own mistakes can't be told apart are only shown. */
export type Trust = 'counts' | 'shown';

export interface ClientTally {
  readonly name: string;
  readonly trust: Trust;
  connections: number;
  sent: number;
  answered: number;
  /** told that it was not processed */
  refused: number;
  lost: number;
  resets: number;
}

const MAX_FAULTS = 20;

export class Tallies {
  readonly all: ClientTally[] = [];
  /** what went wrong with clients that count, the first of it */
  readonly faults: string[] = [];
  /** what the server did against the RFC, as far as clients saw it */
  readonly violations: string[] = [];

  add(name: string, trust: Trust): ClientTally {
    const tally: ClientTally = { name, trust, connections: 0, sent: 0, answered: 0, refused: 0, lost: 0, resets: 0 };
    this.all.push(tally);
    return tally;
  }

  fault({ name, trust }: ClientTally, what: string): void {
    if (trust === 'counts' && this.faults.length < MAX_FAULTS) this.faults.push(`${name}: ${what}`);
  }

  violated(what: readonly string[]): void {
    this.violations.push(...what.slice(0, MAX_FAULTS - this.violations.length));
  }

  /** Over those that count. */
  sum(of: 'connections' | 'sent' | 'answered' | 'refused' | 'lost' | 'resets'): number {
    return this.all.filter(({ trust }) => trust === 'counts').reduce((sum, tally) => sum + tally[of], 0);
  }
}
