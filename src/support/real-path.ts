/** Paths of this machine without symbolic links, so that two names of one folder can be known for one. */
import { readlink, realpath } from "node:fs/promises";
import { basename, dirname, join, resolve, sep } from "node:path";

/** A disk that hangs is not waited for longer, in milliseconds. */
const WAIT_MS = 2000;
/** As many links one after the other as Linux follows. */
const MAX_LINKS = 40;

/** How links are looked up; the file system's by default. */
export interface PathLookUp {
  readonly realpath: (path: string) => Promise<string>;
  readonly readlink: (path: string) => Promise<string>;
  /** Milliseconds. */
  readonly waitMs: number;
}

/**
 * The path, absolute and without symbolic links. As far as it does not exist it stays as it is, also behind a link whose
 * target is not there. A path that cannot be looked up in time is given with its links. Never rejects.
 */
export async function realPath(path: string, lookUp: Partial<PathLookUp> = {}): Promise<string> {
  const absolute = resolve(path);
  const { waitMs, ...ways } = { realpath, readlink, waitMs: WAIT_MS, ...lookUp };
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((give) => {
    timer = setTimeout(() => give(absolute), waitMs);
  });
  try {
    return await Promise.race([follow(absolute, ways, 0), late]);
  } finally {
    clearTimeout(timer);
  }
}

async function follow(path: string, ways: Omit<PathLookUp, "waitMs">, links: number): Promise<string> {
  const real = await ways.realpath(path).catch(() => undefined);
  if (real !== undefined) return real;
  const parent = dirname(path);
  if (parent === path) return path;
  const here = join(await follow(parent, ways, links), basename(path));
  const target = links < MAX_LINKS ? await ways.readlink(here).catch(() => undefined) : undefined;
  return target === undefined ? here : follow(resolve(dirname(here), target), ways, links + 1);
}

/** Whether `path` is the folder, or lies in it. Both without links. */
export function isWithin(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
}
