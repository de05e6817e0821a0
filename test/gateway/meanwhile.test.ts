/**
 * What one client was told is done, another client's request does not undo: conditions are checked when the change is
 * made, and not before it waits for its turn; what is removed is what was seen.
 */
import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { toBody } from "../../src/contract/body.ts";
import { startMeanwhile } from "../helpers/meanwhile.ts";
import { waitUntil } from "../helpers/wait-until.ts";
import type { MeanwhileGateways } from "../helpers/meanwhile.ts";

let gateways: MeanwhileGateways;
let appendOnly: MeanwhileGateways;

beforeAll(async () => {
  [gateways, appendOnly] = await Promise.all([
    startMeanwhile(),
    startMeanwhile({ appendOnly: true, protocols: ["restic"] }),
  ]);
});
afterAll(async () => {
  await gateways?.end();
  await appendOnly?.end();
});

const LOCK_INFO =
  '<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>' +
  "<D:locktype><D:write/></D:locktype></D:lockinfo>";

const UPDATE = '<propertyupdate xmlns="DAV:"><set><prop><x xmlns="urn:x">y</x></prop></set></propertyupdate>';

interface Answer {
  readonly status: number;
  readonly etag: string;
  readonly text: string;
}

type Headers = Readonly<Record<string, string>>;

async function ask(method: string, url: string, headers: Headers = {}, body?: string): Promise<Answer> {
  const response = await fetch(url, { method, headers, ...(body === undefined ? {} : { body }) });
  return { status: response.status, etag: response.headers.get("etag") ?? "", text: await response.text() };
}

const s3 = (method: string, key: string, headers?: Headers, body?: string): Promise<Answer> =>
  ask(method, `${gateways.url("s3")}/bucket/${key}`, headers, body);
const dav = (method: string, path: string, headers?: Headers, body?: string): Promise<Answer> =>
  ask(method, `${gateways.url("webdav")}/${path}`, headers, body);
const to = (path: string, more: Headers = {}): Headers => ({
  destination: `${gateways.url("webdav")}/${path}`,
  ...more,
});

/** What a file is, without what only makes it long, or the status that says it is none. */
async function contentOf(name: string): Promise<string | number> {
  const { status, text } = await dav("GET", name);
  return status === 200 ? text.trimEnd() : status;
}

/**
 * A put of `name` by S3, which takes no lock of WebDAV's, is under way while `work` is begun; both end when the pool has
 * been asked for what `work` wants of that name.
 */
async function whilePutting<T>(
  name: string,
  wanted: "put" | "delete",
  work: () => Promise<T>,
  at: MeanwhileGateways = gateways,
  put: () => Promise<unknown> = () => at.pool.put(name, toBody("theirs")),
): Promise<T> {
  const stop = at.stopAt("put", name);
  const putting = put();
  await stop.reached;
  const asked = at.asked(wanted, name);
  const result = work();
  await asked;
  stop.goOn();
  await putting;
  return result;
}

/** The same while a folder is made by S3 that has content itself. */
const whileMaking = <T>(path: string, work: () => Promise<T>): Promise<T> =>
  whilePutting(`${path}/.holdfast-folder`, "put", work, gateways, () =>
    s3("PUT", `${path}/`, {}, "content of a folder"),
  );

let count = 0;
const fresh = (what: string): string => `${what}-${++count}`;

async function uploaded(key: string, content: string): Promise<{ id: string; document: string }> {
  const id = /<UploadId>([0-9a-f]+)</u.exec((await s3("POST", `${key}?uploads`)).text)?.[1] ?? "";
  const { etag } = await s3("PUT", `${key}?partNumber=1&uploadId=${id}`, {}, content);
  const part = `<Part><PartNumber>1</PartNumber><ETag>${etag}</ETag></Part>`;
  return { id, document: `<CompleteMultipartUpload>${part}</CompleteMultipartUpload>` };
}

