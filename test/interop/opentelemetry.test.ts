/**
 * OpenTelemetry's instrumentation of Node's http, as it is: it has to see requests of both protocols.
 */
import { EventEmitter, once } from 'node:events';
import { createRequire } from 'node:module';
import { type Context, context, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http';
import type { ReadableSpan, SpanProcessor } from '@opentelemetry/sdk-trace-base';
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import { expect } from 'chai';
import { application, PROTOCOLS, type Serving, serve } from './serving.js';
import { Visitor } from './visitor.js';

const CONCURRENT = 50;
const TRACE_ID = '0af7651916cd43dd8448eb211c80319c';
const PARENT_ID = 'b7ad6b7169203331';

const load = createRequire(import.meta.url);

/** By which routers tell the instrumentation of the route; a package of its own that the instrumentation brings. */
const { getRPCMetadata } = createRequire(load.resolve('@opentelemetry/instrumentation-http'))(
  '@opentelemetry/core',
) as { getRPCMetadata(context: Context): { route?: string } | undefined };

/** The spans of servers, as they end. */
class EndedServerSpans implements SpanProcessor {
  readonly spans: ReadableSpan[] = [];
  readonly #events = new EventEmitter();

  /** All that have ended, once there are so many. */
  async first(count: number): Promise<readonly ReadableSpan[]> {
    while (this.spans.length < count) await once(this.#events, 'ended');
    return this.spans;
  }

  onStart(): void {}

  onEnd(span: ReadableSpan): void {
    if (span.kind !== SpanKind.SERVER) return;
    this.spans.push(span);
    this.#events.emit('ended');
  }

  forceFlush(): Promise<void> {
    return Promise.resolve();
  }

  shutdown(): Promise<void> {
    return Promise.resolve();
  }
}

describe("OpenTelemetry's instrumentation of http", () => {
  const ended = new EndedServerSpans();
  const provider = new NodeTracerProvider({ spanProcessors: [ended] });
  let instrumentation: HttpInstrumentation;
  let serving: Serving;
  let visitor: Visitor;

  before(() => {
    provider.register();
    // It hooks require(), and has to be there when http is required for the first time after that.
    instrumentation = new HttpInstrumentation();
    instrumentation.setTracerProvider(provider);
    load('http');
  });

  after(async () => {
    instrumentation.disable();
    await provider.shutdown();
    trace.disable();
    context.disable();
    propagation.disable();
  });

  beforeEach(() => {
    ended.spans.length = 0;
  });

  afterEach(async () => {
    await visitor.leave();
    await serving.stop();
    expect(serving.errors).to.deep.equal([]);
  });

  for (const { protocol, allowH2, version } of PROTOCOLS) {
    const start = async (listener = application): Promise<void> => {
      serving = await serve(listener);
      visitor = new Visitor(serving, allowH2);
    };

    describe(`over ${protocol}`, () => {
      it('gives one server span per request, with its method, route and status', async () => {
        await start((req, res) => {
          const metadata = getRPCMetadata(context.active());
          if (metadata !== undefined) metadata.route = '/items/:id';
          res.statusCode = req.method === 'GET' ? 200 : 500;
          res.end('done');
        });
        await visitor.get('/items/1?a=1');
        await visitor.post('/items/2', 'body');
        const [first, second, ...more] = await ended.first(2);
        expect(more).to.deep.equal([]);
        expect(first?.name).to.equal('GET /items/:id');
        expect(first?.attributes).to.include({
          'http.request.method': 'GET',
          'http.route': '/items/:id',
          'http.response.status_code': 200,
          'url.path': '/items/1',
          'url.query': 'a=1',
          'network.protocol.version': version,
          'network.peer.address': '127.0.0.1',
        });
        expect(first?.status.code).to.equal(SpanStatusCode.UNSET);
        expect(second?.name).to.equal('POST /items/:id');
        expect(second?.attributes).to.include({ 'http.request.method': 'POST', 'http.response.status_code': 500 });
        expect(second?.status.code).to.equal(SpanStatusCode.ERROR);
      });

      it("continues the client's trace, and its span is active in the handler, also later", async () => {
        const active: (string | undefined)[] = [];
        const note = (): void => {
          active.push(trace.getActiveSpan()?.spanContext().spanId);
        };
        await start((req, res) => {
          note();
          req.on('end', () => {
            note();
            setTimeout(() => {
              note();
              res.end();
            }, 5);
          });
          req.resume();
        });
        await visitor.post('/', 'body', { traceparent: `00-${TRACE_ID}-${PARENT_ID}-01` });
        const [span] = await ended.first(1);
        expect([span?.spanContext().traceId, span?.parentSpanContext?.spanId]).to.deep.equal([TRACE_ID, PARENT_ID]);
        expect(active).to.deep.equal(new Array(3).fill(span?.spanContext().spanId));
      });

      it('keeps the spans of concurrent requests apart', async () => {
        const seen = new Map<unknown, string | undefined>();
        await start((req, res) => {
          setTimeout(() => {
            seen.set(req.url, trace.getActiveSpan()?.spanContext().spanId);
            res.end();
          }, Math.random() * 10);
        });
        await Promise.all(Array.from({ length: CONCURRENT }, (_, n) => visitor.get(`/${n}`)));
        const spans = await ended.first(CONCURRENT);
        expect(spans).to.have.lengthOf(CONCURRENT);
        expect(new Set(seen.values()).size).to.equal(CONCURRENT);
        for (const span of spans) expect(seen.get(span.attributes['url.path'])).to.equal(span.spanContext().spanId);
      });
    });
  }
});
