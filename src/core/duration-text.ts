/** Durations as people type them: `90s`, `1h30m`, `1.5h`. How they are printed is the terminal's matter. */

const UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** What a duration looks like, for an error message. */
export const DURATION_FORM = 'a duration such as 500ms, 90s, 1h30m or 2d';

/** ms, or `undefined` when the text is no duration; a number without a unit is none. */
export function parseDuration(text: string): number | undefined {
  if (!/^(?:\d+(?:\.\d+)?(?:ms|min|[smhd]))+$/.test(text)) return undefined;
  let ms = 0;
  for (const [, number, unit = ''] of text.matchAll(/(\d+(?:\.\d+)?)([a-z]+)/g))
    ms += Number(number) * (UNITS[unit] ?? 0);
  return Number.isFinite(ms) ? ms : undefined;
}
