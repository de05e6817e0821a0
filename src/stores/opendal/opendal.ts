/**
 * Services of the long tail (Google Drive, OneDrive, Dropbox, Backblaze B2, OSS, COS, OBS …) through Apache OpenDAL, an
 * optional peer dependency: `gdrive://folder`, `onedrive://folder`, `dropbox://folder`, `b2://bucket/path`,
 * `oss://bucket/path` …, and `opendal://service/path` for any service it has.
 *
 * A service's settings stand in the store's `env` as `OPENDAL_<SERVICE>_<SETTING>`, as OpenDAL's documentation names
 * them. OpenDAL cannot cancel what it has begun, so a put is gathered first, in memory up to 8 MiB and in a local file
 * beyond, and nothing of a source that fails ever reaches the service.
 */
import type { Capability, Operator } from "opendal";
import { CHUNK_BYTES, checkedBytes } from "../../contract/body.ts";
import { HoldfastError, isHoldfastError, throwIfAborted } from "../../contract/errors.ts";
import { MAX_NAME_BYTES, foldersAbove } from "../../contract/names.ts";
import { resolveRange } from "../../contract/ranges.ts";
import type { Capabilities, GetResult, ObjectInfo, Store } from "../../contract/store.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import { isSecretName, secretsOf } from "../../support/redact.ts";
import { raceSignal } from "../../support/signals.ts";
import { FoldingNames } from "../base/folding-names.ts";
import { NOT_ATOMIC, Operations, notFound, refuseUnsupported } from "../base/operations.ts";
import { checkParts, checkPathName, folderOfPrefix, isTempName, tempName } from "../base/path-names.ts";
import type { StoreContext, StoreKind } from "../base/store-kind.ts";
import { GatheredBody, MEMORY_BYTES, PART_BYTES } from "./gathered-body.ts";
import { serviceError } from "./opendal-error.ts";
import { opendalPlace, readSettings, serviceOf } from "./opendal-services.ts";
import type { Service } from "./opendal-services.ts";

export const opendalKind: StoreKind = { open: openOpendalStore, place: opendalPlace };

/** What a service that takes an object in one request may be given, since it is held in memory then. */
const MAX_WHOLE_BYTES = 100 * 1024 * 1024;

const MAX_PART_BYTES = 255;

