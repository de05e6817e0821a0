/** What the store on restic's REST server does where a server drops a kept connection, or refuses a blob before it has all of it. */
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, it } from "vitest";
import { collect, toBody } from "../../../src/contract/body.ts";
import { openStore } from "../../../src/stores/open-store.ts";
import type { Store } from "../../../src/contract/store.ts";
import { readText } from "../../helpers/store-answers.ts";

let server: Server;
let store: Store;
let blobs: Map<string, Buffer>;
/** What happens to the next POST of a piece. */
let fault: "none" | "kept-and-dropped" | "dropped" | "refused";
let posts: number;

/** A server that refuses to store a blob again, as restic's does. */
beforeEach(async () => {
  blobs = new Map();
  fault = "none";
  posts = 0;
  server = createServer((request, response) => {
    const path = (request.url ?? "").slice(1);
    const answer = (status: number, body?: string | Buffer): void => void response.writeHead(status).end(body);
    if (request.method === "POST" && path.includes("data/") && fault === "refused") {
      answer(413);
      request.destroy();
      return;
    }
    void collect(request).then((bytes) => {
      const blob = blobs.get(path);
      if (request.method === "POST" && path.startsWith("?")) return answer(200);
      if (request.method === "POST") {
        const struck = path.startsWith("data/") ? fault : "none";
        if (path.startsWith("data/")) posts++;
        if (struck !== "none") fault = "none";
        if (blob !== undefined) return answer(403);
        if (struck !== "dropped") blobs.set(path, Buffer.from(bytes));
        if (struck === "none") return answer(200);
        return void request.socket.resetAndDestroy();
      }
      if (path.endsWith("/")) {
        const names = [...blobs.keys()].filter((name) => name.startsWith(path));
        return answer(200, JSON.stringify(names.map((name) => ({ name: name.slice(path.length), size: 1 }))));
      }
      if (blob === undefined) return answer(404);
      if (request.method === "DELETE") blobs.delete(path);
      return answer(200, request.method === "GET" ? blob : undefined);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  store = await openStore(`rest:http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  await store.put("before", toBody("there is a kept connection now"));
  posts = 0;
});

afterEach(async () => {
  await store.close();
  await new Promise((resolve) => server.close(resolve));
});

it("a piece that was kept, and whose kept connection was dropped before the answer, is not refused as one that is there", async () => {
  fault = "kept-and-dropped";
  await store.put("x", toBody("the bytes"));
  expect([posts, await readText(store, "x")]).toEqual([2, "the bytes"]);
});

it("a piece that did not arrive as its kept connection was dropped is sent again", async () => {
  fault = "dropped";
  await store.put("x", toBody("the bytes"));
  expect([posts, await readText(store, "x")]).toEqual([2, "the bytes"]);
});

it("a server that refuses a piece before it has all of it fails the put, and not the process", async () => {
  fault = "refused";
  await expect(store.put("x", toBody(Buffer.alloc(4_000_000)))).rejects.toMatchObject({
    operation: "put",
    object: "x",
  });
});
