/** `holdfast pull`: the pool's objects into a folder. */
import { join as joinPath } from "node:path";
import { HoldfastError, isHoldfastError } from "../../contract/errors.ts";
import type { Pool, PoolObjectInfo } from "../../contract/pool.ts";
import { systemWords } from "../../contract/system-words.ts";
import { bySize, forEachBounded } from "../../support/bounded.ts";
import { isSame, join } from "../files/compare.ts";
import type { CommandContext } from "../context.ts";
import { Failures } from "../files/failures.ts";
import { count, formatBytes, printable } from "../terminal/format.ts";
import { walk } from "../files/local-files.ts";
import type { LocalEntry, WalkOptions } from "../files/local-files.ts";
import { LocalThread } from "../files/local-thread.ts";
import { folderPrefix, pathArgument } from "../names.ts";
import { measure } from "../terminal/progress.ts";
import type { Progress } from "../terminal/progress.ts";
import { noMoreDeleted, nothingDeleted, replace } from "../files/replace.ts";
import type { Replacement } from "../files/replace.ts";
import { StoreFolders } from "../files/store-folders.ts";
import { TargetFolder } from "../files/target-folder.ts";
import { UnheardCounter } from "../unheard.ts";

export interface PullFlags {
  readonly jobs: number;
  readonly dryRun?: boolean;
  readonly delete?: boolean;
  readonly force?: boolean;
}

/** Something in the folder that the pool does not have. */
interface Superfluous {
  readonly name: string;
  /** A link or a device, which no object is. */
  readonly special: boolean;
}

interface BlockedObject {
  /** Of its file in the folder. */
  readonly name: string;
  readonly object: PoolObjectInfo;
  readonly error: HoldfastError;
}

/** Writes the objects under a prefix into a folder. `config` for a folder that cannot be pulled into. */
export async function pull(
  context: CommandContext,
  directory: string,
  prefixArgument: string,
  options: PullFlags,
): Promise<void> {
  const root = pathArgument(context.cwd, directory, "DIR");
  const prefix = folderPrefix(prefixArgument);
  const { pool, description, labels } = await context.openTarget();
  const stores = await StoreFolders.of(description);
  const folder = await TargetFolder.open(root, stores, options.dryRun === true);
  context.closeLater(() => folder.close());
  const progress = await context.startProgress(options.dryRun ? "compare" : "pull", labels);
  void measure(progress, objectSizes(pool, prefix, context.signal));
  const thread = new LocalThread();
  context.closeLater(() => thread.close());
  const walked: WalkOptions = { links: "report", thread, storeAt: stores.holding };
  const work = new Pull(context, options, { pool, prefix, folder, walked, progress });
  await work.getObjects();
  if (options.delete) await replace(work);
  await work.done();
}

interface PullPlace {
  readonly pool: Pool;
  readonly prefix: string;
  readonly folder: TargetFolder;
  readonly walked: WalkOptions;
  readonly progress: Progress;
}

/** One pull. What only the target, the folder, has are files. */
class Pull implements Replacement<Superfluous, BlockedObject> {
  readonly #context: CommandContext;
  readonly #options: PullFlags;
  readonly #place: PullPlace;
  readonly #failures: Failures;
  readonly #unheard: UnheardCounter;
  readonly #sum = { got: 0, bytes: 0, same: 0, deleted: 0 };
  readonly superfluous: Superfluous[] = [];
  /** Objects whose files may have to wait until something superfluous is gone. */
  readonly blocked: BlockedObject[] = [];
  #objects = 0;
  #complete = true;

  constructor(context: CommandContext, options: PullFlags, place: PullPlace) {
    this.#context = context;
    this.#options = options;
    this.#place = place;
    this.#failures = new Failures(context, "get");
    this.#unheard = new UnheardCounter(context);
  }

