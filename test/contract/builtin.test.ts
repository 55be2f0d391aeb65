import { describeConnection } from './connection.contract.js';
import { describeDrain } from './drain.contract.js';
import { builtinH2 } from './implementation.js';

for (const implementation of [builtinH2]) {
  describeConnection(implementation);
  describeDrain(implementation);
}
