/** What a simulated client knows of one of its HTTP/2 streams. */
import type { RequestPlan } from './plan.js';

export class ClientStream {
  readonly id: number;
  readonly plan: RequestPlan;
  /** How many bytes the client had sent when the request's HEADERS were complete. */
  readonly headersEnd: number;
  /** Still to be sent of the request's body. */
  bodyLeft: number;
  endSent: boolean;
  /** The next piece of the body waits for its time. */
  pausing = false;
  /** Its body need not wait for a 100 (Continue). */
  continues: boolean;
  sendWindow: number;
  receiveWindow: number;
  /** Octets received that the window has not been given back. */
  owed = 0;
  status: number | undefined;
  /** Octets of the response's body. */
  received = 0;
  /** END_STREAM has been received. */
  ended = false;
  /** The error code of the server's RST_STREAM. */
  reset: number | undefined;
  /** How many bytes the client had sent when it had cancelled it; Infinity: it hasn't. */
  cancelEnd = Number.POSITIVE_INFINITY;
  /** It is above the final last-stream-id. */
  forgotten = false;

  constructor(id: number, plan: RequestPlan, headersEnd: number, sendWindow: number, receiveWindow: number) {
    this.id = id;
    this.plan = plan;
    this.headersEnd = headersEnd;
    this.bodyLeft = plan.bodySize;
    this.continues = plan.expects === 0;
    this.endSent = plan.bodySize === 0 && !plan.trailers;
    this.sendWindow = sendWindow;
    this.receiveWindow = receiveWindow;
  }

  get cancelled(): boolean {
    return this.cancelEnd !== Number.POSITIVE_INFINITY;
  }

  /** For the client something of it is still to come or to be sent. */
  get open(): boolean {
    return !this.cancelled && !this.forgotten && this.reset === undefined && !(this.ended && this.endSent);
  }
}
