/** git-annex keeps files in the pool through the WebDAV gateway, and runs its own tests of such a place. */
import { mkdir, readFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { client, runClient } from "../helpers/clients.ts";
import type { Ran } from "../helpers/clients.ts";
import { credential, startTestGateways } from "../helpers/gateways.ts";
import { contentsOf, plantTree } from "../helpers/three-stores.ts";

test.runIf(client("git-annex").there)(
  "git-annex copies, drops, gets back and checks, and finds nothing wrong",
  async () => {
    const gateways = await startTestGateways({ protocols: ["webdav"], on: "folders" });
    try {
      const repository = path.join(gateways.folder, "repository");
      await mkdir(repository);
      const env = {
        HOME: gateways.folder,
        GIT_AUTHOR_NAME: "somebody",
        GIT_AUTHOR_EMAIL: "somebody@example.org",
        GIT_COMMITTER_NAME: "somebody",
        GIT_COMMITTER_EMAIL: "somebody@example.org",
        WEBDAV_USERNAME: credential.user,
        WEBDAV_PASSWORD: credential.password,
      };
      const git = (...args: string[]): Promise<Ran> => runClient("git", args, { cwd: repository, env });
      const annex = (args: string[], codes = [0]): Promise<Ran> =>
        runClient("git-annex", args, { cwd: repository, env, codes });
      await git("init", "--quiet");
      await annex(["init", "here"]);
      await plantTree(path.join(repository, "tree"), "annex", 1);
      await annex(["add", "."]);
      await git("commit", "--quiet", "--message=tree");
      const file = path.join(repository, "tree", "file-0.bin");
      const before = await readFile(file);
      const url = `url=${gateways.url("webdav")}/annex`;
      await annex(["initremote", "pool", "type=webdav", url, "encryption=none", "chunk=100KiB"]);
      await annex(["copy", "--to", "pool", "--quiet"]);
      await annex(["drop", "--quiet"]);
      await expect(readFile(file)).rejects.toThrow("ENOENT");
      await annex(["get", "--quiet"]);
      expect((await readFile(file)).equals(before)).toBe(true);
      await annex(["fsck", "--from", "pool", "--quiet"]);
      const [first = {}, second] = await Promise.all(gateways.stores.map(contentsOf));
      expect(Object.keys(first).length).toBeGreaterThan(5);
      expect(second).toEqual(first);

      // It takes 404 for a failure where it deletes what is gone; it does so with Apache's server, too.
      const { stdout } = await annex(["testremote", "--fast", "pool"], [1]);
      const failed = [...stdout.matchAll(/^ *(.*): +FAIL/gmu)].map((match) => match[1]);
      expect(new Set(failed)).toEqual(new Set(["remove export directory that is already removed"]));
      expect(failed).toHaveLength(Number(/^(\d+) out of \d+ tests failed/mu.exec(stdout)?.[1]));
    } finally {
      await gateways.end();
    }
  },
  180_000,
);
