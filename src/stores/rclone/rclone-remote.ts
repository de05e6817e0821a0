/** What is asked of one remote through its rclone: files and folders by their names in the store. */
import { randomBytes } from "node:crypto";
import { HoldfastError, abortError, isHoldfastError } from "../../contract/errors.ts";
import { compareNames, foldersAbove } from "../../contract/names.ts";
import type { GetResult, ObjectInfo } from "../../contract/store.ts";
import { FoldingNames } from "../base/folding-names.ts";
import { STALE_TEMP_MS, isTempName } from "../base/path-names.ts";
import type { StoreContext } from "../base/store-kind.ts";
import { answerOf } from "./rclone-answers.ts";
import type { RcloneDaemon } from "./rclone-daemon.ts";
import { fromRclonePart, toRcloneName } from "./rclone-names.ts";

/** How long an aborted upload may take to end in good order, in milliseconds, before its connection is cut. */
export const ABORT_GRACE_MS = 1000;

/** The remote's name inside the child: an alias, so that no path or option of the user's stands in a request. */
const FS = "holdfast:";

export interface RcloneItem {
  readonly Path: string;
  readonly Name: string;
  readonly Size: number;
  readonly ModTime?: string;
  readonly IsDir: boolean;
}

export interface Features {
  readonly BucketBased?: boolean;
  readonly CanHaveEmptyDirectories?: boolean;
  readonly CaseInsensitive?: boolean;
  readonly Copy?: boolean;
  readonly DuplicateFiles?: boolean;
  readonly Move?: boolean;
  /** Not rclone's: a crypt remote's names grow as they are encrypted. */
  readonly encrypted?: boolean;
}

export function infoOf(name: string, item: RcloneItem): ObjectInfo {
  const modifiedMs = Date.parse(item.ModTime ?? "");
  return { name, size: item.Size, ...(Number.isNaN(modifiedMs) ? {} : { modifiedMs }) };
}

export class RcloneRemote {
  readonly #daemon: RcloneDaemon;
  readonly #context: StoreContext;
  features: Features | undefined;
  readonly names: FoldingNames;
  /** Temporary files, found by listings, of puts that must have been killed. */
  readonly leftovers = new Set<string>();

  constructor(daemon: RcloneDaemon, context: StoreContext) {
    this.#daemon = daemon;
    this.#context = context;
    this.names = new FoldingNames(
      {
        stands: (path, signal = new AbortController().signal) => this.#stands(path, signal),
        names: async (folder, signal = new AbortController().signal) =>
          (await this.listFolder(folder, signal)).map((item) => item.Name),
      },
      () => context.runtime.monotonicMs(),
    );
  }

  async readFeatures(signal: AbortSignal): Promise<Features> {
    if (!this.features) {
      const answer = (await this.#daemon.call("operations/fsinfo", { fs: FS }, signal)) as {
        Features?: Features;
        String?: string;
      };
      if (!answer.Features) throw new HoldfastError("internal", "rclone does not tell what the remote can do");
      this.features = { ...answer.Features, encrypted: answer.String?.startsWith("Encrypted drive") ?? false };
      if (this.features.CaseInsensitive) this.names.assume("case");
    }
    return this.features;
  }

