#!/usr/bin/env node
/** The `lastcall` command: runs what the arguments ask for; a mistake is one line on stderr and exit code 1. */
import { readFileSync } from 'node:fs';
import { parseCommand, USAGE } from './arguments.js';

function version(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

/** Errors of ours explain themselves; any other is a bug, and its stack is wanted. */
function explainsItself(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_LASTCALL_');
}

try {
  const command = parseCommand(process.argv.slice(2));
  if (command.name === 'help') process.stdout.write(USAGE);
  else if (command.name === 'version') process.stdout.write(`${version()}\n`);
  else await (await import('./serve.js')).serve(command.arguments);
} catch (error) {
  if (!explainsItself(error)) throw error;
  process.stderr.write(`lastcall: ${error.message}\n`);
  // An application that was loaded may hold the process.
  process.exit(1);
}
