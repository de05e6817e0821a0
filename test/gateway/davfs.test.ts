/** The WebDAV gateway, mounted by davfs2. */
import { cp, mkdir, rename, rm } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { client, runClient } from "../helpers/clients.ts";
import { credential, startTestGateways } from "../helpers/gateways.ts";
import { contentsOf, plantTree } from "../helpers/three-stores.ts";

const there = client("mount.davfs").there && process.getuid?.() === 0;

test.runIf(there)(
  "files are copied to the mounted pool, folders moved and files removed",
  async (context) => {
    const gateways = await startTestGateways({ protocols: ["webdav"], on: "folders" });
    const mountPoint = path.join(gateways.folder, "mounted");
    const tree = path.join(gateways.folder, "tree");
    await mkdir(mountPoint);
    await plantTree(tree, "davfs", 2);
    let mounted = false;
    try {
      const mount = await runClient("mount.davfs", [`${gateways.url("webdav")}/`, mountPoint, "-o", "uid=0"], {
        input: `${credential.user}\n${credential.password}\n`,
        codes: [0, 1, 32, 255],
      });
      if (mount.code !== 0) {
        process.stdout.write(`skipped: davfs2 cannot mount here: ${mount.stderr.trim()}\n`);
        context.skip();
      }
      mounted = true;
      const copy = path.join(mountPoint, "copy");
      await cp(tree, copy, { recursive: true });
      await rename(path.join(copy, "deep"), path.join(copy, "moved"));
      await rm(path.join(copy, "empty"));
      // Everything is sent to the gateway by then.
      await runClient("umount", [mountPoint]);
      mounted = false;
      const wanted = Object.fromEntries(
        Object.entries(await contentsOf(tree))
          .filter(([name]) => name !== "empty")
          .map(([name, digest]) => [name.replace(/^deep\//u, "moved/"), digest]),
      );
      for (const store of gateways.stores) expect(await contentsOf(path.join(store, "copy"))).toEqual(wanted);
    } finally {
      if (mounted) await runClient("umount", ["-l", mountPoint], { codes: [0, 1, 32] });
      await gateways.end();
    }
  },
  120_000,
);
