/**
 * `npm test`: the suite on this Node. The counts are the last line. Arguments go to mocha, e.g.
 * `npm test -- --grep "Ctrl-C"`.
 */
import { prepare } from './prepare.mjs';
import { countsLine, runSuite } from './suite.mjs';

prepare();
const result = await runSuite(process.execPath, process.argv.slice(2));
process.stdout.write(`${countsLine(result)}\n`);
process.exitCode = result.code;
