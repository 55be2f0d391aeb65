/**
 * Stopping a server: it takes in what waits in the accept queue, closes the listener, and drains every connection. How
 * one connection is drained is core/shutdown.ts's.
 */
import type { Connection, LiveConnection } from './core/connection.js';
import type { Registry } from './core/registry.js';
import { type DrainReport, type DrainSummary, summarize } from './core/report.js';
import { type DrainSettings, drain } from './core/shutdown.js';
import { now } from './core/timing.js';

/** How many event-loop turns without a new connection mean that the accept queue is empty. */
const QUIET_TURNS = 2;

/**
 * Clients that keep coming must not keep the listener open. An accept queue is first in, first out, and this is the
 * longest that Node asks for (the default `backlog` of listen()): after as many, all that waited when the stop began
 * have been taken in.
 */
const MAX_QUEUE = 511;

/** The part of the budget that emptying the queue may take. */
const ACCEPTING_PART = 0.25;

/** One stop of a server, from the call to the last closed connection. */
export class Stop {
  /** Resolves when the listener and every connection are closed. */
  readonly done: Promise<DrainSummary>;
  readonly #connections: Registry;
  readonly #closeListener: () => Promise<void>;
  readonly #startedAt = now();
  readonly #reports: Promise<DrainReport>[] = [];
  #settings: DrainSettings;
  #resolve: (summary: DrainSummary) => void = () => {};

  /** @param closeListener closes the listener, if it is open, and resolves when it and its sockets are closed */
  constructor(connections: Registry, settings: DrainSettings, closeListener: () => Promise<void>) {
    this.#connections = connections;
    this.#settings = settings;
    this.#closeListener = closeListener;
    this.done = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  /** Begins it. What the application does when it is told, another call of it included, finds it under way. */
  run(): void {
    void this.#run().then(this.#resolve);
  }

  /** A second call: the shorter limits win, for each connection. */
  join(settings: DrainSettings): void {
    const elapsed = now() - this.#startedAt;
    if (settings.budget + elapsed < this.#settings.budget) {
      this.#settings = { ...settings, timeout: settings.timeout + elapsed, budget: settings.budget + elapsed };
    }
    for (const connection of this.#connections.live()) void drain(connection, settings);
  }

  async #run(): Promise<DrainSummary> {
    for (const connection of this.#connections.live()) this.#drain(connection);
    const onOpen = (connection: Connection): void => this.#drain(connection as LiveConnection);
    this.#connections.on('open', onOpen);
    await this.#emptyAcceptQueue();
    const closed = this.#closeListener();
    for (let done = 0; done < this.#reports.length; ) {
      done = this.#reports.length;
      await Promise.all(this.#reports);
    }
    await closed;
    this.#connections.off('open', onOpen);
    return summarize(await Promise.all(this.#reports), now() - this.#startedAt);
  }

  /** Of the whole budget, what is left when a connection is accepted. */
  #drain(connection: LiveConnection): void {
    const elapsed = now() - this.#startedAt;
    const { timeout, budget } = this.#settings;
    const left = { timeout: Math.max(0, timeout - elapsed), budget: Math.max(0, budget - elapsed) };
    this.#reports.push(drain(connection, { ...this.#settings, ...left }));
  }

  /** Closing a listener resets the connections that wait in its accept queue: take them in first. */
  async #emptyAcceptQueue(): Promise<void> {
    const until = now() + this.#settings.budget * ACCEPTING_PART;
    const enough = this.#reports.length + MAX_QUEUE;
    for (let quiet = 0; quiet < QUIET_TURNS && this.#reports.length < enough && now() < until; ) {
      const before = this.#reports.length;
      await new Promise((resolve) => setImmediate(resolve));
      quiet = this.#reports.length === before ? quiet + 1 : 0;
    }
  }
}
