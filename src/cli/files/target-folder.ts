/** The folder that a pull fills: where each object's file may stand, the folders above it, and its bytes. */
import { lstat as lstatByCallback } from "node:fs";
import type { Stats } from "node:fs";
import { mkdir, opendir, rmdir, unlink } from "node:fs/promises";
import { dirname, join, sep } from "node:path";
import { promisify } from "node:util";
import { toBody } from "../../contract/body.ts";
import { HoldfastError } from "../../contract/errors.ts";
import type { GetResult } from "../../contract/store.ts";
import { systemWords } from "../../contract/system-words.ts";
import { removeEmpty } from "../../support/empty-folders.ts";
import { makeFolder } from "../../support/make-folder.ts";
import { pathParts } from "../names.ts";
import { Collisions } from "./collisions.ts";
import { attributesOf, restoreMetadata } from "./file-metadata.ts";
import { GroupedFiles } from "./grouped-files.ts";
import type { StoreFolders } from "./store-folders.ts";
import { writeFile } from "./write-file.ts";

// The one of fs/promises gathers a stack for each "nothing there".
const lstat: (path: string) => Promise<Stats> = promisify(lstatByCallback);

/** Where an object's file stands, or is to stand. */
export interface FilePlace {
  readonly path: string;
  /** The parts of the path below the folder. */
  readonly parts: readonly string[];
}

export class TargetFolder {
  readonly root: string;
  /** The root without symbolic links. */
  readonly #real: string;
  readonly #stores: StoreFolders;
  /** Whether there was nothing in it at first. */
  readonly #isEmpty: boolean;
  readonly #collisions: Collisions | undefined;
  readonly #grouped = new GroupedFiles();
  #folders: FolderMaker;

  private constructor(
    root: string,
    real: string,
    stores: StoreFolders,
    isEmpty: boolean,
    collisions: Collisions | undefined,
  ) {
    this.root = root;
    this.#real = real;
    this.#stores = stores;
    this.#isEmpty = isEmpty;
    this.#collisions = collisions;
    this.#folders = new FolderMaker(root);
  }

  /** Makes the folder, unless `dryRun`. Throws `config` where it cannot be made, or belongs to one of the `stores`. */
  static async open(root: string, stores: StoreFolders, dryRun: boolean): Promise<TargetFolder> {
    const real = await stores.outside(root, "pulled into");
    try {
      if (!dryRun) await makeFolder(root);
    } catch (error) {
      throw new HoldfastError("config", `cannot make the folder ${root}: ${systemWords(error)}`, { cause: error });
    }
    const isEmpty = await isEmptyFolder(root);
    return new TargetFolder(root, real, stores, isEmpty, dryRun ? undefined : await Collisions.in(root));
  }

  async exists(): Promise<boolean> {
    return (await lstatOrNothing(this.root)) !== undefined;
  }

  /**
   * Where the file of a name stands. Throws `invalid` for a name that can be no file here, `conflict` for one that is
   * another's on this file system.
   */
  async place(name: string): Promise<FilePlace> {
    const parts = pathParts(name);
    if (typeof parts === "string") throw new HoldfastError("invalid", `it cannot be a file in the folder: ${parts}`);
    const store = this.#stores.holding(join(this.#real, ...parts));
    if (store !== undefined) {
      throw new HoldfastError("invalid", `it would be written into the folder of the pool's own store ${store}`);
    }
    await this.#collisions?.refuse(parts);
    return { path: join(this.root, ...parts), parts };
  }

  /** What stood at a place before this pull. */
  async found({ path }: FilePlace): Promise<Stats | undefined> {
    // Into an empty folder there is nothing to look at for each object.
    return this.#isEmpty ? undefined : lstatOrNothing(path);
  }

  /** Whether every folder above a place is there and is no link. */
  async isReal({ parts }: Pick<FilePlace, "parts">): Promise<boolean> {
    return this.#folders.isReal(parts);
  }

  /** Makes the folders above a place. Throws `conflict` when something else is in the way. */
  async makeAbove({ parts }: FilePlace): Promise<void> {
    await this.#folders.make(parts);
  }

  /** Writes an object's file. `isPlain`: nothing, or a plain file, stands there. */
  async write(
    { path }: FilePlace,
    { info, body }: GetResult,
    isPlain: boolean,
    onBytes: (more: number) => void,
  ): Promise<void> {
    let bytes = body;
    if (isPlain && this.#grouped.takes(info.size)) {
      const chunks: Uint8Array[] = [];
      for await (const chunk of body) chunks.push(chunk);
      const [only = new Uint8Array()] = chunks;
      const whole = chunks.length <= 1 ? only : Buffer.concat(chunks);
      if (await this.#grouped.write(path, whole, attributesOf(info.metadata))) {
        onBytes(whole.byteLength);
        return;
      }
      bytes = toBody(whole).open();
    }
    await writeFile(path, bytes, { isPlain, onBytes, finish: (file) => restoreMetadata(file, info.metadata) });
  }

  /** Whether a plain file stands under a name. */
  async isFile(name: string): Promise<boolean> {
    return (await lstatOrNothing(join(this.root, name)))?.isFile() === true;
  }

  /** Removes a folder that holds nothing but such. Never through a link, which leads out of the folder. */
  async removeEmptyAt(name: string): Promise<boolean> {
    return (await this.isReal({ parts: name.split("/") })) && removeEmpty(join(this.root, name));
  }

  /** Deletes a file, and the folders that are empty without it. */
  async removeFile(name: string): Promise<void> {
    const path = join(this.root, name);
    await unlink(path);
    for (let folder = dirname(path); folder.startsWith(this.root + sep); folder = dirname(folder)) {
      try {
        await rmdir(folder);
      } catch {
        // Not empty, as most are not.
        return;
      }
    }
  }

  /** Forgets which folders are there: one may have become something else. */
  forgetFolders(): void {
    this.#folders = new FolderMaker(this.root);
  }

  async close(): Promise<void> {
    await this.#grouped.close();
  }
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
      path = join(path, part);
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
      path = join(path, part);
      if (!this.#known.has(path) && (await lstatOrNothing(path))?.isDirectory() !== true) return false;
    }
    return true;
  }
}

function noFolder(path: string): HoldfastError {
  return new HoldfastError("conflict", `${path} is in the way: it is no folder, or a link to one`);
}
