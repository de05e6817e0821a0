/** Objects that would be one file in a folder whose file system takes several names for one. */
import { randomBytes } from "node:crypto";
import { HoldfastError } from "../../contract/errors.ts";
import { localNames, traitsOf } from "../../support/file-system-traits.ts";
import { foldedName, KeptNames } from "../../support/kept-names.ts";

export class Collisions {
  readonly #root: string;
  readonly #kept = new KeptNames(localNames, () => performance.now());
  /** Names of objects, and of folders that they need, by what the file system may take them for. */
  readonly #wanted = new Map<string, string>();

  private constructor(root: string) {
    this.#root = root;
  }

  /** Undefined for a folder in which all names are different files, or that cannot be written to. */
  static async in(root: string): Promise<Collisions | undefined> {
    const traits = await traitsOf(root, `.holdfast-${randomBytes(6).toString("hex")}`).catch(() => undefined);
    return traits?.folds === true ? new Collisions(root) : undefined;
  }

  /** Throws `conflict` where an object's file, or a folder above it, is one with that of another. To be asked once for each. */
  async refuse(parts: readonly string[]): Promise<void> {
    for (let length = 1; length <= parts.length; length++) {
      const name = parts.slice(0, length).join("/");
      const other = this.#wanted.get(foldedName(name));
      if (other !== undefined && other !== name) throw collision(name, other);
      this.#wanted.set(foldedName(name), name);
    }
    const other = await this.#kept.otherThan(this.#root, parts);
    if (other !== undefined) throw collision(parts.join("/"), other);
  }
}

function collision(name: string, other: string): HoldfastError {
  return new HoldfastError(
    "conflict",
    `the folder's file system takes the names ${JSON.stringify(name)} and ${JSON.stringify(other)} for one`,
  );
}
