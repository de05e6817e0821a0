/**
 * Services of the long tail (Google Drive, OneDrive, Dropbox, Backblaze B2, OSS, COS, OBS …) through Apache OpenDAL, an
 * optional peer dependency: `gdrive://folder`, `onedrive://folder`, `dropbox://folder`, `b2://bucket/path`,
 * `oss://bucket/path` …, and `opendal://service/path` for any service it has.
 *
 * A service's settings stand in the store's `env` as `OPENDAL_<SERVICE>_<SETTING>`, as OpenDAL's documentation names
 * them. OpenDAL cannot cancel what it has begun, so a put is gathered first, in memory up to 8 MiB and in a local file
 * beyond, and nothing of a source that fails ever reaches the service.
 */
import { createWriteStream } from "node:fs";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Operator } from "opendal";
import { CHUNK_BYTES, checkedBytes } from "../contract/body.ts";
import { HoldfastError, isHoldfastError, throwIfAborted } from "../contract/errors.ts";
import type { ErrorCode } from "../contract/errors.ts";
import { MAX_NAME_BYTES, foldersAbove } from "../contract/names.ts";
import { UNKNOWN_HOST } from "../support/network-errors.ts";
import type { StoreContext, StoreKind, StorePlace } from "./base/store-kind.ts";
import { resolveRange } from "../contract/ranges.ts";
import { isSecretName, secretsOf } from "../support/redact.ts";
import type { GetResult, ObjectInfo, Store } from "../contract/store.ts";
import type { StoreUrl } from "../contract/store-url.ts";
import { NOT_ATOMIC, Operations, notFound, refuseUnsupported } from "./base/operations.ts";
import { checkParts, checkPathName, folderOfPrefix, isTempName, tempName } from "./base/path-names.ts";
import { raceSignal } from "../support/signals.ts";
import { FoldingNames } from "./base/folding-names.ts";
import { otherSettings, ownVariables, placeOfFolder, publicSettings, serverPath } from "./base/place.ts";
import { decodePath } from "./base/query.ts";

export const opendalKind: StoreKind = {
  open: async (url, context) => openOpendalStore(url, context),
  place: opendalPlace,
};

interface Service {
  /** OpenDAL's name. */
  readonly name: string;
  /** The URL's host is a bucket. */
  readonly bucket?: boolean;
  /** It has folders: `a` and `a/b` cannot both be. */
  readonly folders?: boolean;
  /** A write is seen before it is complete, so that it needs a temporary name and a rename. */
  readonly renames?: boolean;
  readonly caseFolding?: boolean;
  /** Deleting a folder that is not empty fails. With most services it deletes what is in it. */
  readonly prunes?: boolean;
}

/** Scheme → service. */
const SERVICES: Readonly<Record<string, Service>> = {
  gdrive: { name: "gdrive", folders: true },
  onedrive: { name: "onedrive", folders: true, caseFolding: true },
  dropbox: { name: "dropbox", folders: true, caseFolding: true },
  dpbx: { name: "dropbox", folders: true, caseFolding: true },
  b2: { name: "b2", bucket: true },
  oss: { name: "oss", bucket: true },
  cos: { name: "cos", bucket: true },
  obs: { name: "obs", bucket: true },
};

/** What is known of services behind `opendal://`. Others are taken to have folders, and to write at once. */
const NAMED: Readonly<Record<string, Omit<Service, "name">>> = {
  fs: { folders: true, renames: true, prunes: true },
  webdav: { folders: true, renames: true },
  memory: {},
  s3: {},
  oss: {},
  cos: {},
  obs: {},
  b2: {},
  onedrive: { folders: true, caseFolding: true },
  dropbox: { folders: true, caseFolding: true },
};

/** Services where one name of a bucket is one bucket, whoever asks for it. */
const ONE_NAMESPACE: ReadonlySet<string> = new Set(["b2", "oss", "cos", "obs"]);

/** A put up to this size, in bytes, is gathered in memory. */
const MEMORY_BYTES = 8 * 1024 * 1024;

/** What a service that takes an object in one request may be given, since it is held in memory then. */
const MAX_WHOLE_BYTES = 100 * 1024 * 1024;

const PART_BYTES = 8 * 1024 * 1024;

