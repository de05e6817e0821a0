/** A client that sends what it is told to, byte by byte. */
import { connect } from "node:net";
import type { Socket } from "node:net";

export interface RawClient {
  readonly socket: Socket;
  /** What the other side has sent until now. */
  received(): string;
  /** Resolves with all of it when the connection is over. */
  readonly over: Promise<string>;
}

/** Connects to the server of a URL. Errors of the connection end it, and nothing else. */
export function rawClient(url: string): Promise<RawClient> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    let text = "";
    // Half-open where it is asked for: only the test ends its side.
    const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
    socket.setEncoding("latin1").on("data", (chunk: string) => (text += chunk));
    const over = new Promise<string>((ended) => {
      socket.on("end", () => socket.end());
      socket.on("close", () => ended(text));
    });
    socket.on("error", reject);
    socket.on("connect", () => resolve({ socket, received: () => text, over }));
  });
}
