/**
 * The server child: started with IPC, told what to be, drained on command. Ends with its parent.
 */
import { ownCpuTime } from '../cpu.js';
import { App } from './app.js';
import type { FromServer, ServerConfig, ToServer } from './messages.js';
import type { MakeServer, MeasuredServer } from './server.js';

let app: App | undefined;
let server: MeasuredServer | undefined;

process.on('message', (message: ToServer) => {
  handle(message).catch((error: unknown) => {
    send({ type: 'failed', message: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  });
});
process.on('disconnect', () => process.exit(0));

async function handle(message: ToServer): Promise<void> {
  switch (message.type) {
    case 'start': {
      const make = await makerOf(message.config.kind);
      app = new App(message.config);
      server = make(message.config, app);
      send({ type: 'listening', port: await server.listen() });
      return;
    }
    case 'drain': {
      const drained = await server?.drain(message.remotePort, message.options ?? {});
      send({ type: 'drained', call: message.call, drained });
      return;
    }
    case 'status': {
      if (app === undefined || server === undefined) return;
      const { requests, answered, broken, trace } = app;
      const { ports, ownDrains } = server;
      globalThis.gc?.();
      const status = {
        cpu: ownCpuTime(),
        rss: process.memoryUsage.rss(),
        requests,
        answered,
        broken,
        ports,
        trace,
        ownDrains,
      };
      send({ type: 'status', call: message.call, status });
      return;
    }
    case 'stop':
      process.exit(0);
  }
}

/** Only what is measured is loaded, so that nobody pays for another's modules. */
async function makerOf(kind: ServerConfig['kind']): Promise<MakeServer> {
  switch (kind) {
    case 'lastcall':
      return (await import('./lastcall.js')).makeLastcall;
    case 'node:https':
      return (await import('./node-https.js')).makeNodeHttps;
    case 'plain node:https':
      return (await import('./node-https.js')).makePlainHttps;
    case 'adopted https':
      return (await import('./lastcall.js')).makeAdoptedHttps;
    case 'floor':
      return (await import('./floor.js')).makeFloor;
    default:
      return (await import('./node-http2.js')).makeNodeHttp2;
  }
}

function send(message: FromServer): void {
  process.send?.(message);
}
