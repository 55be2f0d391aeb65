import { describeConnection } from './connection.contract.js';
import { describeDrain } from './drain.contract.js';
import { h2Cleartext, h2OverTls } from './implementation.js';

for (const implementation of [h2OverTls, h2Cleartext]) {
  describeConnection(implementation);
  describeDrain(implementation);
}
