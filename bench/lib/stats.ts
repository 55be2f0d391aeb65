/**
 * The statistics behind every claim about speed: medians, percentiles, bootstrap intervals of paired ratios, and the
 * verdict that an A/A control allows.
 */
import { Random } from '../../test/wire/random.js';

/** The p-th percentile (0 to 100) by linear interpolation; NaN of nothing. */
export function percentile(values: readonly number[], p: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const position = (Math.min(100, Math.max(0, p)) / 100) * (sorted.length - 1);
  const below = sorted[Math.floor(position)] ?? Number.NaN;
  const above = sorted[Math.ceil(position)] ?? Number.NaN;
  return below + (above - below) * (position - Math.floor(position));
}

export function median(values: readonly number[]): number {
  return percentile(values, 50);
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** A median with its 95 % interval. */
export interface Estimate {
  readonly median: number;
  readonly low: number;
  readonly high: number;
  readonly pairs: number;
}

const RESAMPLES = 4_000;

/**
 * The median of `values` with a 95 % percentile-bootstrap interval; the same values give the same interval.
 *
 * @param together so many neighbours share what disturbs them (a process), and are resampled as one
 */
export function bootstrapMedian(values: readonly number[], together = 1): Estimate {
  const groups: number[][] = [];
  for (let i = 0; i < values.length; i += together) groups.push(values.slice(i, i + together));
  return { median: median(values), ...bootstrap(groups, RESAMPLES, medianOfAll), pairs: values.length };
}

function medianOfAll(groups: readonly (readonly number[])[]): number {
  return median(groups.flat());
}

/** What 95 % of the resamples of `values` give. */
function bootstrap<T>(
  values: readonly T[],
  resamples: number,
  statistic: (resample: readonly T[]) => number,
): { low: number; high: number } {
  const random = new Random(1);
  const results: number[] = [];
  for (let i = 0; i < resamples; i += 1) {
    results.push(statistic(values.map((_, __, all) => all[random.below(all.length)] as T)));
  }
  return { low: percentile(results, 2.5), high: percentile(results, 97.5) };
}

/** The ratio ours/theirs of each interleaved pair, as a median with its interval; `together`: see {@link bootstrapMedian}. */
export function pairedRatio(pairs: readonly (readonly [ours: number, theirs: number])[], together = 1): Estimate {
  return bootstrapMedian(
    pairs.map(([ours, theirs]) => ours / theirs),
    together,
  );
}

/** Sorting thousands of values each. */
const POOLED_RESAMPLES = 1_000;

/**
 * The p-th percentile of all of ours over that of all of theirs, for samples taken in interleaved phases; the interval
 * is that of resampled pairs of phases, since what disturbs one sample disturbs its neighbours.
 */
export function pooledRatio(
  phases: readonly (readonly [ours: readonly number[], theirs: readonly number[]])[],
  p: number,
): Estimate {
  const ratio = (some: typeof phases): number =>
    percentile(
      some.flatMap(([ours]) => ours),
      p,
    ) /
    percentile(
      some.flatMap(([, theirs]) => theirs),
      p,
    );
  return { median: ratio(phases), ...bootstrap(phases, POOLED_RESAMPLES, ratio), pairs: phases.length };
}

export type Verdict = 'passed' | 'failed' | 'unresolved';

/**
 * Whether a ratio is at most `limit`. `'unresolved'` when its interval holds the limit, or when the limit lies inside
 * what the same server gave against itself (the A/A control) and the ratio doesn't stand clear of that: noise, then, and
 * never a pass.
 */
export function verdictAtMost(estimate: Estimate, limit: number, control: Estimate): Verdict {
  const verdict = estimate.high <= limit ? 'passed' : estimate.low > limit ? 'failed' : 'unresolved';
  const isInNoise = control.low <= limit && limit <= control.high;
  if (!isInNoise) return verdict;
  const standsClear = verdict === 'passed' ? estimate.high < control.low : estimate.low > control.high;
  return standsClear ? verdict : 'unresolved';
}

/** The 99.9 % interval of a Poisson count with this expectation (exact sums). */
export function poissonInterval(expected: number): { low: number; high: number } {
  const tail = 0.0005;
  let probability = Math.exp(-expected);
  let cumulative = probability;
  let k = 0;
  let low = 0;
  while (cumulative < tail) {
    k += 1;
    probability *= expected / k;
    cumulative += probability;
    low = k;
  }
  while (cumulative < 1 - tail) {
    k += 1;
    probability *= expected / k;
    if (probability === 0) break;
    cumulative += probability;
  }
  return { low, high: k };
}
