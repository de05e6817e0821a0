/** Servers whose folders lie on a file system that takes names that differ in case for one. No protocol says so. */
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { collect, toBody } from "../../src/contract/body.ts";
import { HoldfastError } from "../../src/contract/errors.ts";
import { openStore } from "../../src/stores/open-store.ts";
import type { Store } from "../../src/contract/store.ts";
import { FoldingNames } from "../../src/stores/base/folding-names.ts";
import { mountFolding } from "../helpers/mounts.ts";
import type { Mount } from "../helpers/mounts.ts";
import { onServer, startServer, uniqueName } from "../helpers/servers.ts";
import type { RunningServer, ServerName } from "../helpers/servers.ts";

interface Service {
  readonly server: ServerName;
  /** Where the folding file system is mounted, below the server's folder. */
  readonly data: string;
  readonly env?: Readonly<Record<string, string>>;
  url(server: RunningServer, folder: string): Promise<string> | string;
}

const services: Readonly<Record<string, Service>> = {
  "SFTP on OpenSSH": {
    server: "sshd",
    data: "data",
    url: async ({ host, port, folder: state }, folder) => {
      const key = (await readFile(join(state, "hostkey.pub"), "utf8")).split(" ").slice(0, 2).join(" ");
      const file = join(state, "known_hosts");
      await writeFile(file, `[${host}]:${port} ${key}\n`);
      return `sftp://${host}:${port}/${join(state, "data", folder)}?identity=${join(state, "id")}&known-hosts=${file}`;
    },
  },
  "FTP on vsftpd": {
    server: "vsftpd",
    data: "root/data",
    url: ({ host, port }, folder) => `ftp://anonymous:x@${host}:${port}/data/${folder}`,
  },
  "FTP on ProFTPD": {
    server: "proftpd",
    data: "data",
    url: ({ host, port }, folder) => `ftp://test:test@${host}:${port}/${folder}`,
  },
  "WebDAV on Apache": {
    server: "apache-dav",
    data: "www/dav",
    url: ({ host, port }, folder) => `webdav://${host}:${port}/dav/${folder}`,
  },
  "WebDAV on nginx": {
    server: "nginx-dav",
    data: "data",
    url: ({ host, port }, folder) => `webdav://${host}:${port}/${folder}`,
  },
  "rsync with a daemon": {
    server: "rsyncd",
    data: "data",
    env: { RSYNC_PASSWORD: "test" },
    url: ({ host, port }, folder) => `rsync://test@${host}:${port}::data/${folder}`,
  },
  // Of these two the server is only a place for the folder.
  "rclone, a folder": {
    server: "rclone-sftp",
    data: "mounted",
    env: { PATH: process.env["PATH"] ?? "", RCLONE_CONFIG_HERE_TYPE: "local" },
    url: ({ folder: state }, folder) => `rclone://here:${join(state, "mounted", folder)}`,
  },
  "OpenDAL, a folder": {
    server: "rclone-webdav",
    data: "mounted",
    url: ({ folder: state }, folder) => `opendal://fs/${join(state, "mounted", folder)}`,
  },
};

describe("what a service does with names", () => {
  /** A service in memory that takes names for one that are the same by `key`, and counts what it is asked. */
  const service = (key: (name: string) => string, list: (names: string[]) => string[] = (names) => names) => {
    const files = new Map<string, string>();
    const asked: string[] = [];
    const names = new FoldingNames(
      {
        stands: async (path) => {
          asked.push(path);
          return files.has(key(path));
        },
        names: async () => list([...files.values()]),
      },
      () => 0,
    );
    const put = async (name: string): Promise<string> => {
      const mark = names.markFor(name);
      files.set(key(`temp${mark}`), `temp${mark}`);
      await names.learn("", `temp${mark}`, undefined);
      files.delete(key(`temp${mark}`));
      return names.give(
        [name],
        undefined,
        async () => {
          if (!files.has(key(name))) files.set(key(name), name);
          return "given";
        },
        async () => undefined,
      );
    };
    return { put, asked, names };
  };

  it("is found out by one request where it tells all names apart, and by one more for forms of Unicode", async () => {
    const { put, asked } = service((name) => name);
    for (const name of ["a", "A", "b"]) await put(name);
    expect(asked).toEqual(["TEMP-AA"]);
    for (const name of ["\u00e9", "e\u0301"]) await put(name);
    expect(asked).toEqual(["TEMP-AA", "temp-Ae\u0301"]);
  });

  it("may be that forms of Unicode are one and cases are not", async () => {
    const { put } = service((name) => name.normalize("NFD"));
    await put("\u00e9");
    await expect(put("e\u0301")).rejects.toMatchObject({ code: "conflict" });
    expect(await put("\u00c9")).toBe("given");
    expect(await put("\u00e9")).toBe("given");
  });

  it("is nothing where the service says that everything stands, or fails whenever it is asked", async () => {
    for (const stands of [async () => true, () => Promise.reject(new HoldfastError("internal", "no"))]) {
      const names = new FoldingNames({ stands, names: async () => [] }, () => 0);
      await names.learn("", "temp-A\u00e9", undefined);
      expect(names.folds).toBe(false);
    }
  });

  it("is asked again where the answer did not come", async () => {
    let asked = 0;
    const stands = (): Promise<boolean> => {
      asked++;
      return Promise.reject(new HoldfastError("timeout", "late"));
    };
    const names = new FoldingNames({ stands, names: async () => [] }, () => 0);
    await names.learn("", "temp-Aa", undefined);
    expect(names.markFor("a")).toBe("-Aa");
    expect(asked).toBeGreaterThan(0);
  });
});

