/** SFTP against a server that lies: the connection that goes wrong is in connection-faults. */
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import ssh2 from "ssh2";
import type { Attributes, Connection, FileEntry, SFTPWrapper } from "ssh2";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { collect, toBody } from "../../../src/contract/body.ts";
import { openStore } from "../../../src/stores/open-store.ts";
import { systemRuntime } from "../../../src/contract/runtime.ts";
import type { Store } from "../../../src/contract/store.ts";
import { deadline } from "../../../src/wrappers/deadline.ts";
import { codeOf, namesOf } from "../../helpers/store-answers.ts";

const MIB = 1024 * 1024;
const { STATUS_CODE } = ssh2.utils.sftp;
// Not by ssh2's own generator, which now and then makes keys that it cannot read.
const hostKey = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "sec1", format: "pem" });

let home: string;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), "holdfast-sftp-faults-"));
});
afterAll(() => rm(home, { recursive: true }));

function attributes(size: number | "folder"): Attributes {
  const mode = size === "folder" ? 0o40755 : 0o100644;
  return { mode, size: size === "folder" ? 0 : size, uid: 0, gid: 0, atime: 1, mtime: 1 };
}

/** What the server makes of a request for the names in a folder, and for bytes; it says that each file has 1 MiB. */
interface Lies {
  readonly readdir?: (sftp: SFTPWrapper, request: number, round: number) => void;
  readonly write?: (sftp: SFTPWrapper, request: number, offset: number, bytes: Buffer) => void;
  readonly read?: (sftp: SFTPWrapper, request: number, offset: number, length: number) => void;
  readonly open?: (sftp: SFTPWrapper, request: number, at: string) => void;
}

function answer(sftp: SFTPWrapper, lies: Lies): void {
  let round = 0;
  const stat = (request: number, at: string): void =>
    sftp.attrs(request, attributes(at === "/root" || at === "/" || at.endsWith("/folder") ? "folder" : MIB));
  sftp.on("REALPATH", (request, at) =>
    sftp.name(request, [{ filename: at === "." ? "/" : at, longname: "", attrs: {} as never }]),
  );
  sftp.on("STAT", stat);
  sftp.on("LSTAT", stat);
  sftp.on("FSTAT", (request) => sftp.attrs(request, attributes(MIB)));
  sftp.on("OPENDIR", (request) => sftp.handle(request, Buffer.from("d")));
  sftp.on("OPEN", (request, at) => {
    if (lies.open) lies.open(sftp, request, at);
    else sftp.handle(request, Buffer.from("f"));
  });
  sftp.on("CLOSE", (request) => sftp.status(request, STATUS_CODE.OK));
  sftp.on("WRITE", (request, _handle, offset, bytes) => {
    if (lies.write) lies.write(sftp, request, offset, bytes);
    else sftp.status(request, STATUS_CODE.OK);
  });
  for (const event of ["MKDIR", "REMOVE", "RENAME", "RMDIR"] as const) {
    sftp.on(event, (request: number) => sftp.status(request, STATUS_CODE.OK));
  }
  sftp.on("READDIR", (request) => {
    if (lies.readdir) lies.readdir(sftp, request, round++);
    else sftp.status(request, STATUS_CODE.EOF);
  });
  sftp.on("READ", (request, _handle, offset, length) => {
    if (lies.read) lies.read(sftp, request, offset, length);
    else sftp.status(request, STATUS_CODE.EOF);
  });
}

