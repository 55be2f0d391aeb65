/**
 * A self-signed certificate for tests and benches: made at run time, kept in memory, one per process.
 * Nothing secret is ever stored in the repository.
 */
import { generate } from 'selfsigned';

/** PEM texts, as `tls.createSecureContext` takes them. */
export interface Certificate {
  readonly key: string;
  readonly cert: string;
}

let cached: Promise<Certificate> | undefined;

/** The process's certificate for `localhost`, `127.0.0.1` and `::1` (ECDSA P-256); made on the first call. */
export function certificate(): Promise<Certificate> {
  cached ??= makeCertificate('localhost');
  return cached;
}

/** Makes a certificate of its own, e.g. to test that a swapped certificate reaches new connections only. */
export async function makeCertificate(commonName: string): Promise<Certificate> {
  const made = await generate([{ name: 'commonName', value: commonName }], {
    keyType: 'ec',
    curve: 'P-256',
    algorithm: 'sha256',
    extensions: [
      { name: 'basicConstraints', cA: false },
      { name: 'keyUsage', digitalSignature: true, critical: true },
      { name: 'extKeyUsage', serverAuth: true },
      {
        name: 'subjectAltName',
        altNames: [
          { type: 2, value: 'localhost' },
          { type: 7, ip: '127.0.0.1' },
          { type: 7, ip: '::1' },
        ],
      },
    ],
  });
  return { key: made.private, cert: made.cert };
}
