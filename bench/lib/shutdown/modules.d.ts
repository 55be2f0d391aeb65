declare module 'stoppable' {
  import type { Server } from 'node:https';

  const stoppable: (server: Server, grace?: number) => Server & { stop(callback?: () => void): void };
  export = stoppable;
}
