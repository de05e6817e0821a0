/** `holdfast push`: a folder's files into the pool. */
import { HoldfastError, isHoldfastError, toHoldfastError } from "../../contract/errors.ts";
import { hint } from "../../support/hint.ts";
import { aheadOf, bySize, farAhead, forEachBounded } from "../../support/bounded.ts";
import type { Pool, PoolObjectInfo, PoolPutResult } from "../../contract/pool.ts";
import { isSame, join } from "../files/compare.ts";
import type { Pair } from "../files/compare.ts";
import type { CommandContext } from "../context.ts";
import { countingBody } from "../files/counting-body.ts";
import { metadataOf } from "../files/file-metadata.ts";
import { Failures } from "../files/failures.ts";
import { count, formatBytes, printable } from "../terminal/format.ts";
import type { WalkOptions } from "../files/local-files.ts";
import { LocalThread } from "../files/local-thread.ts";
import { folderPrefix, pathArgument } from "../names.ts";
import { OwedCounter } from "../owed.ts";
import { debtRecord } from "../terminal/printer.ts";
import { measure } from "../terminal/progress.ts";
import type { Progress } from "../terminal/progress.ts";
import { KEEPS_CHANGING, putStanding } from "../files/put-file.ts";
import { SourceFolder, checkFolder, fileSizes, sourceOf } from "../files/source-folder.ts";
import type { LocalFile } from "../files/source-folder.ts";

import { noMoreDeleted, nothingDeleted, replace } from "../files/replace.ts";
import type { Replacement } from "../files/replace.ts";
import { StoreFolders } from "../files/store-folders.ts";

export interface PushFlags {
  readonly jobs: number;
  readonly links: "report" | "follow" | "ignore";
  readonly dryRun?: boolean;
  readonly delete?: boolean;
  readonly force?: boolean;
}

/** Stores a folder's files under a prefix of the pool. `config` for a folder that cannot be pushed. */
export async function push(
  context: CommandContext,
  directory: string,
  prefixArgument: string,
  options: PushFlags,
): Promise<void> {
  const { signal } = context;
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
  void measure(progress, fileSizes(root, walked, signal));
  const work = new Push(context, options, { pool, prefix, root, walked, progress });
  await work.putFiles();
  if (options.delete) await replace(work);
  // What is unchanged may have been degraded all along.
  if (degradedBefore > 0) await work.warnOfDegraded();
  await work.done();
}

interface PushPlace {
  readonly pool: Pool;
  readonly prefix: string;
  readonly root: string;
  readonly walked: WalkOptions;
  readonly progress: Progress;
}

interface BlockedFile {
  readonly file: LocalFile;
  readonly name: string;
  readonly error: HoldfastError;
}

/** One push. What only the target, the pool, has are objects. */
class Push implements Replacement<{ readonly name: string }, BlockedFile> {
  readonly #context: CommandContext;
  readonly #options: PushFlags;
  readonly #place: PushPlace;
  readonly #folder: SourceFolder;
  readonly #failures: Failures;
  readonly #owed: OwedCounter;
  readonly #sum = { put: 0, bytes: 0, same: 0, deleted: 0 };
  /** Files that were written to as often as they were read. */
  #changing = 0;
  readonly #onlyInPool: { readonly name: string }[] = [];
  /** Files whose names may have to wait until something superfluous is gone: a folder cannot hold both `a` and `a/b`. */
  readonly blocked: BlockedFile[] = [];
  #incomplete: HoldfastError | undefined;

  constructor(context: CommandContext, options: PushFlags, place: PushPlace) {
    this.#context = context;
    this.#options = options;
    this.#place = place;
    this.#failures = new Failures(context, "put");
    this.#folder = new SourceFolder(context, place.root, place.prefix, place.walked, this.#failures);
    this.#owed = new OwedCounter(context, place.progress);
  }

