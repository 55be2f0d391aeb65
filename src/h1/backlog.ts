/**
 * Stops reading from a client that pipelines: while too many requests wait for their turn, and when one turn of the event
 * loop has brought enough of them. node:http's parser is stopped too, in the middle of what was read; the rest goes back
 * to the socket. Tells when reading goes on.
 */
import { Socket } from 'node:net';
import { feedByData, isHeldBack, keepReporting, pauseParserWhile, resumeParser, unparsed } from '../http-internals.js';

/** Who waits for what isn't read at the moment. */
export interface Reader {
  /** Reading goes on after it was stopped. */
  readsOn(): void;
}

/** Requests that one turn of the event loop may bring: less than a millisecond, where handlers cost nothing. */
const MAX_PER_TURN = 64;

function turn(backlog: Backlog): void {
  backlog.turn();
}

export class Backlog {
  readonly #socket: Socket;
  readonly #reader: Reader;
  /** Too many wait. */
  #full = false;
  /** Requests that this turn has brought, as far as they are counted, */
  #inTurn = 0;
  #turnComes = false;
  /** and whether they are enough. */
  #resting = false;
  /** The parser stops behind the head that it has just read. */
  #midway = false;
  /** It was stopped, and what was left has gone back to the socket. */
  #putBack = false;
  #watching = false;
  /** Reading is to be begun by hand: node:http has read for the stream, which believes that it reads. */
  #readsByHand = false;

  /** @param reader is told when reading goes on, if it was stopped here or somebody else was seen to have stopped it */
  constructor(socket: Socket, reader: Reader) {
    this.#socket = socket;
    this.#reader = reader;
  }

  /** node:http has put its parser on the socket. */
  attached(): void {
    pauseParserWhile(this.#socket, () => {
      this.#midway = this.stopped;
      return this.#midway;
    });
  }

  /** Nothing more is parsed, and of what the client sends no more is read than a stream's buffer takes. */
  get stopped(): boolean {
    return this.#full || this.#resting;
  }

  /** What had been read when the parser was stopped isn't parsed yet. */
  get holdsBytes(): boolean {
    return this.#putBack && this.#socket.readableLength > 0;
  }

  /** Too many wait, until it is released. False: that is known. */
  hold(): boolean {
    if (this.#full) return false;
    this.#full = true;
    this.#stop();
    return true;
  }

  /** Reading goes on, in another turn. */
  release(): void {
    if (!this.#full) return;
    this.#full = false;
    this.#rest();
  }

  /** A request has come. Where they come one by one, turns are not looked for at each. */
  grew(): void {
    this.#inTurn++;
    if (this.#inTurn >= MAX_PER_TURN) this.#rest();
    else if (this.#inTurn === MAX_PER_TURN / 2) this.#awaitTurn();
  }

  /** The others come first. */
  #rest(): void {
    if (this.#resting) return;
    this.#resting = true;
    this.#stop();
    this.#awaitTurn();
  }

  #stop(): void {
    this.#socket.pause();
    this.watch();
  }

  #awaitTurn(): void {
    if (this.#turnComes) return;
    this.#turnComes = true;
    setImmediate(turn, this);
  }

  /** The event loop has turned. */
  turn(): void {
    this.#turnComes = false;
    this.#inTurn = 0;
    if (!this.#resting) return;
    this.#resting = false;
    if (!this.#full) this.#socket.resume();
  }

  /**
   * node:http reports its parser's pause as an error: here, or where it paused it itself, behind an answer that the
   * client doesn't read, and TLS had more of the same read.
   *
   * @returns false: it is another error
   */
  paused(error: Error & { code?: string }): boolean {
    const midway = this.#midway;
    const rest = unparsed(error, midway);
    if (rest === undefined) return false;
    const socket = this.#socket;
    if (socket.destroyed) return true;
    keepReporting(socket);
    feedByData(socket);
    this.#readsByHand = true;
    if (midway) {
      this.#midway = false;
      resumeParser(socket);
      if (!this.stopped) this.#rest();
    }
    this.#stop();
    this.#putBack = true;
    if (rest.length > 0) socket.unshift(rest);
    return true;
  }

  /** Reading has been stopped, here or by node:http. */
  watch(): void {
    if (this.#watching) return;
    this.#watching = true;
    this.#socket.on('resume', this.#onResume);
  }

  /** Comes before anything flows. */
  readonly #onResume = (): void => {
    if (this.stopped || isHeldBack(this.#socket)) this.#socket.pause();
    else if (!this.#socket.isPaused()) {
      this.#putBack = false;
      if (this.#readsByHand) this.#readByHand();
      this.#reader.readsOn();
    }
  };

  /** The connection is no longer HTTP: what comes next waits in the socket for the application. */
  letGo(): void {
    this.#full = false;
    this.#resting = false;
    this.#socket.off('resume', this.#onResume);
    // The listener that would do so has gone with the parser.
    this.#readByHand();
  }

  #readByHand(): void {
    this.#readsByHand = false;
    if (this.#socket instanceof Socket) this.#socket._read(0);
  }
}