/** Ways of S3 to write `content` to a key under a condition. */
const writes: Readonly<Record<string, (key: string, content: string, condition: Headers) => Promise<Answer>>> = {
  PutObject: (key, content, condition) => s3("PUT", key, condition, content),
  "PutObject of more than is taken at once": (key, content, condition) =>
    s3("PUT", key, condition, content.padEnd(1_500_000)),
  CopyObject: async (key, content, condition) => {
    const source = fresh("source");
    await s3("PUT", source, {}, content);
    return s3("PUT", key, { ...condition, "x-amz-copy-source": `/bucket/${source}` });
  },
  CompleteMultipartUpload: async (key, content, condition) => {
    const { id, document } = await uploaded(key, content);
    return s3("POST", `${key}?uploadId=${id}`, condition, document);
  },
};

describe.each(Object.keys(writes))("S3's %s", (kind) => {
  const write = (key: string, content: string, condition: Headers): Promise<Answer> =>
    writes[kind]?.(key, content, condition) ?? Promise.reject(new Error(kind));

  test("with If-None-Match: * leaves what was put while it waited", async () => {
    const key = fresh("new");
    const answer = await whilePutting(key, "put", () => write(key, "mine", { "if-none-match": "*" }));
    expect([answer.status, await contentOf(key)]).toEqual([412, "theirs"]);
  });

  test("with If-Match leaves what was put while it waited", async () => {
    const key = fresh("old");
    const { etag } = await s3("PUT", key, {}, "before");
    const answer = await whilePutting(key, "put", () => write(key, "mine", { "if-match": etag }));
    expect([answer.status, await contentOf(key)]).toEqual([412, "theirs"]);
  });

  test("under a condition that holds is done", async () => {
    const key = fresh("done");
    expect((await write(key, "first", { "if-none-match": "*" })).status).toBe(200);
    const { etag } = await s3("HEAD", key);
    expect((await write(key, "second", { "if-match": etag })).status).toBe(200);
    expect(await contentOf(key)).toBe("second");
  });
});

describe("S3", () => {
  test("deletes under If-Match what is still the same, not what was put meanwhile", async () => {
    const key = fresh("deleted");
    const { etag } = await s3("PUT", key, {}, "before");
    const answer = await whilePutting(key, "delete", () => s3("DELETE", key, { "if-match": etag }));
    expect([answer.status, await contentOf(key)]).toEqual([412, "theirs"]);
    const now = (await s3("HEAD", key)).etag;
    expect([(await s3("DELETE", key, { "if-match": now })).status, await contentOf(key)]).toEqual([204, 404]);
  });

  test("deletes many under their ETags", async () => {
    const keys = [fresh("many"), fresh("many")] as const;
    const etags = await Promise.all(keys.map(async (key) => (await s3("PUT", key, {}, "before")).etag));
    const objects = keys.map((key, index) => `<Object><Key>${key}</Key><ETag>${etags[index]}</ETag></Object>`);
    const answer = await whilePutting(keys[0], "delete", () =>
      ask("POST", `${gateways.url("s3")}/bucket?delete`, {}, `<Delete>${objects.join("")}</Delete>`),
    );
    expect(answer.text).toContain(`<Error><Key>${keys[0]}</Key><Code>PreconditionFailed</Code>`);
    expect(answer.text).toContain(`<Deleted><Key>${keys[1]}</Key></Deleted>`);
    expect([await contentOf(keys[0]), await contentOf(keys[1])]).toEqual(["theirs", 404]);
  });

  test("refuses conditions that it does not know instead of ignoring them", async () => {
    const key = fresh("kept");
    await s3("PUT", key, {}, "before");
    const object = `<Delete><Object><Key>${key}</Key><Size>1</Size></Object></Delete>`;
    expect((await s3("DELETE", key, { "x-amz-if-match-size": "1" })).status).toBe(501);
    expect((await ask("POST", `${gateways.url("s3")}/bucket?delete`, {}, object)).status).toBe(501);
    expect(await contentOf(key)).toBe("before");
  });

  test("does not put old bytes back when it replaces the metadata of what is overwritten meanwhile", async () => {
    const key = fresh("itself");
    await s3("PUT", key, {}, "before");
    const headers = { "x-amz-copy-source": `/bucket/${key}`, "x-amz-metadata-directive": "REPLACE" };
    const answer = await whilePutting(key, "put", () => s3("PUT", key, { ...headers, "x-amz-meta-a": "b" }));
    expect([answer.status, await contentOf(key)]).toEqual([503, "theirs"]);
  });
});

