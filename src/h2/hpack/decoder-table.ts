/**
 * The decoder's dynamic table (RFC 7541 §2.3.2, §4): a ring of interned strings, and of what they consist of. What
 * may change its size, and when, is the decoder's business.
 */

/** What an entry counts beyond its octets (RFC 7541 §4.1). */
export const ENTRY_OVERHEAD = 32;

/** Slots at first; a table of 4,096 octets never needs more than 128. */
const INITIAL_SLOTS = 16;

/** Names and values by age: index 0 is the newest entry. */
export class DecoderTable {
  /** Entries. */
  count = 0;
  /** The sum of the entries' sizes. */
  size = 0;
  /** The size that the encoder has chosen (RFC 7541 §6.3). */
  maxSize: number;

  // Rings of a power of two; the newest entry is in slot (next - 1) & mask.
  #names: string[] = new Array<string>(INITIAL_SLOTS).fill('');
  #values: string[] = new Array<string>(INITIAL_SLOTS).fill('');
  #kinds = new Uint8Array(INITIAL_SLOTS);
  #mask = INITIAL_SLOTS - 1;
  #next = 0;

  constructor(maxSize: number) {
    this.maxSize = maxSize;
  }

  name(index: number): string {
    return this.#names[(this.#next - 1 - index) & this.#mask] as string;
  }

  value(index: number): string {
    return this.#values[(this.#next - 1 - index) & this.#mask] as string;
  }

  /** What name and value consist of (octets.ts). */
  kinds(index: number): number {
    return this.#kinds[(this.#next - 1 - index) & this.#mask] as number;
  }

  /** Makes room for an entry of `size`, evicting from the oldest on (RFC 7541 §4.4). False: it is too large to keep. */
  makeRoom(size: number): boolean {
    this.#evictTo(this.maxSize - size);
    return size <= this.maxSize;
  }

  /** Adds an entry that {@link makeRoom} has made room for. */
  add(name: string, value: string, kinds: number): void {
    if (this.count > this.#mask) this.#grow();
    const slot = this.#next & this.#mask;
    this.#names[slot] = name;
    this.#values[slot] = value;
    this.#kinds[slot] = kinds;
    this.#next = (this.#next + 1) & this.#mask;
    this.count++;
    this.size += name.length + value.length + ENTRY_OVERHEAD;
  }

  /** RFC 7541 §4.3 */
  resize(maxSize: number): void {
    this.maxSize = maxSize;
    this.#evictTo(maxSize);
  }

  #evictTo(limit: number): void {
    while (this.count > 0 && this.size > limit) {
      const slot = (this.#next - this.count) & this.#mask;
      this.size -= (this.#names[slot] as string).length + (this.#values[slot] as string).length + ENTRY_OVERHEAD;
      this.#names[slot] = '';
      this.#values[slot] = '';
      this.count--;
    }
  }

  #grow(): void {
    const slots = 2 * (this.#mask + 1);
    const names = new Array<string>(slots).fill('');
    const values = new Array<string>(slots).fill('');
    const kinds = new Uint8Array(slots);
    for (let i = 0; i < this.count; i++) {
      names[this.count - 1 - i] = this.name(i);
      values[this.count - 1 - i] = this.value(i);
      kinds[this.count - 1 - i] = this.kinds(i);
    }
    this.#names = names;
    this.#values = values;
    this.#kinds = kinds;
    this.#mask = slots - 1;
    this.#next = this.count;
  }
}
