/**
 * When each of many drains begins: spread evenly over a time, a limited number at once, stopped by a signal. What a
 * drain is, and which connections there are, it is told.
 *
 * However late a timer rings, no more drains begin than the pace allows: after a stall of the event loop the schedule
 * is caught up with at twice the pace, never in one herd of clients that all connect anew.
 */
import type { ConnectionState } from './connection.js';
import { duration, flag, integer, optionTypeError } from './options.js';
import type { DrainOutcome, DrainReport } from './report.js';
import { Alarm, now } from './timing.js';

/** How many drains of several connections begin when, beside what each of them is like. */
export interface WaveOptions {
  /** ms over which the drains begin, evenly but for a random part (default 0: all as soon as they may). */
  spread?: number;
  /** How many connections may be draining at once (default: no limit). */
  concurrency?: number;
  /** Aborting it begins no more drains; those under way go on. */
  signal?: AbortSignal;
  /**
   * Called when something has changed, at most once per turn of the event loop, and at the end. When it throws, no more
   * drains begin, and the promise rejects.
   */
  onProgress?: (progress: DrainProgress) => void;
  /**
   * Also connections that begin to match while the drains go on, if they were accepted after it began (default false).
   * It ends when `spread` is over and the connections that were there at the beginning have been drained, or are gone.
   * Those that follow come after the first ones, `spread / total` apart; once `spread` is over they wait half as long.
   */
  follow?: boolean;
}

export const WAVE_OPTIONS = ['spread', 'concurrency', 'signal', 'onProgress', 'follow'] as const;

/** How far the drains of several connections are. */
export interface DrainProgress {
  /** Connections to drain, those that follow included. */
  readonly total: number;
  /** Drains under way. */
  readonly draining: number;
  /** Drains that are over, by outcome. */
  readonly outcomes: Readonly<Record<DrainOutcome, number>>;
  /** Live connections whose drain hasn't begun. */
  readonly waiting: number;
  /** Connections that closed by themselves before their turn. */
  readonly gone: number;
}

/** WaveOptions with every default in place. */
export interface WaveSettings {
  readonly spread: number;
  readonly concurrency: number;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((progress: DrainProgress) => void) | undefined;
  readonly follow: boolean;
}

/** What came of it. */
export interface WaveResult {
  readonly reports: readonly DrainReport[];
  /** Live connections that were left alone because the signal came first. */
  readonly left: number;
  /** Connections that closed by themselves before their turn. */
  readonly gone: number;
  /** ms from the beginning to the last closed connection. */
  readonly duration: number;
}

/**
 * Checks the options of waves and fills in their defaults.
 *
 * @throws {TypeError} ERR_LASTCALL_OPTION when an option is of the wrong type
 * @throws {RangeError} ERR_LASTCALL_OPTION when an option is out of its range
 */
export function waveSettings(options: WaveOptions = {}, name = 'drain'): WaveSettings {
  const { spread, concurrency = Infinity, signal, onProgress, follow } = options;
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw optionTypeError(`${name}.signal`, 'an AbortSignal', signal);
  if (onProgress !== undefined && typeof onProgress !== 'function')
    throw optionTypeError(`${name}.onProgress`, 'a function', onProgress);
  return {
    spread: duration(`${name}.spread`, spread, 0),
    concurrency:
      concurrency === Infinity ? Infinity : integer(`${name}.concurrency`, concurrency, 0, 1, Number.MAX_SAFE_INTEGER),
    signal,
    onProgress,
    follow: flag(`${name}.follow`, follow, false),
  };
}

/** What waves go over: a connection, as far as they look at it. */
export interface WaveMember {
  readonly state: ConnectionState;
}

/** How waves learn of connections that follow: it gives those that match and were not given before. */
export type Newcomers<Member> = () => Iterable<Member>;

/** How waves learn that a member has closed: they are told of every connection that does, until they unsubscribe. */
export type Closes<Member> = (closed: (member: Member) => void) => () => void;

/** How many drains may begin in one turn of the event loop, */
const TURN_LIMIT = 64;

/** and for how many ms, whatever they cost: what they lead to needs its part of the turn too. */
const TURN_SLICE = 2;

/** While the schedule is caught up with, drains begin this much faster than the pace. */
const CATCH_UP = 2;

/** How late a timer may be by nature, in ms: as much is caught up with at once. */
const TIMER_SLACK = 20;

/** The random part of the time between two drains. The rest keeps two of them from falling together. */
const JITTER = 1 / CATCH_UP;

/** How often connections that follow are looked for, in ms: a connection gets its tags some time after it was accepted. */
const FOLLOW_INTERVAL = 100;

