/**
 * A client in this process, for tests of what happens on the server: undici, by the protocol that is wanted.
 */
import { Agent, type Dispatcher, request } from 'undici';
import type { Serving } from './serving.js';

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

export class Visitor {
  readonly #origin: string;
  readonly #dispatcher: Dispatcher;

  constructor(serving: Serving, allowH2: boolean) {
    this.#origin = serving.origin;
    this.#dispatcher = new Agent({ allowH2, connect: { rejectUnauthorized: false } });
  }

  async ask(path: string, options: Partial<Dispatcher.RequestOptions> = {}): Promise<Answer> {
    const dispatcher = this.#dispatcher;
    const { statusCode, headers, body } = await request(`${this.#origin}${path}`, {
      method: 'GET',
      ...options,
      dispatcher,
    });
    return { status: statusCode, headers, body: await body.text() };
  }

  get(path: string, headers: Record<string, string> = {}): Promise<Answer> {
    return this.ask(path, { headers });
  }

  post(path: string, body: string, headers: Record<string, string> = {}): Promise<Answer> {
    return this.ask(path, { method: 'POST', body, headers });
  }

  leave(): Promise<void> {
    return this.#dispatcher.close();
  }
}
