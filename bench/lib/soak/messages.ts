/**
 * What the soak and its server child say to each other over IPC.
 */
import type { CpuTime } from '../cpu.js';

/**
 * Whose connection it is, as its requests say: of a client that behaves well, of one that others wrote (some close at
 * the first GOAWAY), of one whose socket is reset on purpose, or of one that must not be drained because it can't open
 * another (h2load). Without a request: `unknown`.
 */
export type Kind = 'good' | 'foreign' | 'faulty' | 'undrained' | 'unknown';

/** Ways to break the server, each of which the soak has to notice. */
export type Break = 'none' | 'drops' | 'leaks';

export interface SoakConfig {
  readonly key: string;
  readonly cert: string;
  readonly seed: number;
  readonly broken: Break;
  /** mean time between two drains, ms */
  readonly drainEveryMs: number;
}

/** What the server counted of the requests of one kind of client. */
export interface RequestTally {
  requests: number;
  answered: number;
  /** the response closed before it was written out */
  broken: number;
}

export interface SoakStatus {
  readonly cpu: CpuTime;
  /** bytes, after a garbage collection */
  readonly heapUsed: number;
  readonly rss: number;
  readonly external: number;
  /** accepted so far */
  readonly opened: number;
  /** live now */
  readonly connections: number;
  readonly requests: Readonly<Record<Kind, RequestTally>>;
  /** drains that have ended, begun by whoever: how often each outcome came */
  readonly drains: Readonly<Record<Kind, Readonly<Record<string, number>>>>;
  /** in drains of connections of good clients, and of foreign ones unless it was they who closed */
  readonly lostInDrains: number;
  /** what went wrong in words, the first of it */
  readonly faults: readonly string[];
  /** exceptions and rejections that nobody caught */
  readonly escaped: readonly string[];
  /** process warnings */
  readonly warnings: readonly string[];
  /** `process.getActiveResourcesInfo()`, counted */
  readonly resources: Readonly<Record<string, number>>;
  /** live objects on the heap by class; only with `census` */
  readonly objects: Readonly<Record<string, number>>;
  readonly stalls: number;
}

export type ToSoak =
  | { readonly type: 'start'; readonly config: SoakConfig }
  | { readonly type: 'status'; readonly call: number; readonly census: boolean }
  /** blocks the event loop */
  | { readonly type: 'stall'; readonly ms: number }
  /** begins no more drains */
  | { readonly type: 'calm' }
  /** shuts the servers down and disconnects; the process is to end by itself */
  | { readonly type: 'shutdown' };

export type FromSoak =
  | { readonly type: 'listening'; readonly tlsPort: number; readonly cleartextPort: number }
  | { readonly type: 'failed'; readonly message: string }
  | { readonly type: 'status'; readonly call: number; readonly status: SoakStatus };
