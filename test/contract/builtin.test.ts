import { describeConnection } from './connection.contract.js';
import { describeDrain } from './drain.contract.js';
import { adoptedHttp2, adoptedHttp2Cleartext } from './implementation.js';

for (const implementation of [adoptedHttp2, adoptedHttp2Cleartext]) {
  describeConnection(implementation);
  describeDrain(implementation);
}
