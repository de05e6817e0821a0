/** `holdfast pull`: the pool's objects into a folder. */
import { lstat as lstatByCallback } from "node:fs";
import type { Stats } from "node:fs";
import { mkdir, opendir, rmdir, unlink } from "node:fs/promises";
import { dirname, join as joinPath, sep } from "node:path";
import { promisify } from "node:util";
import { toBody } from "../../contract/body.ts";
import { HoldfastError, isHoldfastError, toHoldfastError } from "../../contract/errors.ts";
import { makeFolder } from "../../support/make-folder.ts";
import type { Pool, PoolObjectInfo } from "../../contract/pool.ts";
import { bySize, forEachBounded } from "../../support/bounded.ts";
import type { GetResult } from "../../contract/store.ts";
import { Collisions } from "../files/collisions.ts";
import { isSame, join } from "../files/compare.ts";
import type { CommandContext } from "../context.ts";
import { attributesOf, restoreMetadata } from "../files/file-metadata.ts";
import { count, formatBytes, printable } from "../terminal/format.ts";
import { GroupedFiles } from "../files/grouped-files.ts";
import { inTheWay } from "../files/in-the-way.ts";
import { walk } from "../files/local-files.ts";
import type { LocalEntry } from "../files/local-files.ts";
import { LocalThread } from "../files/local-thread.ts";
import { folderPrefix, pathArgument, pathParts } from "../names.ts";
import type { Progress } from "../terminal/progress.ts";
import { removeEmpty } from "../../support/empty-folders.ts";
import { StoreFolders } from "../files/store-folders.ts";
import { UnheardCounter } from "../unheard.ts";
import { writeFile } from "../files/write-file.ts";
import { systemWords } from "../../contract/system-words.ts";

export interface PullFlags {
  readonly jobs: number;
  readonly dryRun?: boolean;
  readonly delete?: boolean;
  readonly force?: boolean;
}

// The one of fs/promises gathers a stack for each "nothing there".
const lstat: (path: string) => Promise<Stats> = promisify(lstatByCallback);

/** Something in the folder that the pool does not have. */
interface Superfluous {
  readonly name: string;
  /** A link or a device, which no object is. */
  readonly special: boolean;
}

