/** Times on the command line: with a unit, or a number of milliseconds. */
import { parseDuration } from '../core/duration-text.js';
import { CliError } from './error.js';

/**
 * @returns ms
 * @throws {CliError} when the text is no time
 */
export function timeOf(option: string, text: string): number {
  if (text === 'Infinity') return Infinity;
  const ms = /^\d+(?:\.\d+)?$/.test(text) ? Number(text) : parseDuration(text);
  if (ms === undefined) throw new CliError(`${option} must be a time such as 500ms, 10s or 1h30m, got '${text}'`);
  return ms;
}
