/** The folder that is pushed: its files, their bytes, and word of what else is in it. */
import { stat } from "node:fs/promises";
import { toBody } from "../../contract/body.ts";
import { HoldfastError, throwIfAborted } from "../../contract/errors.ts";
import { bodyFromFile } from "../../contract/file-body.ts";
import { systemWords } from "../../contract/system-words.ts";
import type { CommandContext } from "../context.ts";
import type { Failures } from "./failures.ts";
import { walk } from "./local-files.ts";
import type { LocalEntry, WalkOptions } from "./local-files.ts";
import { SMALL_FILE_BYTES, readSmallFile } from "./local-thread.ts";
import type { Source } from "./put-file.ts";

export type LocalFile = Extract<LocalEntry, { kind: "file" }>;

/** The folder of a push: its files, and word of what else is in it. */
export class SourceFolder {
  readonly #context: CommandContext;
  readonly #root: string;
  readonly #prefix: string;
  readonly #walked: WalkOptions;
  readonly #failures: Failures;
  /** Names of what was removed while the folder was read. It may have been moved to an unseen place, so its object stays this time. */
  readonly gone = new Set<string>();
  /** Stores in the folder. Objects that are called like something in one are not judged by what is, or is not, in it. */
  readonly leftOut: string[] = [];
  /** Files so far. */
  count = 0;
  /** Entries that were not stored, and are no failures. */
  skipped = 0;

  /** `prefix`: of the objects that the files become. */
  constructor(context: CommandContext, root: string, prefix: string, walked: WalkOptions, failures: Failures) {
    this.#context = context;
    this.#root = root;
    this.#prefix = prefix;
    this.#walked = walked;
    this.#failures = failures;
  }

  async *files(): AsyncGenerator<LocalFile> {
    for await (const entry of walk(this.#root, this.#walked)) {
      if (entry.kind === "file") {
        this.count++;
        yield entry;
      } else {
        await this.#note(entry);
      }
    }
  }

  async #note(entry: Exclude<LocalEntry, LocalFile>): Promise<void> {
    const { name } = entry;
    const object = `${this.#prefix}${name}`;
    switch (entry.kind) {
      case "gone":
        this.gone.add(object);
        return;
      case "store":
        this.leftOut.push(object);
        return this.#skip(`left out: ${name} belongs to the pool's own store ${entry.store}`, {
          file: name,
          store: entry.store,
        });
      case "skipped":
        return this.#skip(`not stored: ${name} is ${entry.what}`, { file: name });
      case "error":
        return this.#failures.add(object, new HoldfastError("invalid", entry.message));
    }
  }

  async #skip(message: string, fields: Readonly<Record<string, unknown>>): Promise<void> {
    this.skipped++;
    this.#context.outcome.degraded();
    await this.#context.printer.warning(message, { code: "skipped", ...fields });
  }

  /** Whether an object is called like a store in the folder, or like something in one. */
  isLeftOut(name: string): boolean {
    return this.leftOut.some((one) => name === one || name.startsWith(`${one}/`));
  }
}

/** The sizes of a folder's files. */
export async function* fileSizes(root: string, options: WalkOptions, signal: AbortSignal): AsyncGenerator<number> {
  for await (const entry of walk(root, options)) {
    throwIfAborted(signal);
    if (entry.kind === "file") yield entry.stats.size;
  }
}

/** A small file is read once, here: opening it again for its bytes would take longer than reading it. */
export async function sourceOf({ path, stats }: LocalFile): Promise<Source> {
  const content = stats.size <= SMALL_FILE_BYTES ? await readSmallFile(path, stats) : undefined;
  if (content !== undefined) return { body: toBody(content) };
  const body = await bodyFromFile(path);
  return { body, file: body };
}

/** Throws `config` for what is no folder, or cannot be looked at. */
export async function checkFolder(root: string): Promise<void> {
  let isDirectory: boolean;
  try {
    isDirectory = (await stat(root)).isDirectory();
  } catch (error) {
    throw new HoldfastError("config", `cannot read the folder ${root}: ${systemWords(error)}`, { cause: error });
  }
  if (!isDirectory) throw new HoldfastError("config", `${root} is not a folder`);
}
