/**
 * What each of the client programs in clients/ does, and what has to come of it. They are called with
 * `<origin> <h1|h2> <requests> <at a time> <bytes to upload>` and print one line of JSON.
 */
import { expect } from 'chai';
import { AT_A_TIME, MANY, type Serving, UPLOAD_BYTES } from './serving.js';

/** What a client tells of its visit. */
export interface Visit {
  /** Answers by the protocol that the client says they came by. */
  readonly protocols: Readonly<Record<string, number>>;
  /** The answer to `GET /hello/first`. */
  readonly hello: string;
  /** How many bytes of the upload came back as they were sent. */
  readonly echoed: number;
  /** How many of the many requests got their own answer. */
  readonly answered: number;
  /** The trailer `x-sum` of the response; null: this client has no trailers in that direction. */
  readonly trailer: string | null;
  readonly failures: readonly string[];
}

/** The arguments of a client program. */
export function visitArguments(serving: Serving, protocol: 'h1' | 'h2', origin = serving.origin): string[] {
  return [origin, protocol, `${MANY}`, `${AT_A_TIME}`, `${UPLOAD_BYTES}`];
}

/** Whether everything went as it should; `trailer` is what the client must have seen as the response's `x-sum`. */
export function expectVisit(visit: Visit, protocol: string, trailer: string | null): void {
  expect(visit.failures).to.deep.equal([]);
  expect(visit).to.deep.include({ hello: 'hello first', echoed: UPLOAD_BYTES, answered: MANY, trailer });
  expect(Object.keys(visit.protocols)).to.deep.equal([protocol]);
}
