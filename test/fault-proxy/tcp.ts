/** A TCP proxy that goes wrong at a byte. See index.ts. */
import { connect, createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import type { Certificate } from "./certificates.ts";

/** Counts are of bytes: `up` from the client to the server, `down` back. Whichever comes first counts; default at once. */
interface When {
  readonly afterUp?: number;
  readonly afterDown?: number;
}

export type TcpFault =
  | { readonly kind: "none" }
  /** The connection is reset (RST). */
  | ({ readonly kind: "reset" } & When)
  /** The connection ends as if all had been said (FIN). */
  | ({ readonly kind: "end" } & When)
  /** The connection stays open; nothing passes any more, either way. What the client sends is taken. */
  | ({ readonly kind: "black-hole" } & When)
  /** Answers pass at this rate. */
  | { readonly kind: "trickle"; readonly bytesPerSecond: number }
  /** Bytes pass in order at this rate, each way; a connection is read no faster. */
  | { readonly kind: "slow"; readonly bytesPerSecond: number }
  /** One bit of the byte at this offset of what comes down is another. */
  | { readonly kind: "flip"; readonly atDown: number };

export interface TcpFaultProxy {
  readonly host: string;
  readonly port: number;
  /** What connections made from now on suffer. */
  fault: TcpFault;
  /** Connections so far, and open now. */
  readonly connections: number;
  readonly open: number;
  /** Resets every open connection. */
  cut(): void;
  close(): Promise<void>;
}

export interface TcpFaultOptions {
  /** Default 127.0.0.1. */
  readonly host?: string;
  readonly port: number;
  /** Speaks TLS to the client. */
  readonly tls?: Certificate;
}

export async function startTcpFaults(target: TcpFaultOptions): Promise<TcpFaultProxy> {
  const sockets = new Set<Socket>();
  let connections = 0;
  const state: { fault: TcpFault } = { fault: { kind: "none" } };
  const serve = (client: Socket): void => {
    connections++;
    sockets.add(client);
    client.on("close", () => sockets.delete(client));
    join(client, target, state.fault);
  };
  const server: Server = target.tls ? createTlsServer(target.tls, serve) : createServer(serve);
  // A client that refuses our certificate is what some tests are about.
  server.on("tlsClientError", () => undefined);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const cut = (): void => {
    for (const socket of sockets) kill(socket);
  };
  return {
    host: "127.0.0.1",
    port: (server.address() as AddressInfo).port,
    get fault() {
      return state.fault;
    },
    set fault(fault) {
      state.fault = fault;
    },
    get connections() {
      return connections;
    },
    get open() {
      return sockets.size;
    },
    cut,
    close: () => closeServer(server, cut),
  };
}

/** Closes a server that listens no more once `cut` has ended its connections. */
export async function closeServer(server: Pick<Server, "close">, cut: () => void): Promise<void> {
  const closed = new Promise((resolve) => {
    server.close(resolve);
  });
  cut();
  await closed;
}

/** Resets a connection; TLS over TCP knows only the end of it. */
export function kill(socket: Socket): void {
  if ("encrypted" in socket) socket.destroy();
  else socket.resetAndDestroy();
}

function join(client: Socket, target: TcpFaultOptions, fault: TcpFault): void {
  const server = connect({ host: target.host ?? "127.0.0.1", port: target.port, noDelay: true });
  let up = 0;
  let down = 0;
  let swallowing = false;
  let trickle: NodeJS.Timeout | undefined;
  let ended = false;
  const when: When = "afterUp" in fault || "afterDown" in fault ? fault : {};
  const { afterUp, afterDown } = when;
  const atOnce = afterUp === undefined && afterDown === undefined;

  const strike = (): void => {
    if (fault.kind === "reset") {
      kill(client);
      server.destroy();
    } else if (fault.kind === "end") {
      client.end();
      server.destroy();
    } else if (fault.kind === "black-hole" && !swallowing) {
      swallowing = true;
      server.destroy();
      client.resume();
    }
  };
  const over = (count: number, limit: number | undefined): boolean => limit !== undefined && count >= limit;

  /** Reads no more from a connection until what came from it would have passed. */
  const slow = (socket: Socket, bytes: number): void => {
    if (fault.kind !== "slow") return;
    socket.pause();
    setTimeout(() => socket.resume(), (bytes * 1000) / fault.bytesPerSecond);
  };

  client.on("data", (chunk: Buffer) => {
    if (swallowing) return;
    slow(client, chunk.length);
    const left = afterUp === undefined ? chunk.length : Math.max(0, afterUp - up);
    up += chunk.length;
    server.write(chunk.subarray(0, left), () => {
      if (over(up, afterUp)) strike();
    });
  });
  server.on("data", (chunk: Buffer) => {
    if (swallowing) return;
    slow(server, chunk.length);
    let piece = afterDown === undefined ? chunk : chunk.subarray(0, Math.max(0, afterDown - down));
    if (fault.kind === "flip" && fault.atDown >= down && fault.atDown < down + chunk.length) {
      piece = Buffer.from(piece);
      const at = fault.atDown - down;
      piece[at] = (piece[at] ?? 0) ^ 1;
    }
    down += chunk.length;
    if (fault.kind === "trickle") {
      server.pause();
      let at = 0;
      trickle = setInterval(() => {
        client.write(piece.subarray(at, at + 1));
        if (++at < piece.length) return;
        clearInterval(trickle);
        trickle = undefined;
        if (ended) client.end();
        else server.resume();
      }, 1000 / fault.bytesPerSecond);
      return;
    }
    const flowing = client.write(piece, () => {
      if (over(down, afterDown)) strike();
    });
    if (!flowing) {
      server.pause();
      client.once("drain", () => server.resume());
    }
  });
  client.on("end", () => server.end());
  server.on("end", () => {
    ended = true;
    if (!swallowing && !trickle) client.end();
  });
  client.on("error", () => server.destroy());
  server.on("error", () => {
    if (!swallowing) kill(client);
  });
  client.on("close", () => {
    clearInterval(trickle);
    server.destroy();
  });
  if (atOnce) strike();
}
