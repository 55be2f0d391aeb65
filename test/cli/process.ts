/** The built `lastcall` command as a process of its own, and the clients that talk to it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { fileURLToPath } from 'node:url';

const NODE = process.execPath;
const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const PREPARE = new URL('../../scripts/prepare.mjs', import.meta.url).href;

/** Builds what is stale: these tests run what is shipped. */
export async function built(): Promise<void> {
  const { prepare } = (await import(PREPARE)) as { prepare(): void };
  prepare();
}

/** What a program that has ended said. */
export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program under way. */
export class Running {
  stdout = '';
  stderr = '';
  readonly ended: Promise<Ended>;
  readonly #child: ChildProcess;

  constructor(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
    this.#child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, npm_lifecycle_event: undefined, ...env },
    });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.ended = once(this.#child, 'close').then(([code]) => ({
      code: code as number | null,
      stdout: this.stdout,
      stderr: this.stderr,
    }));
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Nobody reads any more what it writes. */
  leave(): void {
    this.#child.stdout?.destroy();
    this.#child.stderr?.destroy();
  }

  /** Resolves with the match once stdout, or stderr, matches; rejects if the program ends before. */
  async says(pattern: RegExp, where: 'stdout' | 'stderr' = 'stdout'): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this[where]);
      if (match !== null) return match;
      const more = once(this.#child[where] ?? this.#child, 'data').then(() => true);
      if (!(await Promise.race([more, this.ended.then(() => false)])) && !pattern.test(this[where])) {
        throw new Error(`ended without saying ${pattern}: ${this.stdout}${this.stderr}`);
      }
    }
  }
}

const running = new Set<Running>();

/** Starts a program that `endAll` ends. */
export function start(command: string, args: readonly string[], env?: NodeJS.ProcessEnv): Running {
  const started = new Running(command, args, env);
  running.add(started);
  void started.ended.then(() => running.delete(started));
  return started;
}

/** Ends what a test left running. */
export async function endAll(): Promise<void> {
  for (const program of running) program.signal('SIGKILL');
  await Promise.all([...running].map((program) => program.ended));
}

export function lastcall(...args: string[]): Running {
  return node(MAIN, ...args);
}

export function node(...args: string[]): Running {
  return start(NODE, args);
}

export function curl(...args: string[]): Running {
  return start('curl', ['--insecure', '--silent', '--show-error', '--no-buffer', ...args]);
}

/** `lastcall serve` on free ports, once it serves. */
export interface Serving {
  readonly process: Running;
  readonly url: string;
  readonly operator: string;
}

export function serve(...args: string[]): Promise<Serving> {
  return serveIn({}, ...args);
}

/** `serve` with environment variables. */
export async function serveIn(env: NodeJS.ProcessEnv, ...args: string[]): Promise<Serving> {
  const process = start(NODE, [MAIN, 'serve', '--port', '0', '--operator', '0', ...args], env);
  const url = (await process.says(/on (https:\S+) /))[1] ?? '';
  const operator = (await process.says(/operator endpoint on (\S+)\n/))[1] ?? '';
  return { process, url, operator };
}

export interface Answer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly body: string;
}

/** One request to the operator endpoint, on a connection of its own. */
export async function ask(url: string, method = 'GET', headers: Record<string, string> = {}): Promise<Answer> {
  const req = request(url, { method, headers, agent: false });
  req.end();
  const [res] = await once(req, 'response');
  let body = '';
  for await (const chunk of res.setEncoding('utf8')) body += chunk;
  return { status: res.statusCode, headers: res.headers, body };
}

/** A connection as the operator endpoint describes it in JSON. */
export interface Listed {
  readonly id: number;
  readonly protocol: string | null;
  readonly state: string;
  readonly active: number;
  readonly served: number;
}

export async function connections(operator: string): Promise<Listed[]> {
  const { body } = await ask(`${operator}/connections?json`);
  return (JSON.parse(body) as { connections: Listed[] }).connections;
}

/** Asks the operator endpoint until the list is as wanted. */
export async function listing(operator: string, wanted: (list: readonly Listed[]) => boolean): Promise<Listed[]> {
  for (;;) {
    const list = await connections(operator);
    if (wanted(list)) return list;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
