/** A TCP proxy on loopback that can drop, freeze and cut what goes through it. */
import net from "node:net";

export interface TcpProxy {
  readonly port: number;
  /** Connections that were accepted so far. */
  readonly accepted: number;
  /** Resets every connection that is open now. */
  drop(): void;
  /** From now on nothing is passed on in either direction, on old and new connections; `thaw` ends that. */
  freeze(): void;
  thaw(): void;
  /** Resets each connection (old ones too) once so many more bytes have come from the client. Undefined: never. */
  cutAfter(bytes: number | undefined): void;
  close(): Promise<void>;
}

export async function tcpProxy(host: string, port: number): Promise<TcpProxy> {
  const pairs = new Set<{ client: net.Socket; server: net.Socket }>();
  let accepted = 0;
  let frozen = false;
  let left: number | undefined;
  const listener = net.createServer({ noDelay: true }, (client) => {
    accepted++;
    const server = net.connect({ host, port, noDelay: true });
    const pair = { client, server };
    pairs.add(pair);
    const end = (): void => {
      pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) {
      socket.on("error", end);
      socket.on("close", end);
      if (frozen) socket.pause();
    }
    client.on("data", (chunk) => {
      if (left !== undefined) {
        left -= chunk.length;
        if (left < 0) {
          left = undefined;
          pairs.delete(pair);
          client.resetAndDestroy();
          server.resetAndDestroy();
          return;
        }
      }
      server.write(chunk);
    });
    server.on("data", (chunk) => client.write(chunk));
    client.on("end", () => server.end());
    server.on("end", () => client.end());
    if (frozen) for (const socket of [client, server]) socket.pause();
  });
  await new Promise<void>((resolve) => {
    listener.listen(0, "127.0.0.1", resolve);
  });
  const address = listener.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  const proxy: TcpProxy = {
    port: address.port,
    get accepted() {
      return accepted;
    },
    drop() {
      for (const { client, server } of pairs) {
        client.resetAndDestroy();
        server.resetAndDestroy();
      }
      pairs.clear();
    },
    freeze() {
      frozen = true;
      for (const { client, server } of pairs) for (const socket of [client, server]) socket.pause();
    },
    thaw() {
      frozen = false;
      for (const { client, server } of pairs) for (const socket of [client, server]) socket.resume();
    },
    cutAfter(bytes) {
      left = bytes;
    },
    async close() {
      proxy.drop();
      await new Promise((resolve) => {
        listener.close(resolve);
      });
    },
  };
  return proxy;
}
