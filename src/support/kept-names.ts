/** Names where a file system, or a service in front of one, takes several of them for one file. */

/** Names are known for so long: another process may change them meanwhile. */
const KNOWN_MS = 1000;
const MAX_KNOWN_FOLDERS = 64;

/** Where names are kept. Paths are parts with `/` between them, behind whatever root is asked for. */
export interface NamedPlaces {
  /** Whether anything stands there, under any name that is taken for this one. */
  stands(path: string, signal: AbortSignal | undefined): Promise<boolean>;
  /** The names of all that is in a folder, as they are kept. */
  names(folder: string, signal: AbortSignal | undefined): Promise<Iterable<string>>;
}

/** Names as they are kept in folders, where several are taken for one. */
export class KeptNames {
  readonly #folders = new Map<string, { readonly names: Set<string>; readonly readMs: number }>();
  readonly #places: NamedPlaces;
  readonly #now: () => number;

  /** `now`: a clock in milliseconds. */
  constructor(places: NamedPlaces, now: () => number) {
    this.#places = places;
    this.#now = now;
  }

  /** What stands below `root` in the place of one of `parts`, and is called otherwise; undefined where nothing does. */
  async otherThan(root: string, parts: readonly string[], signal?: AbortSignal): Promise<string | undefined> {
    let folder = root;
    for (const part of parts) {
      const path = folder === "" || folder.endsWith("/") ? folder + part : `${folder}/${part}`;
      if (this.#known(folder)?.has(part) !== true) {
        if (!(await this.#places.stands(path, signal))) return undefined;
        const names = await this.#read(folder, signal);
        const other = names.has(part) ? undefined : [...names].find((name) => foldedName(name) === foldedName(part));
        if (other !== undefined) return other;
        // A short name of DOS is in no listing. Some servers leave names that begin with a dot out of theirs.
        if (!names.has(part) && !part.startsWith(".")) return part;
      }
      folder = path;
    }
    return undefined;
  }

  /** Whether something in a folder is called exactly so. Asks. */
  async has(folder: string, name: string, signal?: AbortSignal): Promise<boolean> {
    return (await this.#read(folder, signal)).has(name);
  }

  /** Notes that a name was given to a file, or taken from it. */
  note(folder: string, name: string, isThere: boolean): void {
    const names = this.#folders.get(folder)?.names;
    if (isThere) names?.add(name);
    else names?.delete(name);
  }

  /** Everything is asked for anew. */
  forget(): void {
    this.#folders.clear();
  }

  #known(folder: string): ReadonlySet<string> | undefined {
    const known = this.#folders.get(folder);
    if (known !== undefined && this.#now() - known.readMs < KNOWN_MS) return known.names;
    this.#folders.delete(folder);
    return undefined;
  }

  async #read(folder: string, signal: AbortSignal | undefined): Promise<ReadonlySet<string>> {
    const readMs = this.#now();
    const names = new Set(await this.#places.names(folder, signal));
    if (this.#folders.size >= MAX_KNOWN_FOLDERS) this.#folders.clear();
    this.#folders.set(folder, { names, readMs });
    return names;
  }
}

/** Names that may be one file are given one after the other. */
export class NameTurns {
  readonly #last = new Map<string, Promise<void>>();

  /** Waits for others with a name that may be the same file; the result lets the next one go. */
  async take(name: string): Promise<() => void> {
    const key = foldedName(name);
    const before = this.#last.get(key);
    let free = (): void => undefined;
    const turn = new Promise<void>((resolve) => {
      free = resolve;
    });
    this.#last.set(key, turn);
    await before;
    return () => {
      if (this.#last.get(key) === turn) this.#last.delete(key);
      free();
    };
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