describe("a WebDAV request leaves what was put while it waited:", () => {
  test("PUT with If-None-Match: *", async () => {
    const path = fresh("new");
    const answer = await whilePutting(path, "put", () => dav("PUT", path, { "if-none-match": "*" }, "mine"));
    expect([answer.status, await contentOf(path)]).toEqual([412, "theirs"]);
  });

  test.each(["if-match", "if"])("PUT with an ETag in %s", async (header) => {
    const path = fresh("old");
    const { etag } = await dav("PUT", path, {}, "before");
    const condition = { [header]: header === "if" ? `([${etag}])` : etag };
    const answer = await whilePutting(path, "put", () => dav("PUT", path, condition, "mine"));
    expect([answer.status, await contentOf(path)]).toEqual([412, "theirs"]);
    const now = (await dav("HEAD", path)).etag;
    const holding = { [header]: header === "if" ? `([${now}])` : now };
    expect([(await dav("PUT", path, holding, "mine")).status, await contentOf(path)]).toEqual([204, "mine"]);
  });

  test.each(["if-match", "if"])("DELETE with an ETag in %s", async (header) => {
    const path = fresh("old");
    const { etag } = await dav("PUT", path, {}, "before");
    const condition = { [header]: header === "if" ? `([${etag}])` : etag };
    const answer = await whilePutting(path, "delete", () => dav("DELETE", path, condition));
    expect([answer.status, await contentOf(path)]).toEqual([412, "theirs"]);
  });

  test.each(["COPY", "MOVE"])("%s with Overwrite: F", async (method) => {
    const [from, path] = [fresh("from"), fresh("to")];
    await dav("PUT", from, {}, "mine");
    const answer = await whilePutting(path, "put", () => dav(method, from, to(path, { overwrite: "F" })));
    expect([answer.status, await contentOf(path), await contentOf(from)]).toEqual([412, "theirs", "mine"]);
  });

  test("MOVE over a file whose ETag the If header names", async () => {
    const [from, path] = [fresh("from"), fresh("to")];
    await dav("PUT", from, {}, "mine");
    const { etag } = await dav("PUT", path, {}, "before");
    const headers = to(path, { if: `<${gateways.url("webdav")}/${path}> ([${etag}])` });
    const answer = await whilePutting(path, "put", () => dav("MOVE", from, headers));
    expect([answer.status, await contentOf(path), await contentOf(from)]).toEqual([412, "theirs", "mine"]);
  });

  test("MKCOL of a folder that S3 makes with content", async () => {
    const path = fresh("folder");
    const answer = await whileMaking(path, () => dav("MKCOL", path));
    expect([answer.status, (await s3("GET", `${path}/`)).text]).toEqual([405, "content of a folder"]);
  });

  test("DELETE of the last file of a folder that S3 makes with content", async () => {
    const path = fresh("folder");
    await s3("PUT", `${path}/last`, {}, "before");
    const answer = await whileMaking(path, () => dav("DELETE", `${path}/last`));
    expect([answer.status, (await s3("GET", `${path}/`)).text]).toEqual([204, "content of a folder"]);
  });

  test("LOCK of a name where nothing is", async () => {
    const path = fresh("locked");
    const answer = await whilePutting(path, "put", () => dav("LOCK", path, {}, LOCK_INFO));
    expect([answer.status, await contentOf(path)]).toEqual([200, "theirs"]);
  });

  test("PROPPATCH of a file", async () => {
    const path = fresh("patched");
    await dav("PUT", path, {}, "before");
    const answer = await whilePutting(path, "put", () => dav("PROPPATCH", path, {}, UPDATE));
    expect([answer.status, await contentOf(path)]).toEqual([409, "theirs"]);
  });

  test("PROPPATCH of a folder that S3 gave content", async () => {
    const path = fresh("patched");
    await s3("PUT", `${path}/`, {}, "content of a folder");
    expect((await dav("PROPPATCH", path, {}, UPDATE)).status).toBe(207);
    expect((await s3("GET", `${path}/`)).text).toBe("content of a folder");
  });
});

