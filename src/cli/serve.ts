/** `lastcall serve`: puts the application, the certificate, the server, the operator endpoint and the signals together. */
import { once } from 'node:events';
import { type AddressInfo, isIPv6 } from 'node:net';
import { createServer, type Server } from '../index.js';
import { type OperatorEndpoint, startOperator } from '../ops/operator.js';
import { defaultSignals, onSignals } from '../ops/signals.js';
import { formatCount, formatDuration, formatSummary } from '../ops/text.js';
import { loadApp } from './app.js';
import type { ServeArguments } from './arguments.js';
import { makeCertificate, readCertificate } from './certificate.js';
import { demo } from './demo.js';
import { CliError, reasonOf } from './error.js';

/**
 * Serves until a signal ends the process.
 *
 * @throws {CliError} when it can't start
 */
export async function serve(args: ServeArguments): Promise<void> {
  const { app, host, port, tls, operator: operatorPort, timeout } = args;
  const { delay = defaultSignals(timeout).SIGTERM?.delay ?? 0 } = args;
  let operator: OperatorEndpoint | undefined;
  const certificate = (tls && readCertificate(tls)) ?? (await makeCertificate(host));
  const server = createServer(certificate);
  onSignals(server, {
    timeout,
    signals: { SIGTERM: { delay } },
    onSignal(cause, step) {
      if (cause === 'SIGINT' && process.stderr.isTTY) process.stderr.write('\n');
      const open = formatCount(server.connections.size, 'connection');
      const wait = cause === 'SIGTERM' && delay > 0 && server.listening ? ` in ${formatDuration(delay)}` : '';
      print(step === 'drain' ? `draining ${open}${wait}; once more cuts them` : `cutting ${open}`);
    },
    async cleanup(summary) {
      await operator?.close();
      print(formatSummary(summary).trimEnd());
    },
  });
  // Applications may take long to load: a signal ends that, too.
  server.on('request', app === undefined ? demo(() => operator?.url) : await loadApp(app));
  await listen(server, port, host);
  if (operatorPort !== undefined) operator = await operatorOn(operatorPort);
  // A signal while it started has closed it again.
  if (server.ready) announce();

  async function operatorOn(wanted: number): Promise<OperatorEndpoint> {
    try {
      return await startOperator(server, wanted);
    } catch (error) {
      throw new CliError(
        `cannot listen on 127.0.0.1:${wanted} for the operator: ${reasonOf(error)} (--operator PORT or off)`,
      );
    }
  }

  function announce(): void {
    const { address, port: actual } = server.address() as AddressInfo;
    const url = `https://${nameFor(host, address)}:${actual}`;
    const protocols = process.env.LASTCALL_H2 === 'off' ? 'HTTP/1.1' : 'HTTP/1.1 and HTTP/2';
    print(`serving ${app ?? 'the demo'} on ${url} (${protocols})`);
    if (operator !== undefined) print(`operator endpoint on ${operator.url}`);
    if (app === undefined) print(`\n${whatToTry(url, operator?.url, tls === undefined)}`);
  }
}

async function listen(server: Server, port: number, host: string): Promise<void> {
  server.listen(port, host);
  try {
    await once(server, 'listening');
  } catch (error) {
    throw new CliError(`cannot listen on ${host}:${port}: ${reasonOf(error)}`);
  }
}

/** A name that the certificate covers. */
function nameFor(host: string, address: string): string {
  if (['127.0.0.1', '::1', '0.0.0.0', '::'].includes(address)) return 'localhost';
  return isIPv6(host) ? `[${host}]` : host;
}

function whatToTry(url: string, operator: string | undefined, selfSigned: boolean): string {
  const curl = selfSigned ? 'curl -k' : 'curl';
  const commands: [command: string, meaning: string][] = [
    [`${curl} --http2 ${url}/`, 'protocol and connection id'],
    [`${curl} --http1.1 ${url}/`, 'the same over HTTP/1.1'],
    [`${curl} '${url}/slow?ms=10000'`, 'a request to be in flight with'],
    [`${curl} -N ${url}/events`, 'events; ends by itself when drained'],
    [`${curl} -T FILE ${url}/upload`, 'counts the bytes'],
  ];
  if (operator !== undefined) {
    commands.push(
      [`curl ${operator}`, 'the live connections'],
      [`curl -X POST ${operator}/connections/ID/drain`, 'drain one, the rest go on'],
      [`curl -X POST '${operator}/drain?filter=proto=h2'`, 'drain those'],
      [`curl -X POST '${operator}/drain?filter=all'`, 'drain all'],
    );
  }
  const width = Math.max(...commands.map(([command]) => command.length));
  const lines = commands.map(([command, meaning]) => `  ${command.padEnd(width)}   ${meaning}\n`);
  return `Try, or open ${url}/ in a browser:\n${lines.join('')}\nCtrl-C drains and exits; once more cuts.`;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
