/**
 * h2load (nghttp2), when it is installed: load over HTTP/2, no drains.
 */
import { spawn } from 'node:child_process';

export interface H2LoadResult {
  readonly total: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly requestsPerSecond: number;
}

export interface H2LoadOptions {
  readonly requests: number;
  readonly connections: number;
  /** in flight per connection */
  readonly streams: number;
  /** HTTP/1.1 instead */
  readonly h1?: boolean;
  /** further fields of every request, `name: value` */
  readonly headers?: readonly string[];
  /** a file to POST */
  readonly upload?: string;
}

/** Limit of one run, as a safety net, in s. */
const LIMIT_S = 60;

/** @returns undefined when there is no h2load on this machine */
export async function h2load(url: string, options: H2LoadOptions): Promise<H2LoadResult | undefined> {
  const { requests, connections, streams, h1, headers = [], upload } = options;
  const args = ['-n', `${requests}`, '-c', `${connections}`, '-m', `${streams}`, '-N', `${LIMIT_S}s`];
  if (h1) args.push('--h1');
  for (const header of headers) args.push('-H', header);
  if (upload !== undefined) args.push('-d', upload);
  const output = await new Promise<string | undefined>((resolve, reject) => {
    const child = spawn('h2load', [...args, url], { stdio: ['ignore', 'pipe', 'ignore'] });
    let text = '';
    child.stdout.on('data', (bytes: Buffer) => {
      text += bytes.toString();
    });
    child.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'ENOENT' ? resolve(undefined) : reject(error),
    );
    child.once('close', () => resolve(text));
  });
  if (output === undefined) return undefined;
  const counts = /requests: (\d+) total, .* (\d+) succeeded, (\d+) failed/.exec(output);
  const statuses = /status codes: (\d+) 2xx/.exec(output);
  const rate = /, ([\d.]+) req\/s/.exec(output);
  if (counts === null) throw new Error(`h2load said something else than expected:\n${output}`);
  return {
    total: Number(counts[1]),
    succeeded: Math.min(Number(counts[2]), Number(statuses?.[1] ?? 0)),
    failed: Number(counts[3]),
    requestsPerSecond: Number(rate?.[1] ?? Number.NaN),
  };
}
