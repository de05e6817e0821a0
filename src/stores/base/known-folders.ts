/** The folders that a tree has seen, so that not every put asks for them again. */

/** Names from the root down. */
type FolderPath = readonly string[];

/** How many are remembered. When there are more, all are forgotten, and asked for again. */
const MAX_KNOWN_FOLDERS = 20_000;

export class KnownFolders {
  /** Joined paths; the root is "". */
  readonly #paths = new Set<string>();

  has(folder: FolderPath): boolean {
    return this.#paths.has(folder.join("/"));
  }

  /** The folders on the way to this one, itself included and the root not, that were not seen yet. */
  unknown(folder: FolderPath): FolderPath[] {
    return wayTo(folder).filter((path) => path.length > 0 && !this.has(path));
  }

  /** A folder was seen, and so were those above it. */
  add(folder: FolderPath): void {
    if (this.#paths.size >= MAX_KNOWN_FOLDERS) this.#paths.clear();
    for (const path of wayTo(folder)) this.#paths.add(path.join("/"));
  }

  /** A folder is gone, and perhaps those above it. */
  forget(folder: FolderPath): void {
    for (const path of wayTo(folder)) this.#paths.delete(path.join("/"));
  }
}

/** The root, and each folder on the way to this one, itself included. */
function wayTo(folder: FolderPath): FolderPath[] {
  return [[], ...folder.map((_, at) => folder.slice(0, at + 1))];
}
