/** The HTTP client of the stores where a connection ends at an awkward moment. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, it } from "vitest";
import { HttpClient } from "../../../src/stores/base/http-client.ts";

it("a connection that fails just after an answer ended fails nothing, and the next request has another one", async () => {
  const server = createServer((request, response) => void request.resume().on("end", () => response.end("whole")));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const port = (server.address() as AddressInfo).port;
  const client = new HttpClient({ origin: `http://127.0.0.1:${port}`, connections: 1, env: {}, tls: {} });
  const uncaught: unknown[] = [];
  const note = (error: unknown): void => void uncaught.push(error);
  process.on("uncaughtExceptionMonitor", note);
  const lose = async (): Promise<void> => {
    const { body } = await client.send({ method: "GET", path: "/", headers: {} });
    const { socket } = body;
    // After Node.js has let go of the connection, and before the agent has taken it back.
    body.once("end", () => socket.destroy(new Error("the connection was lost")));
    body.resume();
    await new Promise<void>((resolve) => void socket.once("close", () => resolve()));
  };
  try {
    await lose();
    await lose();
    expect(uncaught).toEqual([]);
  } finally {
    process.off("uncaughtExceptionMonitor", note);
    client.close();
    await new Promise((resolve) => server.close(resolve));
  }
});