  /** Puts the files that the pool does not have. */
  async putFiles(): Promise<void> {
    const { jobs } = this.#options;
    const { thread } = this.#place.walked;
    const { signal } = this.#context;
    const bytesOf = ({ left }: { readonly left: LocalFile | undefined }): number => left?.stats.size ?? 0;
    const compared = aheadOf(this.#pairs(), farAhead(jobs, bytesOf), async ({ name, left, right }) => {
      const same =
        left === undefined || right === undefined
          ? false
          : await isSame({ path: left.path, size: left.stats.size }, right, signal, thread).catch(toHoldfastError);
      return { name, left, same };
    });
    await forEachBounded(
      compared,
      bySize(jobs, bytesOf),
      async ({ name, left, same }) => {
        if (left) await this.#putUnlessSame(left, name, same);
        else if (this.#options.delete && !this.#folder.gone.has(name)) this.#onlyInPool.push({ name });
      },
      signal,
    );
    if (this.#incomplete !== undefined) {
      await this.#context.printer.warning(this.#incomplete.message, { code: "incomplete" });
    }
  }

  /** Names of files and of objects, with what there is of each. */
  #pairs(): AsyncIterable<Pair<LocalFile, PoolObjectInfo>> {
    const { pool, prefix } = this.#place;
    return join(
      this.#folder.files(),
      (file) => `${prefix}${file.name}`,
      pool.list(prefix, { signal: this.#context.signal }),
      (object) => object.name,
      (error) => {
        // What the listing lacks is put again, which is right if not quick; but nothing may be deleted by it.
        if (!isHoldfastError(error, "incomplete")) throw error;
        this.#incomplete = error;
        this.#context.outcome.degraded();
      },
    );
  }

  /** `same`: whether the pool has it, or the error of finding out. */
  async #putUnlessSame(file: LocalFile, name: string, same: boolean | HoldfastError): Promise<void> {
    const { progress } = this.#place;
    try {
      if (typeof same === "object") throw same;
      if (same) {
        this.#sum.same++;
        progress.bytes(file.stats.size);
      } else {
        await this.#putFile(file, name);
      }
      progress.object(name);
    } catch (error) {
      if (this.#options.delete && isHoldfastError(error, "conflict")) this.blocked.push({ file, name, error });
      else await this.#failures.add(name, error);
    }
  }

  async #putFile(file: LocalFile, name: string): Promise<void> {
    const { printer } = this.#context;
    const { progress } = this.#place;
    const record = { type: "put", object: name, size: file.stats.size };
    if (this.#options.dryRun) {
      this.#sum.put++;
      this.#sum.bytes += file.stats.size;
      await printer.data({ ...record, dryRun: true }, `would put ${printable(name)} (${formatBytes(file.stats.size)})`);
      return;
    }
    let counted = 0;
    const result = await this.#putBytes(file, name, (more) => {
      counted += more;
      progress.bytes(more);
    });
    progress.bytes((result?.size ?? file.stats.size) - counted);
    if (result === undefined) {
      this.#changing++;
      this.#context.outcome.degraded();
      await printer.warning(`not stored: ${file.name}: ${KEEPS_CHANGING}`, { code: "changed", file: file.name });
      return;
    }
    this.#sum.put++;
    this.#sum.bytes += result.size;
    this.#owed.add(result.owed);
    await printer.step(
      { ...record, size: result.size, sha256: result.sha256, owed: result.owed.map(debtRecord) },
      `put ${printable(name)} (${formatBytes(result.size)})`,
    );
  }

  /** Undefined where the file does not stand still. */
  async #putBytes(file: LocalFile, name: string, onBytes: (more: number) => void): Promise<PoolPutResult | undefined> {
    const { pool, progress } = this.#place;
    return putStanding(
      () => sourceOf(file),
      ({ body, file: read }) =>
        pool.put(name, progress.visible ? countingBody(body, onBytes) : body, {
          signal: this.#context.signal,
          metadata: metadataOf(read?.stats ?? file.stats),
        }),
    );
  }

  get superfluous(): { readonly name: string }[] {
    return this.#onlyInPool.filter(({ name }) => !this.#folder.isLeftOut(name));
  }

  isFree(): Promise<boolean> {
    return Promise.resolve(false);
  }

  async giveUp({ name, error }: BlockedFile): Promise<void> {
    await this.#failures.add(name, error);
  }

  obstacle(): HoldfastError | undefined {
    if (this.#incomplete) return nothingDeleted("the pool's listing is incomplete", "incomplete");
    const failed = this.#failures.count;
    if (failed > 0) return nothingDeleted(`${count(failed, "file")} could not be stored`);
    // A store in the folder is no reason: its objects stay by their names.
    const unstored = this.#skipped - this.#folder.leftOut.length;
    if (unstored > 0) {
      return nothingDeleted(`${count(unstored, "entry", "entries")} of the folder could not be stored`);
    }
    if (this.#folder.count === 0 && this.#onlyInPool.length > 0 && this.#options.force !== true) {
      return nothingDeleted("the folder has no file at all, so that everything would go (--force does it)");
    }
    return undefined;
  }

  async delete(objects: readonly { readonly name: string }[]): Promise<void> {
    const { printer, signal } = this.#context;
    const deleteObject = async ({ name }: { readonly name: string }): Promise<void> => {
      if (this.#options.dryRun) {
        this.#sum.deleted++;
        await printer.data({ type: "rm", object: name, dryRun: true }, `would delete ${printable(name)}`);
        return;
      }
      try {
        const result = await this.#place.pool.delete(name, { signal });
        this.#sum.deleted++;
        this.#owed.add(result.owed);
        await printer.step(
          { type: "rm", object: name, existed: result.existed, owed: result.owed.map(debtRecord) },
          `deleted ${printable(name)}`,
        );
      } catch (error) {
        await this.#failures.add(name, error);
      }
    };
    await forEachBounded(objects, this.#options.jobs, deleteObject, signal);
  }

  async retry(blocked: readonly BlockedFile[]): Promise<void> {
    await forEachBounded(
      blocked,
      bySize(this.#options.jobs, ({ file }) => file.stats.size),
      async ({ file, name }) => {
        await this.#putFile(file, name).catch((error: unknown) => this.#failures.add(name, error));
        this.#place.progress.object(name);
      },
      this.#context.signal,
    );
  }

  failure(): HoldfastError | undefined {
    const failed = this.#failures.count;
    if (failed === 0) return undefined;
    return noMoreDeleted(`${count(failed, "object")} could not be put or deleted`);
  }

  async tell(error: HoldfastError): Promise<void> {
    await this.#failures.tell(error);
  }

  /** Warns of degraded objects, where there are more than were written now. */
  async warnOfDegraded(): Promise<void> {
    const { printer, outcome, signal } = this.#context;
    const { degraded } = await this.#place.pool.maintenance.status({ signal });
    if (degraded <= this.#owed.objects) return;
    outcome.degraded();
    await printer.warning(`${count(degraded, "object")} degraded in the pool; for more, run: ${hint("status")}`, {
      code: "degraded",
    });
  }

  /** Ends the progress, and says what the push came to. */
  async done(): Promise<void> {
    const { printer, outcome } = this.#context;
    const { dryRun } = this.#options;
    this.#place.progress.stop();
    await this.#owed.tell();
    const sum = { ...this.#sum, skipped: this.#skipped, failed: this.#failures.count };
    const parts = [
      `${dryRun ? "would put" : "put"} ${count(sum.put, "file")} (${formatBytes(sum.bytes)})`,
      `${sum.same} unchanged`,
      ...(this.#options.delete ? [`${dryRun ? "would delete" : "deleted"} ${sum.deleted}`] : []),
      ...(sum.skipped > 0 ? [`${sum.skipped} skipped`] : []),
      ...(sum.failed > 0 ? [`${sum.failed} FAILED`] : []),
    ];
    const complete = this.#incomplete === undefined;
    await printer.done(
      { type: "summary", command: "push", ...sum, degraded: this.#owed.objects, complete, exitCode: outcome.exitCode },
      `${parts.join(", ")}${this.#owed.summary}`,
    );
  }

  get #skipped(): number {
    return this.#folder.skipped + this.#changing;
  }
}