  /** Gets the objects that the folder does not have. */
  async getObjects(): Promise<void> {
    await forEachBounded(
      this.#options.delete ? this.#listedAndLocal() : this.#listed(),
      bySize(this.#options.jobs, ({ size }) => size),
      async (object) => {
        try {
          await this.#getObject(object);
          this.#place.progress.object(object.name);
        } catch (error) {
          if (this.#options.delete && isHoldfastError(error, "conflict")) {
            this.blocked.push({ name: this.#fileName(object), object, error });
          } else {
            await this.#failures.add(object.name, error);
          }
        }
      },
      this.#context.signal,
    );
  }

  #fileName({ name }: PoolObjectInfo): string {
    return name.slice(this.#place.prefix.length);
  }

  async *#listed(): AsyncGenerator<PoolObjectInfo> {
    const { pool, prefix } = this.#place;
    try {
      for await (const object of pool.list(prefix, { signal: this.#context.signal })) {
        this.#objects++;
        yield object;
      }
    } catch (error) {
      if (!isHoldfastError(error, "incomplete")) throw error;
      this.#complete = false;
      await this.#failures.tell(error);
    }
  }

  /** The same, with the folder's files beside them: those without an object are noted as superfluous. */
  async *#listedAndLocal(): AsyncGenerator<PoolObjectInfo> {
    const joined = join(
      this.#localFiles(),
      (file) => `${this.#place.prefix}${file.name}`,
      this.#listed(),
      (object) => object.name,
      (error) => {
        throw error;
      },
    );
    for await (const { left, right } of joined) {
      if (right) yield right;
      else if (left) this.superfluous.push({ name: left.name, special: false });
    }
  }

  async *#localFiles(): AsyncGenerator<LocalEntry> {
    const { folder, walked } = this.#place;
    if (!(await folder.exists())) return;
    for await (const entry of walk(folder.root, walked)) {
      if (entry.kind === "error") {
        await this.#failures.add(entry.name, new HoldfastError("invalid", entry.message));
      } else if (entry.kind === "file") {
        yield entry;
      } else if (entry.kind === "skipped" && !entry.what.includes("was writing")) {
        this.superfluous.push({ name: entry.name, special: true });
      }
    }
  }

  async #getObject(object: PoolObjectInfo): Promise<void> {
    const { printer, signal } = this.#context;
    const { pool, folder, walked, progress } = this.#place;
    const place = await folder.place(this.#fileName(object));
    const found = await folder.found(place);
    if (
      found?.isFile() &&
      (await folder.isReal(place)) &&
      (await isSame({ path: place.path, size: found.size }, object, signal, walked.thread))
    ) {
      this.#sum.same++;
      progress.bytes(object.size);
      return;
    }
    const record = { type: "get", object: object.name, size: object.size, file: place.path };
    if (this.#options.dryRun) {
      this.#sum.got++;
      this.#sum.bytes += object.size;
      await printer.data(
        { ...record, dryRun: true },
        `would get ${printable(object.name)} (${formatBytes(object.size)})`,
      );
      return;
    }
    await folder.makeAbove(place);
    const result = await pool.get(object.name, { signal });
    try {
      const isPlain = found === undefined || found.isFile();
      await folder.write(place, result, isPlain, (more) => progress.bytes(more));
    } finally {
      await result.close();
    }
    this.#sum.got++;
    this.#sum.bytes += result.info.size;
    this.#unheard.add(object.name, result);
    await printer.step(
      { ...record, size: result.info.size, unheard: result.unheard ?? [] },
      `got ${printable(object.name)} (${formatBytes(result.info.size)})`,
    );
  }

  async isFree({ name }: BlockedObject): Promise<boolean> {
    return this.#place.folder.removeEmptyAt(name);
  }

  async giveUp({ object, error }: BlockedObject): Promise<void> {
    await this.#failures.add(object.name, error);
  }

  obstacle(): HoldfastError | undefined {
    if (!this.#complete) return nothingDeleted("the pool's listing is incomplete", "incomplete");
    const failed = this.#failures.count;
    if (failed > 0) return nothingDeleted(`${count(failed, "object")} could not be read or written`);
    if (this.#objects === 0 && this.superfluous.length > 0 && this.#options.force !== true) {
      return nothingDeleted("the pool has no object there, so that everything would go (--force does it)");
    }
    return undefined;
  }

  async delete(files: readonly Superfluous[]): Promise<void> {
    const { printer } = this.#context;
    const { folder } = this.#place;
    for (const { name, special } of files) {
      // A link that the walk met may be an object's file by now.
      if (special && (await folder.isFile(name))) continue;
      const record = { type: "delete-file", file: joinPath(folder.root, name) };
      try {
        if (!this.#options.dryRun) await folder.removeFile(name);
        this.#sum.deleted++;
        await (this.#options.dryRun
          ? printer.data({ ...record, dryRun: true }, `would delete the file ${printable(name)}`)
          : printer.step(record, `deleted the file ${printable(name)}`));
      } catch (error) {
        await this.#failures.add(
          name,
          new HoldfastError("invalid", `cannot delete the file: ${systemWords(error)}`, { cause: error }),
        );
      }
    }
  }

  async retry(waiting: readonly BlockedObject[]): Promise<void> {
    const { folder, progress } = this.#place;
    folder.forgetFolders();
    for (const { name, object } of waiting) {
      await folder.removeEmptyAt(name);
      await this.#getObject(object).catch((error: unknown) => this.#failures.add(object.name, error));
      progress.object(object.name);
    }
  }

  failure(): HoldfastError | undefined {
    const failed = this.#failures.count;
    return failed === 0 ? undefined : noMoreDeleted(`${count(failed, "file")} could not be written or deleted`);
  }

  async tell(error: HoldfastError): Promise<void> {
    await this.#failures.tell(error);
  }

  /** Ends the progress, and says what the pull came to. */
  async done(): Promise<void> {
    const { printer, outcome } = this.#context;
    const { dryRun } = this.#options;
    this.#place.progress.stop();
    await this.#unheard.tell();
    const sum = { ...this.#sum, failed: this.#failures.count };
    const complete = this.#complete;
    const parts = [
      `${dryRun ? "would get" : "got"} ${count(sum.got, "object")} (${formatBytes(sum.bytes)})`,
      `${sum.same} unchanged`,
      ...(this.#options.delete ? [`${dryRun ? "would delete" : "deleted"} ${sum.deleted}`] : []),
      ...(sum.failed > 0 ? [`${sum.failed} FAILED`] : []),
      ...(complete ? [] : ["the listing was INCOMPLETE"]),
    ];
    await printer.done(
      { type: "summary", command: "pull", ...sum, complete, exitCode: outcome.exitCode },
      parts.join(", "),
    );
  }
}

/** The sizes of the objects under a prefix. */
async function* objectSizes(pool: Pool, prefix: string, signal: AbortSignal): AsyncGenerator<number> {
  for await (const { size } of pool.list(prefix, { signal })) yield size;
}
