/** What a file system does with names, and whether it has hard links: found out with one small file. */
import { link, lstat, open, readdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "./network-errors.ts";

export interface FileSystemTraits {
  /** Two names that differ in case alone, or in the form of Unicode, are one file. */
  readonly folds: boolean;
  /** It keeps some names otherwise than they were given: in lower case, or in another form of Unicode. */
  readonly changes: boolean;
  readonly hasLinks: boolean;
}

/** Names are known for so long: another process may change them meanwhile. */
const KNOWN_MS = 1000;
const MAX_KNOWN_FOLDERS = 64;

/** Makes and removes a file that is called `name`, and something more, in `folder`. Rejects with the system's errors. */
export async function traitsOf(folder: string, name: string): Promise<FileSystemTraits> {
  // Both cases, and a precomposed letter. A file system that has no such letters folds at most the others.
  const path = await make(join(folder, `${name}.\u00e9-Aa`)).catch(() => make(join(folder, `${name}.e-Aa`)));
  const own = path.slice(folder.length + 1);
  const other = `${path}.link`;
  try {
    const changes = !(await readdir(folder)).includes(own);
    const folds = changes || (await stands(join(folder, own.toUpperCase()))) || (await standsDecomposed(folder, own));
    const hasLinks = await link(path, other).then(
      () => true,
      () => false,
    );
    return { folds, changes, hasLinks };
  } finally {
    await unlink(other).catch(() => undefined);
    await unlink(path).catch(() => undefined);
  }
}

/** Whether what stands in `folder` under `name` stands there under the name in capitals, too. */
export async function foldsNameIn(folder: string, name: string): Promise<boolean> {
  const other = name.toUpperCase();
  return (await stands(join(folder, other))) && !(await readdir(folder)).includes(other);
}

async function make(path: string): Promise<string> {
  await (await open(path, "wx", 0o600)).close();
  return path;
}

async function standsDecomposed(folder: string, name: string): Promise<boolean> {
  const decomposed = name.normalize("NFD");
  return decomposed !== name && (await stands(join(folder, decomposed)));
}

async function stands(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    const code = systemCode(error);
    if (code === "ENOENT" || code === "ENOTDIR" || code === "EILSEQ" || code === "EINVAL") return false;
    throw error;
  }
}

/** Names as a file system keeps them, where it takes several for one. */
export class KeptNames {
  readonly #folders = new Map<string, { readonly names: Set<string>; readonly readMs: number }>();
  readonly #now: () => number;

  /** `now`: a clock in milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** What stands below `root` in the place of one of `parts`, and is called otherwise; undefined where nothing does. */
  async otherThan(root: string, parts: readonly string[]): Promise<string | undefined> {
    let folder = root;
    for (const part of parts) {
      if (this.#known(folder)?.has(part) !== true) {
        if (!(await stands(join(folder, part)))) return undefined;
        const names = await this.#read(folder);
        if (!names.has(part)) return [...names].find((name) => foldedName(name) === foldedName(part)) ?? part;
      }
      folder = join(folder, part);
    }
    return undefined;
  }

  /** Notes that a name was given to a file, or taken from it. */
  note(folder: string, name: string, isThere: boolean): void {
    const names = this.#folders.get(folder)?.names;
    if (isThere) names?.add(name);
    else names?.delete(name);
  }

  #known(folder: string): ReadonlySet<string> | undefined {
    const known = this.#folders.get(folder);
    if (known !== undefined && this.#now() - known.readMs < KNOWN_MS) return known.names;
    this.#folders.delete(folder);
    return undefined;
  }

  async #read(folder: string): Promise<ReadonlySet<string>> {
    const readMs = this.#now();
    const names = new Set(await readdir(folder));
    if (this.#folders.size >= MAX_KNOWN_FOLDERS) this.#folders.clear();
    this.#folders.set(folder, { names, readMs });
    return names;
  }
}

/** The same for all names that a file system may take for one. It may be the same for others, too. */
export function foldedName(name: string): string {
  return name
    .normalize("NFKC")
    .toUpperCase()
    .toLowerCase()
    .normalize("NFKC")
    .replaceAll(/[. ]+(?=\/|$)/gu, "");
}
