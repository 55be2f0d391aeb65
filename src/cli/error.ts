/** The error that a person at a terminal caused and can mend: shown as one line, without a stack. */
export class CliError extends Error {
  readonly code = 'ERR_LASTCALL_CLI';
  /** What the process ends with. */
  readonly exitCode: number;

  constructor(message: string, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  EACCES: 'permission denied',
  EISDIR: 'it is a directory',
  ECONNREFUSED: 'connection refused',
  EADDRINUSE: 'already in use',
  EADDRNOTAVAIL: 'not an address of this machine',
  ENOTFOUND: 'no such host',
  EAI_AGAIN: 'the host name cannot be looked up now',
};

/** Why a system call failed, in a few words. */
export function reasonOf(error: unknown): string {
  const { code, message } = error as { code?: string; message?: string };
  return REASONS[code ?? ''] ?? firstLine(message ?? String(error));
}

export function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? '';
}