/** Opens a store through OpenDAL. Throws `config` where it is not installed, or the service's settings are wrong. */
async function openOpendalStore(url: StoreUrl, context: StoreContext): Promise<Store> {
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
  return new OpendalStore({ operator, service, root: settings["root"] ?? "", context, secrets });
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

interface OpendalOptions {
  readonly operator: Operator;
  readonly service: Service;
  /** The store's path in the service. */
  readonly root: string;
  readonly context: StoreContext;
  readonly secrets: readonly string[];
}

class OpendalStore implements Store {
  readonly label: string;
  readonly #operator: Operator;
  readonly #service: Service;
  readonly #context: StoreContext;
  readonly #operations: Operations;
  /** The service takes an object in one request. */
  readonly #whole: boolean;
  /** Most bytes of an object. */
  readonly #limit: number | undefined;
  /** Bytes that the store's path adds to a name where the service counts it as a part of the name. */
  readonly #rootBytes: number;
  /** Of services that are a file system, or may stand before one; a put to them goes by way of a temporary name. */
  readonly #names: FoldingNames | undefined;
  /** What OpenDAL is still doing for callers that no longer wait. */
  readonly #background = new Set<Promise<unknown>>();

  constructor({ operator, service, root, context, secrets }: OpendalOptions) {
    this.label = context.label;
    this.#operator = operator;
    this.#service = service;
    this.#context = context;
    const capability = operator.capability();
    this.#whole = !capability.writeCanMulti;
    this.#limit = limitOf(capability);
    this.#rootBytes = service.folders ? 0 : Buffer.byteLength(root.replaceAll(/^\/+|\/+$/gu, "")) + 1;
    this.#names = service.renames === true && capability.rename ? this.#foldingNames() : undefined;
    const checkName = (name: string): void => this.#checkName(name);
    this.#operations = new Operations({ context, secrets, mapError: serviceError, checkName });
  }

  get capabilities(): Capabilities {
    return {
      orderedList: false,
      conditionalPut: false,
      prefixNames: !this.#service.folders,
      maxNameBytes: MAX_NAME_BYTES - this.#rootBytes,
      maxNamePartBytes: MAX_PART_BYTES,
      caseSensitive: !(this.#service.caseFolding ?? false) && this.#names?.folds !== true,
      storeDigests: [],
      ...(this.#limit === undefined ? {} : { maxObjectBytes: this.#limit }),
    };
  }

  readonly put: Store["put"] = (name, body, options = {}) => {
    return this.#operations.run("put", name, options, async ({ signal }) => {
      refuseUnsupported(options, NOT_ATOMIC);
      const source = await GatheredBody.of(checkedBytes(body, signal), this.#limit, this.#context.env);
      try {
        throwIfAborted(signal);
        await this.#checkPlace(name, signal);
        if (this.#names) await this.#writeAndRename(name, source, this.#names, signal, options.onAlive);
        else await this.#write(name, source, signal, options.onAlive);
        return { size: source.size };
      } finally {
        await source.release();
      }
    });
  };

  readonly get: Store["get"] = (name, options = {}) => {
    return this.#operations.get(name, options, async ({ signal }): Promise<GetResult> => {
      for (let attempt = 1; ; attempt++) {
        const info = await this.#stat(name, signal);
        const { start, end } = resolveRange(options.range, info.size);
        const close = async (): Promise<void> => undefined;
        if (start === end) return { info, body: oneChunk(undefined), close };
        if (end - start > MEMORY_BYTES) {
          const reader = await this.#call(this.#operator.reader(name), signal);
          const read = (buffer: Buffer): Promise<bigint> => this.#call(reader.read(buffer), signal);
          return { info, body: chunksOf(read, start, end, info.size), close };
        }
        // One request, so one version's bytes; whether that is the version whose size was told shows in their number.
        const range = options.range ? { offset: BigInt(start), size: BigInt(end - start) } : {};
        const bytes = await this.#call(this.#operator.read(name, range), signal);
        if (bytes.length === end - start) return { info, body: oneChunk(bytes), close };
        if (attempt === 5) throw new HoldfastError("unavailable", "the object is being replaced again and again");
      }
    });
  };

  readonly stat: Store["stat"] = (name, options = {}) => {
    return this.#operations.run("stat", name, options, ({ signal }) => this.#stat(name, signal));
  };

  readonly list: Store["list"] = (prefix, options = {}) => {
    return this.#operations.iterate(options, ({ signal }) => this.#list(prefix, signal));
  };

  readonly delete: Store["delete"] = (name, options = {}) => {
    return this.#operations.run("delete", name, options, async ({ signal }) => {
      if (!(await this.#find(name, signal))) return { existed: false };
      await this.#call(this.#operator.delete(name), signal);
      this.#names?.noteGone();
      if (this.#service.prunes) await this.#prune(name, signal);
      return { existed: true };
    });
  };

  close(): Promise<void> {
    return this.#operations.close();
  }

  #call<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
    const settled = work.catch(() => undefined).finally(() => void this.#background.delete(settled));
    this.#background.add(settled);
    return raceSignal(work, signal);
  }

  #foldingNames(): FoldingNames {
    const places = {
      stands: async (at: string): Promise<boolean> => {
        try {
          await this.#operator.stat(at);
          return true;
        } catch (error) {
          const mapped = serviceError(error);
          if (mapped.code === "not-found" || mapped.code === "conflict") return false;
          throw mapped;
        }
      },
      names: async (folder: string): Promise<string[]> =>
        (await this.#operator.list(folder === "" ? "" : `${folder}/`)).map(
          (entry) => entry.path().replace(/\/$/u, "").split("/").at(-1) ?? "",
        ),
    };
    return new FoldingNames(places, () => this.#context.runtime.monotonicMs());
  }

  #checkName(name: string): void {
    checkPathName(name);
    if (Buffer.byteLength(name) + this.#rootBytes > MAX_NAME_BYTES) {
      throw new HoldfastError("invalid", `with the store's path the name is longer than ${MAX_NAME_BYTES} bytes`);
    }
    checkParts(name, MAX_PART_BYTES);
    // OpenDAL trims these, and would take the name for another.
    if (name.split("/").some((part) => part.trim() !== part || /\p{Cc}|\\/u.test(part))) {
      throw new HoldfastError(
        "invalid",
        "a part begins or ends with white space, or holds a control character or backslash",
      );
    }
  }

  async #stat(name: string, signal: AbortSignal): Promise<ObjectInfo> {
    const metadata = await this.#call(this.#operator.stat(name), signal).catch((error: unknown) => {
      const mapped = serviceError(error);
      throw mapped.code === "conflict" ? new HoldfastError("not-found", mapped.message) : mapped;
    });
    if (!metadata.isFile()) throw notFound();
    await this.#names?.refuseToFind(name.split("/"), signal);
    const modifiedMs = Date.parse(metadata.lastModified ?? "");
    return {
      name,
      size: Number(metadata.contentLength ?? 0n),
      ...(Number.isNaN(modifiedMs) ? {} : { modifiedMs }),
    };
  }

  /** The same, and undefined for what is not there. */
  async #find(name: string, signal: AbortSignal): Promise<ObjectInfo | undefined> {
    return this.#stat(name, signal).catch((error: unknown) => {
      if (isHoldfastError(error, "not-found")) return undefined;
      throw error;
    });
  }

  /** Refuses names at or below which another stands, which services with folders would otherwise replace or mix. */
  async #checkPlace(name: string, signal: AbortSignal): Promise<void> {
    if (!this.#service.folders) return;
    const parts = name.split("/");
    for (let i = 1; i <= parts.length; i++) {
      const at = parts.slice(0, i).join("/");
      const metadata = await this.#call(this.#operator.stat(at), signal).catch((error: unknown) => {
        const mapped = serviceError(error);
        if (mapped.code === "not-found") return undefined;
        throw mapped;
      });
      if (!metadata) return;
      if (metadata.isFile() !== (i === parts.length)) {
        throw new HoldfastError("conflict", `an object or folder stands at ${JSON.stringify(at)}`);
      }
    }
  }

  async #write(
    to: string,
    source: GatheredBody,
    signal: AbortSignal,
    onAlive: (() => void) | undefined,
  ): Promise<void> {
    if (this.#whole || source.size <= PART_BYTES) {
      await this.#call(this.#operator.write(to, await source.all()), signal);
      return;
    }
    const writer = await this.#call(this.#operator.writer(to), signal);
    for await (const part of source.parts()) {
      await this.#call(writer.write(part), signal);
      onAlive?.();
    }
    await this.#call(writer.close(), signal);
  }

  async #writeAndRename(
    name: string,
    source: GatheredBody,
    names: FoldingNames,
    signal: AbortSignal,
    onAlive: (() => void) | undefined,
  ): Promise<void> {
    const slash = name.lastIndexOf("/");
    const file = tempName(this.#context.runtime, names.markFor(name));
    const temp = name.slice(0, slash + 1) + file;
    const rename = (): Promise<void> => this.#call(this.#operator.rename(temp, name), signal);
    try {
      await again(() => this.#write(temp, source, signal, onAlive));
      await names.learn(name.slice(0, Math.max(slash, 0)), file, signal);
      await names.give(name.split("/"), signal, rename, (kept) => this.#operator.delete(kept.join("/")));
    } catch (error) {
      await Promise.all(this.#background);
      await this.#operator.delete(temp).catch(() => undefined);
      throw error;
    }
  }

  async *#list(prefix: string, signal: AbortSignal): AsyncGenerator<ObjectInfo> {
    const folder = folderOfPrefix(prefix);
    if (folder === undefined) return;
    if (folder !== "" && (await this.#names?.isOther(folder.split("/"), signal))) return;
    const from = folder === "" ? "" : `${folder}/`;
    const lister = await this.#call(this.#operator.lister(from, { recursive: true }), signal);
    const seen = new Set<string>();
    for (;;) {
      const entry = await this.#call(lister.next(), signal).catch((error: unknown) => {
        const { code } = serviceError(error);
        // The folder of the prefix is none.
        if (code === "not-found" || (code === "conflict" && seen.size === 0)) return null;
        throw error;
      });
      if (!entry) return;
      const name = entry.path();
      if (name.endsWith("/") || !name.startsWith(prefix) || seen.has(name)) continue;
      if (name.split("/").some((part) => isTempName(part) || part === ".." || part === "." || part === "")) continue;
      seen.add(name);
      const size = Number(entry.metadata().contentLength ?? 0n);
      // Not every service tells the size in a listing.
      const info = size > 0 ? { name, size } : await this.#find(name, signal);
      if (info) yield info;
    }
  }

  /** An empty folder is no object, and would stand in the way of one. */
  async #prune(name: string, signal: AbortSignal): Promise<void> {
    for (const folder of foldersAbove(name).reverse()) {
      try {
        await this.#call(this.#operator.delete(`${folder}/`), signal);
      } catch (error) {
        if (signal.aborted) throw error;
        // Something is in it.
        return;
      }
    }
  }
}

function limitOf({ writeCanMulti, writeTotalMaxSize }: Capability): number | undefined {
  return writeCanMulti ? undefined : Math.min(MAX_WHOLE_BYTES, Number(writeTotalMaxSize ?? MAX_WHOLE_BYTES));
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