/** Opens a store through OpenDAL. Throws `config` where it is not installed, or the service's settings are wrong. */
export async function openOpendalStore(url: StoreUrl, context: StoreContext): Promise<Store> {
  const service = serviceOf(url);
  const settings = readSettings(service, url, context.env);
  const secrets = [
    ...secretsOf(url, context.env),
    ...Object.entries(settings).flatMap(([name, value]) => (isSecretName(name) || name.endsWith("key") ? [value] : [])),
  ];
  const opendal = await load();
  let operator: Operator;
  try {
    operator = new opendal.Operator(service.name.replaceAll("_", "-"), settings);
  } catch (error) {
    const { message } = serviceError(error);
    // Before the arrow stand its own kinds and places.
    const reason = / => (.+)$/u.exec(message)?.[1] ?? message;
    throw new HoldfastError("config", `OpenDAL refuses the settings of ${service.name}: ${reason}`);
  }
  const capability = operator.capability();
  const whole = !capability.writeCanMulti;
  const limit = whole ? Math.min(MAX_WHOLE_BYTES, Number(capability.writeTotalMaxSize ?? MAX_WHOLE_BYTES)) : undefined;
  const renames = service.renames === true && capability.rename;
  /** What OpenDAL is still doing for callers that no longer wait. */
  const background = new Set<Promise<unknown>>();
  const call = <T>(work: Promise<T>, signal: AbortSignal): Promise<T> => {
    const settled = work.catch(() => undefined).finally(() => void background.delete(settled));
    background.add(settled);
    return raceSignal(work, signal);
  };

  const rootBytes = Buffer.byteLength((settings["root"] ?? "").replaceAll(/^\/+|\/+$/gu, "")) + 1;

  const checkNameHere = (name: string): void => {
    checkPathName(name);
    if (!service.folders && Buffer.byteLength(name) + rootBytes > MAX_NAME_BYTES) {
      throw new HoldfastError("invalid", `with the store's path the name is longer than ${MAX_NAME_BYTES} bytes`);
    }
    checkParts(name, 255);
    // OpenDAL trims these, and would take the name for another.
    if (name.split("/").some((part) => part.trim() !== part || /\p{Cc}|\\/u.test(part))) {
      throw new HoldfastError(
        "invalid",
        "a part begins or ends with white space, or holds a control character or backslash",
      );
    }
  };

  const stat = async (name: string, signal: AbortSignal): Promise<ObjectInfo> => {
    const metadata = await call(operator.stat(name), signal).catch((error: unknown) => {
      const mapped = serviceError(error);
      throw mapped.code === "conflict" ? new HoldfastError("not-found", mapped.message) : mapped;
    });
    if (!metadata.isFile()) throw notFound();
    await names?.refuseToFind(name.split("/"), signal);
    const modifiedMs = Date.parse(metadata.lastModified ?? "");
    return {
      name,
      size: Number(metadata.contentLength ?? 0n),
      ...(Number.isNaN(modifiedMs) ? {} : { modifiedMs }),
    };
  };

  /** Of services that are a file system, or may stand before one. */
  const names = renames
    ? new FoldingNames(
        {
          stands: async (at) => {
            try {
              await operator.stat(at);
              return true;
            } catch (error) {
              const mapped = serviceError(error);
              if (mapped.code === "not-found" || mapped.code === "conflict") return false;
              throw mapped;
            }
          },
          names: async (folder) =>
            (await operator.list(folder === "" ? "" : `${folder}/`)).map(
              (entry) => entry.path().replace(/\/$/u, "").split("/").at(-1) ?? "",
            ),
        },
        () => context.runtime.monotonicMs(),
      )
    : undefined;

  /** Refuses names at or below which another stands, which services with folders would otherwise replace or mix. */
  const checkPlace = async (name: string, signal: AbortSignal): Promise<void> => {
    if (!service.folders) return;
    const parts = name.split("/");
    for (let i = 1; i <= parts.length; i++) {
      const at = parts.slice(0, i).join("/");
      const metadata = await call(operator.stat(at), signal).catch((error: unknown) => {
        const mapped = serviceError(error);
        if (mapped.code === "not-found") return undefined;
        throw mapped;
      });
      if (!metadata) return;
      if (metadata.isFile() !== (i === parts.length)) {
        throw new HoldfastError("conflict", `an object or folder stands at ${JSON.stringify(at)}`);
      }
    }
  };

  const write = async (
    to: string,
    source: Gathered,
    signal: AbortSignal,
    onAlive: (() => void) | undefined,
  ): Promise<void> => {
    if (whole || source.size <= PART_BYTES) {
      await call(operator.write(to, await source.all()), signal);
      return;
    }
    const writer = await call(operator.writer(to), signal);
    for await (const part of source.parts()) {
      await call(writer.write(part), signal);
      onAlive?.();
    }
    await call(writer.close(), signal);
  };

  /** An empty folder is no object, and would stand in the way of one. */
  const prune = async (name: string, signal: AbortSignal): Promise<void> => {
    for (const folder of foldersAbove(name).reverse()) {
      try {
        await call(operator.delete(`${folder}/`), signal);
      } catch (error) {
        if (signal.aborted) throw error;
        // Something is in it.
        return;
      }
    }
  };

  const operations = new Operations({ context, secrets, mapError: serviceError, checkName: checkNameHere });

  return {
    label: context.label,
    get capabilities() {
      return {
        orderedList: false,
        conditionalPut: false,
        prefixNames: !service.folders,
        // A service without folders counts the store's own path as a part of the name.
        maxNameBytes: MAX_NAME_BYTES - (service.folders ? 0 : rootBytes),
        maxNamePartBytes: 255,
        caseSensitive: !(service.caseFolding ?? false) && names?.folds !== true,
        storeDigests: [],
        ...(limit === undefined ? {} : { maxObjectBytes: limit }),
      };
    },
    put: (name, body, options = {}) =>
      operations.run("put", name, options, async ({ signal }) => {
        refuseUnsupported(options, NOT_ATOMIC);
        const source = await gather(checkedBytes(body, signal), limit, context);
        try {
          throwIfAborted(signal);
          await checkPlace(name, signal);
          if (!renames) await write(name, source, signal, options.onAlive);
          else {
            const slash = name.lastIndexOf("/");
            const file = tempName(context.runtime, names?.markFor(name));
            const temp = name.slice(0, slash + 1) + file;
            const rename = (): Promise<void> => call(operator.rename(temp, name), signal);
            try {
              await again(() => write(temp, source, signal, options.onAlive));
              await names?.learn(name.slice(0, Math.max(slash, 0)), file, signal);
              await (names?.give(name.split("/"), signal, rename, (kept) => operator.delete(kept.join("/"))) ??
                rename());
            } catch (error) {
              await Promise.all(background);
              await operator.delete(temp).catch(() => undefined);
              throw error;
            }
          }
          return { size: source.size };
        } finally {
          await source.release();
        }
      }),
    get: (name, options = {}) =>
      operations.get(name, options, async ({ signal }): Promise<GetResult> => {
        for (let attempt = 1; ; attempt++) {
          const info = await stat(name, signal);
          const { start, end } = resolveRange(options.range, info.size);
          const close = async (): Promise<void> => undefined;
          if (start === end) return { info, body: oneChunk(undefined), close };
          if (end - start > MEMORY_BYTES) {
            const reader = await call(operator.reader(name), signal);
            return {
              info,
              body: chunksOf((buffer) => call(reader.read(buffer), signal), start, end, info.size),
              close,
            };
          }
          // One request, so one version's bytes; whether that is the version whose size was told shows in their number.
          const range = options.range ? { offset: BigInt(start), size: BigInt(end - start) } : {};
          const bytes = await call(operator.read(name, range), signal);
          if (bytes.length === end - start) return { info, body: oneChunk(bytes), close };
          if (attempt === 5) throw new HoldfastError("unavailable", "the object is being replaced again and again");
        }
      }),
    stat: (name, options = {}) =>
      operations.run("stat", name, options, async ({ signal }) => {
        return stat(name, signal);
      }),
    list: (prefix, options = {}) =>
      operations.iterate(options, async function* ({ signal }) {
        const folder = folderOfPrefix(prefix);
        if (folder === undefined) return;
        if (folder !== "" && (await names?.isOther(folder.split("/"), signal))) return;
        const from = folder === "" ? "" : `${folder}/`;
        const lister = await call(operator.lister(from, { recursive: true }), signal);
        const seen = new Set<string>();
        for (;;) {
          const entry = await call(lister.next(), signal).catch((error: unknown) => {
            const { code } = serviceError(error);
            // The folder of the prefix is none.
            if (code === "not-found" || (code === "conflict" && seen.size === 0)) return null;
            throw error;
          });
          if (!entry) return;
          const name = entry.path();
          if (name.endsWith("/") || !name.startsWith(prefix) || seen.has(name)) continue;
          if (name.split("/").some((part) => isTempName(part) || part === ".." || part === "." || part === ""))
            continue;
          seen.add(name);
          const size = Number(entry.metadata().contentLength ?? 0n);
          if (size > 0) yield { name, size };
          else {
            // Not every service tells the size in a listing.
            const info = await stat(name, signal).catch((error: unknown) => {
              if (isHoldfastError(error, "not-found")) return undefined;
              throw error;
            });
            if (info) yield info;
          }
        }
      }),
    delete: (name, options = {}) =>
      operations.run("delete", name, options, async ({ signal }) => {
        try {
          await stat(name, signal);
        } catch (error) {
          if (isHoldfastError(error, "not-found")) return { existed: false };
          throw error;
        }
        await call(operator.delete(name), signal);
        names?.noteGone();
        if (service.prunes) await prune(name, signal);
        return { existed: true };
      }),
    close: () => operations.close(),
  };
}

