/** `holdfast push`: a folder's files into the pool. */
import { stat } from "node:fs/promises";
import { toBody } from "../../contract/body.ts";
import { HoldfastError, isHoldfastError, toHoldfastError } from "../../contract/errors.ts";
import { bodyFromFile } from "../../contract/file-body.ts";
import { hint } from "../../support/hint.ts";
import { systemWords } from "../../contract/system-words.ts";
import { aheadOf, bySize, farAhead, forEachBounded } from "../../support/bounded.ts";
import { isSame, join } from "../files/compare.ts";
import type { CommandContext } from "../context.ts";
import { countingBody } from "../files/counting-body.ts";
import { metadataOf } from "../files/file-metadata.ts";
import { count, formatBytes, printable } from "../terminal/format.ts";
import { inTheWay } from "../files/in-the-way.ts";
import { walk } from "../files/local-files.ts";
import type { LocalEntry, WalkOptions } from "../files/local-files.ts";
import { LocalThread, SMALL_FILE_BYTES, readSmallFile } from "../files/local-thread.ts";
import { folderPrefix, pathArgument } from "../names.ts";
import { OwedCounter } from "../owed.ts";
import { debtRecord } from "../terminal/printer.ts";
import { KEEPS_CHANGING, putStanding } from "../files/put-file.ts";
import type { Source } from "../files/put-file.ts";
import { StoreFolders } from "../files/store-folders.ts";

export interface PushFlags {
  readonly jobs: number;
  readonly links: "report" | "follow" | "ignore";
  readonly dryRun?: boolean;
  readonly delete?: boolean;
  readonly force?: boolean;
}

type LocalFile = Extract<LocalEntry, { kind: "file" }>;

export async function push(
  context: CommandContext,
  directory: string,
  prefixArgument: string,
  options: PushFlags,
): Promise<void> {
  const { printer, outcome, signal } = context;
  const root = pathArgument(context.cwd, directory, "DIR");
  await checkFolder(root);
  const prefix = folderPrefix(prefixArgument);
  const { pool, description, labels } = await context.openTarget();
  const stores = await StoreFolders.of(description);
  await stores.outside(root, "pushed");
  const degradedBefore = (await pool.maintenance.status({ signal })).degraded;
  const progress = await context.startProgress(options.dryRun ? "compare" : "push", labels);
  const thread = new LocalThread();
  context.closeLater(() => thread.close());
  const walked = { links: options.links, thread, storeAt: stores.holding };
  if (progress.visible) void measure(root, walked, signal, (bytes, files) => progress.total(bytes, files));
  const owed = new OwedCounter(context, progress);
  const sum = { put: 0, bytes: 0, same: 0, deleted: 0, skipped: 0, failed: 0 };
  const superfluous: string[] = [];
  /** Files whose names may have to wait until something superfluous is gone: a folder cannot hold both `a` and `a/b`. */
  const blocked: { readonly file: LocalFile; readonly name: string; readonly error: HoldfastError }[] = [];
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
    let counted = 0;
    const count = (more: number): void => {
      counted += more;
      progress.bytes(more);
    };
    const result = await putStanding(
      () => sourceOf(file),
      ({ body, file: read }) =>
        pool.put(name, progress.visible ? countingBody(body, count) : body, {
          signal,
          metadata: metadataOf(read?.stats ?? file.stats),
        }),
    );
    if (result === undefined) {
      progress.bytes(file.stats.size - counted);
      sum.skipped++;
      outcome.degraded();
      await printer.warning(`not stored: ${file.name}: ${KEEPS_CHANGING}`, { code: "changed", file: file.name });
      return;
    }
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
        if (options.delete && isHoldfastError(error, "conflict")) blocked.push({ file: left, name, error });
        else await failed(name, error);
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
    const isLeftOut = (name: string): boolean => leftOut.some((one) => name === one || name.startsWith(`${one}/`));
    const deletable = superfluous.filter((name) => !isLeftOut(name));
    const ways = inTheWay(
      blocked.map(({ name }) => name),
      deletable,
    );
    for (const { name, error } of blocked) if (!ways.has(name)) await failed(name, error);
    const obstacle = !complete
      ? "the pool's listing is incomplete"
      : sum.failed > 0
        ? `${count(sum.failed, "file")} could not be stored`
        : sum.skipped > leftOut.length
          ? `${count(sum.skipped - leftOut.length, "entry", "entries")} of the folder could not be stored`
          : files === 0 && superfluous.length > 0 && options.force !== true
            ? "the folder has no file at all, so that everything would go (--force does it)"
            : undefined;
    if (obstacle !== undefined) {
      for (const { name, error } of blocked) if (ways.has(name)) await failed(name, error);
      const error = new HoldfastError(complete ? "conflict" : "incomplete", `nothing was deleted: ${obstacle}`);
      outcome.error(error);
      await printer.error(error);
      return;
    }
    const first = new Set([...ways.values()].flat());
    await deleteObjects(first);
    await putBlocked(ways);
    if (sum.failed === 0) {
      await deleteObjects(deletable.filter((name) => !first.has(name)));
      return;
    }
    const error = new HoldfastError(
      "conflict",
      `nothing more was deleted: ${count(sum.failed, "object")} could not be put or deleted`,
    );
    outcome.error(error);
    await printer.error(error);
  }

  async function putBlocked(ways: ReadonlyMap<string, unknown>): Promise<void> {
    await forEachBounded(
      blocked.filter(({ name }) => ways.has(name)),
      bySize(options.jobs, ({ file }) => file.stats.size),
      async ({ file, name }) => {
        await putFile(file, name).catch((error: unknown) => failed(name, error));
        progress.object(name);
      },
      signal,
    );
  }

  async function deleteObjects(names: Iterable<string>): Promise<void> {
    await forEachBounded(
      names,
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
  const degraded = degradedBefore === 0 ? 0 : (await pool.maintenance.status({ signal })).degraded;
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
async function sourceOf({ path, stats }: LocalFile): Promise<Source> {
  const content = stats.size <= SMALL_FILE_BYTES ? await readSmallFile(path, stats) : undefined;
  if (content !== undefined) return { body: toBody(content) };
  const body = await bodyFromFile(path);
  return { body, file: body };
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
