/**
 * SETTINGS of both sides, RFC 9113 §6.5: identifiers, defaults, what is a valid value. What a changed value does to
 * windows and tables is `session.ts`.
 */

import { ErrorCode } from './errors.js';
import { DEFAULT_WINDOW, MAX_WINDOW } from './flow.js';
import { MAX_MAX_FRAME_SIZE, MIN_MAX_FRAME_SIZE } from './frames.js';

/** RFC 9113 §6.5.2, RFC 8441 §3, RFC 9218 §2.1. */
export const SettingId = {
  HEADER_TABLE_SIZE: 0x1,
  ENABLE_PUSH: 0x2,
  MAX_CONCURRENT_STREAMS: 0x3,
  INITIAL_WINDOW_SIZE: 0x4,
  MAX_FRAME_SIZE: 0x5,
  MAX_HEADER_LIST_SIZE: 0x6,
  ENABLE_CONNECT_PROTOCOL: 0x8,
  NO_RFC7540_PRIORITIES: 0x9,
} as const;

/** RFC 9113 §6.5.2. */
export const DEFAULT_HEADER_TABLE_SIZE = 4_096;

/** The client's settings as they stand. */
export interface PeerSettings {
  readonly headerTableSize: number;
  readonly enablePush: boolean;
  /** Of no effect: we never push. */
  readonly maxConcurrentStreams: number;
  readonly initialWindowSize: number;
  readonly maxFrameSize: number;
  /** Advisory. (RFC 9113 §6.5.2) */
  readonly maxHeaderListSize: number;
}

export type MutablePeerSettings = { -readonly [K in keyof PeerSettings]: PeerSettings[K] };

/** What holds before the client's first SETTINGS. */
export function initialPeerSettings(): MutablePeerSettings {
  return {
    headerTableSize: DEFAULT_HEADER_TABLE_SIZE,
    enablePush: true,
    maxConcurrentStreams: Number.POSITIVE_INFINITY,
    initialWindowSize: DEFAULT_WINDOW,
    maxFrameSize: MIN_MAX_FRAME_SIZE,
    maxHeaderListSize: Number.POSITIVE_INFINITY,
  };
}

/** Why a setting of the peer is a connection error. */
export interface SettingError {
  readonly errorCode: number;
  readonly message: string;
}

/** Stores one setting of the peer; an unknown one is ignored. (RFC 9113 §6.5.2) */
export function applySetting(settings: MutablePeerSettings, id: number, value: number): SettingError | undefined {
  switch (id) {
    case SettingId.HEADER_TABLE_SIZE:
      settings.headerTableSize = value;
      return undefined;
    case SettingId.ENABLE_PUSH:
      if (value > 1) return invalid(ErrorCode.PROTOCOL_ERROR, 'SETTINGS_ENABLE_PUSH', value, 'neither 0 nor 1');
      settings.enablePush = value === 1;
      return undefined;
    case SettingId.MAX_CONCURRENT_STREAMS:
      settings.maxConcurrentStreams = value;
      return undefined;
    case SettingId.INITIAL_WINDOW_SIZE:
      if (value > MAX_WINDOW) {
        return invalid(ErrorCode.FLOW_CONTROL_ERROR, 'SETTINGS_INITIAL_WINDOW_SIZE', value, 'over 2,147,483,647');
      }
      settings.initialWindowSize = value;
      return undefined;
    case SettingId.MAX_FRAME_SIZE:
      if (value < MIN_MAX_FRAME_SIZE || value > MAX_MAX_FRAME_SIZE) {
        return invalid(ErrorCode.PROTOCOL_ERROR, 'SETTINGS_MAX_FRAME_SIZE', value, 'outside 16,384 to 16,777,215');
      }
      settings.maxFrameSize = value;
      return undefined;
    case SettingId.MAX_HEADER_LIST_SIZE:
      settings.maxHeaderListSize = value;
      return undefined;
    case SettingId.NO_RFC7540_PRIORITIES:
      // RFC 9218 §2.1; we don't use RFC 7540's priorities in either case
      if (value > 1) {
        return invalid(ErrorCode.PROTOCOL_ERROR, 'SETTINGS_NO_RFC7540_PRIORITIES', value, 'neither 0 nor 1');
      }
      return undefined;
    default:
      return undefined;
  }
}

function invalid(errorCode: number, name: string, value: number, what: string): SettingError {
  return { errorCode, message: `${name} of ${value.toLocaleString('en')} is ${what}` };
}