test.each(["DELETE", "COPY", "MOVE", "PROPPATCH", "LOCK"])("WebDAV's %s keeps to If-Match", async (method) => {
  const [path, target] = [fresh("matched"), fresh("to")];
  await dav("PUT", path, {}, "before");
  const body = { PROPPATCH: UPDATE, LOCK: LOCK_INFO }[method];
  const answer = await dav(method, path, to(target, { "if-match": '"another"' }), body);
  expect([answer.status, await contentOf(path), await contentOf(target)]).toEqual([412, "before", 404]);
});

describe("MOVE of a folder", () => {
  /** Moves a folder; `meanwhile` is done when a file of it has been copied and another is on its way. */
  async function moving(
    meanwhile: (folder: string, target: string) => Promise<void>,
    headers: Headers = {},
  ): Promise<{ folder: string; target: string; answer: Answer }> {
    const [folder, target] = [fresh("folder"), fresh("moved")];
    for (const path of [folder, `${folder}/sub`, `${folder}/still`]) await dav("MKCOL", path);
    for (const path of ["a", "sub/b", "still/c", "z"]) await dav("PUT", `${folder}/${path}`, {}, `${path} before`);
    const stop = gateways.stopAt("put", `${target}/z`);
    const answer = dav("MOVE", folder, to(target, headers));
    await stop.reached;
    for (const path of ["a", "sub/b"]) await waitUntil(async () => (await contentOf(`${target}/${path}`)) !== 404);
    await meanwhile(folder, target);
    stop.goOn();
    return { folder, target, answer: await answer };
  }

  const hrefs = ({ text }: Answer): string[] =>
    [...text.matchAll(/<D:href>([^<]*)<\/D:href><D:status>HTTP\/1.1 (\d+)/gu)]
      .map((one) => `${one[1]} ${one[2]}`)
      .sort();

  test("leaves a file that was put into it meanwhile, and says so", async () => {
    const { folder, target, answer } = await moving(async (source) => {
      expect((await dav("PUT", `${source}/new`, {}, "theirs")).status).toBe(201);
    });
    expect([answer.status, hrefs(answer)]).toEqual([207, [`/${folder}/new 409`]]);
    expect([await contentOf(`${folder}/new`), await contentOf(`${target}/new`)]).toEqual(["theirs", 404]);
    expect([await contentOf(`${folder}/a`), await contentOf(`${target}/a`)]).toEqual([404, "a before"]);
  });

  test("leaves a file that was overwritten meanwhile, and says so", async () => {
    const { folder, target, answer } = await moving(async (source) => {
      expect((await dav("PUT", `${source}/a`, {}, "theirs")).status).toBe(204);
    });
    expect([answer.status, hrefs(answer)]).toEqual([207, [`/${folder}/a 409`]]);
    expect([await contentOf(`${folder}/a`), await contentOf(`${target}/a`)]).toEqual(["theirs", "a before"]);
  });

  test("leaves the folders around what stays, and no others", async () => {
    const { folder } = await moving(async (source) => {
      await dav("PUT", `${source}/sub/b`, {}, "theirs");
    });
    expect((await dav("DELETE", `${folder}/sub/b`)).status).toBe(204);
    const kinds = await Promise.all(["", "/sub", "/still"].map((path) => dav("HEAD", folder + path)));
    expect(kinds.map(({ status }) => status)).toEqual([200, 200, 404]);
  });

  test("answers 201 where nothing came meanwhile, and nothing is left", async () => {
    const { folder, target, answer } = await moving(async () => undefined);
    expect([answer.status, (await dav("HEAD", folder)).status]).toEqual([201, 404]);
    expect(await Promise.all(["a", "sub/b", "still/c", "z"].map((path) => contentOf(`${target}/${path}`)))).toEqual([
      "a before",
      "sub/b before",
      "still/c before",
      "z before",
    ]);
  });

  test("is done where a file is deleted meanwhile", async () => {
    const { folder, answer } = await moving(async (source) => {
      expect((await dav("DELETE", `${source}/sub/b`)).status).toBe(204);
    });
    expect([answer.status, (await dav("HEAD", folder)).status]).toEqual([201, 404]);
  });

  test("leaves a file that another client locked meanwhile, and its lock", async () => {
    const { folder, answer } = await moving(async (source) => {
      expect((await dav("LOCK", `${source}/a`, { timeout: "Second-60" }, LOCK_INFO)).status).toBe(200);
    });
    expect([answer.status, hrefs(answer)]).toEqual([207, [`/${folder}/a 423`]]);
    expect([await contentOf(`${folder}/a`), (await dav("DELETE", `${folder}/a`)).status]).toEqual(["a before", 423]);
  });

  test("with Overwrite: F leaves what was put at the destination meanwhile, and its own file", async () => {
    const [folder, target] = [fresh("folder"), fresh("moved")];
    // A folder that is there by its files alone: the first put of the move is that of the new folder.
    for (const path of ["a", "b"]) await s3("PUT", `${folder}/${path}`, {}, `${path} before`);
    const stop = gateways.stopAt("put", `${target}/.holdfast-folder`);
    const moving = dav("MOVE", folder, to(target, { overwrite: "F" }));
    await stop.reached;
    await s3("PUT", `${target}/b`, {}, "theirs");
    stop.goOn();
    const answer = await moving;
    expect([answer.status, hrefs(answer)]).toEqual([207, [`/${target}/b 412`]]);
    expect([await contentOf(`${target}/b`), await contentOf(`${folder}/b`)]).toEqual(["theirs", "b before"]);
    expect([await contentOf(`${target}/a`), await contentOf(`${folder}/a`)]).toEqual(["a before", 404]);
  });
});

