/** What a file system does with names, and whether it has hard links: found out with one small file. */
import { link, lstat, open, readdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "./network-errors.ts";
import type { NamedPlaces } from "./kept-names.ts";

export interface FileSystemTraits {
  /** Two names that differ in case alone, or in the form of Unicode, are one file. */
  readonly folds: boolean;
  /** It keeps some names otherwise than they were given: in lower case, or in another form of Unicode. */
  readonly changes: boolean;
  readonly hasLinks: boolean;
}

/** The names of this machine's own files. */
export const localNames: NamedPlaces = { stands, names: (folder) => readdir(folder) };

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
