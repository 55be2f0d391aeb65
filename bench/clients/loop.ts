/**
 * What the client programs in TypeScript have in common: so many requests at a time until the time is over, each judged
 * by its answer, and a line of JSON at the end. See bench/lib/real-clients.ts.
 */
import { bodyOf, taskOf } from '../lib/servers/app.js';

const UPLOAD = Buffer.alloc(5_000, 'u');

/** A request that has had no answer for so long counts as failed. */
export const PATIENCE_MS = 10_000;

export interface LoopArguments {
  readonly origin: string;
  readonly seconds: number;
  readonly atATime: number;
  /** longest service time that is asked for, ms */
  readonly serviceMs: number;
}

export function loopArguments(): LoopArguments {
  const [origin = '', seconds, atATime, serviceMs] = process.argv.slice(2);
  return { origin, seconds: Number(seconds), atATime: Number(atATime), serviceMs: Number(serviceMs) };
}

/** Sends one request and returns the body of its answer; rejects with whatever the client library says. */
export type Fetch = (path: string, body: Buffer | undefined) => Promise<string>;

/** Runs the loop and prints what came of it. */
export async function loop({ seconds, atATime, serviceMs }: LoopArguments, fetch: Fetch): Promise<void> {
  const until = performance.now() + seconds * 1_000;
  const errors: Record<string, number> = {};
  let sent = 0;
  let answered = 0;
  const work = async (): Promise<void> => {
    while (performance.now() < until) {
      sent += 1;
      const upload = sent % 4 === 0 ? UPLOAD : undefined;
      const path = `/${upload ? 'upload' : 'small'}/${sent}/${Math.floor(Math.random() * (serviceMs + 1))}`;
      try {
        const body = await fetch(path, upload);
        if (body !== bodyOf(taskOf(path), upload?.length ?? 0)) throw new Error('wrong answer');
        answered += 1;
      } catch (error) {
        const text = inWords(error);
        errors[text] = (errors[text] ?? 0) + 1;
        // A client that fails at once must not spin.
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    }
  };
  await Promise.all(Array.from({ length: atATime }, work));
  process.stdout.write(`${JSON.stringify({ sent, answered, errors })}\n`, () => process.exit(0));
}

function inWords(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as { code?: unknown };
  return `${typeof code === 'string' ? `${code}: ` : ''}${error.message}`.replace(/\d+/g, 'N');
}
