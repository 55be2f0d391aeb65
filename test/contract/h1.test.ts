import { describeConnection } from './connection.contract.js';
import { describeDrain } from './drain.contract.js';
import { h1Cleartext, h1OverTls } from './implementation.js';

for (const implementation of [h1OverTls, h1Cleartext]) {
  describeConnection(implementation);
  describeDrain(implementation);
}
