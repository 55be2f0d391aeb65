/**
 * `npm start`: `lastcall serve` from a clone that may not be installed or built yet. It runs in this very process, so
 * that Ctrl-C reaches the server and nobody else.
 */
import { prepare } from './prepare.mjs';

prepare();
process.argv.splice(2, 0, 'serve');
await import('../dist/cli/main.js');