/**
 * Drains the members, in their order, as the settings say.
 *
 * @param begin begins the drain of one; a rejection ends the waves
 * @param newcomers asked while the drains go on, if the settings say `follow`
 * @param closes without it, a member that has closed by itself is noticed when its turn comes
 * @param random numbers from 0 up to 1, for the jitter
 */
export function drainInWaves<Member extends WaveMember>(
  members: readonly Member[],
  begin: (member: Member) => Promise<DrainReport>,
  settings: WaveSettings,
  newcomers?: Newcomers<Member>,
  closes?: Closes<Member>,
  random: () => number = Math.random,
): Promise<WaveResult> {
  const waves = new Waves(members, begin, settings, settings.follow ? newcomers : undefined, random);
  waves.start(closes);
  return waves.done;
}

/**
 * ```
 * going ──► stopped ──► over
 *   └───────────────────▲
 * ```
 * - `going`: drains begin.
 * - `stopped`: by the signal; those under way go on.
 */
type State = 'going' | 'stopped' | 'over';

class Waves<Member extends WaveMember> {
  readonly done: Promise<WaveResult>;
  readonly #members: Member[] = [];
  /** Those whose turn hasn't come, live as far as is known, and the place of each. */
  readonly #waiting = new Map<Member, number>();
  readonly #begin: (member: Member) => Promise<DrainReport>;
  readonly #settings: WaveSettings;
  readonly #newcomers: Newcomers<Member> | undefined;
  readonly #random: () => number;
  #resolve: (result: WaveResult) => void = () => {};
  #reject: (reason: unknown) => void = () => {};
  readonly #startedAt = now();
  /** The connections that were there at the beginning. */
  readonly #initial: number;
  readonly #next = new Alarm(() => this.#turn());
  readonly #look = new Alarm(() => this.#follow());
  readonly #reports: DrainReport[] = [];
  readonly #outcomes: Record<DrainOutcome, number> = { drained: 0, lossy: 0, forced: 0, peer: 0 };
  #state: State = 'going';
  /** The place of the first that waits: those before it have had their turn, or are gone. */
  #place = 0;
  #draining = 0;
  #gone = 0;
  /** Of the initial ones: those that are over. */
  #initialOver = 0;
  /** When the last member was taken, on the `now()` clock. */
  #tookAt = this.#startedAt;
  /** When the next member's drain is due, on the `now()` clock, */
  #due: number;
  /** and from when on the pace counts: this is what keeps overdue ones from beginning together. */
  #pacedFrom = -Infinity;
  #soon: NodeJS.Immediate | undefined;
  #telling: NodeJS.Immediate | undefined;
  #unsubscribe: () => void = () => {};

  constructor(
    members: readonly Member[],
    begin: (member: Member) => Promise<DrainReport>,
    settings: WaveSettings,
    newcomers: Newcomers<Member> | undefined,
    random: () => number,
  ) {
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    for (const member of members) this.#enter(member);
    this.#begin = begin;
    this.#settings = settings;
    this.#newcomers = newcomers;
    this.#random = random;
    this.#initial = members.length;
    this.#due = this.#dueAt(0);
  }

  start(closes: Closes<Member> | undefined): void {
    const { signal } = this.#settings;
    if (closes !== undefined) this.#unsubscribe = closes(this.#onClosed);
    if (signal?.aborted === true) this.#state = 'stopped';
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (this.#following) this.#look.set(now() + FOLLOW_INTERVAL);
    this.#turn();
  }

  /** ms between two drains. The first ones keep their pace, however many follow. */
  #interval(index: number): number {
    return this.#settings.spread / Math.max(1, index < this.#initial ? this.#initial : this.#members.length);
  }

  /** When a member's drain is due. */
  #dueAt(index: number): number {
    const interval = this.#interval(index);
    if (index < this.#initial) return this.#startedAt + (index + this.#random() * JITTER) * interval;
    return Math.min(this.#tookAt + interval, this.#startedAt + this.#settings.spread);
  }

  /** Begins what is due, as far as the pace and the concurrency let it. */
  #turn(): void {
    this.#soon = undefined;
    const at = now();
    const until = at + TURN_SLICE;
    for (let begun = 0; begun < TURN_LIMIT && this.#ready(at); ) {
      if (!this.#take(at)) continue;
      begun++;
      if (now() >= until) break;
    }
    this.#schedule();
    this.#changed();
  }

  #ready(at: number): boolean {
    return (
      this.#state === 'going' &&
      this.#waiting.size > 0 &&
      this.#draining < this.#settings.concurrency &&
      this.#due <= at &&
      this.#paced <= at
    );
  }

