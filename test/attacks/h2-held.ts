/**
 * Attacks over HTTP/2 that hold something: windows kept shut, output that nobody reads, and everything that can be begun
 * and not gone on with. Their limits are times, which the runs shorten.
 */
import { encodeFrame, Flag, FrameType, PREFACE, Setting, settingsPayload } from '../wire/h2-frames.js';
import type { Attack, Outcome, Target } from './attack.js';
import { block, data, flood, get, inFrames, post, streamId, WIDE, windowUpdate } from './h2-bytes.js';
import { H2Peer, type H2PeerOptions } from './peer.js';

/** Streams that a connection may have open. */
const STREAMS = 100;
const MAX_WINDOW = 2 ** 31 - 1;
/** Between two octets of whoever dribbles, in ms. */
const DRIBBLE = 100;
/** Of whoever dribbles on all streams at once: a limit that runs out in a stall finds the next octets there. */
const DRIBBLE_ON_ALL = 400;

/** What the runs set in place of 10 and 60 seconds, in ms. */
const LIMIT = 800;
/** Whoever stays beyond a limit stays until it has run out on a busy machine, too. */
const LONG_BEYOND = 5_000;
const TIMES = { prefaceTimeout: LIMIT, headersTimeout: LIMIT, bodyTimeout: LIMIT, sendTimeout: LIMIT };

function each(make: (id: number) => Buffer): Buffer {
  return Buffer.concat(Array.from({ length: STREAMS }, (_, i) => make(streamId(i))));
}

/** Sends this, and then something every now and then, until it is over. */
async function hold(
  target: Target,
  options: H2PeerOptions,
  begin: Buffer,
  dribble?: (n: number) => Buffer,
  every = DRIBBLE,
): Promise<Outcome> {
  const peer = await H2Peer.open(target, options);
  let going = await peer.write(begin);
  for (let n = 0; going; n++) {
    await peer.idle(every);
    going = !peer.over && (dribble === undefined || (await peer.write(dribble(n))));
  }
  return peer.outcome();
}

const PING = encodeFrame(FrameType.PING, 0, 0, Buffer.alloc(8));

const largeAnswers = each((id) => get(id, block('/large/0/1000000')));

/** A large window that is of no use, because nothing is read. */
const openWindows = Buffer.concat([WIDE, largeAnswers]);