  /** Uploads to a temporary name and returns the size in bytes. Ends in good order when the source fails. */
  async upload(temp: string, bytes: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<number> {
    const boundary = randomBytes(24).toString("hex");
    let size = 0;
    let failure: unknown;
    let failed = false;
    const cut = new AbortController();
    const multipart = async function* (): AsyncGenerator<Uint8Array> {
      yield Buffer.from(
        `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${temp}"\r\n` +
          "Content-Type: application/octet-stream\r\n\r\n",
      );
      try {
        for await (const chunk of bytes) {
          size += chunk.length;
          yield chunk;
        }
      } catch (error) {
        // The upload ends as if it were whole: then rclone has finished with the temporary name when it answers.
        failed = true;
        failure = error;
      }
      yield Buffer.from(`\r\n--${boundary}--\r\n`);
    };
    let cancel = (): void => undefined;
    const onAbort = (): void => {
      cancel = this.#context.runtime.timer(ABORT_GRACE_MS, () => cut.abort(abortError(signal)));
    };
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      const response = await this.#daemon.request(
        `operations/uploadfile?fs=${encodeURIComponent(FS)}&remote=`,
        {
          method: "POST",
          headers: { "content-type": `multipart/form-data; boundary=${boundary}` },
          body: multipart(),
        },
        cut.signal,
      );
      await answerOf(response);
    } catch (error) {
      if (!failed) throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
      cancel();
    }
    if (failed) throw failure;
    return size;
  }

  /** Moves onto a name, replacing what is there in one step where the remote can. */
  async move(from: string, to: string, signal: AbortSignal): Promise<void> {
    const features = await this.readFeatures(signal);
    const parameters = {
      srcFs: FS,
      srcRemote: toRcloneName(from),
      dstFs: FS,
      dstRemote: toRcloneName(to),
      // Two objects may have one name on such remotes, so that rclone must find and delete the old one.
      _config: features.DuplicateFiles ? { IgnoreTimes: true } : { NoCheckDest: true },
    };
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#daemon.call("operations/movefile", parameters, signal);
        return;
      } catch (error) {
        // A delete beside this put may remove the folder in between, as it is empty.
        if (attempt < 5 && isHoldfastError(error, "not-found")) continue;
        if (isHoldfastError(error, "internal") && (await this.#exists(to, signal))) {
          throw new HoldfastError(
            "unsupported",
            `this remote cannot replace an object in one step: delete it first (${error.message})`,
            { cause: error },
          );
        }
        throw error;
      }
    }
  }

  async #exists(name: string, signal: AbortSignal): Promise<boolean> {
    const { item } = (await this.#daemon.call("operations/stat", { fs: FS, remote: toRcloneName(name) }, signal)) as {
      item: unknown;
    };
    return item !== null;
  }

  async read(name: string, range: { start: number; end: number } | undefined, signal: AbortSignal): Promise<GetResult> {
    const path = toRcloneName(name).split("/").map(encodeURIComponent).join("/");
    const response = await this.#daemon.request(
      `%5B${FS}%5D/${path}`,
      { method: "GET", headers: range ? { range: `bytes=${range.start}-${range.end - 1}` } : {} },
      signal,
    );
    if (response.status !== (range ? 206 : 200)) {
      await answerOf(response).catch((error: unknown) => {
        // A folder is no object.
        if (isHoldfastError(error, "conflict")) throw new HoldfastError("not-found", error.message);
        throw error;
      });
      throw new HoldfastError("internal", `rclone answered a read with the status ${response.status}`);
    }
    const length = Number(response.headers["content-length"]);
    const total = range ? Number(/\/(\d+)$/u.exec(String(response.headers["content-range"]))?.[1]) : length;
    if (
      !Number.isSafeInteger(length) ||
      !Number.isSafeInteger(total) ||
      (range && length !== range.end - range.start)
    ) {
      response.body.destroy();
      throw new HoldfastError("internal", "rclone does not say how long the object is");
    }
    const whyLost = this.#daemon.whyLost();
    const body = async function* (): AsyncGenerator<Uint8Array> {
      try {
        for await (const chunk of response.body) yield chunk as Uint8Array;
      } catch (error) {
        throw whyLost(error);
      }
    };
    return {
      info: { name, size: total },
      body: body(),
      close: async () => {
        response.body.on("error", () => undefined);
        response.body.destroy();
      },
    };
  }

  /** Undefined where there is no such file: a file that stands where a folder would be has nothing below it. */
  async statFile(name: string, signal: AbortSignal): Promise<RcloneItem | undefined> {
    try {
      const { item } = (await this.#daemon.call(
        "operations/stat",
        { fs: FS, remote: toRcloneName(name), opt: { filesOnly: true, noMimeType: true } },
        signal,
      )) as { item: RcloneItem | null };
      return item ?? undefined;
    } catch (error) {
      if (isHoldfastError(error, "not-found") || isHoldfastError(error, "conflict")) return undefined;
      throw error;
    }
  }

  /** Entries of a folder; none where there is no such folder. */
  async listFolder(folder: string, signal: AbortSignal): Promise<readonly RcloneItem[]> {
    try {
      const { list } = (await this.#daemon.call(
        "operations/list",
        { fs: FS, remote: toRcloneName(folder), opt: { noMimeType: true } },
        signal,
      )) as { list: readonly RcloneItem[] | null };
      return (list ?? []).map((item) => ({ ...item, Name: fromRclonePart(item.Name) }));
    } catch (error) {
      // An object stands where the folder would be.
      if (isHoldfastError(error, "not-found") || isHoldfastError(error, "conflict")) return [];
      throw error;
    }
  }

  /** Everything under a folder whose name starts with `prefix`, in name order, a folder at a time. */
  async *walk(folder: string, prefix: string, signal: AbortSignal): AsyncGenerator<ObjectInfo> {
    const above = folder === "" ? "" : `${folder}/`;
    const entries = (await this.listFolder(folder, signal))
      // A folder stands where its content does, behind its name with a slash.
      .map((item) => ({ item, key: above + item.Name + (item.IsDir ? "/" : "") }))
      .sort((a, b) => compareNames(a.key, b.key));
    let last: string | undefined;
    for (const { item, key } of entries) {
      const name = above + item.Name;
      // Names with a slash or of two dots come from no honest remote, and would lead out of the folder.
      if (item.Name === "" || item.Name === "." || item.Name === ".." || item.Name.includes("/")) continue;
      if (isTempName(item.Name)) {
        const age = this.#context.runtime.now() - Date.parse(item.ModTime ?? "");
        if (!item.IsDir && age > STALE_TEMP_MS) this.leftovers.add(name);
        continue;
      }
      if (key === last) continue;
      last = key;
      if (item.IsDir) {
        if (key.startsWith(prefix) || prefix.startsWith(key)) yield* this.walk(name, prefix, signal);
      } else if (name.startsWith(prefix)) {
        yield infoOf(name, item);
      }
    }
  }

  /** True when there was such a file. */
  async deleteFile(name: string, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#daemon.call("operations/deletefile", { fs: FS, remote: toRcloneName(name) }, signal);
      return true;
    } catch (error) {
      // A folder of that name, and a file where a folder would have to be, are no such object either.
      if (isHoldfastError(error, "not-found") || isHoldfastError(error, "conflict")) return false;
      throw error;
    }
  }

  /** Folders are no objects: an empty one would only stand in the way of an object of that name. */
  async removeEmptyFolders(name: string, signal: AbortSignal): Promise<void> {
    const features = await this.readFeatures(signal);
    if (!features.CanHaveEmptyDirectories) return;
    for (const folder of foldersAbove(name).reverse()) {
      if ((await this.listFolder(folder, signal)).length > 0) return;
      try {
        await this.#daemon.call("operations/rmdir", { fs: FS, remote: toRcloneName(folder) }, signal);
      } catch (error) {
        if (signal.aborted) throw error;
        return;
      }
    }
  }

  /** Whether something stands under this name only as another object, as the remote does not tell them apart. */
  async isOther(name: string, signal: AbortSignal): Promise<boolean> {
    const asks = this.names.folds || !(await this.readFeatures(signal)).BucketBased;
    return asks && (await this.names.isOther(name.split("/"), signal));
  }

  async refuseToFind(name: string, signal: AbortSignal): Promise<void> {
    if (await this.isOther(name, signal)) throw new HoldfastError("not-found", "there is no such object");
  }

  async #stands(path: string, signal: AbortSignal): Promise<boolean> {
    if (await this.statFile(path, signal)) return true;
    // rclone finds a folder in the listing of the one above, under its own name alone.
    if ((await this.listFolder(path, signal)).length > 0) return true;
    if (!this.names.folds) return false;
    const slash = path.lastIndexOf("/");
    const entries = await this.listFolder(path.slice(0, Math.max(slash, 0)), signal);
    return entries.some((item) => item.Name.toLowerCase() === path.slice(slash + 1).toLowerCase());
  }
}
