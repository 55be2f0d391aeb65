/**
 * The encoder's dynamic table (RFC 7541 §2.3.2, §4), which is searched by name and value, and what the connection has
 * learnt about each name: whether its values repeat. The representation of a field is the encoder's decision.
 */
import { ENTRY_OVERHEAD } from './decoder-table.js';
import { type NameTraits, traitsOf } from './indexing.js';
import { STATIC_LENGTH } from './static-table.js';

/** Names without an entry that are remembered, at most: so many that an application's own fit, and random ones can't add up. */
const MAX_IDLE_NAMES = 256;

/** How many entries of one name are compared with a value, newest first. */
const SEARCH_DEPTH = 16;

const INITIAL_SLOTS = 8;

/** A field in the table. */
export interface Entry {
  readonly owner: NameState;
  readonly value: string;
  readonly size: number;
  /** Its insertion's number; the newest entry has the table's `inserted`. */
  readonly serial: number;
  /** The next older and newer entry of the same name. */
  older: Entry | undefined;
  newer: Entry | undefined;
}

/** A name on this connection. */
export interface NameState {
  readonly name: string;
  readonly traits: NameTraits;
  newest: Entry | undefined;
  /** Values inserted since the last one that was used again. */
  misses: number;
  /** The value sent last, unless it was long. */
  lastValue: string;
}

/** Entries by name, and in a ring by age for eviction. */
export class EncoderTable {
  /** The sum of the entries' sizes. */
  size = 0;
  maxSize: number;
  /** Entries. */
  count = 0;

  /** Insertions so far. */
  #inserted = 0;
  #names = new Map<string, NameState>();
  #ring: (Entry | undefined)[] = new Array<Entry | undefined>(INITIAL_SLOTS).fill(undefined);

  constructor(maxSize: number) {
    this.maxSize = maxSize;
  }

  state(name: string): NameState {
    return this.#names.get(name) ?? this.#remember(name);
  }

  /** The entry of a name with this value, if it has one. */
  find(state: NameState, value: string): Entry | undefined {
    let entry = state.newest;
    for (let depth = 0; entry !== undefined && depth < SEARCH_DEPTH; depth++) {
      if (entry.value === value) return entry;
      entry = entry.older;
    }
    return undefined;
  }

  /** An entry's index for the peer, at this moment (RFC 7541 §2.3.3). */
  index(entry: Entry): number {
    return STATIC_LENGTH + 1 + this.#inserted - entry.serial;
  }

  /** Inserts a field, evicting from the oldest on. One that is over the maximum size empties the table (§4.4). */
  add(state: NameState, value: string): void {
    const size = state.name.length + value.length + ENTRY_OVERHEAD;
    this.#evictTo(this.maxSize - size);
    if (size > this.maxSize) return;
    if (this.count === this.#ring.length) this.#grow();
    this.#inserted++;
    const older = state.newest;
    const entry: Entry = { owner: state, value, size, serial: this.#inserted, older, newer: undefined };
    if (older !== undefined) older.newer = entry;
    state.newest = entry;
    this.#ring[this.#inserted & (this.#ring.length - 1)] = entry;
    this.count++;
    this.size += size;
  }

  /** RFC 7541 §4.3 */
  resize(maxSize: number): void {
    this.maxSize = maxSize;
    this.#evictTo(maxSize);
  }

  #evictTo(limit: number): void {
    while (this.count > 0 && this.size > limit) {
      const slot = (this.#inserted - this.count + 1) & (this.#ring.length - 1);
      const entry = this.#ring[slot] as Entry;
      this.#ring[slot] = undefined;
      this.count--;
      this.size -= entry.size;
      // It was the oldest of all, so the oldest of its name.
      if (entry.newer === undefined) entry.owner.newest = undefined;
      else entry.newer.older = undefined;
    }
  }

  #remember(name: string): NameState {
    if (this.#names.size >= MAX_IDLE_NAMES + this.count) {
      for (const [known, { newest }] of this.#names) if (newest === undefined) this.#names.delete(known);
    }
    const state: NameState = { name, traits: traitsOf(name), newest: undefined, misses: 0, lastValue: '' };
    this.#names.set(name, state);
    return state;
  }

  #grow(): void {
    const ring = new Array<Entry | undefined>(2 * this.#ring.length).fill(undefined);
    for (const entry of this.#ring) if (entry !== undefined) ring[entry.serial & (ring.length - 1)] = entry;
    this.#ring = ring;
  }
}
