/**
 * Attacks over HTTP/2 that flood: streams opened to be reset, and frames that serve no request (CVE-2019-9511 to 9518).
 */
import { encodeFrame, Flag, FrameType, Setting, settingsPayload, uint32 } from '../wire/h2-frames.js';
import type { Attack } from './attack.js';
import { block, data, flood, get, post, rst, streamId, windowUpdate } from './h2-bytes.js';

const CALM_FLOOD = /^(drain, )?GOAWAY ENHANCE_YOUR_CALM "flood of frames that serve no request", closed$/;
const CALM_RESETS = /(drain, )?GOAWAY ENHANCE_YOUR_CALM "streams are opened to be reset", closed$/;
const SEES_FLOOD = 'is told ENHANCE_YOUR_CALM once its budget is used up, and closed';
const SEES_RESETS = 'is drained, then told ENHANCE_YOUR_CALM';

/** Ways to make the server reset a stream that was opened well. */
const PROVOCATIONS: readonly ((id: number) => Buffer)[] = [
  (id) => Buffer.concat([get(id), windowUpdate(id, 0)]),
  (id) => Buffer.concat([get(id), windowUpdate(id, 0x7fffffff)]),
  (id) => Buffer.concat([get(id), data(id, 'x')]),
  (id) => Buffer.concat([get(id), get(id)]),
  (id) => Buffer.concat([get(id), encodeFrame(FrameType.PRIORITY, 0, id, Buffer.alloc(4))]),
  (id) => Buffer.concat([post(id, ['content-length', '1']), data(id, 'xy')]),
];

const ping = encodeFrame(FrameType.PING, 0, 0, Buffer.alloc(8));
const settings = encodeFrame(FrameType.SETTINGS, 0, 0);
/** In turns: as many requests as may be open at once, and their resets. */
function batchPart(n: number): Buffer {
  const make = n % 2 === 0 ? get : rst;
  const first = (n >> 1) * 100;
  return Buffer.concat(Array.from({ length: 100 }, (_, i) => make(streamId(first + i))));
}

/** As many settings as fit in a frame, each of which moves every stream's window. */
const manySettings = encodeFrame(
  FrameType.SETTINGS,
  0,
  0,
  settingsPayload(Array.from({ length: 2_730 }, (_, i) => [Setting.INITIAL_WINDOW_SIZE, i] as const)),
);
const tableSettings = Buffer.concat(
  [0, 4_096].map((size) => encodeFrame(FrameType.SETTINGS, 0, 0, settingsPayload([[Setting.HEADER_TABLE_SIZE, size]]))),
);
const priority = encodeFrame(FrameType.PRIORITY, 0, 1, Buffer.alloc(5));
const priorityUpdate = encodeFrame(0x10, 0, 0, Buffer.concat([uint32(1), Buffer.from('u=1')]));
const emptyData = data(1, '');
const paddedData = encodeFrame(FrameType.DATA, Flag.PADDED, 1, Buffer.of(0));
const unknown = encodeFrame(0x77, 0, 0);
const goaway = encodeFrame(FrameType.GOAWAY, 0, 0, uint32(0, 0));

/** An upload and a stream that is over. */
const beginning = Buffer.concat([post(1), get(3), rst(3)]);

function frames(name: string, title: string, unit: Buffer, begin: Buffer = beginning): Attack {
  return {
    name,
    title,
    protocol: 'h2',
    sees: SEES_FLOOD,
    ends: CALM_FLOOD,
    limits: ['floods'],
    run: (target) => flood(target, () => unit, { begin }),
  };
}

export const H2_FLOODS: readonly Attack[] = [
  {
    name: 'rapid-reset',
    title: 'rapid reset (CVE-2023-44487)',
    protocol: 'h2',
    sees: SEES_RESETS,
    ends: CALM_RESETS,
    limits: ['resets'],
    run: (target) => flood(target, (n) => Buffer.concat([get(streamId(n)), rst(streamId(n))])),
  },
  {
    name: 'reset-batches',
    title: 'rapid reset of 100 streams at a time, in a packet of their own',
    protocol: 'h2',
    sees: SEES_RESETS,
    ends: CALM_RESETS,
    limits: ['resets'],
    run: (target) => flood(target, batchPart, { batch: 1, after: { ms: 1 } }),
  },
  {
    name: 'made-you-reset',
    title: 'provoked resets, six kinds (CVE-2025-8671)',
    protocol: 'h2',
    sees: SEES_RESETS,
    ends: CALM_RESETS,
    limits: ['malformed', 'resets'],
    run: (target) => flood(target, (n) => PROVOCATIONS[n % PROVOCATIONS.length]?.(streamId(n)) ?? Buffer.alloc(0)),
  },
  frames('ping-flood', 'PING flood (CVE-2019-9512)', ping),
  frames('settings-flood', 'SETTINGS flood (CVE-2019-9515)', settings),
  frames('settings-many', 'SETTINGS of 2,730 window changes', manySettings),
  frames('settings-table', 'SETTINGS_HEADER_TABLE_SIZE churn', tableSettings),
  frames('priority-flood', 'PRIORITY flood (CVE-2019-9513)', priority),
  frames('priority-update', 'PRIORITY_UPDATE flood', priorityUpdate),
  frames('rst-flood', 'RST_STREAM flood on a closed stream (CVE-2019-9514)', rst(3)),
  frames('empty-data', 'empty DATA flood (CVE-2019-9518)', emptyData),
  frames('padded-data', 'DATA of nothing but padding', paddedData),
  frames('window-updates', 'WINDOW_UPDATE flood', windowUpdate(0, 1)),
  frames('goaway-flood', 'GOAWAY flood', goaway),
  frames('unknown-frames', 'frames of unknown types', unknown),
  {
    name: 'data-dribble',
    title: 'windows of one octet, one by one (CVE-2019-9511)',
    protocol: 'h2',
    sees: SEES_FLOOD,
    ends: CALM_FLOOD,
    limits: ['floods'],
    run: (target) =>
      flood(target, () => windowUpdate(1, 1), {
        settings: [[Setting.INITIAL_WINDOW_SIZE, 0]],
        begin: get(1, block('/large/0/1000000')),
      }),
  },
  {
    name: 'refused-streams',
    title: 'streams opened over the limit and abandoned',
    protocol: 'h2',
    sees: `has its excess refused, and ${SEES_FLOOD}`,
    ends: /^RST_STREAM REFUSED_STREAM, GOAWAY ENHANCE_YOUR_CALM "flood of frames that serve no request", closed$/,
    limits: ['maxConcurrentStreams', 'floods'],
    run: (target) => flood(target, (n) => post(streamId(n))),
  },
];
