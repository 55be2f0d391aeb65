/**
 * In which order DATA is framed: RFC 9218's urgency and incremental, from the `priority` field and PRIORITY_UPDATE.
 * A stream without a signal takes fair turns, a frame each, at the default urgency. How much is framed, and whether
 * windows allow it, is `send.ts`.
 */

import type { Stream } from './stream.js';

/** RFC 9218 §4.1. */
export const DEFAULT_URGENCY = 3;
const LOWEST_URGENCY = 7;

/** Sets a stream's priority. */
export function setPriority(stream: Stream, { urgency, incremental }: Priority, turns: Turns): void {
  if (!stream.scheduled) {
    stream.urgency = urgency;
    stream.incremental = incremental;
    return;
  }
  turns.remove(stream);
  stream.urgency = urgency;
  stream.incremental = incremental;
  turns.add(stream);
}

export interface Priority {
  readonly urgency: number;
  readonly incremental: boolean;
}

/** Octets of a Priority field value that is read: two members suffice, and the table of HPACK makes much of little. */
export const LONGEST_PRIORITY = 256;

/** Values that have been seen: clients use a handful. */
const parsed = new Map<string, Priority>();
const MAX_PARSED = 64;

/**
 * Reads a Priority field value, an RFC 8941 dictionary such as `u=1, i`. Unknown members are ignored, and so is a member
 * of the wrong type or range. (RFC 9218 §4)
 *
 * @returns `undefined`: it is too long to be read
 */
export function parsePriority(value: string): Priority | undefined {
  if (value.length > LONGEST_PRIORITY) return undefined;
  const known = parsed.get(value);
  if (known !== undefined) return known;
  let urgency = DEFAULT_URGENCY;
  let incremental = false;
  for (const member of value.split(',')) {
    const trimmed = member.trim();
    const semicolon = trimmed.indexOf(';');
    const item = semicolon < 0 ? trimmed : trimmed.slice(0, semicolon).trimEnd();
    if (/^u=[0-7]$/.test(item)) urgency = item.charCodeAt(2) - 0x30;
    else if (item === 'i' || item === 'i=?1') incremental = true;
    else if (item === 'i=?0') incremental = false;
  }
  const priority = { urgency, incremental };
  if (parsed.size < MAX_PARSED && value.length <= 16) parsed.set(value, priority);
  return priority;
}

/** Streams of one urgency: those served one after the other, by id, and those that take turns. (RFC 9218 §10) */
interface Level {
  sequential: Stream | undefined;
  turns: Stream | undefined;
  /** Whose go it is when both kinds wait: neither starves the other. */
  sequentialNext: boolean;
}

/** The streams that could send now, were there connection window and budget. */
export class Turns {
  #levels: (Level | undefined)[] | undefined = undefined;
  /** Streams in all levels. */
  size = 0;

  add(stream: Stream): void {
    if (stream.scheduled) return;
    stream.scheduled = true;
    this.size++;
    this.#levels ??= new Array<Level | undefined>(LOWEST_URGENCY + 1).fill(undefined);
    let level = this.#levels[stream.urgency];
    if (level === undefined) {
      level = { sequential: undefined, turns: undefined, sequentialNext: true };
      this.#levels[stream.urgency] = level;
    }
    if (stream.incremental) level.turns = insertBefore(level.turns, stream, level.turns);
    else level.sequential = insertById(level.sequential, stream);
  }

  remove(stream: Stream): void {
    if (!stream.scheduled) return;
    const level = this.#levels?.[stream.urgency];
    if (level === undefined) return;
    stream.scheduled = false;
    this.size--;
    if (stream.incremental) level.turns = unlink(level.turns, stream);
    else level.sequential = unlink(level.sequential, stream);
  }

  /** The stream that frames next; the one after it comes at the next call. */
  next(): Stream | undefined {
    if (this.size === 0 || this.#levels === undefined) return undefined;
    for (const level of this.#levels) {
      if (level === undefined) continue;
      const { sequential, turns } = level;
      if (sequential !== undefined && (turns === undefined || level.sequentialNext)) {
        level.sequentialNext = false;
        return sequential;
      }
      if (turns !== undefined) {
        level.sequentialNext = true;
        level.turns = turns.nextInTurn;
        return turns;
      }
    }
    return undefined;
  }
}

// Circular doubly linked lists through the streams themselves; `first` is where the next turn is.

function insertBefore(first: Stream | undefined, stream: Stream, before: Stream | undefined): Stream {
  if (before === undefined || first === undefined) {
    stream.nextInTurn = stream;
    stream.previousInTurn = stream;
    return stream;
  }
  const previous = before.previousInTurn ?? before;
  stream.previousInTurn = previous;
  stream.nextInTurn = before;
  previous.nextInTurn = stream;
  before.previousInTurn = stream;
  return first;
}

function insertById(first: Stream | undefined, stream: Stream): Stream {
  if (first === undefined) return insertBefore(undefined, stream, undefined);
  if (stream.id < first.id) {
    insertBefore(first, stream, first);
    return stream;
  }
  let at: Stream = first;
  do at = at.nextInTurn ?? first;
  while (at !== first && at.id < stream.id);
  return insertBefore(first, stream, at);
}

function unlink(first: Stream | undefined, stream: Stream): Stream | undefined {
  const { previousInTurn: previous, nextInTurn: next } = stream;
  stream.previousInTurn = undefined;
  stream.nextInTurn = undefined;
  if (previous === undefined || next === undefined || next === stream) return undefined;
  previous.nextInTurn = next;
  next.previousInTurn = previous;
  return first === stream ? next : first;
}
