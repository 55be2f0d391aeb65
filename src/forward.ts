/**
 * Events of an internal server, passed on to the public one only while somebody listens: for some of them the mere
 * presence of a listener changes what Node does (`upgrade` makes it stop parsing, `newSession` starts a parser).
 */
import type { EventEmitter } from 'node:events';

interface Forwarded {
  readonly source: EventEmitter;
  readonly listener: (...args: never[]) => void;
}

export class Forwarding {
  readonly #target: EventEmitter;
  readonly #events = new Map<string | symbol, Forwarded>();

  constructor(target: EventEmitter) {
    this.#target = target;
    // 'newListener' comes before the listener is added, 'removeListener' after it is removed.
    target.on('newListener', (event: string | symbol) => {
      if (target.listenerCount(event) === 0) this.#switch(event, 'on');
    });
    target.on('removeListener', (event: string | symbol) => {
      if (target.listenerCount(event) === 0) this.#switch(event, 'off');
    });
  }

  /** Has `source` call `listener` for `event` while the target has listeners for it (default: emits it on the target). */
  add(source: EventEmitter, event: string, listener?: (...args: never[]) => void): void {
    this.#events.set(event, { source, listener: listener ?? ((...args) => this.#target.emit(event, ...args)) });
  }

  #switch(event: string | symbol, how: 'on' | 'off'): void {
    const forwarded = this.#events.get(event);
    forwarded?.source[how](event, forwarded.listener as (...args: unknown[]) => void);
  }
}