  /** When the pace lets the next member's drain begin. */
  get #paced(): number {
    return this.#pacedFrom + this.#interval(this.#place) / CATCH_UP;
  }

  #enter(member: Member): void {
    this.#waiting.set(member, this.#members.length);
    this.#members.push(member);
  }

  /** Goes on to the next that waits. Those that are gone leave their moments empty: the others keep theirs. */
  #advance(): void {
    let member = this.#members[this.#place];
    while (member !== undefined && !this.#waiting.has(member)) member = this.#members[++this.#place];
    this.#due = this.#dueAt(this.#place);
    this.#next.clear();
  }

  /** Takes the next member; `false` when it closed before its turn. */
  #take(at: number): boolean {
    const index = this.#place;
    const member = this.#members[index];
    if (member === undefined) return false;
    if (member.state === 'closed') {
      this.#lose(member);
      return false;
    }
    this.#waiting.delete(member);
    this.#tookAt = at;
    this.#advance();
    this.#draining++;
    this.#pacedFrom = Math.max(this.#pacedFrom + this.#interval(index) / CATCH_UP, at - TIMER_SLACK);
    this.#begin(member).then((report) => {
      this.#draining--;
      this.#reports.push(report);
      this.#outcomes[report.outcome]++;
      if (index < this.#initial) this.#initialOver++;
      this.#schedule();
      this.#changed();
    }, this.#onError);
    return true;
  }

  readonly #onClosed = (member: Member): void => {
    if (!this.#lose(member)) return;
    this.#schedule();
    this.#changed();
  };

  /** A member has closed; `false` when it wasn't waiting for its turn. */
  #lose(member: Member): boolean {
    const index = this.#waiting.get(member);
    if (index === undefined) return false;
    this.#waiting.delete(member);
    this.#gone++;
    if (index < this.#initial) this.#initialOver++;
    if (index === this.#place) this.#advance();
    return true;
  }

  /** The next turn, or the end. */
  #schedule(): void {
    if (this.#state === 'over') return;
    if (this.#state === 'stopped' || this.#waiting.size === 0) {
      if (this.#draining === 0 && !this.#following) this.#finish();
      return;
    }
    if (this.#draining >= this.#settings.concurrency) return;
    if (this.#soon !== undefined || this.#next.at !== Infinity) return;
    const at = Math.max(this.#due, this.#paced);
    // What is due already gets a turn of its own all the same: the loop polls between two of them.
    if (at <= now()) this.#soon = setImmediate(() => this.#turn());
    else this.#next.set(at);
  }

  get #following(): boolean {
    if (this.#newcomers === undefined || this.#state !== 'going') return false;
    return this.#initialOver < this.#initial || now() < this.#startedAt + this.#settings.spread;
  }

  #follow(): void {
    if (this.#newcomers !== undefined && this.#following) {
      try {
        this.#add(this.#newcomers());
      } catch (error) {
        // It is the application that is asked, by a predicate: in a timer there is nobody else to tell.
        this.#onError(error);
        return;
      }
      this.#look.set(now() + FOLLOW_INTERVAL);
      this.#changed();
    }
    this.#schedule();
  }

  #add(members: Iterable<Member>): void {
    for (const member of members) this.#enter(member);
    // More of them come closer together.
    if (this.#place >= this.#initial) this.#advance();
  }

  readonly #onAbort = (): void => {
    if (this.#state !== 'going') return;
    this.#state = 'stopped';
    this.#clear();
    this.#schedule();
    this.#changed();
  };

  readonly #onError = (error: unknown): void => {
    this.#end();
    this.#reject(error);
  };

  #clear(): void {
    this.#next.clear();
    this.#look.clear();
    clearImmediate(this.#soon);
    this.#soon = undefined;
  }

  #end(): void {
    this.#state = 'over';
    this.#clear();
    clearImmediate(this.#telling);
    this.#unsubscribe();
    this.#settings.signal?.removeEventListener('abort', this.#onAbort);
  }

  #finish(): void {
    // Nobody told of these, or not yet.
    for (const member of this.#waiting.keys()) if (member.state === 'closed') this.#lose(member);
    this.#end();
    this.#tell();
    this.#resolve({
      reports: this.#reports,
      left: this.#waiting.size,
      gone: this.#gone,
      duration: now() - this.#startedAt,
    });
  }

  /** Tells of it once this turn of the event loop is over: thousands of drains may end in one. */
  #changed(): void {
    const { onProgress } = this.#settings;
    if (onProgress === undefined || this.#telling !== undefined || this.#state === 'over') return;
    this.#telling = setImmediate(() => {
      this.#telling = undefined;
      this.#tell();
    });
  }

  #tell(): void {
    try {
      this.#settings.onProgress?.({
        total: this.#members.length,
        draining: this.#draining,
        outcomes: { ...this.#outcomes },
        waiting: this.#waiting.size,
        gone: this.#gone,
      });
    } catch (error) {
      this.#onError(error);
    }
  }
}
