import { describeConnection } from './connection.contract.js';
import { describeDrain } from './drain.contract.js';
import { adoptedAllowHttp1, adoptedHttp, adoptedHttps } from './implementation.js';

for (const implementation of [
  adoptedHttps('before it listens'),
  adoptedHttps('later'),
  adoptedHttp('before it listens'),
  adoptedHttp('later'),
  adoptedAllowHttp1,
]) {
  describeConnection(implementation);
  describeDrain(implementation);
}
