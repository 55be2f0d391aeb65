/**
 * What a turn of the event loop writes of large answers. Encrypting them and handing them to the kernel is done then and
 * there, for as long as there is room: one client with a fast network, or a few that don't read at all, would keep
 * everyone else waiting for tens of milliseconds.
 */
import type { Socket } from 'node:net';
import { bytesTaken } from '../socket-internals.js';
import { now } from './timing.js';
import { Share } from './turns.js';

/**
 * Bytes that are a small write at most: one TLS record, which waits for no other. In several pieces they are copied into
 * one buffer, which is cheaper than a vector.
 */
export const MOST_SMALL = 16_384;

/** ms of a turn. With half of it, HTTP/2 answers of 100 kB cost a tenth more. */
const PER_TURN = 1;

/** A MB takes a ms at least: so much TLS encrypts. */
const BYTES_PER_MS = 1_048_576;

/** A kernel takes less than so many bytes for a client that reads nothing, as systems are set up. */
const PROVES_READING = 8 * 1_048_576;

/** What a large write to a client counts that may be one of those: an eighth of a ms of such a turn is left for them. */
const UNPROVEN = 8;

/** A quarter of a millisecond of TLS and the kernel's part. Smaller ones cost: at 64 KiB, 100 kB are a fifth dearer. */
const SLICE = 262_144;

/** The same for whoever may be reading nothing. Answers of 200 kB are a twentieth dearer, up to 100 kB nothing is. */
const UNPROVEN_SLICE = SLICE / 2;

/** The part of a turn for them, of all connections together. */
export const largeWrites = new Share(PER_TURN);

/** Bytes that go to this socket in one piece at most. */
export function sliceFor(socket: Socket): number {
  return provesReading(socket) ? SLICE : UNPROVEN_SLICE;
}

function provesReading(socket: Socket): boolean {
  return bytesTaken(socket) >= PROVES_READING;
}

/** Writes what is large, or a slice of it, to a socket, and counts what that takes of this turn. */
export function writeLarge(socket: Socket, bytes: number, write: () => void): void {
  const cost = provesReading(socket) ? 1 : UNPROVEN;
  const at = now();
  write();
  const took = Math.max(bytes / BYTES_PER_MS, now() - at);
  largeWrites.spent(cost * took);
}
