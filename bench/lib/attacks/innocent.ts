/**
 * A well-behaved client beside an attack: requests at a steady rate over a few connections of both protocols, whatever
 * the answers do, and how long each took.
 */
import { H1Client } from '../../../test/wire/h1-client.js';
import { H2Client, type H2Stream } from '../../../test/wire/h2-client.js';

/** Requests a second. */
export const ASKED = 500;
/** Between two requests, in ms. */
const INTERVAL = 1_000 / ASKED;
const H2_CONNECTIONS = 3;
const H1_CONNECTIONS = 3;
/** When a request counts as lost, in ms. */
const PATIENCE = 10_000;

/** What became of the requests of a phase. */
export interface Answers {
  sent: number;
  answered: number;
  lost: number;
  /** ms, of those answered */
  readonly latencies: number[];
}

export function noAnswers(): Answers {
  return { sent: 0, answered: 0, lost: 0, latencies: [] };
}

type Ask = (number: number) => Promise<string>;

export class Innocent {
  readonly #asks: Ask[];
  readonly #close: () => void;
  readonly #pending = new Set<Promise<void>>();
  #number = 0;

  private constructor(asks: Ask[], close: () => void) {
    this.#asks = asks;
    this.#close = close;
  }

  /** @param h1 whether the server speaks HTTP/1.1 on that port too */
  static async connect(port: number, h1: boolean): Promise<Innocent> {
    const h2Clients: H2Client[] = [];
    for (let i = 0; i < H2_CONNECTIONS; i++) h2Clients.push(await H2Client.connect({ port, record: false }));
    const h1Clients: H1Client[] = [];
    for (let i = 0; h1 && i < H1_CONNECTIONS; i++) h1Clients.push(await H1Client.connect({ port }));
    const asks = [...h2Clients.map(askH2), ...h1Clients.map(askH1)];
    return new Innocent(asks, () => {
      for (const client of [...h2Clients, ...h1Clients]) client.destroy();
    });
  }

  /** Asks for as long as `ms`, and waits for the answers. */
  async run(ms: number, into: Answers): Promise<void> {
    const from = performance.now();
    let due = from;
    while (performance.now() - from < ms) {
      for (const at = performance.now(); due <= at; due += INTERVAL) this.#ask(into);
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
    }
  }

  /** Until everything asked is answered or given up. */
  async settled(): Promise<void> {
    await Promise.all(this.#pending);
  }

  close(): void {
    this.#close();
  }

  #ask(into: Answers): void {
    const number = this.#number++;
    const ask = this.#asks[number % this.#asks.length];
    if (ask === undefined) return;
    const at = performance.now();
    into.sent++;
    const one = ask(number).then(
      (body) => {
        if (body !== `ok ${number}`) into.lost++;
        else {
          into.answered++;
          into.latencies.push(performance.now() - at);
        }
      },
      () => {
        into.lost++;
      },
    );
    this.#pending.add(one);
    void one.then(() => this.#pending.delete(one));
  }
}

function askH2(client: H2Client): Ask {
  const waiting = new Map<number, (stream: H2Stream) => void>();
  client.onStreamEnd = (stream) => {
    waiting.get(stream.id)?.(stream);
    waiting.delete(stream.id);
    client.forget(stream.id);
  };
  return (number) =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('no answer')), PATIENCE);
      const id = client.request({ path: `/small/${number}/0` });
      waiting.set(id, (stream) => {
        clearTimeout(timer);
        resolve(Buffer.concat(stream.body).toString());
      });
      if (client.ending !== 'open') reject(new Error('closed'));
    });
}

/** One request at a time on a connection: the next waits for its turn, and its time counts. */
function askH1(client: H1Client): Ask {
  let turn: Promise<unknown> = Promise.resolve();
  return (number) => {
    const answer = turn.then(async () => {
      client.request({ path: `/small/${number}/0` });
      const text = (await client.response(PATIENCE)).text;
      return text;
    });
    turn = answer.catch(() => {});
    return answer;
  };
}
