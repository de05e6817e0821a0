/** Listings of restic's protocol: made and sent in pieces. */
import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestGateways } from "../helpers/gateways.ts";

describe("a listing of a repository", () => {
  let gateways: Awaited<ReturnType<typeof startTestGateways>>;
  const ids: string[] = [];
  beforeAll(async () => {
    gateways = await startTestGateways({ protocols: ["restic"], guarded: false });
    for (const content of ["a", "bb"]) {
      const id = createHash("sha256").update(content).digest("hex");
      ids.push(id);
      const put = await fetch(`${gateways.url("restic")}/repo/keys/${id}`, { method: "POST", body: content });
      if (!put.ok) throw new Error(`a put was answered ${put.status}`);
    }
  });
  afterAll(() => gateways.end());

  const list = (accept: string, folder = "keys"): Promise<Response> =>
    fetch(`${gateways.url("restic")}/repo/${folder}/`, { headers: { accept } });

  it("is sent without its length being known before", async () => {
    const answer = await list("*/*");
    expect([answer.status, answer.headers.get("content-length")]).toEqual([200, null]);
    expect(await answer.json()).toEqual([...ids].sort());
  });

  it("has names and sizes in version 2", async () => {
    const answer = await list("application/vnd.x.restic.rest.v2");
    expect(answer.headers.get("content-type")).toBe("application/vnd.x.restic.rest.v2");
    const sizes = ids.map((name, index) => ({ name, size: index + 1 }));
    expect(await answer.json()).toEqual(sizes.sort((a, b) => (a.name < b.name ? -1 : 1)));
  });

  it("is an empty list where there is nothing", async () => {
    expect(await (await list("*/*", "locks")).text()).toBe("[]");
  });
});
