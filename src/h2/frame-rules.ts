/**
 * What can be said of a frame by its header alone, RFC 9113 §6: its size, and whether it belongs on stream 0. Rules
 * that depend on what came before are in `receive.ts` (field blocks) and `inbound.ts` (streams).
 */

import { ErrorCode } from './errors.js';
import { Flag, FrameType } from './frames.js';

/** Why a frame is a connection error. */
export interface FrameFault {
  readonly errorCode: number;
  readonly message: string;
}

const NAMES: readonly string[] = Object.keys(FrameType);

/** The fault of a frame with this header, or undefined. */
export function checkFrame(type: number, flags: number, streamId: number, length: number): FrameFault | undefined {
  switch (type) {
    case FrameType.DATA:
      if (streamId === 0) return onStream(type, streamId);
      return (flags & Flag.PADDED) !== 0 && length === 0 ? wrongSize(type, length) : undefined;
    case FrameType.HEADERS: {
      if (streamId === 0) return onStream(type, streamId);
      const least = ((flags & Flag.PADDED) !== 0 ? 1 : 0) + ((flags & Flag.PRIORITY) !== 0 ? 5 : 0);
      return length < least ? wrongSize(type, length) : undefined;
    }
    case FrameType.PRIORITY:
      // its size is a stream error only
      return streamId === 0 ? onStream(type, streamId) : undefined;
    case FrameType.RST_STREAM:
      if (streamId === 0) return onStream(type, streamId);
      return length !== 4 ? wrongSize(type, length) : undefined;
    case FrameType.SETTINGS:
      if (streamId !== 0) return onStream(type, streamId);
      return ((flags & Flag.ACK) !== 0 ? length !== 0 : length % 6 !== 0) ? wrongSize(type, length) : undefined;
    case FrameType.PUSH_PROMISE:
      // RFC 9113 §8.4
      return { errorCode: ErrorCode.PROTOCOL_ERROR, message: 'a client cannot send PUSH_PROMISE' };
    case FrameType.PING:
      if (streamId !== 0) return onStream(type, streamId);
      return length !== 8 ? wrongSize(type, length) : undefined;
    case FrameType.GOAWAY:
      if (streamId !== 0) return onStream(type, streamId);
      return length < 8 ? wrongSize(type, length) : undefined;
    case FrameType.WINDOW_UPDATE:
      return length !== 4 ? wrongSize(type, length) : undefined;
    case FrameType.PRIORITY_UPDATE:
      // RFC 9218 §7.1
      if (streamId !== 0) return onStream(type, streamId);
      return length < 4 ? wrongSize(type, length) : undefined;
    default:
      return undefined;
  }
}

function nameOf(type: number): string {
  return type === FrameType.PRIORITY_UPDATE ? 'PRIORITY_UPDATE' : (NAMES[type] ?? `frame of type ${type}`);
}

function onStream(type: number, streamId: number): FrameFault {
  return { errorCode: ErrorCode.PROTOCOL_ERROR, message: `${nameOf(type)} on stream ${streamId}` };
}

function wrongSize(type: number, length: number): FrameFault {
  const size = length.toLocaleString('en');
  return { errorCode: ErrorCode.FRAME_SIZE_ERROR, message: `${nameOf(type)} of ${size} octets` };
}
