import { AsyncLocalStorage } from 'node:async_hooks';
import { channel } from 'node:diagnostics_channel';
import { Server as HttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { trace } from '@opentelemetry/api';
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http';
import { InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import { expect } from 'chai';
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { eventually, PORTS, Servers } from './support.js';

interface Message {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly socket: unknown;
  readonly server: unknown;
}

describe('tracing that hooks node:http', () => {
  const servers = new Servers();

  for (const kind of PORTS) {
    const tls = kind === 'TLS';
    const clients = [
      ['HTTP/1.1', H1Client.connect],
      ['HTTP/2', H2Client.connect],
    ] as const;

    for (const [protocol, connect] of clients) {
      it(`finds start and finish of a request on the http.server channels (${protocol}, ${kind})`, async () => {
        const events: string[] = [];
        const servers_: unknown[] = [];
        const onStart = (message: unknown): void => {
          const { request, response, server, socket } = message as Message;
          events.push(`start ${request.url} ${response.headersSent}`);
          servers_.push(server);
          expect(socket).to.be.an('object');
        };
        const onFinish = (message: unknown): void => {
          const { request, response, server } = message as Message;
          events.push(`finish ${request.url} ${response.statusCode}`);
          servers_.push(server);
        };
        const started = channel('http.server.request.start');
        const finished = channel('http.server.response.finish');
        started.subscribe(onStart);
        finished.subscribe(onFinish);
        try {
          const { port } = await servers.start(kind, {}, (req, res) => {
            events.push(`handler ${req.url}`);
            res.writeHead(201).end('ok');
          });
          const client = await connect({ port, tls });
          await client.fetch({ path: '/traced' });
          await eventually(() => events.length >= 3, 'three events');
          client.destroy();
        } finally {
          started.unsubscribe(onStart);
          finished.unsubscribe(onFinish);
        }
        expect(events).to.deep.equal(['start /traced false', 'handler /traced', 'finish /traced 201']);
        for (const server of servers_) expect(server).to.be.instanceOf(HttpServer);
      });

      it(`wraps the handler by patching http.Server.prototype.emit (${protocol}, ${kind})`, async () => {
        const { port } = await servers.start(kind, {}, (_req, res) => res.end(storage.getStore()));
        const storage = new AsyncLocalStorage<string>();
        const original = HttpServer.prototype.emit;
        HttpServer.prototype.emit = function patched(this: HttpServer, event: string, ...args: unknown[]) {
          if (event !== 'request') return original.apply(this, [event, ...args] as never);
          return storage.run(`trace of ${(args[0] as IncomingMessage).url}`, () =>
            original.apply(this, [event, ...args] as never),
          );
        } as typeof original;
        try {
          const client = await connect({ port, tls });
          expect((await client.fetch({ path: '/a' })).text).to.equal('trace of /a');
          expect((await client.fetch({ path: '/b' })).text).to.equal('trace of /b');
          client.destroy();
        } finally {
          HttpServer.prototype.emit = original;
        }
      });
    }
  }

  it('gives OpenTelemetry a server span for each request, and the handler its context', async () => {
    const exporter = new InMemorySpanExporter();
    const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
    provider.register();
    const instrumentation = new HttpInstrumentation();
    instrumentation.setTracerProvider(provider);
    // The instrumentation hooks in when node:http is required.
    createRequire(import.meta.url)('http');
    try {
      const { port } = await servers.start('TLS', {}, (_req, res) => {
        setImmediate(() => res.end(trace.getActiveSpan()?.spanContext().spanId));
      });
      for (const connect of [H1Client.connect, H2Client.connect]) {
        const client = await connect({ port });
        exporter.reset();
        const { text } = await client.fetch({ path: '/traced' });
        await eventually(() => exporter.getFinishedSpans().length === 1, 'a span');
        const [span] = exporter.getFinishedSpans();
        expect(span?.name).to.equal('GET');
        expect(text).to.equal(span?.spanContext().spanId);
        client.destroy();
      }
    } finally {
      instrumentation.disable();
      await provider.shutdown();
      trace.disable();
    }
  });
});