test("MOVE of a file leaves what was put meanwhile, and says so", async () => {
  const [path, target] = [fresh("file"), fresh("moved")];
  await dav("PUT", path, {}, "before");
  const stop = gateways.stopAt("put", target);
  const moving = dav("MOVE", path, to(target));
  await stop.reached;
  expect((await dav("PUT", path, {}, "theirs")).status).toBe(204);
  stop.goOn();
  expect([(await moving).status, await contentOf(path)]).toEqual([409, "theirs"]);
});

describe("of a folder that is written to meanwhile,", () => {
  /** A folder with two files; `request` has been stopped at the delete of the first when `meanwhile` is done. */
  async function removing(
    folder: string,
    request: () => Promise<Answer>,
    meanwhile: () => Promise<unknown>,
  ): Promise<Answer> {
    await dav("MKCOL", folder);
    for (const path of ["a", "b"]) await dav("PUT", `${folder}/${path}`, {}, `${path} before`);
    const stop = gateways.stopAt("delete", `${folder}/a`);
    const answer = request();
    await stop.reached;
    await meanwhile();
    stop.goOn();
    return answer;
  }

  test("DELETE leaves a new file, and says so", async () => {
    const folder = fresh("folder");
    const put = (): Promise<Answer> => dav("PUT", `${folder}/new`, {}, "theirs");
    const answer = await removing(folder, () => dav("DELETE", folder), put);
    expect([answer.status, answer.text]).toEqual([207, expect.stringContaining(`/${folder}/new`)]);
    expect([await contentOf(`${folder}/new`), await contentOf(`${folder}/a`)]).toEqual(["theirs", 404]);
  });

  test("DELETE leaves a file that was overwritten, and says so", async () => {
    const folder = fresh("folder");
    await dav("MKCOL", folder);
    await dav("PUT", `${folder}/a`, {}, "before");
    const answer = await whilePutting(`${folder}/a`, "delete", () => dav("DELETE", folder));
    expect([answer.status, answer.text]).toEqual([207, expect.stringContaining(`/${folder}/a`)]);
    expect(await contentOf(`${folder}/a`)).toBe("theirs");
  });

  test.each(["COPY", "MOVE"])("%s over it leaves a new file, and copies nothing", async (method) => {
    const [folder, source] = [fresh("folder"), fresh("source")];
    await dav("PUT", source, {}, "mine");
    const put = (): Promise<Answer> => dav("PUT", `${folder}/new`, {}, "theirs");
    const answer = await removing(folder, () => dav(method, source, to(folder)), put);
    expect([answer.status, answer.text]).toEqual([207, expect.stringContaining(`/${folder}/new`)]);
    expect([await contentOf(`${folder}/new`), await contentOf(source)]).toEqual(["theirs", "mine"]);
  });
});

