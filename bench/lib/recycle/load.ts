/**
 * Clients that never retry and, when a connection is drained, go on over a new one: the load under which connections
 * are recycled and certificates rotated.
 */
import { setMaxListeners } from 'node:events';
import type { TLSSocket } from 'node:tls';
import { runH1Client } from '../../../test/wire/h1-runner.js';
import { runH2Client } from '../../../test/wire/h2-runner.js';
import { Random } from '../../../test/wire/random.js';
import type { Transport } from '../../../test/wire/transport.js';
import { h1Exchanges, h2Exchanges, type Mix } from '../exchanges.js';

export interface LoadCounts {
  connections: number;
  sent: number;
  answered: number;
  refused: number;
  lost: number;
  resets: number;
}

/** A connection that was made, and which certificate it was shown. */
export interface Shown {
  /** ms, `performance.now()`'s clock, before it connected */
  readonly at: number;
  readonly fingerprint: string;
}

const STREAMS = 4;

export class Load {
  readonly counts: LoadCounts = { connections: 0, sent: 0, answered: 0, refused: 0, lost: 0, resets: 0 };
  readonly shown: Shown[] = [];
  readonly faults: string[] = [];
  readonly #stop = new AbortController();
  readonly #running: Promise<void>[] = [];
  readonly #port: number;
  readonly #mix: Mix;

  constructor(port: number, mix: Mix, clients: { readonly h1: number; readonly h2: number }, seed: number) {
    setMaxListeners(0, this.#stop.signal);
    this.#port = port;
    this.#mix = mix;
    const random = new Random(seed);
    for (let i = 0; i < clients.h1; i += 1) this.#running.push(this.#loop('h1', random.fork()));
    for (let i = 0; i < clients.h2; i += 1) this.#running.push(this.#loop('h2', random.fork()));
  }

  /** No further requests; resolves when all that were sent are settled. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#running);
  }

  async #loop(protocol: 'h1' | 'h2', random: Random): Promise<void> {
    // Not all at once: a connection's age begins when it is made.
    await new Promise((resolve) => setTimeout(resolve, random.between(0, 1_000)));
    while (!this.#stop.signal.aborted) await this.#connection(protocol, random);
  }

  async #connection(protocol: 'h1' | 'h2', random: Random): Promise<void> {
    const at = performance.now();
    const common = {
      port: this.#port,
      seed: random.below(2 ** 32),
      stop: this.#stop.signal,
      think: { kind: 'uniform', minMs: 0, maxMs: 20 } as const,
      onConnected: ({ transport }: { readonly transport: Transport }) => {
        const { fingerprint256: fingerprint } = (transport.socket as TLSSocket).getPeerCertificate();
        this.shown.push({ at, fingerprint });
      },
    };
    try {
      const result =
        protocol === 'h1'
          ? { refused: 0, streamResets: 0, ...(await runH1Client({ ...common, exchange: h1Exchanges(this.#mix) })) }
          : await runH2Client({ ...common, exchange: h2Exchanges(this.#mix), inFlight: STREAMS });
      const lost = result.wrong + result.unserved + result.streamResets;
      this.counts.connections += 1;
      this.counts.sent += result.sent;
      this.counts.answered += result.answered;
      this.counts.refused += result.refused;
      this.counts.lost += lost;
      if (result.reset) this.counts.resets += 1;
      if (lost > 0) this.#fault(`${protocol}: ${result.firstFault}`);
    } catch (error) {
      this.counts.lost += 1;
      this.#fault(`${protocol}: no connection: ${String(error)}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  #fault(what: string): void {
    if (this.faults.length < 10) this.faults.push(what);
  }
}
