/**
 * The turns of the event loop, each at the end of what the loop has polled. First what that was answered goes out. Then
 * comes what waits for a later turn because another has had enough of it: the rest of what a client has sent, more of a
 * large answer, a handshake. In every turn a slice of it is done, first come, first served, for all connections
 * together: a hundred that each have little left to do don't make a long turn.
 */
import { AsyncResource } from 'node:async_hooks';
import { rethrow } from './rethrow.js';
import { now } from './timing.js';

/** ms of a turn after which nothing more that has merely waited is done in it. */
const SLICE = 0.25;

/** Where others make turns long, what waits has this part of their time, and doesn't starve. */
const PART_OF_OTHERS = 1 / 4;

/** What is done for all connections is nobody's request. */
const neutral = new AsyncResource('LASTCALLTURN');

/** First come, first served. */
class Line {
  #waiting: ((() => void) | undefined)[] = [];
  #first = 0;

  get isEmpty(): boolean {
    return this.length === 0;
  }

  get length(): number {
    return this.#waiting.length - this.#first;
  }

  join(goOn: () => void): void {
    this.#waiting.push(goOn);
  }

  /** Calls those who wait now, at most so many of them, as long as there is room. Who joins meanwhile is behind them. */
  serve(hasRoom: () => boolean, most = this.length): void {
    const waiting = this.#waiting;
    for (const end = this.#first + most; this.#first < end && hasRoom(); ) {
      const goOn = waiting[this.#first];
      waiting[this.#first++] = undefined;
      try {
        goOn?.();
      } catch (error) {
        rethrow(error);
      }
    }
    // What has been served is forgotten when it is most of it: that costs the rest next to nothing.
    if (this.#first * 2 < waiting.length) return;
    this.#waiting = waiting.slice(this.#first);
    this.#first = 0;
  }
}

const line = new Line();
const shares: Share[] = [];
let turnComes = false;
/** How many were in the line when the last turn ended: the loop has polled since. Who joins later waits for another poll. */
let waitedSince = 0;
/** Sends what has been answered. */
const sending: (() => void)[] = [];
/** Counts turns, as far as one has to be told from the next. */
let current = 0;
/** Since when others have had the loop, on the `now()` clock. */
let othersSince = 0;
/** How long they had it in the last turns, in ms: one that is long for once is none of theirs. */
const othersTook = [0, 0, 0, 0];
/** The part of their time that whoever waits has at least, in ms. */
let partOfOthers = 0;

/** Calls back in a later turn, when the loop has polled: once, and in nobody's async context. */
export function inLaterTurn(goOn: () => void): void {
  line.join(goOn);
  awaitTurn();
}

/** Each turn begins by sending, in nobody's async context. Who has something to send awaits one. */
export function beginTurnsBySending(send: () => void): void {
  sending.push(send);
}

/** Has a turn come, if none was to: when all that there is to be read in this one has been. */
export function awaitTurn(): void {
  if (turnComes) return;
  turnComes = true;
  othersSince = now();
  neutral.runInAsyncScope(setImmediate, undefined, turn);
}

/** The loop has polled: what others have asked for meanwhile has been seen to. */
function turn(): void {
  turnComes = false;
  for (const send of sending) {
    try {
      send();
    } catch (error) {
      rethrow(error);
    }
  }
  const from = now();
  othersTook[current % othersTook.length] = from - othersSince;
  partOfOthers = Math.min(...othersTook) * PART_OF_OTHERS;
  const until = from + Math.max(SLICE, partOfOthers);
  line.serve(() => now() < until, waitedSince);
  for (const share of shares) share.serve();
  // What comes of that, and what the loop polls next, is in the same turn as what has to wait then.
  current++;
  waitedSince = line.length;
  if (!line.isEmpty || shares.some(({ isWaitedFor }) => isWaitedFor)) awaitTurn();
  if (turnComes) othersSince = now();
}

/** The part of a turn that one kind of work may take, for all connections together. */
export class Share {
  readonly #perTurn: number;
  readonly #leastCost: number;
  readonly #line = new Line();
  #left: number;
  /** The turn that it is left of. */
  #turn = current;
  #serving = false;
  /** Nobody who waited had anything of the last turn. */
  #passedBy = false;

  /**
   * @param perTurn ms after which no other work of this kind begins in a turn, unless others make it long
   * @param leastCost ms that each piece of work counts for at least
   */
  constructor(perTurn: number, leastCost = 0) {
    this.#perTurn = perTurn;
    this.#leastCost = leastCost;
    this.#left = perTurn;
    shares.push(this);
  }

  get isWaitedFor(): boolean {
    return !this.#line.isEmpty;
  }

  /** Whether work may begin in this turn: there is time left of it, and nobody waits who came before. */
  get hasRoom(): boolean {
    return this.#isLeft() && (this.#serving || this.#line.isEmpty);
  }

  #isLeft(): boolean {
    this.#renew();
    return this.#left > 0;
  }

  /** A turn that has come since has the share anew. */
  #renew(): void {
    if (this.#turn === current) return;
    this.#turn = current;
    this.#left = Math.max(this.#perTurn, partOfOthers);
  }

  /** So many ms of this turn have gone. */
  spent(ms: number): void {
    this.#renew();
    this.#left -= ms;
    awaitTurn();
  }

  /** Calls back in a turn that has room: once, and in nobody's async context. */
  whenRoom(goOn: () => void): void {
    this.#line.join(goOn);
    awaitTurn();
  }

  /** Does the work now or when there is room for it, and counts the time that it takes. */
  do(work: () => void): void {
    if (!this.hasRoom) {
      this.whenRoom(() => this.do(work));
      return;
    }
    const at = now();
    try {
      work();
    } finally {
      this.spent(Math.max(this.#leastCost, now() - at));
    }
  }

  /** A turn has come: those who wait go on. */
  serve(): void {
    if (this.#line.isEmpty) return;
    this.#renew();
    // Those who don't ask may have spent all of it: in one turn, and not in the next, too.
    if (this.#passedBy) this.#left = Math.max(this.#left, this.#perTurn, partOfOthers);
    this.#passedBy = this.#left <= 0;
    this.#serving = true;
    this.#line.serve(() => this.#isLeft());
    this.#serving = false;
  }
}
