import { connect } from "node:net";
import { once } from "node:events";
import { describe, expect, test } from "vitest";
import { startServer } from "./servers.ts";
import type { RunningServer } from "./servers.ts";

async function accepts(server: RunningServer): Promise<boolean> {
  const socket = connect(server.port, server.host);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

const own = await startServer("rsyncd", { instance: "lifecycle" });

describe.runIf(own.running)("servers for tests", () => {
  const server = own as RunningServer;

  test("an own instance crashes and comes back on the same port", async () => {
    expect(await accepts(server)).toBe(true);
    await server.control("crash");
    expect(await accepts(server)).toBe(false);
    await server.control("start");
    expect(await accepts(server)).toBe(true);
    await server.control("stop");
    expect(await accepts(server)).toBe(false);
  });

  test("asking twice gives the same server", async () => {
    const again = await startServer("rsyncd", { instance: "lifecycle" });
    expect(again).toMatchObject({ port: server.port, folder: server.folder });
  });

  test("the version is known", () => {
    expect(server.version).toMatch(/^rsync \d/u);
  });
});
