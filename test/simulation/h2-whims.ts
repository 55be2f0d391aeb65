/**
 * What a simulated HTTP/2 client does of its own accord, beside its requests: leaves, says GOAWAY, breaks the protocol,
 * trickles, chats in PINGs.
 */
import { ErrorCode, encodeFrame, FrameType, goawayPayload } from '../wire/h2-frames.js';
import type { SendFrame } from './h2-windows.js';
import type { Loop } from './loop.js';
import type { ConnectionPlan } from './plan.js';
import type { Tcp } from './tcp.js';

/** Chatty clients' PINGs stay below what a server takes for a flood. */
const MOST_PINGS = 200;

/** A frame type that nobody knows, and its length. */
const UNKNOWN = 0xee;
const UNKNOWN_LENGTH = 16_384;

export interface Whimsical {
  readonly plan: ConnectionPlan;
  readonly tcp: Tcp;
  readonly send: SendFrame;
  /** It has opened a stream. */
  readonly active: boolean;
  readonly silent: boolean;
  /** It says nothing more: it has left, or is not to be believed any more. */
  leave(how: string): void;
}

/** Has all of it happen at its time. */
export function scheduleWhims(loop: Loop, client: Whimsical): void {
  const { plan, tcp } = client;
  const { leaves, trickle, goawayAt, illegalAt } = plan;
  if (leaves !== undefined) {
    loop.at(leaves.at, () => {
      client.leave(leaves.how);
      if (leaves.how === 'resets') tcp.reset();
      else if (leaves.how === 'closes') tcp.close();
      else tcp.finish();
    });
  }
  if (goawayAt !== Infinity) {
    loop.at(goawayAt, () => client.send(FrameType.GOAWAY, 0, 0, goawayPayload(0, ErrorCode.NO_ERROR)));
  }
  if (illegalAt !== Infinity) {
    loop.at(illegalAt, () => {
      if (client.silent || !client.active) return;
      client.send(FrameType.DATA, 0, 0, Buffer.from('x'));
      client.leave('breaks the protocol');
    });
  }
  if (trickle !== undefined) loop.at(trickle.at, () => beginToTrickle(loop, client, trickle.every));
  if (plan.chatty !== Infinity) loop.after(plan.prefaceDelay, () => chat(loop, client, MOST_PINGS));
}

function chat(loop: Loop, client: Whimsical, left: number): void {
  if (client.silent || left === 0) return;
  client.send(FrameType.PING, 0, 0, Buffer.alloc(8, 7));
  loop.after(client.plan.chatty, () => chat(loop, client, left - 1));
}

function beginToTrickle(loop: Loop, client: Whimsical, every: number): void {
  if (client.silent || !client.active) return;
  client.leave('trickles');
  client.tcp.send(encodeFrame(UNKNOWN, 0, 0, Buffer.alloc(0), UNKNOWN_LENGTH));
  const more = (): void => {
    if (client.tcp.send(Buffer.of(0))) loop.after(every, more);
  };
  more();
}
