/**
 * nghttp in a loop: a program that sends its requests on one connection and ends, over and over. Their service times are
 * long enough for every connection to be drained while they run.
 */
import { spawn } from 'node:child_process';
import { loopArguments } from './loop.js';

/** The longest service time, as a multiple of what the others ask for. */
const LONGER = 15;

const { origin, seconds, atATime, serviceMs } = loopArguments();
const until = performance.now() + seconds * 1_000;
const errors: Record<string, number> = {};
let sent = 0;
let answered = 0;

/** What it prints, and how it ended. */
function nghttp(urls: readonly string[]): Promise<{ code: number | null; said: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn('nghttp', ['--timeout=10', ...urls], { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
    }
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, said }));
  });
}

while (performance.now() < until) {
  const first = sent;
  const numbers = Array.from({ length: atATime }, (_, i) => first + i);
  const service = (): number => Math.floor(Math.random() * serviceMs * LONGER);
  const { code, said } = await nghttp(numbers.map((n) => `${origin}/small/${n}/${service()}`));
  sent += atATime;
  const answers = new Set([...said.matchAll(/ok (\d+)/g)].map(([, n]) => Number(n)));
  const good = numbers.filter((n) => answers.has(n)).length;
  answered += good;
  if (good === atATime && code === 0) continue;
  const why =
    said
      .replace(/ok \d+/g, '')
      .replace(/\d+/g, 'N')
      .trim()
      .slice(0, 200) || `exit code ${code}`;
  errors[why] = (errors[why] ?? 0) + Math.max(1, atATime - good);
}
process.stdout.write(`${JSON.stringify({ sent, answered, errors })}\n`);