export const H2_HELD: readonly Attack[] = [
  {
    name: 'zero-window',
    title: '100 answers of 1 MB, windows of 0 held',
    protocol: 'h2',
    sees: 'has each stream reset with CANCEL after sendTimeout; the connection stays',
    ends: /^RST_STREAM CANCEL, open$/,
    limits: ['sendTimeout'],
    holds: LONG_BEYOND,
    server: { h2: TIMES },
    connections: 10,
    run: (target) => hold(target, { settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] }, largeAnswers),
  },
  {
    name: 'one-byte-windows',
    title: '100 answers of 1 MB, an octet of window now and then',
    protocol: 'h2',
    sees: 'is served an octet at a time, within its concurrent streams',
    ends: /^open$/,
    server: { h2: TIMES },
    connections: 10,
    run: (target) =>
      hold(
        target,
        { settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] },
        largeAnswers,
        () => each((id) => windowUpdate(id, 1)),
        DRIBBLE_ON_ALL,
      ),
  },
  {
    name: 'unread-answers',
    title: 'open windows, closed TCP window (CVE-2019-9517)',
    protocol: 'h2',
    sees: 'is reset after sendTimeout',
    ends: /^reset$/,
    limits: ['sendTimeout'],
    server: { h2: TIMES },
    connections: 10,
    run: async (target) => {
      const settings = [[Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW]] as const;
      return hold(target, { settings, deaf: true }, openWindows, () => PING);
    },
  },
  {
    name: 'unread-pings',
    title: 'PINGs and requests whose answers nobody reads',
    protocol: 'h2',
    sees: 'has its excess refused, is not read from while its answers wait, and told ENHANCE_YOUR_CALM, or reset after sendTimeout',
    ends: /^(RST_STREAM REFUSED_STREAM, GOAWAY ENHANCE_YOUR_CALM "flood of frames that serve no request", closed|reset)$/,
    limits: ['maxConcurrentStreams', 'floods'],
    // On a machine that is busy the flood takes longer than the shortened time for answers.
    server: { h2: { ...TIMES, sendTimeout: 10_000 } },
    run: (target) => {
      const settings = [[Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW]] as const;
      const of = block('/large/0/1000');
      return flood(target, (n) => Buffer.concat([get(streamId(n), of), PING]), {
        deaf: true,
        settings,
        begin: WIDE,
        batch: 50,
        after: { ms: 5 },
      });
    },
  },
  {
    name: 'window-overflow',
    title: 'WINDOW_UPDATE overflow',
    protocol: 'h2',
    sees: 'is told FLOW_CONTROL_ERROR',
    ends: /^GOAWAY FLOW_CONTROL_ERROR "WINDOW_UPDATE takes the window of the connection over 2,147,483,647", closed$/,
    limits: ['protocolErrors'],
    run: (target) => hold(target, {}, Buffer.concat([get(1), windowUpdate(0, MAX_WINDOW)])),
  },
  {
    name: 'slow-preface',
    title: 'a preface that comes an octet at a time',
    protocol: 'h2',
    sees: 'is closed after prefaceTimeout',
    ends: /^(closed|reset)$/,
    limits: ['prefaceTimeout'],
    server: { h2: TIMES },
    connections: 50,
    run: (target) =>
      hold(target, { preface: false }, PREFACE.subarray(0, 1), (n) => PREFACE.subarray(1 + (n % 20), 2 + (n % 20))),
  },
  {
    name: 'silent-after-handshake',
    title: 'a handshake, and never a word',
    protocol: 'h2',
    sees: 'is closed after prefaceTimeout',
    ends: /^(closed|reset)$/,
    limits: ['prefaceTimeout'],
    server: { h2: TIMES },
    connections: 100,
    run: (target) => hold(target, { preface: false }, Buffer.alloc(0)),
  },
  {
    name: 'slow-headers',
    title: 'a header block that comes an octet at a time',
    protocol: 'h2',
    sees: 'is told ENHANCE_YOUR_CALM after headersTimeout',
    ends: /^GOAWAY ENHANCE_YOUR_CALM "request head not complete after 800 ms", closed$/,
    limits: ['headersTimeout'],
    server: { h2: TIMES },
    connections: 50,
    run: (target) => {
      const head = encodeFrame(
        FrameType.HEADERS,
        Flag.END_HEADERS,
        1,
        Buffer.concat([block('/'), Buffer.alloc(99, 0x84)]),
      );
      return hold(target, { ack: false }, head.subarray(0, 10), (n) => head.subarray(10 + n, 11 + n));
    },
  },
  {
    name: 'head-without-end',
    title: 'a header block without END_HEADERS, then silence',
    protocol: 'h2',
    sees: 'is told ENHANCE_YOUR_CALM after headersTimeout',
    ends: /^GOAWAY ENHANCE_YOUR_CALM "request head not complete after 800 ms", closed$/,
    limits: ['headersTimeout'],
    server: { h2: TIMES },
    connections: 50,
    run: (target) => hold(target, { ack: false }, inFrames(1, block('/'), 16_384, false)),
  },
  {
    name: 'slow-bodies',
    title: '100 uploads, an octet now and then',
    protocol: 'h2',
    sees: 'is served: no limit in total',
    ends: /^open$/,
    server: { h2: TIMES },
    connections: 10,
    run: (target) =>
      hold(
        target,
        {},
        each((id) => post(id)),
        () => each((id) => data(id, 'x')),
        DRIBBLE_ON_ALL,
      ),
  },
  {
    name: 'abandoned-uploads',
    title: '100 uploads that never go on',
    protocol: 'h2',
    sees: 'has each stream reset with CANCEL after bodyTimeout; the connection stays',
    ends: /^RST_STREAM CANCEL, open$/,
    limits: ['bodyTimeout'],
    holds: LONG_BEYOND,
    server: { h2: TIMES },
    connections: 10,
    run: (target) =>
      hold(
        target,
        {},
        each((id) => post(id)),
      ),
  },
  {
    name: 'unread-crumbs',
    title: 'bodies in crumbs that no handler reads',
    protocol: 'h2',
    sees: 'is held by its windows, its crumbs joined',
    ends: /^open$/,
    run: async (target) => {
      const peer = await H2Peer.open(target);
      const crumb = each((id) => data(id, 'x'));
      let going = await peer.write(
        each((id) => encodeFrame(FrameType.HEADERS, Flag.END_HEADERS, id, block('/small/0/60000', 'POST'))),
      );
      // one short of what the stream's window lets through
      for (let n = 0; going && n < 10_000; n++) going = await peer.write(crumb);
      await peer.idle(Math.max(0, target.until - performance.now()));
      return peer.outcome();
    },
  },
  {
    name: 'settings-never-acknowledged',
    title: 'a connection that settles nothing: 600 streams before any ACK',
    protocol: 'h2',
    sees: 'has the excess refused, and the connection stays',
    ends: /^RST_STREAM REFUSED_STREAM, .*open$/,
    limits: ['maxConcurrentStreams'],
    run: async (target) => {
      const peer = await H2Peer.open(target, { preface: false, decode: true });
      // Everything in one write, before our ACK can be on its way.
      const opening = Buffer.concat([PREFACE, encodeFrame(FrameType.SETTINGS, 0, 0, settingsPayload([]))]);
      await peer.write(Buffer.concat([opening, ...Array.from({ length: 600 }, (_, i) => get(streamId(i)))]));
      await peer.idle(Math.max(0, Math.min(1_000, target.until - performance.now())));
      return peer.outcome();
    },
  },
];