export async function pull(
  context: CommandContext,
  directory: string,
  prefixArgument: string,
  options: PullFlags,
): Promise<void> {
  const { printer, outcome, signal } = context;
  const root = pathArgument(context.cwd, directory, "DIR");
  const prefix = folderPrefix(prefixArgument);
  const { pool, description, labels } = await context.openTarget();
  const stores = await StoreFolders.of(description);
  const realRoot = await stores.outside(root, "pulled into");
  await prepareRoot(root, options.dryRun === true);
  const isEmpty = await isEmptyFolder(root);
  const collisions = options.dryRun ? undefined : await Collisions.in(root);
  const progress = await context.startProgress(options.dryRun ? "compare" : "pull", labels);
  if (progress.visible) void measure(pool, prefix, signal, progress);
  let folders = new FolderMaker(root);
  const thread = new LocalThread();
  context.closeLater(() => thread.close());
  const sum = { got: 0, bytes: 0, same: 0, deleted: 0, failed: 0 };
  const superfluous: Superfluous[] = [];
  /** Objects whose files may have to wait until something superfluous is gone. */
  const blocked: { readonly object: PoolObjectInfo; readonly error: HoldfastError }[] = [];
  let objects = 0;
  let complete = true;

  const failed = async (name: string, error: unknown): Promise<void> => {
    if (isHoldfastError(error, "aborted")) throw error;
    const failure = toHoldfastError(error).within({ operation: "get", object: name });
    sum.failed++;
    outcome.failed();
    await printer.error(failure);
  };
  async function* listed(): AsyncGenerator<PoolObjectInfo> {
    try {
      for await (const object of pool.list(prefix, { signal })) {
        objects++;
        yield object;
      }
    } catch (error) {
      if (!isHoldfastError(error, "incomplete")) throw error;
      complete = false;
      outcome.error(error);
      await printer.error(error);
    }
  }
  async function* localFiles(): AsyncGenerator<LocalEntry> {
    if ((await lstatOrNothing(root)) === undefined) return;
    for await (const entry of walk(root, { links: "report", thread, storeAt: stores.holding })) {
      if (entry.kind === "error") {
        await failed(entry.name, new HoldfastError("invalid", entry.message));
      } else if (entry.kind === "file") {
        yield entry;
      } else if (entry.kind === "skipped" && !entry.what.includes("was writing")) {
        superfluous.push({ name: entry.name, special: true });
      }
    }
  }
  const unheard = new UnheardCounter(context);
  const grouped = new GroupedFiles();
  context.closeLater(() => grouped.close());
  const write = async (path: string, { info, body }: GetResult, isPlain: boolean): Promise<void> => {
    let bytes = body;
    if (isPlain && grouped.takes(info.size)) {
      const chunks: Uint8Array[] = [];
      for await (const chunk of body) chunks.push(chunk);
      const [only = new Uint8Array()] = chunks;
      const whole = chunks.length <= 1 ? only : Buffer.concat(chunks);
      if (await grouped.write(path, whole, attributesOf(info.metadata))) {
        progress.bytes(whole.byteLength);
        return;
      }
      bytes = toBody(whole).open();
    }
    await writeFile(path, bytes, {
      isPlain,
      onBytes: (more) => progress.bytes(more),
      finish: (file) => restoreMetadata(file, info.metadata),
    });
  };
  const getObject = async (object: PoolObjectInfo): Promise<void> => {
    const parts = pathParts(object.name.slice(prefix.length));
    if (typeof parts === "string") throw new HoldfastError("invalid", `it cannot be a file in the folder: ${parts}`);
    const path = joinPath(root, ...parts);
    const store = stores.holding(joinPath(realRoot, ...parts));
    if (store !== undefined) {
      throw new HoldfastError("invalid", `it would be written into the folder of the pool's own store ${store}`);
    }
    await collisions?.refuse(parts);
    // Into an empty folder there is nothing to look at for each object.
    const there = isEmpty ? undefined : await lstatOrNothing(path);
    if (
      there?.isFile() &&
      (await folders.isReal(parts)) &&
      (await isSame({ path, size: there.size }, object, signal, thread))
    ) {
      sum.same++;
      progress.bytes(object.size);
      return;
    }
    const record = { type: "get", object: object.name, size: object.size, file: path };
    if (options.dryRun) {
      sum.got++;
      sum.bytes += object.size;
      await printer.data(
        { ...record, dryRun: true },
        `would get ${printable(object.name)} (${formatBytes(object.size)})`,
      );
      return;
    }
    await folders.make(parts);
    const result = await pool.get(object.name, { signal });
    try {
      await write(path, result, there === undefined || there.isFile());
    } finally {
      await result.close();
    }
    sum.got++;
    sum.bytes += result.info.size;
    unheard.add(object.name, result);
    await printer.step(
      { ...record, size: result.info.size, unheard: result.unheard ?? [] },
      `got ${printable(object.name)} (${formatBytes(result.info.size)})`,
    );
  };
  async function* pairs(): AsyncGenerator<{ name: string; object: PoolObjectInfo | undefined }> {
    if (!options.delete) {
      for await (const object of listed()) yield { name: object.name, object };
      return;
    }
    const joined = join(
      localFiles(),
      (file) => `${prefix}${file.name}`,
      listed(),
      (object) => object.name,
      (error) => {
        throw error;
      },
    );
    for await (const { name, left, right } of joined) {
      if (left && !right) superfluous.push({ name: left.name, special: false });
      yield { name, object: right };
    }
  }
  await forEachBounded(
    pairs(),
    bySize(options.jobs, ({ object }) => object?.size ?? 0),
    async ({ name, object }) => {
      if (!object) return;
      try {
        await getObject(object);
        progress.object(name);
      } catch (error) {
        if (options.delete && isHoldfastError(error, "conflict")) blocked.push({ object, error });
        else await failed(name, error);
      }
    },
    signal,
  );
  if (options.delete) await deleteSuperfluous();

  async function deleteSuperfluous(): Promise<void> {
    const ways = inTheWay(
      blocked.map(({ object }) => object.name.slice(prefix.length)),
      superfluous.map(({ name }) => name),
    );
    const waiting: typeof blocked = [];
    for (const one of blocked) {
      const name = one.object.name.slice(prefix.length);
      if (ways.has(name) || (await removeEmptyAt(name))) waiting.push(one);
      else await failed(one.object.name, one.error);
    }
    const obstacle = !complete
      ? "the pool's listing is incomplete"
      : sum.failed > 0
        ? `${count(sum.failed, "object")} could not be read or written`
        : objects === 0 && superfluous.length > 0 && options.force !== true
          ? "the pool has no object there, so that everything would go (--force does it)"
          : undefined;
    if (obstacle !== undefined) {
      for (const { object, error } of waiting) await failed(object.name, error);
      const error = new HoldfastError(complete ? "conflict" : "incomplete", `nothing was deleted: ${obstacle}`);
      outcome.error(error);
      await printer.error(error);
      return;
    }
    const first = new Set([...ways.values()].flat());
    await deleteFiles(superfluous.filter(({ name }) => first.has(name)));
    await getBlocked(waiting);
    if (sum.failed === 0) {
      await deleteFiles(superfluous.filter(({ name }) => !first.has(name)));
      return;
    }
    const failures = `${count(sum.failed, "file")} could not be written or deleted`;
    const error = new HoldfastError("conflict", `nothing more was deleted: ${failures}`);
    outcome.error(error);
    await printer.error(error);
  }

  /** Never through a link, which leads out of the folder. */
  async function removeEmptyAt(name: string): Promise<boolean> {
    return (await folders.isReal(name.split("/"))) && removeEmpty(joinPath(root, name));
  }

  async function getBlocked(waiting: typeof blocked): Promise<void> {
    // A folder may have become something else.
    folders = new FolderMaker(root);
    for (const { object } of waiting) {
      await removeEmptyAt(object.name.slice(prefix.length));
      await getObject(object).catch((error: unknown) => failed(object.name, error));
      progress.object(object.name);
    }
  }

  async function deleteFiles(files: readonly Superfluous[]): Promise<void> {
    for (const { name, special } of files) {
      // A link that the walk met may be an object's file by now.
      if (special && (await lstatOrNothing(joinPath(root, name)))?.isFile() === true) continue;
      const record = { type: "delete-file", file: joinPath(root, name) };
      try {
        if (!options.dryRun) await removeFile(root, name);
        sum.deleted++;
        await (options.dryRun
          ? printer.data({ ...record, dryRun: true }, `would delete the file ${printable(name)}`)
          : printer.step(record, `deleted the file ${printable(name)}`));
      } catch (error) {
        await failed(
          name,
          new HoldfastError("invalid", `cannot delete the file: ${systemWords(error)}`, { cause: error }),
        );
      }
    }
  }

  progress.stop();
  await unheard.tell();
  const parts = [
    `${options.dryRun ? "would get" : "got"} ${count(sum.got, "object")} (${formatBytes(sum.bytes)})`,
    `${sum.same} unchanged`,
    ...(options.delete ? [`${options.dryRun ? "would delete" : "deleted"} ${sum.deleted}`] : []),
    ...(sum.failed > 0 ? [`${sum.failed} FAILED`] : []),
    ...(complete ? [] : ["the listing was INCOMPLETE"]),
  ];
  await printer.done(
    { type: "summary", command: "pull", ...sum, complete, exitCode: outcome.exitCode },
    parts.join(", "),
  );
}

