/**
 * Signals: the first one drains the server and ends the process, a second one cuts what is left. How a shutdown goes is
 * the server's; this file decides when it starts, when it is cut short, and with which exit code the process ends.
 */
import type { DrainSummary } from '../core/report.js';
import type { DrainOptions } from '../core/shutdown.js';
import { now } from '../core/timing.js';
import type { Drainable } from './drainable.js';

export interface SignalOptions {
  /** How each signal shuts down; a signal that isn't here is left alone. Default: SIGINT and SIGTERM, `server.shutdown`'s defaults. */
  readonly signals?: Readonly<Partial<Record<NodeJS.Signals, DrainOptions>>>;
  /** Called when a shutdown begins, and again when a second signal cuts it. */
  readonly onSignal?: (signal: NodeJS.Signals, step: 'drain' | 'cut') => void;
  /** Called when nothing is left; the process ends once the promise it returns is settled. */
  readonly onDone?: (summary: DrainSummary) => void | Promise<void>;
}

/**
 * npm passes the terminal's Ctrl-C on to a process that has had it already: under npm, a signal within this time (ms)
 * of the first is its echo.
 */
const NPM_ECHO = 250;

/** How long a cut may take until the process ends all the same, in ms: a connection's own 250 to flush, and some. */
const CUT_GRACE = 1_000;

/**
 * Shuts the server down on signals and ends the process: code 0 unless requests were cut, then 1.
 *
 * @returns a function that takes the listeners away again
 */
export function onSignals(server: Drainable, options: SignalOptions = {}): () => void {
  const { signals = { SIGINT: {}, SIGTERM: {} }, onSignal, onDone } = options;
  const echo = process.env.npm_lifecycle_event === undefined ? 0 : NPM_ECHO;
  const cut = new AbortController();
  let startedAt: number | undefined;

  async function shutDown(how: DrainOptions): Promise<void> {
    const summary = await server.shutdown({ ...how, signal: cut.signal });
    await onDone?.(summary);
    process.exit(summary.outcomes.forced > 0 ? 1 : 0);
  }

  function handle(signal: NodeJS.Signals): void {
    if (startedAt === undefined) {
      startedAt = now();
      onSignal?.(signal, 'drain');
      void shutDown(signals[signal] ?? {});
    } else if (now() - startedAt >= echo && !cut.signal.aborted) {
      onSignal?.(signal, 'cut');
      cut.abort();
      setTimeout(() => {
        server.closeAllConnections();
        process.exit(1);
      }, CUT_GRACE).unref();
    }
  }

  const names = Object.keys(signals) as NodeJS.Signals[];
  for (const name of names) process.on(name, handle);
  return () => {
    for (const name of names) process.off(name, handle);
  };
}
