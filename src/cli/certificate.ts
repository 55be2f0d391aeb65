/** The key and certificate that `lastcall serve` presents: read from files, or made at start and kept in memory. */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { createSecureContext } from 'node:tls';
import { CliError, firstLine, reasonOf } from './error.js';

/** PEM texts. */
export interface KeyAndCertificate {
  readonly key: string;
  readonly cert: string;
}

/**
 * Reads a key and its certificate.
 *
 * @throws {CliError} when a file can't be read, is no PEM, or the two don't belong together
 */
export function readCertificate(files: { readonly key: string; readonly cert: string }): KeyAndCertificate {
  const key = read('--key', files.key);
  const cert = read('--cert', files.cert);
  check(() => createSecureContext({ cert }), `--cert ${files.cert} holds no certificate that can be used`);
  check(() => createSecureContext({ key }), `--key ${files.key} holds no private key that can be used`);
  check(() => createSecureContext({ key, cert }), `--key ${files.key} and --cert ${files.cert} do not belong together`);
  return { key, cert };
}

function read(option: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new CliError(`cannot read ${option} ${file}: ${reasonOf(error)}`);
  }
}

function check(load: () => unknown, message: string): void {
  try {
    load();
  } catch (error) {
    throw new CliError(`${message} (${firstLine((error as Error).message)})`);
  }
}

/** Makes a self-signed certificate for this machine's own names, and for `host` if that is a name of its own. */
export async function makeCertificate(host: string): Promise<KeyAndCertificate> {
  // Loading it takes longer than all the rest of the start.
  const { generate } = await import('selfsigned');
  const names = new Set(['localhost', '127.0.0.1', '::1', host]);
  names.delete('0.0.0.0');
  names.delete('::');
  const made = await generate([{ name: 'commonName', value: 'localhost' }], {
    keyType: 'ec',
    curve: 'P-256',
    algorithm: 'sha256',
    extensions: [
      { name: 'basicConstraints', cA: false, critical: true },
      { name: 'keyUsage', digitalSignature: true, critical: true },
      { name: 'extKeyUsage', serverAuth: true },
      {
        name: 'subjectAltName',
        altNames: [...names].map((name) => (isIP(name) === 0 ? { type: 2, value: name } : { type: 7, ip: name })),
      },
    ],
  });
  return { key: made.private, cert: made.cert };
}