test("a deep LOCK is given when the writes below it that had begun are over", async () => {
  const folder = fresh("folder");
  await dav("MKCOL", folder);
  const stop = gateways.stopAt("put", `${folder}/a`);
  const order: string[] = [];
  const putting = dav("PUT", `${folder}/a`, {}, "theirs").then(() => order.push("put"));
  await stop.reached;
  const locking = dav("LOCK", folder, { timeout: "Second-60" }, LOCK_INFO).then(() => order.push("lock"));
  // From now on the lock keeps others out.
  await waitUntil(async () => (await dav("PUT", `${folder}/b`, {}, "b")).status === 423);
  stop.goOn();
  await Promise.all([putting, locking]);
  expect(order).toEqual(["put", "lock"]);
});

describe("restic", () => {
  const idOf = (text: string): string => createHash("sha256").update(text).digest("hex");
  const restic = (at: MeanwhileGateways, method: string, path: string, body?: string): Promise<Answer> =>
    ask(method, `${at.url("restic")}/${path}`, {}, body);

  test.each(["config", "file"])("adds a %s to what can only be added to where none was put meanwhile", async (kind) => {
    const repository = fresh("repository");
    const id = idOf("mine");
    const name = kind === "config" ? `${repository}/config` : `${repository}/data/${id.slice(0, 2)}/${id}`;
    const path = kind === "config" ? name : `${repository}/data/${id}`;
    const answer = await whilePutting(name, "put", () => restic(appendOnly, "POST", path, "mine"), appendOnly);
    expect(answer.status).toBe(403);
    expect((await restic(appendOnly, "GET", path)).text).toBe("theirs");
  });

  test("removes a repository but for what was written to it meanwhile", async () => {
    const repository = fresh("repository");
    await restic(gateways, "POST", `${repository}/config`, "before");
    await restic(gateways, "POST", `${repository}/keys/${idOf("key")}`, "key");
    const name = `${repository}/config`;
    const answer = await whilePutting(name, "delete", () => restic(gateways, "DELETE", `${repository}/`));
    expect([answer.status, await contentOf(name)]).toEqual([409, "theirs"]);
    expect((await restic(gateways, "HEAD", `${repository}/keys/${idOf("key")}`)).status).toBe(404);
  });
});
