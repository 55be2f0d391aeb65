/**
 * The long forms of what looks like an attack and is none, against the compiled server with its default limits: all at
 * the same time, since most of it is waiting.
 */
import {
  cancellingProxy,
  type Innocence,
  longStream,
  type Protocol,
  slowReader,
  slowUpload,
} from '../../../test/attacks/innocents.js';
import { ServerChild } from '../child.js';
import { type Bar, bar, type Cell, type Totals } from '../results.js';

const MIB = 1_048_576;
/** Octets a second that 1 Mbit/s are. */
const MBIT = 125_000;
const MINUTE = 60_000;

/** Against a server on this port; those of `longStream` bring their own. */
type Innocent = readonly [name: string, act: (port: number) => Promise<Innocence>];

/** @param short a minute's limits and data are scaled down to seconds */
export async function checkInnocents(
  short: boolean,
): Promise<{ rows: Record<string, Cell>[]; bars: Bar[]; totals: Totals }> {
  const times = { bodyTimeout: 2_000, sendTimeout: 2_000 };
  const limits = short ? { h1: times, h2: times } : {};
  const rows: Record<string, Cell>[] = [];
  const bars: Bar[] = [];
  let sent = 0;
  let lost = 0;

  const check = async ([name, act]: Innocent): Promise<void> => {
    const server = await ServerChild.start({ kind: 'lastcall', limits });
    const at = performance.now();
    const innocence = await act(server.port);
    const seconds = Math.round((performance.now() - at) / 100) / 10;
    await server.stop();
    const cut = innocence.wrong.join('; ');
    sent += innocence.sent;
    lost += innocence.wrong.length;
    rows.push({ client: name, requests: innocence.sent, seconds, cut: cut || 'never' });
    bars.push(bar(`${name}: never cut`, cut || 'never', cut === ''));
    console.log(`${name}: ${cut || 'never cut'}, ${seconds} s`);
  };

  // On a clock of its own, which would stop the others.
  await check(['a stream open for 20 minutes (fake clock)', () => longStream(20 * MINUTE, 4 * MINUTE)]);
  const each = (what: string, act: (port: number, protocol: Protocol) => Promise<Innocence>): Innocent[] => [
    [`${what}, HTTP/1.1`, (port) => act(port, 'h1')],
    [`${what}, HTTP/2`, (port) => act(port, 'h2')],
  ];
  const [read, rate] = short ? [12 * MIB, 16 * MBIT] : [64 * MIB, MBIT];
  const upload = short ? 5_000 : 5 * MINUTE;
  const [served, cancels] = short ? [10_000, 2_000] : [50_000, 10_000];
  await Promise.all(
    [
      ...each(`${read / MIB} MiB to a reader of ${rate / MBIT} Mbit/s`, (port, protocol) =>
        slowReader(port, protocol, read, rate),
      ),
      ...each(`${upload / 1_000} s of upload at 10 kB/s`, (port, protocol) =>
        slowUpload(port, protocol, upload, 10_000),
      ),
      [
        `${cancels.toLocaleString('en')} cancels among ${served.toLocaleString('en')} served on one connection`,
        (port: number) => cancellingProxy(port, served, cancels),
      ] as const,
    ].map(check),
  );
  return { rows, bars, totals: { sent, answered: sent - lost, refused: 0, lost, resets: 0 } };
}