/** `deadlineMs`: short where the server lets us wait for ever. */
async function against(lies: Lies, work: (store: Store) => Promise<void>, deadlineMs = 30_000): Promise<void> {
  const clients = new Set<Connection>();
  const server = new ssh2.Server({ hostKeys: [hostKey] }, (client) => {
    clients.add(client);
    client.on("error", () => undefined);
    client.on("authentication", (login) => login.accept());
    client.on("session", (accept) => {
      accept().on("sftp", (acceptSftp) => answer(acceptSftp(), lies));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const known = path.join(home, `known-${port}`);
  const parsed = ssh2.utils.parseKey(hostKey);
  if (parsed instanceof Error) throw parsed;
  await writeFile(known, `[127.0.0.1]:${port} ${parsed.type} ${parsed.getPublicSSH().toString("base64")}\n`);
  const env = { HOME: "/nonexistent", SSH_AUTH_SOCK: "" };
  const store = await openStore(`sftp://u:p@127.0.0.1:${port}//root?known-hosts=${known}`, { env });
  try {
    await work(deadline(store, { runtime: systemRuntime, callMs: deadlineMs, idleMs: deadlineMs }));
  } finally {
    await store.close();
    for (const client of clients) client.end();
    server.close();
  }
}

const entry = (filename: string): FileEntry => ({ filename, longname: filename, attrs: attributes(1) });
const read = async (store: Store): Promise<Buffer> => Buffer.from(await collect((await store.get("x")).body));
const listed = (...filenames: string[]): Lies => ({
  readdir: (sftp, request, round) =>
    round === 0 ? sftp.name(request, filenames.map(entry)) : sftp.status(request, STATUS_CODE.EOF),
});

describe("an SFTP server that lies", () => {
  it("gives what an honest one does", () =>
    against(
      { ...listed("a", "b"), read: (sftp, request, _, length) => sftp.data(request, Buffer.alloc(length, "x")) },
      async (store) => {
        expect(await namesOf(store)).toEqual(["a", "b"]);
        expect((await read(store)).equals(Buffer.alloc(MIB, "x"))).toBe(true);
      },
    ));

  test.each(["../secret", "/etc/passwd", "a/b", "a\0b", ""])("an entry %j makes the listing fail", (filename) =>
    against(listed("a", filename), async (store) => {
      await expect(namesOf(store)).rejects.toMatchObject({ code: "corrupt", operation: "list" });
    }),
  );

  it("a folder without end is given up, in bounded memory", async () => {
    const before = process.memoryUsage().rss;
    for (const text of [undefined, "same", "new"]) {
      const readdir: Lies["readdir"] = (sftp, request, round) =>
        sftp.name(
          request,
          text === undefined
            ? []
            : Array.from({ length: 100 }, (_, n) => entry(`${text}${text === "new" ? round * 100 + n : ""}`)),
        );
      const look = async (store: Store): Promise<void> =>
        expect(["corrupt", "incomplete", "timeout"]).toContain(await codeOf(namesOf(store)));
      await against({ readdir }, look, 1500);
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(300 * MIB);
  });

  test.each<[string, NonNullable<Lies["read"]>]>([
    [
      "ends before its size",
      (sftp, request, offset, length) =>
        offset < 100_000 ? sftp.data(request, Buffer.alloc(length)) : sftp.status(request, STATUS_CODE.EOF),
    ],
    ["gives nothing where bytes were asked for", (sftp, request) => sftp.data(request, Buffer.alloc(0))],
    [
      "fails in the middle",
      (sftp, request, offset, length) =>
        offset < 100_000 ? sftp.data(request, Buffer.alloc(length)) : sftp.status(request, STATUS_CODE.FAILURE),
    ],
  ])("a file that %s is no object", (_, lie) =>
    against({ read: lie }, async (store) => {
      expect(["corrupt", "unavailable"]).toContain(await codeOf(read(store)));
    }),
  );

  it("a file whose bytes never come is given up at the deadline", () => {
    const wait = async (store: Store): Promise<void> => expect(await codeOf(read(store))).toBe("timeout");
    return against({ read: () => undefined }, wait, 1500);
  });

  it("bytes that were not asked for are not part of the object", () => {
    const more = (length: number): Buffer => Buffer.concat([Buffer.alloc(length, "x"), Buffer.alloc(1000, "y")]);
    return against({ read: (sftp, request, _, length) => sftp.data(request, more(length)) }, async (store) => {
      expect((await read(store)).equals(Buffer.alloc(MIB, "x"))).toBe(true);
    });
  });

  it("a put of which the server keeps another size is an error", () =>
    against({}, async (store) => {
      expect(["corrupt", "unavailable"]).toContain(await codeOf(store.put("x", toBody("three"))));
    }));

  it("writes that are refused because others should come first are sent again, in order", async () => {
    const content = Buffer.from(Array.from({ length: MIB }, (_, n) => (n * 7) % 251));
    let kept = Buffer.alloc(0);
    let refused = 0;
    const write: Lies["write"] = (sftp, request, offset, bytes) => {
      // One comes late, as it seems to the server, and then all behind it come too early.
      if (offset !== kept.length || (refused === 0 && offset > 100_000)) {
        refused++;
        sftp.status(request, STATUS_CODE.FAILURE, "Illegal seek");
        return;
      }
      kept = Buffer.concat([kept, bytes]);
      sftp.status(request, STATUS_CODE.OK);
    };
    await against({ write }, async (store) => {
      expect(await codeOf(store.put("x", toBody(content)))).toBe("no error");
    });
    expect(kept.equals(content)).toBe(true);
    expect(refused).toBeGreaterThan(1);
  });

  it("a write that is refused for good is an error", () =>
    against({ write: (sftp, request) => sftp.status(request, STATUS_CODE.FAILURE, "Illegal seek") }, async (store) => {
      expect(await codeOf(store.put("x", toBody("three")))).toBe("unavailable");
    }));
});

describe("a server that says no more than that it failed", () => {
  const open = (sftp: SFTPWrapper, request: number): void =>
    sftp.status(request, STATUS_CODE.FAILURE, "Is a directory");

  it("of a folder: there is no object of that name", async () => {
    await against({ open }, async (store) => {
      expect(await codeOf(store.get("folder"))).toBe("not-found");
    });
  });

  it("of a file: it is out of order", async () => {
    await against({ open }, async (store) => {
      expect(await codeOf(store.get("file"))).toBe("unavailable");
    });
  });
});
