/** `holdfast push`: a folder's files into the pool. */
import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { bodyFromFile, toBody } from "../body.ts";
import { HoldfastError, isHoldfastError, toHoldfastError } from "../errors.ts";
import { hint } from "../hint.ts";
import type { Body } from "../store.ts";
import { aheadOf, bySize, farAhead, forEachBounded } from "../bounded.ts";
import { isSame, join } from "./compare.ts";
import type { CommandContext } from "./context.ts";
import { countingBody } from "./counting-body.ts";
import { metadataOf } from "./file-metadata.ts";
import { count, formatBytes, printable } from "./format.ts";
import { walk } from "./local-files.ts";
import type { LocalEntry, WalkOptions } from "./local-files.ts";
import { LocalThread, SMALL_FILE_BYTES, readSmallFile } from "./local-thread.ts";
import { folderPrefix } from "./names.ts";
import { OwedCounter } from "./owed.ts";
import { debtRecord } from "./printer.ts";
import type { PushFlags } from "./program.ts";
import { StoreFolders } from "./store-folders.ts";
import { systemWords } from "../system-words.ts";

type LocalFile = Extract<LocalEntry, { kind: "file" }>;

export async function push(
  context: CommandContext,
  directory: string,
  prefixArgument: string,
  options: PushFlags,
): Promise<void> {
  const { printer, outcome, signal } = context;
  const root = resolve(context.cwd, directory);
  await checkFolder(root);
  const prefix = folderPrefix(prefixArgument);
  const { pool, description, labels } = await context.openTarget();
  const stores = await StoreFolders.of(description);
  await stores.outside(root, "pushed");
  const degradedBefore = (await pool.status({ signal })).degraded;
  const progress = await context.startProgress(options.dryRun ? "compare" : "push", labels);
  const thread = new LocalThread();
  context.closeLater(() => thread.close());
  const walked = { links: options.links, thread, storeAt: stores.holding };
  if (progress.visible) void measure(root, walked, signal, (bytes, files) => progress.total(bytes, files));
  const owed = new OwedCounter(context, progress);
  const sum = { put: 0, bytes: 0, same: 0, deleted: 0, skipped: 0, failed: 0 };
  const superfluous: string[] = [];
  /** What was removed while the folder was read. Where it was moved to may not have been seen, so its object stays this time. */
  const gone = new Set<string>();
  /** Stores in the folder. Objects that are called like something in one are not judged by what is, or is not, in it. */
  const leftOut: string[] = [];
  let files = 0;
  let incomplete: HoldfastError | undefined;

  const failed = async (name: string, error: unknown): Promise<void> => {
    if (isHoldfastError(error, "aborted")) throw error;
    const failure = toHoldfastError(error).within({ operation: "put", object: name });
    sum.failed++;
    outcome.failed();
    await printer.error(failure);
  };
  async function* localFiles(): AsyncGenerator<LocalFile> {
    for await (const entry of walk(root, walked)) {
      if (entry.kind === "file") {
        files++;
        yield entry;
      } else if (entry.kind === "gone") {
        gone.add(`${prefix}${entry.name}`);
      } else if (entry.kind === "store") {
        const { name, store } = entry;
        leftOut.push(`${prefix}${name}`);
        sum.skipped++;
        outcome.degraded();
        await printer.warning(`left out: ${name} belongs to the pool's own store ${store}`, {
          code: "skipped",
          file: name,
          store,
        });
      } else if (entry.kind === "skipped") {
        sum.skipped++;
        outcome.degraded();
        await printer.warning(`not stored: ${entry.name} is ${entry.what}`, { code: "skipped", file: entry.name });
      } else {
        await failed(`${prefix}${entry.name}`, new HoldfastError("invalid", entry.message));
      }
    }
  }
  const putFile = async (file: LocalFile, name: string): Promise<void> => {
    const record = { type: "put", object: name, size: file.stats.size };
    if (options.dryRun) {
      sum.put++;
      sum.bytes += file.stats.size;
      await printer.data({ ...record, dryRun: true }, `would put ${printable(name)} (${formatBytes(file.stats.size)})`);
      return;
    }
    const body = await bodyOf(file);
    let counted = 0;
    const result = await pool.put(
      name,
      progress.visible
        ? countingBody(body, (more) => {
            counted += more;
            progress.bytes(more);
          })
        : body,
      { signal, metadata: metadataOf(file.stats) },
    );
    progress.bytes(result.size - counted);
    sum.put++;
    sum.bytes += result.size;
    owed.add(result.owed);
    await printer.step(
      { ...record, size: result.size, sha256: result.sha256, owed: result.owed.map(debtRecord) },
      `put ${printable(name)} (${formatBytes(result.size)})`,
    );
  };
  const pairs = join(
    localFiles(),
    (file) => `${prefix}${file.name}`,
    pool.list(prefix, { signal }),
    (object) => object.name,
    (error) => {
      // What the listing lacks is put again, which is right if not quick; but nothing may be deleted by it.
      if (!isHoldfastError(error, "incomplete")) throw error;
      incomplete = error;
      outcome.degraded();
    },
  );
  const bytesOf = ({ left }: { readonly left: LocalFile | undefined }): number => left?.stats.size ?? 0;
  const compared = aheadOf(pairs, farAhead(options.jobs, bytesOf), async ({ name, left, right }) => {
    const same =
      left === undefined || right === undefined
        ? false
        : await isSame({ path: left.path, size: left.stats.size }, right, signal, thread).catch(toHoldfastError);
    return { name, left, same };
  });
  await forEachBounded(
    compared,
    bySize(options.jobs, bytesOf),
    async ({ name, left, same }) => {
      if (!left) {
        if (options.delete && !gone.has(name)) superfluous.push(name);
        return;
      }
      try {
        if (typeof same === "object") throw same;
        if (same) {
          sum.same++;
          progress.bytes(left.stats.size);
        } else {
          await putFile(left, name);
        }
        progress.object(name);
      } catch (error) {
        await failed(name, error);
      }
    },
    signal,
  );
  const complete = incomplete === undefined;
  if (incomplete !== undefined) {
    await printer.warning(incomplete.message, { code: "incomplete" });
  }
  if (options.delete) await deleteSuperfluous();

  async function deleteSuperfluous(): Promise<void> {
    const obstacle = !complete
      ? "the pool's listing is incomplete"
      : sum.failed > 0
        ? `${count(sum.failed, "file")} could not be stored`
        : sum.skipped > leftOut.length
          ? `${count(sum.skipped - leftOut.length, "entry", "entries")} of the folder can not be stored (see --links)`
          : files === 0 && superfluous.length > 0 && options.force !== true
            ? "the folder has no file at all, so that everything would go (--force does it)"
            : undefined;
    if (obstacle !== undefined) {
      const error = new HoldfastError(complete ? "conflict" : "incomplete", `nothing was deleted: ${obstacle}`);
      outcome.error(error);
      await printer.error(error);
      return;
    }
    const isLeftOut = (name: string): boolean => leftOut.some((one) => name === one || name.startsWith(`${one}/`));
    await forEachBounded(
      superfluous.filter((name) => !isLeftOut(name)),
      options.jobs,
      async (name) => {
        if (options.dryRun) {
          sum.deleted++;
          await printer.data({ type: "rm", object: name, dryRun: true }, `would delete ${printable(name)}`);
          return;
        }
        try {
          const result = await pool.delete(name, { signal });
          sum.deleted++;
          owed.add(result.owed);
          await printer.step(
            { type: "rm", object: name, existed: result.existed, owed: result.owed.map(debtRecord) },
            `deleted ${printable(name)}`,
          );
        } catch (error) {
          await failed(name, error);
        }
      },
      signal,
    );
  }

  // What is unchanged may have been degraded all along.
  const degraded = degradedBefore === 0 ? 0 : (await pool.status({ signal })).degraded;
  if (degraded > owed.objects) {
    outcome.degraded();
    await printer.warning(`${count(degraded, "object")} degraded in the pool; for more, run: ${hint("status")}`, {
      code: "degraded",
    });
  }
  progress.stop();
  await owed.tell();
  const parts = [
    `${options.dryRun ? "would put" : "put"} ${count(sum.put, "file")} (${formatBytes(sum.bytes)})`,
    `${sum.same} unchanged`,
    ...(options.delete ? [`${options.dryRun ? "would delete" : "deleted"} ${sum.deleted}`] : []),
    ...(sum.skipped > 0 ? [`${sum.skipped} skipped`] : []),
    ...(sum.failed > 0 ? [`${sum.failed} FAILED`] : []),
  ];
  await printer.done(
    { type: "summary", command: "push", ...sum, degraded: owed.objects, complete, exitCode: outcome.exitCode },
    `${parts.join(", ")}${owed.summary}`,
  );
}

/** A small file is read once, here: opening it again for its bytes would take longer than reading it. */
async function bodyOf({ path, stats }: LocalFile): Promise<Body> {
  const content = stats.size <= SMALL_FILE_BYTES ? await readSmallFile(path, stats.size) : undefined;
  return content === undefined ? bodyFromFile(path) : toBody(content);
}

async function checkFolder(root: string): Promise<void> {
  let isDirectory: boolean;
  try {
    isDirectory = (await stat(root)).isDirectory();
  } catch (error) {
    throw new HoldfastError("config", `cannot read the folder ${root}: ${systemWords(error)}`, { cause: error });
  }
  if (!isDirectory) throw new HoldfastError("config", `${root} is not a folder`);
}

/** Counts a folder's files for the bar, beside the work itself. */
async function measure(
  root: string,
  options: WalkOptions,
  signal: AbortSignal,
  tell: (bytes: number, files: number) => void,
): Promise<void> {
  let bytes = 0;
  let files = 0;
  try {
    for await (const entry of walk(root, options)) {
      if (signal.aborted) return;
      if (entry.kind !== "file") continue;
      bytes += entry.stats.size;
      files++;
    }
    tell(bytes, files);
  } catch {
    // The push itself meets the same error and says it.
  }
}
