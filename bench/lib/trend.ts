/**
 * Whether something grows: a straight line through samples over time, with an interval that knows that neighbouring
 * samples resemble each other.
 */
import type { Verdict } from './stats.js';

export interface Sample {
  /** s */
  readonly at: number;
  readonly value: number;
}

/** The growth over the whole time of the samples, with its 95 % interval. */
export interface Growth {
  readonly growth: number;
  readonly low: number;
  readonly high: number;
  readonly mean: number;
  /** s */
  readonly seconds: number;
  readonly samples: number;
}

/** Of the normal distribution; for a handful of samples the interval is wide all the same. */
const Z95 = 1.96;

/** Least squares; needs three samples or more. */
export function growthOf(samples: readonly Sample[]): Growth {
  const n = samples.length;
  const meanAt = samples.reduce((sum, { at }) => sum + at, 0) / n;
  const mean = samples.reduce((sum, { value }) => sum + value, 0) / n;
  let xx = 0;
  let xy = 0;
  for (const { at, value } of samples) {
    xx += (at - meanAt) ** 2;
    xy += (at - meanAt) * (value - mean);
  }
  const slope = xy / xx;
  const residuals = samples.map(({ at, value }) => value - mean - slope * (at - meanAt));
  const squares = residuals.reduce((sum, one) => sum + one * one, 0);
  const products = residuals.reduce((sum, one, i) => sum + one * (residuals[i + 1] ?? 0), 0);
  // An effective number of samples, for a first-order autoregressive noise.
  const correlation = squares === 0 ? 0 : Math.min(0.99, Math.max(0, products / squares));
  const effective = Math.max(3, (n * (1 - correlation)) / (1 + correlation));
  const error = Math.sqrt(squares / Math.max(1, effective - 2) / xx) * Math.sqrt(n / effective);
  const seconds = (samples.at(-1)?.at ?? 0) - (samples[0]?.at ?? 0);
  return {
    growth: slope * seconds,
    low: (slope - Z95 * error) * seconds,
    high: (slope + Z95 * error) * seconds,
    mean,
    seconds,
    samples: n,
  };
}

/**
 * `'passed'`: it doesn't grow, or by less than `tolerance`; `'failed'`: it grows by more, beyond doubt; else the samples
 * can't tell.
 */
export function verdictOnGrowth({ low, high }: Growth, tolerance: number): Verdict {
  if (low > tolerance) return 'failed';
  return low <= 0 || high <= tolerance ? 'passed' : 'unresolved';
}
