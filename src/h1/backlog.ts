/**
 * Stops reading from a client that pipelines: while too many requests wait for their turn, and when one turn of the event
 * loop has brought enough of them. node:http's parser is stopped too, in the middle of what was read; the rest goes back
 * to the socket. Tells when reading goes on.
 */
import { Socket } from 'node:net';
import { feedByData, isHeldBack, keepReporting, pauseParserWhile, resumeParser, unparsed } from '../node-internals.js';

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
  #held = false;
  /** Requests that this turn has brought, as far as they are counted, */
  #inTurn = 0;
  #turnComes = false;
  /** and whether they are enough. */
  #resting = false;
  #watching = false;
  #followed = false;
  /** The parser has stopped behind a head. */
  #stopped = false;
  #holdsBytes = false;
  /** Reading is to be begun by hand: node:http has read for the stream, which believes that it reads. */
  #readsByHand = false;

  /** @param reader is told when reading goes on, if it was held or somebody else was seen to have stopped it */
  constructor(socket: Socket, reader: Reader) {
    this.#socket = socket;
    this.#reader = reader;
  }

  /** Nothing is read. */
  get held(): boolean {
    return this.#held || this.#resting;
  }

  /** What has been read isn't parsed yet. */
  get holdsBytes(): boolean {
    return this.#holdsBytes;
  }

  /** Until it is released. False: it is held already. */
  hold(): boolean {
    if (this.#held) return false;
    this.#held = true;
    this.#stop();
    return true;
  }

  /** Reading goes on, in another turn. */
  release(): void {
    if (!this.#held) return;
    this.#held = false;
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
    if (!this.#held) this.#socket.resume();
  }

  #stop(): void {
    this.#socket.pause();
    this.watch();
    if (this.#followed) return;
    this.#followed = true;
    pauseParserWhile(this.#socket, () => {
      this.#stopped = this.held;
      return this.#stopped;
    });
  }

  /**
   * node:http reports its parser's pause as an error: here, or where it paused it itself, behind an answer that the
   * client doesn't read, and TLS had more of the same read.
   *
   * @returns false: it is another error
   */
  paused(error: Error & { code?: string }): boolean {
    const rest = unparsed(error, this.#stopped);
    if (rest === undefined) return false;
    const socket = this.#socket;
    if (socket.destroyed) return true;
    keepReporting(socket);
    feedByData(socket);
    this.#readsByHand = true;
    this.watch();
    socket.pause();
    if (this.#stopped) {
      this.#stopped = false;
      resumeParser(socket);
    }
    if (rest.length > 0) {
      this.#holdsBytes = true;
      socket.unshift(rest);
    }
    return true;
  }

  /** Reading has been stopped, here or by node:http. */
  watch(): void {
    if (this.#watching) return;
    this.#watching = true;
    // 'resume' comes before the first read.
    this.#socket.on('resume', () => {
      if (this.held || isHeldBack(this.#socket)) this.#socket.pause();
      else if (!this.#socket.isPaused()) {
        this.#holdsBytes = false;
        if (this.#readsByHand) this.#readByHand();
        this.#reader.readsOn();
      }
    });
  }

  /** The connection is no longer HTTP: what comes next waits in the socket for the application. */
  letGo(): void {
    this.#held = false;
    this.#resting = false;
    // The listener that would do so has gone with the parser.
    this.#readByHand();
  }

  #readByHand(): void {
    this.#readsByHand = false;
    if (this.#socket instanceof Socket) this.#socket._read(0);
  }
}
