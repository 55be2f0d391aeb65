/**
 * What the measured clients ask for: a seeded mix of the application's answers, each with the body it must bring.
 */
import type { H1Exchange } from '../../test/wire/h1-runner.js';
import type { H2Exchange } from '../../test/wire/h2-runner.js';
import type { Random } from '../../test/wire/random.js';
import { bodyOf, taskOf } from './servers/app.js';

export interface Mix {
  /** longest time that the application takes to answer, ms */
  readonly serviceMs: number;
  /** share of requests with a body (0 to 1) */
  readonly uploads: number;
  /** share of answers whose head goes out before the rest is known */
  readonly early: number;
  /** share of large answers */
  readonly large: number;
  /** h2: longest pause in the middle of an upload, ms */
  readonly uploadPauseMs: number;
}

const MAX_UPLOAD = 20_000;
const MAX_LARGE = 100_000;

interface Drawn {
  readonly path: string;
  readonly upload: Buffer | undefined;
  readonly expectedBody: string;
}

function draw(mix: Mix, n: number, random: Random): Drawn {
  const service = Math.round(random.between(0, mix.serviceMs) * 10) / 10;
  const kind = random.next();
  let path = `/small/${n}/${service}`;
  let upload: Buffer | undefined;
  if (kind < mix.uploads) {
    path = `/upload/${n}/${service}`;
    upload = Buffer.alloc(1 + random.below(MAX_UPLOAD), 'u');
  } else if (kind < mix.uploads + mix.early) path = `/early/${n}/${service}`;
  else if (kind < mix.uploads + mix.early + mix.large) path = `/large/${n}/${random.below(MAX_LARGE)}`;
  return { path, upload, expectedBody: bodyOf(taskOf(path), upload?.length ?? 0) };
}

export function h1Exchanges(mix: Mix): (n: number, random: Random) => H1Exchange {
  return (n, random) => {
    const { path, upload, expectedBody } = draw(mix, n, random);
    return { request: { path, ...(upload && { method: 'POST', body: upload }) }, expectedBody };
  };
}

export function h2Exchanges(mix: Mix): (n: number, random: Random) => H2Exchange {
  return (n, random) => {
    const { path, upload, expectedBody } = draw(mix, n, random);
    if (upload === undefined) return { path, expectedBody };
    return { path, expectedBody, body: upload, bodyPauseMs: random.between(0, mix.uploadPauseMs) };
  };
}