async function lstatOrNothing(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : "";
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new HoldfastError("invalid", `cannot look at ${path}: ${systemWords(error)}`, { cause: error });
  }
}

async function prepareRoot(root: string, dryRun: boolean): Promise<void> {
  try {
    if (!dryRun) await makeFolder(root);
  } catch (error) {
    throw new HoldfastError("config", `cannot make the folder ${root}: ${systemWords(error)}`, { cause: error });
  }
}

/** Whether a folder has nothing in it. False where that cannot be told. */
async function isEmptyFolder(path: string): Promise<boolean> {
  try {
    const folder = await opendir(path);
    const first = await folder.read();
    await folder.close();
    return first === null;
  } catch {
    return false;
  }
}

/** Makes folders below a root, and sees to it that none of them is a link that leads out of it. */
class FolderMaker {
  readonly #root: string;
  readonly #known = new Set<string>();

  constructor(root: string) {
    this.#root = root;
  }

  /** Makes the folders above the last of `parts`. Throws `invalid` when something else is in the way. */
  async make(parts: readonly string[]): Promise<void> {
    let path = this.#root;
    for (const part of parts.slice(0, -1)) {
      path = joinPath(path, part);
      if (this.#known.has(path)) continue;
      const there = await lstatOrNothing(path);
      if (there === undefined) {
        await mkdir(path).catch((error: unknown) => {
          // Another object's, made at the same time.
          if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
        });
        if ((await lstatOrNothing(path))?.isDirectory() !== true) throw noFolder(path);
      } else if (!there.isDirectory()) {
        throw noFolder(path);
      }
      if (this.#known.size > 100_000) this.#known.clear();
      this.#known.add(path);
    }
  }

  /** Whether every folder above the last of `parts` is there and is no link. */
  async isReal(parts: readonly string[]): Promise<boolean> {
    let path = this.#root;
    for (const part of parts.slice(0, -1)) {
      path = joinPath(path, part);
      if (!this.#known.has(path) && (await lstatOrNothing(path))?.isDirectory() !== true) return false;
    }
    return true;
  }
}

function noFolder(path: string): HoldfastError {
  return new HoldfastError("conflict", `${path} is in the way: it is no folder, or a link to one`);
}

/** Deletes a file below `root`, and the folders that are empty without it. */
async function removeFile(root: string, name: string): Promise<void> {
  const path = joinPath(root, name);
  await unlink(path);
  for (let folder = dirname(path); folder.startsWith(root + sep); folder = dirname(folder)) {
    try {
      await rmdir(folder);
    } catch {
      // Not empty, as most are not.
      return;
    }
  }
}

/** Counts the objects for the bar, beside the work itself. */
async function measure(pool: Pool, prefix: string, signal: AbortSignal, progress: Progress): Promise<void> {
  let bytes = 0;
  let objects = 0;
  try {
    for await (const object of pool.list(prefix, { signal })) {
      bytes += object.size;
      objects++;
    }
    progress.total(bytes, objects);
  } catch {
    // The pull itself meets the same error and says it.
  }
}
