/**
 * A picture of a drain: time to the right, the client above, the server below, and every message a slanted line between
 * them, as steep as the network is fast. Plain SVG, made by hand.
 */

export type ArrowKind = 'request' | 'response' | 'announcement' | 'lost';

export interface Arrow {
  readonly from: 'client' | 'server';
  /** ms from the beginning of the picture */
  readonly start: number;
  readonly end: number;
  readonly kind: ArrowKind;
  readonly label?: string;
}

export interface Mark {
  readonly at: number;
  readonly label: string;
}

/** One drain. */
export interface Panel {
  readonly title: string;
  readonly arrows: readonly Arrow[];
  readonly marks: readonly Mark[];
}

const WIDTH = 1_080;
const LEFT = 86;
const RIGHT = 30;
const PANEL_HEIGHT = 300;
const HEADER = 84;
const CLIENT_Y = 96;
const SERVER_Y = 226;

const STYLE: Readonly<Record<ArrowKind, { readonly colour: string; readonly width: number; readonly text: string }>> = {
  request: { colour: '#3b6ea8', width: 1.2, text: 'request' },
  response: { colour: '#3f8f5b', width: 1.2, text: 'answer' },
  announcement: { colour: '#d07a00', width: 2.4, text: 'announcement of the end' },
  lost: { colour: '#c62828', width: 1.8, text: 'request that is never answered' },
};

/** The panels one above the other, on one time scale. */
export function timelineSvg(heading: string, panels: readonly Panel[]): string {
  const height = HEADER + panels.length * PANEL_HEIGHT;
  const last = Math.max(
    1,
    ...panels.flatMap((panel) => [...panel.arrows.map((arrow) => arrow.end), ...panel.marks.map((mark) => mark.at)]),
  );
  // some room behind the last mark, for its label
  const end = last * 1.07;
  const x = (ms: number): number => round(LEFT + (ms / end) * (WIDTH - LEFT - RIGHT));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="${xml(heading)}">`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    `<text x="${LEFT}" y="32" font-size="18" font-weight="600" fill="#1b1b1b">${xml(heading)}</text>`,
    legend(),
    ...panels.map(
      (panel, i) => `<g transform="translate(0 ${HEADER + i * PANEL_HEIGHT})">${panelSvg(panel, end, x)}</g>`,
    ),
    '</svg>',
  ].join('\n');
}

function legend(): string {
  let left = LEFT;
  return (Object.keys(STYLE) as ArrowKind[])
    .map((kind) => {
      const { colour, width, text } = STYLE[kind];
      const item = `<line x1="${left}" y1="58" x2="${left + 26}" y2="58" stroke="${colour}" stroke-width="${width + 0.6}"/><text x="${left + 33}" y="62" fill="#444">${text}</text>`;
      left += 58 + text.length * 7;
      return item;
    })
    .join('');
}

function panelSvg(panel: Panel, end: number, x: (ms: number) => number): string {
  const parts = [
    `<text x="${LEFT}" y="24" font-size="15" font-weight="600" fill="#1b1b1b">${xml(panel.title)}</text>`,
    lane('client', CLIENT_Y),
    lane('server', SERVER_Y),
    ...ticks(end, x),
    ...panel.marks.map((mark, i) => markSvg(mark, i, x)),
    ...panel.arrows.map((arrow) => arrowSvg(arrow, x)),
    ...labels(panel.arrows, x),
  ];
  return parts.join('\n');
}

function lane(name: string, y: number): string {
  return `<text x="${LEFT - 12}" y="${y + 4}" text-anchor="end" fill="#1b1b1b">${name}</text><line x1="${LEFT}" y1="${y}" x2="${WIDTH - RIGHT}" y2="${y}" stroke="#888" stroke-width="1"/>`;
}

function ticks(end: number, x: (ms: number) => number): string[] {
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000].find((each) => end / each <= 12) ?? 10_000;
  const parts: string[] = [];
  for (let ms = 0; ms <= end; ms += step) {
    parts.push(`<line x1="${x(ms)}" y1="${SERVER_Y + 30}" x2="${x(ms)}" y2="${SERVER_Y + 35}" stroke="#888"/>`);
    parts.push(
      `<text x="${x(ms)}" y="${SERVER_Y + 49}" text-anchor="middle" fill="#666" font-size="11">${ms} ms</text>`,
    );
  }
  return parts;
}

/** Marks stand below the server's lane, by turns on two levels, so that neighbours stay readable. */
function markSvg({ at, label }: Mark, index: number, x: (ms: number) => number): string {
  const y = SERVER_Y + 16 + (index % 2) * 12;
  return `<line x1="${x(at)}" y1="${CLIENT_Y - 22}" x2="${x(at)}" y2="${SERVER_Y + 22}" stroke="#555" stroke-width="1" stroke-dasharray="4 3"/><text x="${x(at) + 4}" y="${y}" fill="#333" font-size="11">${xml(label)}</text>`;
}

function arrowSvg(arrow: Arrow, x: (ms: number) => number): string {
  const { colour, width } = STYLE[arrow.kind];
  const [fromY, toY] = arrow.from === 'client' ? [CLIENT_Y, SERVER_Y] : [SERVER_Y, CLIENT_Y];
  const [x1, x2] = [x(arrow.start), x(arrow.end)];
  const line = `<line x1="${x1}" y1="${fromY}" x2="${x2}" y2="${toY}" stroke="${colour}" stroke-width="${width}"/>`;
  if (arrow.kind === 'lost') {
    return `${line}<path d="M${x2 - 5} ${toY - 5}l10 10m0 -10l-10 10" stroke="${colour}" stroke-width="2.2" fill="none"/>`;
  }
  return `${line}<circle cx="${x2}" cy="${toY}" r="2.4" fill="${colour}"/>`;
}

/** Labels stand above the client's lane, at the client's end of their line, each on the first row that is free there. */
function labels(arrows: readonly Arrow[], x: (ms: number) => number): string[] {
  const rowEnds = [
    Number.NEGATIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
  ];
  const placed = arrows
    .flatMap((arrow) =>
      arrow.label === undefined
        ? []
        : [{ at: arrow.from === 'client' ? arrow.start : arrow.end, arrow, label: arrow.label }],
    )
    .sort((a, b) => a.at - b.at);
  return placed.map(({ at, arrow, label }) => {
    const left = x(at);
    const free = rowEnds.findIndex((end) => end < left - 6);
    const row = free === -1 ? 0 : free;
    rowEnds[row] = left + label.length * 6.2;
    return `<text x="${left}" y="${CLIENT_Y - 8 - row * 13}" fill="${STYLE[arrow.kind].colour}" font-size="11">${xml(label)}</text>`;
  });
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function xml(text: string): string {
  return text.replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`);
}
