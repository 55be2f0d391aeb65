/** The gRPC client of Node: as many calls as it is told, so many at a time, of all kinds in turns. */
import { Client, credentials, type ServiceError } from '@grpc/grpc-js';

/** What a client tells in the end. */
export interface Told {
  readonly succeeded: number;
  readonly failures: readonly string[];
}

/** How many messages a count or a chat has, and for how many ms a unary call lasts at most. */
export const LONGEST = 10;

const encode = (text: string): Buffer => Buffer.from(text);
const decode = (bytes: Buffer): string => bytes.toString();

/** @param cert PEM */
export async function callByNode(port: number, cert: string, calls: number, atATime: number): Promise<Told> {
  // Without a policy, only what has not been sent is tried again. That can't be left out: a call and a GOAWAY that is read
  // meet in the client, whatever servers do.
  const client = new Client(`localhost:${port}`, credentials.createSsl(Buffer.from(cert)));
  const failures: string[] = [];
  let succeeded = 0;
  let next = 0;
  const work = async (): Promise<void> => {
    for (let i = next++; i < calls; i = next++) {
      const message = `${i} ${i % (LONGEST + 1)}`;
      try {
        await [unary, count, chat][i % 3]?.(client, message);
        succeeded++;
      } catch (error) {
        failures.push(`call ${message}: ${(error as Error).message}`);
      }
    }
  };
  await Promise.all(Array.from({ length: atATime }, work));
  client.close();
  return { succeeded, failures };
}

function unary(client: Client, message: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const answered = (error: ServiceError | null, answer?: string): void => {
      if (error !== null) reject(error);
      else if (answer !== message) reject(new Error(`answered with ${answer}`));
      else resolve();
    };
    client.makeUnaryRequest('/test.Echo/Unary', encode, decode, message, answered);
  });
}

async function count(client: Client, message: string): Promise<void> {
  const to = Number(message.split(' ')[1]);
  const heard: string[] = [];
  const call = client.makeServerStreamRequest('/test.Echo/Count', encode, decode, message);
  for await (const answer of call as AsyncIterable<string>) heard.push(answer);
  const expected = Array.from({ length: to }, (_, i) => `${i + 1}`);
  if (heard.join() !== expected.join()) throw new Error(`counted ${heard}`);
}

/** Says its next when it has the answer to the one before. */
async function chat(client: Client, message: string): Promise<void> {
  const call = client.makeBidiStreamRequest('/test.Echo/Chat', encode, decode);
  call.write(message);
  let said = 1;
  for await (const answer of call as AsyncIterable<string>) {
    if (answer !== message) throw new Error(`answered with ${answer}`);
    if (said++ < LONGEST) call.write(message);
    else call.end();
  }
  if (said !== LONGEST + 1) throw new Error(`ended after ${said - 1} answers`);
}