async function* oneChunk(bytes: Buffer | undefined): AsyncGenerator<Uint8Array> {
  if (bytes) yield bytes;
}

/**
 * The bytes of a range from a reader that reads on from the beginning. The last of them only when the object ends where
 * it was said to, as it may have been replaced before the reader was opened.
 */
async function* chunksOf(
  read: (buffer: Buffer) => Promise<bigint>,
  start: number,
  end: number,
  size: number,
): AsyncGenerator<Uint8Array> {
  // A read up to the object's end goes on until the reader says that it has ended.
  const until = end === size ? size + 1 : end;
  let held: Uint8Array | undefined;
  for (let at = 0; at < until;) {
    const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    const count = Number(await read(buffer));
    if (count === 0 && at === size) break;
    if (count === 0 || at + count > size) {
      throw new HoldfastError("unavailable", "the object was replaced while it was read");
    }
    const from = Math.max(start - at, 0);
    const to = Math.min(end - at, count);
    if (held) yield held;
    held = from < to ? buffer.subarray(from, to) : undefined;
    at += count;
  }
  if (held) yield held;
}

async function load(): Promise<typeof import("opendal")> {
  try {
    return await import("opendal");
  } catch (error) {
    throw new HoldfastError(
      "config",
      "this kind of store needs OpenDAL, which is not installed here: npm install opendal@0.49.2",
      { cause: error },
    );
  }
}

