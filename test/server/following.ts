/**
 * A process with lastcall in it that says whether Node follows every callback in it, as it does for good once something
 * has asked for the resource of one: AsyncLocalStorage does, up to Node 22.
 */
import { createRequire } from 'node:module';
import { createServer } from '../../src/index.js';

interface AsyncWrap {
  readonly async_hook_fields: Uint32Array;
  readonly constants: { readonly kUsesExecutionAsyncResource: number };
}

createServer({ cleartext: true });
const { internalBinding } = createRequire(import.meta.url)('internal/test/binding') as {
  internalBinding(name: string): AsyncWrap;
};
const { async_hook_fields: fields, constants } = internalBinding('async_wrap');
console.log(fields[constants.kUsesExecutionAsyncResource]);
