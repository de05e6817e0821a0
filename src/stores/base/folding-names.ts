/**
 * Whether a service takes names that differ in case, or in the form of Unicode, for one file, and which of them it has
 * then. A folder on vfat, NTFS, exFAT, APFS or CIFS does so behind whatever protocol serves it, and no protocol says it.
 *
 * It is found out with a file that a put makes anyway, once for each open store, by one request more. Before anything was
 * put, Holdfast's own folder tells as much of case. A service that cannot be asked is taken to tell all names apart.
 */
import { HoldfastError, isHoldfastError, throwIfAborted } from "../../contract/errors.ts";
import { RESERVED_PREFIX } from "../../contract/names.ts";
import { KeptNames, NameTurns } from "../../support/kept-names.ts";
import type { NamedPlaces } from "../../support/kept-names.ts";

/** Ways in which two names can be one file. `case` includes everything that a name's capitals change. */
export type Folding = "case" | "form";

const RESERVED_FOLDER = RESERVED_PREFIX.slice(0, -1);

/** A name that nobody gives to a file. */
const NOWHERE = `${RESERVED_FOLDER}-nowhere.tmp`;

/** What may be otherwise the next time. */
const PASSING = new Set(["unavailable", "timeout", "throttled", "aborted"]);

export class FoldingNames {
  readonly #places: NamedPlaces;
  readonly #kept: KeptNames;
  readonly #turns = new NameTurns();
  readonly #asked = new Map<Folding, Promise<boolean | undefined>>();
  readonly #found = new Set<Folding>();
  /** Whether Holdfast's own folder stands under its name in capitals, too. */
  #looks: Promise<boolean | undefined> | undefined;
  /** It keeps some names otherwise than they were given. */
  #changes = false;

  /** `now`: a clock in milliseconds. */
  constructor(places: NamedPlaces, now: () => number) {
    this.#places = places;
    this.#kept = new KeptNames(places, now);
  }

  /** Whether two names are known to be one file here. False until something was asked. */
  get folds(): boolean {
    return this.#found.size > 0;
  }

  /** Takes the service's word that case does not count. */
  assume(folding: Folding): void {
    this.#found.add(folding);
    this.#asked.set(folding, Promise.resolve(true));
  }

  /**
   * The end of a temporary file's name with which `learn` finds out what is not known yet of a name; empty where all is.
   * Only a name that has other forms itself makes it one that has.
   */
  markFor(name: string): string {
    if (name.normalize("NFD") !== name.normalize("NFC") && !this.#asked.has("form")) return "-A\u00e9";
    return this.#asked.has("case") ? "" : "-Aa";
  }

  /** Finds out, by a file that stands in `folder` under `name`, what its name can tell. Never rejects but when aborted. */
  async learn(folder: string, name: string, signal: AbortSignal | undefined): Promise<void> {
    const others: Record<Folding, string> = { case: name.toUpperCase(), form: name.normalize("NFD") };
    // Once more where another put was asking, and was cancelled.
    for (let round = 1; round <= 2; round++) {
      for (const folding of ["case", "form"] as const) {
        if (others[folding] === name || this.#asked.has(folding)) continue;
        this.#asked.set(folding, this.#learnOne(folding, folder, name, others[folding], signal));
      }
      const known = await Promise.all(
        [...this.#asked].map(async ([one, asking]) => ({ one, asking, is: await asking })),
      );
      throwIfAborted(signal);
      const open = known.filter(({ is }) => is === undefined);
      for (const { one, asking } of open) if (this.#asked.get(one) === asking) this.#asked.delete(one);
      if (open.length === 0) return;
    }
  }

  async #learnOne(
    folding: Folding,
    folder: string,
    name: string,
    other: string,
    signal: AbortSignal | undefined,
  ): Promise<boolean | undefined> {
    return known(async () => {
      if (!(await this.#standsAlone(folder, other, signal))) return false;
      this.#found.add(folding);
      // Also where it cannot be seen: the name has no capitals, or the service leaves such names out of its listings.
      const isKept = name !== name.toLowerCase() && (await this.#kept.has(folder, name, signal));
      if (!isKept) this.#changes = true;
      return true;
    });
  }

  /** Whether something stands in `folder` under `name`. A service that says yes to everything folds nothing. */
  async #standsAlone(folder: string, name: string, signal: AbortSignal | undefined): Promise<boolean> {
    if (!(await this.#places.stands(join(folder, name), signal))) return false;
    return !(await this.#places.stands(join(folder, NOWHERE), signal));
  }

  /** Whether something stands at these parts only under another name than theirs. */
  async isOther(parts: readonly string[], signal: AbortSignal | undefined): Promise<boolean> {
    if (!(await this.#mayFold(signal))) return false;
    return (await this.#kept.otherThan("", parts, signal)) !== undefined;
  }

  async #mayFold(signal: AbortSignal | undefined): Promise<boolean> {
    if (this.folds) return true;
    if (this.#asked.has("case")) return false;
    this.#looks ??= known(async () => {
      const other = RESERVED_FOLDER.toUpperCase();
      const folds = (await this.#standsAlone("", other, signal)) && !(await this.#kept.has("", other, signal));
      if (folds) this.#found.add("case");
      return folds;
    });
    const looks = await this.#looks;
    if (looks === undefined) this.#looks = undefined;
    return looks === true;
  }

  /** Says that nothing is there where `isOther`. To be asked for what was found, so that a service that fails is not asked twice. */
  async refuseToFind(parts: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    if (await this.isOther(parts, signal)) throw new HoldfastError("not-found", "there is no such object");
  }

  /**
   * Gives a file its name by `work`, after others whose name may be the same. Rejects with `conflict`, before it does,
   * where the service would take the name for another one that stands there; with `invalid` where the file is then called
   * otherwise, so that nobody would find it, once `undo` has taken away what it is called.
   */
  async give<T>(
    parts: readonly string[],
    signal: AbortSignal | undefined,
    work: () => Promise<T>,
    undo: (kept: readonly string[]) => Promise<unknown>,
  ): Promise<T> {
    // What others are finding out at this moment holds for this name, too.
    await Promise.all(this.#asked.values());
    const free = this.folds ? await this.#turns.take(parts.join("/")) : undefined;
    try {
      const other = this.folds ? await this.#kept.otherThan("", parts, signal) : undefined;
      if (other !== undefined) {
        throw new HoldfastError(
          "conflict",
          `the server takes the name for ${JSON.stringify(other)}, which stands there: its file system does not tell them apart`,
        );
      }
      const result = await work();
      const [folder, name] = [parts.slice(0, -1).join("/"), parts.at(-1) ?? ""];
      if (this.#changes && !(await this.#kept.has(folder, name, signal))) {
        const kept = await this.#kept.otherThan("", parts, signal);
        await undo([...parts.slice(0, -1), kept ?? name]);
        throw new HoldfastError("invalid", `the server's file system changes the name ${JSON.stringify(name)}`);
      }
      this.#kept.note(folder, name, true);
      return result;
    } finally {
      free?.();
    }
  }

  /** Notes that files, and folders that were empty then, are gone. */
  noteGone(): void {
    this.#kept.forget();
  }
}

/** Undefined where the answer may be another one the next time. What cannot be asked is taken for no. */
async function known(ask: () => Promise<boolean>): Promise<boolean | undefined> {
  try {
    return await ask();
  } catch (error) {
    return isHoldfastError(error) && PASSING.has(error.code) ? undefined : false;
  }
}

function join(folder: string, name: string): string {
  return folder === "" ? name : `${folder}/${name}`;
}
