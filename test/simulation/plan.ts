/**
 * What a schedule holds: how networks, clients, the application and drains will behave. Times are in ms since the
 * simulation began. What is drawn, and how often, is draw.ts's.
 */
import type { RecycleOptions } from '../../src/core/recycle.js';
import type { Stall } from './loop.js';
import type { Network } from './pipe.js';

/** What the application does with a request. */
export interface AnswerPlan {
  /** `read`: once the request's body has been read */
  readonly when: 'at once' | 'later' | 'read' | 'never';
  /** ms until it answers, if `later` or `read` */
  readonly latency: number;
  /** writes its head so many ms before the rest, and has it sent at once or leaves that to others */
  readonly headFirst: { readonly ms: number; readonly flushed: boolean } | undefined;
  /** bytes of the response's body */
  readonly size: number;
  /** in how many writes */
  readonly writes: number;
  /** ms between them */
  readonly pause: number;
  /** waits for 'drain' when write() says so */
  readonly obeysDrain: boolean;
  readonly trailers: boolean;
  /** an interim response first */
  readonly interim: boolean;
  /** destroys the response instead of ending it: before its head, or with half the body written */
  readonly destroys: 'no' | 'before the head' | 'in the body';
  /** ms that it stops reading the request's body behind each piece, if it reads it */
  readonly readPause: number;
  /** says `Connection: close`, which is all that HTTP/1.1 has */
  readonly closes: boolean;
  /** drains the request's connection before it answers */
  readonly drains: boolean;
  /** ms that the loop stands still in the handler */
  readonly burns: number;
}

export interface RequestPlan {
  /** unique in the schedule; the path says it */
  readonly key: number;
  /** when the client decides to send it, in ms */
  readonly at: number;
  /** ms that the client's writer takes from then on: it writes although the reader has seen a GOAWAY meanwhile */
  readonly writerLag: number;
  /** CONNECT, over HTTP/2 only: a tunnel that gives back what it is given; `bodySize` is how much that is */
  readonly method: 'GET' | 'HEAD' | 'POST' | 'CONNECT';
  readonly bodySize: number;
  /** it is a CONNECT instead, and gets its body back through the tunnel; over HTTP/1.1 it is the last of its connection */
  readonly tunnel: boolean;
  /** ms between pieces of the body */
  readonly bodyPause: number;
  /** stops in the middle of its head, behind this part of it, for so many ms (Infinity: for good), and sends nothing meanwhile */
  readonly headPause: { readonly part: number; readonly ms: number } | undefined;
  /** asks for a 100 (Continue), and waits so many ms for it before it sends the body; 0: doesn't ask */
  readonly expects: number;
  /** of the body only so much is ever sent */
  readonly bodyStallsAt: number;
  readonly trailers: boolean;
  /** HTTP/1.1: says `Connection: close`, and sends nothing after it */
  readonly closes: boolean;
  readonly malformed: boolean;
  /** ms after its HEADERS until RST_STREAM; Infinity: never */
  readonly cancelAfter: number;
  readonly answer: AnswerPlan;
}

export interface DrainPlan {
  readonly at: number;
  readonly timeout: number;
  readonly settle: number;
  /** HTTP/1.1: how long an idle connection may bring another request; undefined: the default */
  readonly idleWait: number | undefined;
  readonly linger: number;
  readonly lingerMax: number;
  /** when its signal aborts; Infinity: never */
  readonly signalAt: number;
}

export interface ConnectionPlan {
  readonly openAt: number;
  /** ms until the preface, and in how many parts it comes */
  readonly prefaceDelay: number;
  readonly network: Network;
  /** ms after which the client reads what has arrived */
  readonly readDelay: number;
  /** times in which it reads nothing */
  readonly readPauses: readonly Stall[];
  readonly initialWindow: number;
  /** when windows begin to open beyond the initial ones; 0: at once */
  readonly windowsFrom: number;
  readonly windowDelay: number;
  /** ms until a PING is answered; Infinity: never */
  readonly pingAckDelay: number;
  /** opens no stream after a GOAWAY, or goes on for so many ms after the final one */
  readonly afterGoaway: 'stops' | 'goes on';
  readonly goesOnFor: number;
  /** HTTP/1.1: sends a request while others are unanswered */
  readonly pipelines: boolean;
  /** when the client closes: after the first GOAWAY once nothing is open, on the server's FIN, or never */
  readonly closes: 'idle' | 'on FIN' | 'never';
  readonly closeDelay: number;
  /** keeps sending PINGs until it closes, so that unread bytes are with the server's kernel whenever it closes */
  readonly chatty: number;
  /** ends the connection of its own accord */
  readonly leaves: { readonly at: number; readonly how: 'half-closes' | 'closes' | 'resets' } | undefined;
  readonly goawayAt: number;
  /** breaks the protocol */
  readonly illegalAt: number;
  /** begins a frame and sends a byte of it now and then */
  readonly trickle: { readonly at: number; readonly every: number } | undefined;
  readonly requests: readonly RequestPlan[];
  readonly drains: readonly DrainPlan[];
}

export interface SchedulePlan {
  readonly connections: readonly ConnectionPlan[];
  readonly stalls: readonly Stall[];
  readonly maxConcurrentStreams: number;
  readonly initialWindowSize: number;
  readonly hold: number;
  readonly prefaceTimeout: number;
  /** of either protocol */
  readonly times: { readonly headersTimeout: number; readonly bodyTimeout: number; readonly sendTimeout: number };
  readonly recycle: RecycleOptions;
  readonly ping: { readonly interval: number; readonly timeout: number } | undefined;
}

/** Every schedule is over by then: what still runs is drained with a short timeout. */
export const LAST_DRAIN_AT = 4_000;
