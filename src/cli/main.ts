#!/usr/bin/env node
/** The `lastcall` command: runs what the arguments ask for; a mistake is one line on stderr and an exit code. */
import { readFileSync } from 'node:fs';
import { FilterSyntaxError } from '../core/filter-text.js';
import { type Command, parseCommand } from './arguments.js';
import { CliError } from './error.js';

function version(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

/** Errors of ours explain themselves; any other is a bug, and its stack is wanted. */
function explainsItself(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_LASTCALL_');
}

async function run(command: Command): Promise<void> {
  switch (command.name) {
    case 'help':
      process.stdout.write(command.text);
      return;
    case 'version':
      process.stdout.write(`${version()}\n`);
      return;
    case 'serve':
      return (await import('./serve.js')).serve(command.arguments);
    case 'list':
      return (await import('./operate.js')).list(command.arguments);
    case 'drain':
      return (await import('./operate.js')).drain(command.arguments);
  }
}

for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    // Whoever reads has gone, or the terminal; that ends nothing.
    if (error.code === 'EPIPE' || error.code === 'EIO') return;
    process.exitCode ||= 1;
    if (stream === process.stdout) process.stderr.write(`lastcall: cannot write: ${error.message}\n`);
  });
}

try {
  await run(parseCommand(process.argv.slice(2)));
} catch (error) {
  if (!explainsItself(error)) throw error;
  process.stderr.write(`lastcall: ${error.message}\n`);
  if (error instanceof FilterSyntaxError) process.stderr.write(`${error.excerpt}\n`);
  // An application that was loaded may hold the process.
  process.exit(error instanceof CliError ? error.exitCode : 1);
}
