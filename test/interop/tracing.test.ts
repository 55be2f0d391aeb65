/**
 * The http.server diagnostics channels, and the async contexts of requests.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { type ChannelListener, subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Server as HttpServer } from 'node:http';
import { expect } from 'chai';
import { H2Client } from '../wire/h2-client.js';
import { PROTOCOLS, serve } from './serving.js';
import { Visitor } from './visitor.js';

const STREAMS = 100;

describe('the http.server diagnostics channels', () => {
  for (const { protocol, allowH2 } of PROTOCOLS) {
    it(`are told of each request over ${protocol}`, async () => {
      const started: unknown[] = [];
      const finished: unknown[] = [];
      const handled: unknown[] = [];
      const onStart: ChannelListener = (message) => started.push(message);
      const onFinish: ChannelListener = (message) => finished.push(message);
      subscribe('http.server.request.start', onStart);
      subscribe('http.server.response.finish', onFinish);
      const serving = await serve((req, res) => {
        handled.push({ request: req, response: res });
        res.end();
      });
      const visitor = new Visitor(serving, allowH2);
      try {
        await visitor.get('/a');
        await visitor.get('/b');
      } finally {
        await visitor.leave();
        await serving.stop();
        unsubscribe('http.server.request.start', onStart);
        unsubscribe('http.server.response.finish', onFinish);
      }
      for (const messages of [started, finished] as Record<string, unknown>[][]) {
        expect(messages).to.have.lengthOf(2);
        messages.forEach((message, n) => {
          const { request, response } = (handled[n] ?? {}) as Record<string, unknown>;
          expect(message.request === request && message.response === response).to.equal(true);
          expect(message.server).to.be.instanceOf(HttpServer);
          expect(message.socket).to.be.an('object');
        });
      }
    });
  }
});

describe('async contexts', () => {
  it(`of ${STREAMS} streams that come in one read are apart`, async () => {
    const storage = new AsyncLocalStorage<string>();
    const before: (string | undefined)[] = [];
    const after: boolean[] = [];
    const finished: Promise<void>[] = [];
    const serving = await serve((req, res) => {
      before.push(storage.getStore());
      const url = req.url ?? '';
      const note = (): number => after.push(storage.getStore() === url);
      storage.enterWith(url);
      finished.push(
        new Promise((resolve) => {
          res.on('finish', () => {
            note();
            resolve();
          });
        }),
      );
      setImmediate(() => {
        note();
        res.end();
      });
    });
    let reads = 0;
    const readsAtRequest = new Set<number>();
    serving.server.prependListener('secureConnection', (socket) => socket.on('data', () => reads++));
    serving.server.on('request', () => readsAtRequest.add(reads));
    const client = await H2Client.connect({ port: serving.port });
    client.transport.socket.cork();
    const streams = Array.from({ length: STREAMS }, (_, n) => client.request({ path: `/${n}` }));
    client.transport.socket.uncork();
    await Promise.all(streams.map((stream) => client.response(stream)));
    await Promise.all(finished);
    expect(readsAtRequest.size).to.equal(1);
    expect(before).to.deep.equal(new Array(STREAMS).fill(undefined));
    expect(after).to.deep.equal(new Array(2 * STREAMS).fill(true));
    client.destroy();
    await serving.stop();
  });
});