const mounts: Mount[] = [];
afterAll(async () => {
  for (const mount of mounts) await mount.end();
});

for (const [title, service] of Object.entries(services)) {
  const server = await startServer(service.server, { instance: "folding" });
  const mount = server.running ? await mountFolding(join(server.folder, service.data)) : undefined;
  if (mount) mounts.push(mount);

  describe.runIf(mount !== undefined)(`${title}, on a folder that folds names`, onServer, () => {
    if (!server.running || !mount) return;
    let store: Store;
    let folder: string;
    const reopen = async (): Promise<void> => {
      const env = { HOME: "/nonexistent", SSH_AUTH_SOCK: "", ...service.env };
      store = await openStore(await service.url(server, folder), { env });
    };
    beforeEach(async () => {
      folder = uniqueName();
      await reopen();
    });
    afterEach(() => store.close());
    const text = async (name: string): Promise<string> =>
      Buffer.from(await collect((await store.get(name)).body)).toString();

    it("refuses the second of two names that differ in case, and keeps the first", async () => {
      await store.put("dir/readme", toBody("first"));
      for (const name of ["dir/README", "Dir/readme", "DIR/other"]) {
        await expect(store.put(name, toBody("second"))).rejects.toMatchObject({ code: "conflict" });
      }
      expect(await text("dir/readme")).toBe("first");
      expect(store.capabilities.caseSensitive).toBe(false);
    });

    it("refuses another name for an object of before with the first put", async () => {
      await store.put("dir/readme", toBody("first"));
      await store.close();
      await reopen();
      await expect(store.put("dir/README", toBody("second"))).rejects.toMatchObject({ code: "conflict" });
      expect(await text("dir/readme")).toBe("first");
    });

    it("has nothing under another name than that of the object", async () => {
      await store.put(".holdfast/x", toBody("x"));
      await store.put("dir/readme", toBody("first"));
      await store.close();
      await reopen();
      for (const name of ["dir/README", "Dir/readme"]) {
        await expect(store.get(name)).rejects.toMatchObject({ code: "not-found" });
        await expect(store.stat(name)).rejects.toMatchObject({ code: "not-found" });
        expect(await store.delete(name)).toEqual({ existed: false });
      }
      const listed: string[] = [];
      for await (const { name } of store.list("Dir/")) listed.push(name);
      expect(listed).toEqual([]);
      expect(await text("dir/readme")).toBe("first");
    });

    it("acknowledges one of many names at once that are one file, at most", async () => {
      const names = ["name", "Name", "nAme", "naMe", "namE", "NAME"];
      const results = await Promise.allSettled(names.map((name) => store.put(name, toBody(name))));
      const taken = names.filter((_, place) => results[place]?.status === "fulfilled");
      expect(taken.length).toBeLessThanOrEqual(1);
      for (const name of taken) expect(await text(name)).toBe(name);
    });

    it("does not take a name that it would change, and leaves nothing of it", async () => {
      await expect(store.put("New", toBody("x"))).rejects.toMatchObject({ code: "invalid" });
      const left = await readdir(join(mount.folder, folder));
      expect(left.filter((name) => name !== ".holdfast-7273796e63000000.tmp")).toEqual([]);
    });

    it("takes an object again, and again", async () => {
      for (const value of ["one", "two", "three"]) await store.put("dir/\u00e9", toBody(value));
      expect(await text("dir/\u00e9")).toBe("three");
      await store.delete("dir/\u00e9");
      await store.put("dir/\u00e9", toBody("four"));
      expect(await text("dir/\u00e9")).toBe("four");
    });
  });
}
