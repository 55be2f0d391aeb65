/**
 * A client as the contract suite needs it, the same over both protocols: it asks, it is told to stop, it sees how its
 * connection ends. It closes when the server has closed, as a well-behaved client does.
 */
import { H1Client } from '../wire/h1-client.js';
import { H2Client } from '../wire/h2-client.js';
import { Setting } from '../wire/h2-frames.js';
import type { Ending, Transport, TransportOptions } from '../wire/transport.js';

export interface Answer {
  readonly status: number | undefined;
  readonly text: string;
}

export interface Peer {
  readonly transport: Transport;
  /** Sends a request; the answer rejects when the connection ends before it is complete. */
  ask(path: string): Promise<Answer>;
  /** Waits for the head of the answer to the only request in flight. */
  headArrived(): Promise<void>;
  /** Whether the server has said that this connection is about to end. */
  readonly told: boolean;
  /** How the server ended the connection. */
  ended(): Promise<Ending>;
}

export interface PeerOptions extends TransportOptions {
  /** Closes as soon as the server has half-closed (default true). */
  readonly closesToo?: boolean;
}

export type ConnectPeer = (options: PeerOptions) => Promise<Peer>;

function closeToo(transport: Transport, { closesToo = true }: PeerOptions): void {
  if (closesToo) transport.socket.once('end', () => transport.end());
}

export const connectH1: ConnectPeer = async (options) => {
  const client = await H1Client.connect(options);
  closeToo(client.transport, options);
  return {
    transport: client.transport,
    ask: async (path) => {
      const { status, text } = await client.fetch({ path });
      return { status, text };
    },
    headArrived: () => client.until(() => client.current !== undefined, 'a head'),
    get told() {
      return [...client.responses, client.current].some((response) => response?.connectionHas('close'));
    },
    ended: () => client.ended(),
  };
};

/** Large enough that flow control never decides how much of an answer is on its way. */
const WINDOW = 8 * 1024 * 1024;

export const connectH2: ConnectPeer = async (options) => {
  const client = await H2Client.connect({ settings: [[Setting.INITIAL_WINDOW_SIZE, WINDOW]], ...options });
  client.windowUpdate(0, WINDOW);
  closeToo(client.transport, options);
  let last = 0;
  return {
    transport: client.transport,
    ask: async (path) => {
      last = client.request({ path });
      const { status, text, reset } = await client.response(last);
      if (reset !== undefined) throw new Error(`stream reset with ${reset}`);
      return { status, text };
    },
    headArrived: () => client.until(() => client.stream(last).status !== undefined, 'a head'),
    get told() {
      return client.goaways.length > 0;
    },
    ended: () => client.ended(),
  };
};
