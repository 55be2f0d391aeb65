/**
 * gRPC clients, Node's own and the C core's (by its Python binding), whose connections are drained all the time: no call
 * fails, and none is handled twice or refused, whatever the client would have done about it.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { gracefulShutdown } from '../../src/index.js';
import { certificate } from '../wire/certificate.js';
import { echo, type Handled } from './grpc/application.js';
import { callByNode, LONGEST, type Told } from './grpc/client.js';
import { needsToSucceed, output } from './programs.js';
import { type Serving, serve } from './serving.js';

const PYTHON = '/usr/bin/python3';
const CLIENT = fileURLToPath(new URL('./clients/grpc_client.py', import.meta.url));

const CALLS = 1_500;
const AT_A_TIME = 16;
/** A drain every so many ms. */
const BETWEEN_DRAINS = 25;
/** At least: the calls take that long. */
const DRAINS = 10;

describe('gRPC', function () {
  this.timeout(90_000);
  const handled: Handled = new Map();
  let serving: Serving;

  beforeEach(async () => {
    handled.clear();
    serving = await serve(echo(handled));
  });

  afterEach(() => serving.stop());

  /** While the calls go on, every connection is drained, and the next one. */
  async function drained(calling: () => Promise<Told>): Promise<number> {
    let drains = 0;
    const outcomes = new Set<string>();
    let lost = 0;
    const timer = setInterval(() => {
      for (const connection of serving.server.connections) {
        if (connection.state !== 'open' || connection.served === 0) continue;
        drains++;
        void gracefulShutdown(connection).then(({ outcome, aborted, refused }) => {
          outcomes.add(outcome);
          lost += aborted + refused;
        });
      }
    }, BETWEEN_DRAINS);
    const { succeeded, failures } = await calling().finally(() => clearInterval(timer));
    expect(failures).to.deep.equal([]);
    expect(succeeded).to.equal(CALLS);
    expect(handled.size).to.equal(CALLS);
    expect([...handled].filter(([, times]) => times !== 1)).to.deep.equal([]);
    expect(serving.errors).to.deep.equal([]);
    await serving.server.drain('all');
    expect([[...outcomes], lost]).to.deep.equal([['drained'], 0]);
    return drains;
  }

  it("Node's client loses no call while its connections are drained", async () => {
    const { cert } = await certificate();
    expect(await drained(() => callByNode(serving.port, cert, CALLS, AT_A_TIME))).to.be.at.least(DRAINS);
  });

  it("the C core's client loses no call while its connections are drained", async function () {
    needsToSucceed(this, PYTHON, ['-c', 'import grpc'], "Python's grpcio");
    const folder = await mkdtemp(join(tmpdir(), 'lastcall-grpc-'));
    const file = join(folder, 'cert.pem');
    await writeFile(file, (await certificate()).cert);
    const args = [CLIENT, `${serving.port}`, file, `${CALLS}`, `${AT_A_TIME}`, `${LONGEST}`];
    const calling = async (): Promise<Told> => JSON.parse(await output(PYTHON, args, { timeoutMs: 80_000 })) as Told;
    expect(await drained(calling)).to.be.at.least(DRAINS);
    await rm(folder, { recursive: true });
  });
});
