/**
 * The error codes of RFC 9113 §7 and the error that carries one. Who is at fault and what is ended because of it
 * (a stream or the connection) is decided where the error is found.
 */

/** RFC 9113 §7. */
export const ErrorCode = {
  NO_ERROR: 0x0,
  PROTOCOL_ERROR: 0x1,
  INTERNAL_ERROR: 0x2,
  FLOW_CONTROL_ERROR: 0x3,
  SETTINGS_TIMEOUT: 0x4,
  STREAM_CLOSED: 0x5,
  FRAME_SIZE_ERROR: 0x6,
  REFUSED_STREAM: 0x7,
  CANCEL: 0x8,
  COMPRESSION_ERROR: 0x9,
  CONNECT_ERROR: 0xa,
  ENHANCE_YOUR_CALM: 0xb,
  INADEQUATE_SECURITY: 0xc,
  HTTP_1_1_REQUIRED: 0xd,
} as const;

const NAMES = new Map<number, string>(Object.entries(ErrorCode).map(([name, value]) => [value, name]));

/** The RFC's name of an error code, or its number in hexadecimal when it has none. */
export function errorCodeName(errorCode: number): string {
  return NAMES.get(errorCode) ?? `0x${errorCode.toString(16)}`;
}

/** What may stand in {@link H2Error.code}: stable strings, one per error code that we raise. */
export type H2ErrorCode =
  | 'ERR_LASTCALL_H2_NO_ERROR'
  | 'ERR_LASTCALL_H2_PROTOCOL'
  | 'ERR_LASTCALL_H2_INTERNAL'
  | 'ERR_LASTCALL_H2_FLOW_CONTROL'
  | 'ERR_LASTCALL_H2_SETTINGS_TIMEOUT'
  | 'ERR_LASTCALL_H2_STREAM_CLOSED'
  | 'ERR_LASTCALL_H2_FRAME_SIZE'
  | 'ERR_LASTCALL_H2_REFUSED'
  | 'ERR_LASTCALL_H2_CANCEL'
  | 'ERR_LASTCALL_H2_COMPRESSION'
  | 'ERR_LASTCALL_H2_CONNECT'
  | 'ERR_LASTCALL_H2_ENHANCE_YOUR_CALM'
  | 'ERR_LASTCALL_H2_INADEQUATE_SECURITY'
  | 'ERR_LASTCALL_H2_HTTP_1_1_REQUIRED';

const CODES: readonly H2ErrorCode[] = [
  'ERR_LASTCALL_H2_NO_ERROR',
  'ERR_LASTCALL_H2_PROTOCOL',
  'ERR_LASTCALL_H2_INTERNAL',
  'ERR_LASTCALL_H2_FLOW_CONTROL',
  'ERR_LASTCALL_H2_SETTINGS_TIMEOUT',
  'ERR_LASTCALL_H2_STREAM_CLOSED',
  'ERR_LASTCALL_H2_FRAME_SIZE',
  'ERR_LASTCALL_H2_REFUSED',
  'ERR_LASTCALL_H2_CANCEL',
  'ERR_LASTCALL_H2_COMPRESSION',
  'ERR_LASTCALL_H2_CONNECT',
  'ERR_LASTCALL_H2_ENHANCE_YOUR_CALM',
  'ERR_LASTCALL_H2_INADEQUATE_SECURITY',
  'ERR_LASTCALL_H2_HTTP_1_1_REQUIRED',
];

/** An error of the protocol: of one stream when `streamId` is set, else of the connection. */
export class H2Error extends Error {
  override readonly name = 'H2Error';
  readonly code: H2ErrorCode;
  /** What RST_STREAM or GOAWAY carries. */
  readonly errorCode: number;
  readonly streamId: number | undefined;

  /**
   * @param errorCode one of {@link ErrorCode}, or any other 32-bit number that a peer chose
   * @param message what was wrong, in plain words
   */
  constructor(errorCode: number, message: string, streamId?: number) {
    super(message);
    this.errorCode = errorCode;
    this.streamId = streamId;
    // RFC 9113 §7: unknown error codes are equivalent to INTERNAL_ERROR
    this.code = CODES[errorCode] ?? 'ERR_LASTCALL_H2_INTERNAL';
  }
}
