/** A slow way to a server: what it passes on comes later and at a limited speed, in both directions. */
import { connect, createServer } from "node:net";
import type { Socket } from "node:net";

export interface Throttle {
  readonly port: number;
  close(): Promise<void>;
}

export interface ThrottleOptions {
  /** The server's port on this machine. */
  readonly port: number;
  readonly bytesPerSecond: number;
  /** What each piece of bytes is late, in milliseconds. */
  readonly delayMs: number;
}

export async function startThrottle(options: ThrottleOptions): Promise<Throttle> {
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const target = connect(options.port, "127.0.0.1");
    pass(client, target, options);
    pass(target, client, options);
    for (const [socket, other] of [
      [client, target],
      [target, client],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.once("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : 0);
    });
  });
  return {
    port,
    close: () => {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => {
        server.close(() => resolve());
      });
    },
  };
}

function pass(from: Socket, to: Socket, { bytesPerSecond, delayMs }: ThrottleOptions): void {
  from.on("data", (bytes: Buffer) => {
    from.pause();
    setTimeout(
      () => {
        to.write(bytes);
        from.resume();
      },
      delayMs + (bytes.length / bytesPerSecond) * 1000,
    );
  });
  from.once("end", () => to.end());
}