/** Limits and sizes of a session, each with the default that DESIGN gives it. */
export interface SessionOptions {
  /** Milliseconds on a clock that never goes back. */
  readonly now: () => number;
  /** Allows extended CONNECT (RFC 8441); default false. */
  readonly enableConnectProtocol?: boolean;
  /** Streams that may be open at once; default 100. */
  readonly maxConcurrentStreams?: number;
  /** Octets of a request body that may be unread; default 262,144. */
  readonly initialWindowSize?: number;
  /** Octets of DATA on their way to us on all streams; default 1,048,576, at least 65,535. */
  readonly connectionWindowSize?: number;
  /** Octets of payload that a frame of the peer's may have; default 16,384. */
  readonly maxFrameSize?: number;
  /** Octets of dynamic table that the peer's encoder may use; default 4,096. */
  readonly headerTableSize?: number;
  /** Octets of dynamic table that our encoder uses at most; default 4,096. */
  readonly encoderTableSize?: number;
  /** Octets of a header list by RFC 9113 §6.5.2's count; default 65,536. */
  readonly maxHeaderListSize?: number;
  /** Fields of a header list; default 2,000. */
  readonly maxHeaderFields?: number;
  /** CONTINUATION frames of one field block; default 16. */
  readonly maxContinuations?: number;
  /** Octets of a request that are still read once its response has ended; default 65,536. */
  readonly maxDiscard?: number;
  /** Octets of output that the peer may provoke without reading it; default 1,048,576. */
  readonly maxProvokedOutput?: number;
  /** write() returns false while a stream has more octets queued; default 65,536. writable() comes at half of it. */
  readonly streamHighWaterMark?: number;
  /** Frames without use that a connection may send in one go, and how many more a second; defaults 2,000 and 200. */
  readonly floodBudget?: number;
  readonly floodRefill?: number;
  /** More than half of this many streams reset within a second of their opening is abuse; default 500. */
  readonly resetWindow?: number;
}

export type Limits = Required<SessionOptions>;

/** The options with the defaults filled in. */
export function withDefaults(options: SessionOptions): Limits {
  return {
    now: options.now,
    enableConnectProtocol: options.enableConnectProtocol ?? false,
    maxConcurrentStreams: options.maxConcurrentStreams ?? 100,
    initialWindowSize: options.initialWindowSize ?? 262_144,
    connectionWindowSize: Math.max(options.connectionWindowSize ?? 1_048_576, DEFAULT_WINDOW),
    maxFrameSize: options.maxFrameSize ?? MIN_MAX_FRAME_SIZE,
    headerTableSize: options.headerTableSize ?? DEFAULT_HEADER_TABLE_SIZE,
    encoderTableSize: options.encoderTableSize ?? DEFAULT_HEADER_TABLE_SIZE,
    maxHeaderListSize: options.maxHeaderListSize ?? 65_536,
    maxHeaderFields: options.maxHeaderFields ?? 2_000,
    maxContinuations: options.maxContinuations ?? 16,
    maxDiscard: options.maxDiscard ?? 65_536,
    maxProvokedOutput: options.maxProvokedOutput ?? 1_048_576,
    streamHighWaterMark: options.streamHighWaterMark ?? 65_536,
    floodBudget: options.floodBudget ?? 2_000,
    floodRefill: options.floodRefill ?? 200,
    resetWindow: options.resetWindow ?? 500,
  };
}

/** Our SETTINGS frame: identifier, value… */
export function localSettings(limits: Limits): number[] {
  const settings: number[] = [
    SettingId.MAX_CONCURRENT_STREAMS,
    limits.maxConcurrentStreams,
    SettingId.INITIAL_WINDOW_SIZE,
    limits.initialWindowSize,
    SettingId.MAX_HEADER_LIST_SIZE,
    limits.maxHeaderListSize,
    SettingId.NO_RFC7540_PRIORITIES,
    1,
  ];
  if (limits.headerTableSize !== DEFAULT_HEADER_TABLE_SIZE) {
    settings.push(SettingId.HEADER_TABLE_SIZE, limits.headerTableSize);
  }
  if (limits.maxFrameSize !== MIN_MAX_FRAME_SIZE) settings.push(SettingId.MAX_FRAME_SIZE, limits.maxFrameSize);
  if (limits.enableConnectProtocol) settings.push(SettingId.ENABLE_CONNECT_PROTOCOL, 1);
  return settings;
}