function serviceOf(url: StoreUrl): Service {
  if (url.query !== undefined) {
    throw new HoldfastError(
      "config",
      `a URL of ${url.scheme}:// takes no parameters: settings stand in the store's env`,
    );
  }
  const named = url.scheme === "opendal" ? url.host.replaceAll("-", "_") : undefined;
  const service: Service | undefined =
    named === undefined ? SERVICES[url.scheme] : { name: named, ...(NAMED[named] ?? { folders: true }) };
  if (!service || service.name === "") {
    throw new HoldfastError("config", "an opendal:// URL has the form opendal://service/path");
  }
  return service;
}

/** Most of these services tell accounts by a token alone. */
async function opendalPlace(url: StoreUrl, env: StoreContext["env"]): Promise<StorePlace> {
  const service = serviceOf(url);
  const { root = "/", ...settings } = readSettings(service, url, env);
  if (service.name === "fs") return placeOfFolder(root);
  const { root: _, ...own } = readSettings(service, url, ownVariables(env));
  return {
    server: ["opendal", service.name, ...publicSettings(Object.entries(settings))],
    path: serverPath(service.caseFolding ? root.toLowerCase() : root),
    login: ONE_NAMESPACE.has(service.name) ? undefined : otherSettings(Object.entries(own)),
  };
}

function readSettings(service: Service, url: StoreUrl, env: StoreContext["env"]): Record<string, string> {
  const settings: Record<string, string> = {};
  const prefix = `OPENDAL_${service.name.toUpperCase()}_`;
  for (const [name, value] of Object.entries(env)) {
    if (name.startsWith(prefix) && value !== undefined) settings[name.slice(prefix.length).toLowerCase()] = value;
  }
  const inPath = decodePath(url.path);
  if (service.bucket) settings["bucket"] = url.host;
  const root = url.scheme === "opendal" || service.bucket ? inPath : `/${url.host}${inPath}`;
  settings["root"] = `${settings["root"] ?? ""}/${root}`.replaceAll(/\/+/gu, "/");
  if (service.name === "b2") {
    if (url.username !== undefined) settings["application_key_id"] = url.username;
    if (url.password !== undefined) settings["application_key"] = url.password;
  }
  // duplicity's variable.
  if (service.name === "dropbox" && env["DPBX_ACCESS_TOKEN"]) settings["access_token"] ??= env["DPBX_ACCESS_TOKEN"];
  return settings;
}

/** Tries again while a delete beside this removes the folder, which is empty, before the file is in it. */
async function again(work: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await work();
      return;
    } catch (error) {
      const mapped = serviceError(error);
      if (mapped.code !== "not-found") throw error;
      if (attempt === 5) {
        throw new HoldfastError("unavailable", "the folder of the object was removed while it was put", {
          cause: mapped,
        });
      }
    }
  }
}

