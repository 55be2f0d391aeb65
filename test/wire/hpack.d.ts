/** What hpack.js has and the raw HTTP/2 client uses; the package comes without types. */
declare module 'hpack.js' {
  interface Field {
    readonly name: string;
    readonly value: string;
    readonly neverIndex?: boolean;
    readonly incremental?: boolean;
    readonly huffman?: boolean;
  }
  interface Compressor {
    write(fields: readonly Field[]): boolean;
    read(): Buffer | null;
    updateTableSize(size: number): void;
  }
  interface Decompressor {
    write(bytes: Buffer): boolean;
    read(): Field | null;
    execute(): void;
    on(event: 'error', listener: (error: Error) => void): this;
    off(event: 'error', listener: (error: Error) => void): this;
    updateTableSize(size: number): void;
  }
  interface Hpack {
    readonly compressor: { create(options: { table: { maxSize: number } }): Compressor };
    readonly decompressor: { create(options: { table: { maxSize: number } }): Decompressor };
  }
  const hpack: Hpack;
  // biome-ignore lint/style/noDefaultExport: hpack.js is CommonJS
  export default hpack;
}
