/**
 * Runs one drain of lastcall and one of its node counterpart and draws both: what the client sent, what the server
 * announced, what was answered.
 */
import { runH1Client } from '../../test/wire/h1-runner.js';
import { MAX_STREAM_ID } from '../../test/wire/h2-frames.js';
import { runH2Client } from '../../test/wire/h2-runner.js';
import { Relay } from '../../test/wire/relay.js';
import { ServerChild } from './child.js';
import { writeResult } from './results.js';
import { epochNow } from './servers/app.js';
import type { Drained, ServerKind, TraceEntry } from './servers/messages.js';
import { type Arrow, type Panel, timelineSvg } from './timeline.js';

const RTT_MS = 50;
const SERVICE_MS = 12;
const H2_STREAMS = 3;

interface ClientEvent {
  readonly what: 'sent' | 'answered' | 'goaway';
  readonly n: number;
  readonly at: number;
}

/** What the client noted, in ms since the epoch; `announcement` by number of the answer (h1) or of the GOAWAY (h2). */
interface ClientNotes {
  readonly events: readonly ClientEvent[];
  readonly announcements: ReadonlyMap<number, string>;
  readonly closedAt: number;
}

/** Writes bench/results/timeline-<proto>.svg and returns its path. */
export async function drawTimeline(proto: 'h1' | 'h2'): Promise<string> {
  const kinds: readonly ServerKind[] = proto === 'h1' ? ['lastcall', 'node:https'] : ['lastcall', 'node:http2 close()'];
  const panels: Panel[] = [];
  for (const kind of kinds) panels.push(await onePanel(proto, kind));
  const heading = `One ${proto === 'h1' ? 'HTTP/1.1' : 'HTTP/2'} connection is drained, ${RTT_MS} ms round trip`;
  return writeResult(`timeline-${proto}.svg`, timelineSvg(heading, panels));
}

async function onePanel(proto: 'h1' | 'h2', kind: ServerKind): Promise<Panel> {
  const server = await ServerChild.start({ kind, trace: true });
  const relay = await Relay.open({ port: server.port, delayMs: RTT_MS / 2 });
  let draining: Promise<Drained | undefined> | undefined;
  const beginDrain = (localPort: number): void => {
    // In the middle between two answers: with HTTP/1.1 the next request is on the wire by then.
    const begin = (): void => {
      draining = server.drain(relay.byClientPort(localPort)?.serverSidePort ?? 0);
    };
    setTimeout(begin, RTT_MS / 2 - 5);
  };
  const notes = await (proto === 'h1' ? h1Client(relay.port, beginDrain) : h2Client(relay.port, beginDrain));
  const drained = await draining;
  const trace = (await server.status())?.trace ?? [];
  await relay.close();
  await server.stop();
  return panelOf(kind, notes, trace, drained);
}

async function h1Client(port: number, beginDrain: (localPort: number) => void): Promise<ClientNotes> {
  const events: ClientEvent[] = [];
  const announcements = new Map<number, string>();
  let localPort = 0;
  await runH1Client({
    port,
    exchange: (n) => ({ request: { path: `/small/${n}/${SERVICE_MS}` }, expectedBody: `ok ${n}` }),
    think: { kind: 'fixed', ms: 4 },
    onConnected: (client) => {
      localPort = client.transport.localPort;
    },
    onAnswer: (response, n) => {
      if (n === 2) beginDrain(localPort);
      if (response.connectionHas('close')) announcements.set(n, 'Connection: close');
    },
    onEvent: (what, n, at) => events.push({ what, n, at: toEpoch(at) }),
  });
  return { events, announcements, closedAt: epochNow() };
}

async function h2Client(port: number, beginDrain: (localPort: number) => void): Promise<ClientNotes> {
  const events: ClientEvent[] = [];
  const announcements = new Map<number, string>();
  let localPort = 0;
  let goaways = 0;
  await runH2Client({
    port,
    inFlight: H2_STREAMS,
    exchange: (n) => ({ path: `/small/${n}/${SERVICE_MS + 8 * (n % H2_STREAMS)}`, expectedBody: `ok ${n}` }),
    onConnected: (client) => {
      localPort = client.transport.localPort;
    },
    onAnswer: (_stream, n) => {
      if (n === 2 * H2_STREAMS) beginDrain(localPort);
    },
    onGoaway: (goaway) => {
      goaways += 1;
      const { lastStreamId } = goaway;
      announcements.set(goaways, `GOAWAY(${lastStreamId === MAX_STREAM_ID ? '2^31−1' : lastStreamId})`);
    },
    onEvent: (what, n, at) => events.push({ what, n, at: toEpoch(at) }),
  });
  return { events, announcements, closedAt: epochNow() };
}

function panelOf(
  kind: ServerKind,
  notes: ClientNotes,
  trace: readonly TraceEntry[],
  drained: Drained | undefined,
): Panel {
  const first = notes.events[0]?.at ?? 0;
  const seen = (what: TraceEntry['what'], n: number): number | undefined =>
    trace.find((entry) => entry.what === what && entry.path.startsWith(`/small/${n}/`))?.at;
  const arrows: Arrow[] = notes.events.map(({ what, n, at }) => {
    const clientAt = at - first;
    if (what === 'sent') {
      const isAnswered = notes.events.some((event) => event.what === 'answered' && event.n === n);
      const arrived = (seen('arrived', n) ?? at + RTT_MS / 2) - first;
      return {
        from: 'client',
        start: clientAt,
        end: arrived,
        kind: isAnswered ? 'request' : 'lost',
        ...(isAnswered ? {} : { label: 'lost' }),
      };
    }
    const left = what === 'answered' ? seen('answered', n) : undefined;
    const start = (left ?? at - RTT_MS / 2) - first;
    const label = notes.announcements.get(n);
    const announces = what === 'goaway' || (label !== undefined && !label.startsWith('GOAWAY'));
    return {
      from: 'server',
      start,
      end: clientAt,
      kind: announces ? 'announcement' : 'response',
      ...(announces && label !== undefined && { label }),
    };
  });
  const marks =
    drained === undefined
      ? []
      : [
          { at: drained.beganAt - first, label: 'the drain begins' },
          { at: drained.beganAt + drained.closedMs - first, label: 'closed' },
        ];
  const lost = arrows.filter((arrow) => arrow.kind === 'lost').length;
  return { title: `${kind}: ${lost === 0 ? 'nothing lost' : `${lost} lost`}`, arrows, marks };
}

function toEpoch(at: number): number {
  return performance.timeOrigin + at;
}