/** The bytes of a put, all of them at hand. */
interface Gathered {
  readonly size: number;
  all(): Promise<Buffer>;
  parts(): AsyncIterable<Buffer>;
  release(): Promise<void>;
}

async function gather(
  bytes: AsyncIterable<Uint8Array>,
  limit: number | undefined,
  { env }: StoreContext,
): Promise<Gathered> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  let folder: string | undefined;
  let file = "";
  let target: ReturnType<typeof createWriteStream> | undefined;
  const release = async (): Promise<void> => {
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  };
  const spill = (chunk: Uint8Array): Promise<void> =>
    new Promise((resolve, reject) => {
      target?.write(chunk, (error) => (error ? reject(error) : resolve()));
    });
  try {
    for await (const chunk of bytes) {
      size += chunk.length;
      if (limit !== undefined && size > limit) {
        throw new HoldfastError(
          "unsupported",
          `this service takes an object in one request, of at most ${limit} bytes`,
        );
      }
      if (!target && size <= MEMORY_BYTES) {
        chunks.push(chunk);
        continue;
      }
      if (!target) {
        folder = await mkdtemp(path.join(env["TMPDIR"] ?? tmpdir(), "holdfast-opendal-"));
        file = path.join(folder, "object");
        target = createWriteStream(file, { flags: "wx", mode: 0o600 });
        // A write that fails says so itself.
        target.on("error", () => undefined);
        for (const held of chunks.splice(0)) await spill(held);
      }
      await spill(chunk);
    }
    await new Promise<void>((resolve) => (target ? target.end(() => resolve()) : resolve()));
  } catch (error) {
    target?.destroy();
    await release();
    throw error;
  }
  const parts = async function* (): AsyncGenerator<Buffer> {
    if (!target) {
      yield Buffer.concat(chunks);
      return;
    }
    const handle = await open(file, "r");
    try {
      for (let at = 0; at < size;) {
        const buffer = Buffer.allocUnsafeSlow(Math.min(PART_BYTES, size - at));
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
        if (bytesRead === 0) throw new HoldfastError("internal", "the local file became shorter");
        at += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      await handle.close();
    }
  };
  return {
    size,
    parts,
    all: async () => {
      const all: Buffer[] = [];
      for await (const part of parts()) all.push(part);
      return Buffer.concat(all);
    },
    release,
  };
}

const KINDS: Readonly<Record<string, ErrorCode>> = {
  NotFound: "not-found",
  PermissionDenied: "denied",
  AlreadyExists: "conflict",
  IsADirectory: "conflict",
  NotADirectory: "conflict",
  ConditionNotMatch: "conflict",
  ConfigInvalid: "config",
  RateLimited: "throttled",
  Unsupported: "unsupported",
  RangeNotSatisfied: "invalid",
};

/** OpenDAL's errors say their kind, and whether it passes, in the message alone. */
function serviceError(error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const text = error instanceof Error ? error.message : String(error);
  const [, kind = "", lasting = ""] = /^(\w+) \((permanent|temporary|persistent)\)/u.exec(text) ?? [];
  const message = `OpenDAL: ${shorten(text)}`;
  if (/no space left|quota|insufficient ?storage|\b507\b/iu.test(text)) return new HoldfastError("full", message);
  if (/file name too long/iu.test(text)) return new HoldfastError("invalid", message);
  if (/not a directory|is a directory|os error (?:17|20|21|39)\b/iu.test(text)) {
    return new HoldfastError("conflict", message);
  }
  const code = KINDS[kind];
  if (code !== undefined) return new HoldfastError(code, message);
  if (/certificate|tls/iu.test(text)) return new HoldfastError("unavailable", message, { retryable: false });
  if (/\b401\b|unauthori[sz]ed|invalid_grant|expired/iu.test(text)) return new HoldfastError("denied", message);
  if (/timed? ?out/iu.test(text)) return new HoldfastError("timeout", message);
  if (lasting === "temporary" || lasting === "persistent" || /connect|reset|refused|eof|dns|5\d\d/iu.test(text)) {
    return new HoldfastError("unavailable", message, { retryable: UNKNOWN_HOST.test(text) ? false : undefined });
  }
  return new HoldfastError("internal", message);
}

/** The kind and the first lines: OpenDAL puts whole responses into its messages. */
function shorten(text: string): string {
  return text.replaceAll(/\s+/gu, " ").slice(0, 300);
}
