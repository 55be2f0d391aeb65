/**
 * What lastcall needs of Node beyond its documentation: looked for once, when a module that touches it loads. On a Node
 * where something is missing there is one clear error instead of a lost request.
 */

export class Needs {
  readonly #missing: string[] = [];

  /** Notes whether this Node has what is named. */
  readonly need = (present: boolean, name: string): void => {
    if (!present) this.#missing.push(name);
  };

  /** @throws {Error} ERR_LASTCALL_NODE when something is missing */
  readonly check = (): void => {
    if (this.#missing.length === 0) return;
    const message = `lastcall can't run on Node ${process.version}: it lacks ${this.#missing.join(', ')}`;
    throw Object.assign(new Error(message), { code: 'ERR_LASTCALL_NODE' });
  };
}

/** The symbol that a thing has a member under. */
export function symbolOf(thing: object, description: string): symbol | undefined {
  return Object.getOwnPropertySymbols(thing).find((symbol) => symbol.description === description);
}
