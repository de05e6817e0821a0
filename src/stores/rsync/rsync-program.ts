/** The runs of the rsync program: one for each file that is sent, fetched, looked for or deleted, and for each listing. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { HoldfastError, abortError, isHoldfastError, throwIfAborted } from "../../contract/errors.ts";
import { foldersAbove } from "../../contract/names.ts";
import type { ByteRange, GetResult, ObjectInfo } from "../../contract/store.ts";
import { Places } from "../../support/places.ts";
import { runChild, startChild } from "../base/child.ts";
import type { Child } from "../base/child.ts";
import { openFetched } from "../base/fetched-file.ts";
import { FoldingNames } from "../base/folding-names.ts";
import { notFound } from "../base/operations.ts";
import { STALE_TEMP_MS, isTempName } from "../base/path-names.ts";
import { bytesIn, bytesMovedBy, withSignsOfLife } from "../base/signs-of-life.ts";
import type { StoreContext } from "../base/store-kind.ts";
import { rsyncError } from "./rsync-error.ts";
import { listed, pattern, unescape } from "./rsync-names.ts";
import type { Place } from "./rsync-place.ts";

/** Processes at the same time; the others wait. Daemons and sshd limit their connections. */
const MAX_PROCESSES = 8;

/** The folder, at the root of the store, in which the far rsync writes what is not complete. Its form is a temporary name. */
const TEMP_FOLDER = ".holdfast-7273796e63000000.tmp";

interface Listed {
  readonly kind: string;
  readonly info: ObjectInfo;
}

/** The programs that are run for one store. */
export class Rsync {
  readonly #place: Place;
  readonly #context: StoreContext;
  readonly #processes = new Places(MAX_PROCESSES);
  /** Whether the far rsync knows --fsync (3.2.4 and later). */
  #fsync = true;
  #prepared: Promise<void> | undefined;
  readonly names: FoldingNames;
  /** Files in the temporary folder that a listing saw, of puts that must have been killed. */
  readonly #leftovers = new Set<string>();

  constructor(place: Place, context: StoreContext) {
    this.#place = place;
    this.#context = context;
    const unending = new AbortController().signal;
    this.names = new FoldingNames(
      {
        stands: async (at, signal = unending) => (await this.#look(at, signal)) !== undefined,
        names: async (folder, signal = unending) => {
          const names: string[] = [];
          const leave = await this.#processes.take(signal);
          try {
            for await (const { info } of this.#listFolder(folder, "--dirs", signal)) {
              names.push(path.posix.basename(info.name));
            }
          } finally {
            leave();
          }
          return names;
        },
      },
      () => context.runtime.monotonicMs(),
    );
  }

  #makeFolder(): Promise<string> {
    return mkdtemp(path.join(this.#context.env["TMPDIR"] ?? tmpdir(), "holdfast-rsync-"));
  }

  /** A local folder for one operation. */
  async withFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
    const folder = await this.#makeFolder();
    try {
      return await work(folder);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  /** Removes what a listing saw of puts that were killed long ago. */
  async removeLeftovers(signal: AbortSignal): Promise<void> {
    for (const leftover of this.#leftovers) {
      await this.remove(`${TEMP_FOLDER}/${leftover}`, signal);
      this.#leftovers.delete(leftover);
      this.#context.logger.info("stale temporary file removed", { store: this.#context.label, file: leftover });
    }
  }

  /** Finds out what has to be known before this name is given to a file: by the temporary folder, and by a file in it. */
  async learnFor(name: string, signal: AbortSignal): Promise<void> {
    const mark = this.names.markFor(name);
    if (mark === "") return;
    await this.#ready(signal).catch((error: unknown) => {
      // Sending says so in a better way.
      if (!isHoldfastError(error, "not-found")) throw error;
    });
    await this.names.learn("", TEMP_FOLDER, signal);
    if (this.names.markFor(name) === "") return;
    await this.#sendMark(mark, signal);
    await this.names.learn(TEMP_FOLDER, mark, signal);
    await this.remove(`${TEMP_FOLDER}/${mark}`, signal);
  }

  async #sendMark(mark: string, signal: AbortSignal): Promise<void> {
    await this.withFolder(async (folder) => {
      const file = `${TEMP_FOLDER}/${mark}`;
      await mkdir(path.join(folder, TEMP_FOLDER));
      await writeFile(path.join(folder, file), "");
      await this.#sendNames(folder, [file], [], signal).catch((error: unknown) => {
        throwIfAborted(signal);
        // Where there is none, nothing stands under its other name.
        this.#context.logger.debug("names not found out", { store: this.#context.label, reason: String(error) });
      });
    });
  }

  async #ready(signal: AbortSignal): Promise<void> {
    this.#prepared ??= this.#prepare(signal);
    try {
      await this.#prepared;
    } catch (error) {
      this.#prepared = undefined;
      throw error;
    }
  }

  async send(folder: string, name: string, signal: AbortSignal, onAlive: (() => void) | undefined): Promise<void> {
    await this.removeLeftovers(signal);
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#ready(signal);
        const args = ["--ignore-times", "--whole-file", `--temp-dir=${TEMP_FOLDER}`];
        let pid: number | undefined;
        await withSignsOfLife(
          this.#context.runtime,
          onAlive,
          () => bytesMovedBy(pid),
          () => this.#sendNames(folder, [name], args, signal, (child) => (pid = child.pid)),
        );
        return;
      } catch (error) {
        this.#prepared = undefined;
        // The folder of temporary files, or the object's, was removed meanwhile.
        if (attempt < 5 && isHoldfastError(error, "not-found")) continue;
        if (isHoldfastError(error, "not-found"))
          throw new HoldfastError("unavailable", error.message, { cause: error });
        throw error;
      }
    }
  }

  /** Makes the store's folder and the one for temporary files. */
  async #prepare(signal: AbortSignal): Promise<void> {
    await this.withFolder(async (folder) => {
      await mkdir(path.join(folder, TEMP_FOLDER));
      try {
        await this.#sendNames(folder, [TEMP_FOLDER], ["--mkpath"], signal);
      } catch (error) {
        // Before 3.2.3 rsync makes the last folder of a path alone.
        if (!isHoldfastError(error, "unsupported")) throw error;
        await this.#sendNames(folder, [TEMP_FOLDER], [], signal);
      }
    });
  }

  async #sendNames(
    folder: string,
    names: readonly string[],
    args: readonly string[],
    signal: AbortSignal,
    onStart?: (child: Child) => void,
  ): Promise<void> {
    const all = (): string[] => [
      ...(this.#fsync ? ["--fsync"] : []),
      ...args,
      "--no-implied-dirs",
      "--from0",
      "--files-from=-",
      "--",
      `${folder}/`,
      this.#place.remote,
    ];
    try {
      await this.#run(all(), names.map(listed).join("\0"), signal, onStart);
    } catch (error) {
      if (!this.#fsync || !isHoldfastError(error, "unsupported") || !error.message.includes("--fsync")) throw error;
      this.#fsync = false;
      this.#context.logger.warn("this rsync cannot be told to wait until the bytes are on the disk", {
        store: this.#context.label,
      });
      await this.#run(all(), names.map(listed).join("\0"), signal, onStart);
    }
  }

  async fetch(
    name: string,
    range: ByteRange | undefined,
    signal: AbortSignal,
    onAlive: (() => void) | undefined,
  ): Promise<GetResult> {
    return this.withFolder(async (folder) => {
      const args = [
        "--whole-file",
        // What cannot be written could not be removed here; what cannot be read could not be read.
        "--chmod=u+rwX",
        "--times",
        "--no-implied-dirs",
        "--from0",
        "--files-from=-",
        "--",
        this.#place.source,
        `${folder}/`,
      ];
      try {
        await withSignsOfLife(
          this.#context.runtime,
          onAlive,
          () => bytesIn(folder),
          () => this.#run(args, listed(this.#place.inside + name), signal),
        );
      } catch (error) {
        if (isHoldfastError(error, "conflict")) throw notFound();
        throw error;
      }
      // A folder, a link and a device come as something else than a file, or not at all. The folder goes at once; the
      // open file stays until it is closed.
      const file = await openFetched(path.join(folder, this.#place.inside, name), range);
      const { size, modifiedMs, chunks } = file;
      return { info: { name, size, modifiedMs }, body: chunks, close: () => file.close() };
    });
  }

  async stat(name: string, signal: AbortSignal): Promise<ObjectInfo | undefined> {
    const found = await this.#look(name, signal);
    return found?.kind === "-" ? found.info : undefined;
  }

  /** What is there under this name, of whatever kind. */
  async #look(name: string, signal: AbortSignal): Promise<Listed | undefined> {
    return this.withFolder(async (empty) => {
      try {
        const output = await this.#run(
          ["--list-only", "--no-implied-dirs", "--from0", "--files-from=-", "--", this.#place.source, `${empty}/`],
          listed(this.#place.inside + name),
          signal,
        );
        for (const line of output.toString("latin1").split("\n")) {
          const found = this.#parse(line);
          if (found?.info.name === name) return found;
        }
        return undefined;
      } catch (error) {
        if (isHoldfastError(error, "not-found") || isHoldfastError(error, "conflict")) return undefined;
        throw error;
      }
    });
  }

  /** Every file below a folder, in rsync's own order, as it goes on. */
  async *list(folder: string, signal: AbortSignal): AsyncGenerator<ObjectInfo> {
    const leave = await this.#processes.take(signal);
    try {
      for await (const { kind, info } of this.#listFolder(folder, "--recursive", signal)) {
        if (kind === "-" && this.#isObject(info)) yield info;
      }
    } finally {
      leave();
    }
  }

  /** `depth`: rsync's option for how deep it looks. */
  async *#listFolder(folder: string, depth: string, signal: AbortSignal): AsyncGenerator<Listed> {
    const empty = await this.#makeFolder();
    const child = startChild(
      "rsync",
      [
        ...this.#common(),
        depth,
        "--list-only",
        "--no-implied-dirs",
        "--from0",
        "--files-from=-",
        "--",
        this.#place.source,
        `${empty}/`,
      ],
      { env: this.#place.env, signal },
    );
    try {
      child.stdin.end(listed(this.#place.inside + (folder === "" ? "" : `${folder}/`)));
      child.stdout.setEncoding("latin1");
      let rest = "";
      for await (const chunk of child.stdout) {
        const lines = (rest + String(chunk)).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          const found = this.#parse(line);
          if (found) yield found;
        }
      }
      const { code } = await child.ended;
      if (signal.aborted) throw abortError(signal);
      // 24: files vanished while they were listed, which they may.
      if (code === 0 || code === 24) return;
      const error = rsyncError(code, child.errorText());
      if (error.code === "not-found" || error.code === "conflict") return;
      throw code === 23 && error.code !== "denied" ? new HoldfastError("incomplete", error.message) : error;
    } finally {
      await child.stop();
      await rm(empty, { recursive: true, force: true });
    }
  }

  /** Whether there was such a file. Folders that are empty then go with it. */
  async remove(name: string, signal: AbortSignal): Promise<boolean> {
    return this.withFolder(async (empty) => {
      // What the filter lets through and the empty folder lacks is deleted: this one name, and folders above it if
      // nothing else is in them, as the last rule protects everything else.
      const folders = foldersAbove(name);
      const rules = [...folders.map((folder) => `/${pattern(folder)}/`), `/${pattern(name)}`];
      let output: Buffer;
      try {
        output = await this.#run(
          [
            "--recursive",
            "--delete",
            `--max-delete=${folders.length + 1}`,
            "--info=DEL",
            "--from0",
            "--include-from=-",
            "--exclude=*",
            "--",
            `${empty}/`,
            this.#place.remote,
          ],
          rules.join("\0"),
          signal,
        );
      } catch (error) {
        // The store's own folder was never made.
        if (isHoldfastError(error, "not-found")) return false;
        throw error;
      }
      return output
        .toString("latin1")
        .split("\n")
        .some((line) => line.startsWith("deleting ") && unescape(line.slice("deleting ".length)) === name);
    });
  }

  #isObject(info: ObjectInfo): boolean {
    const parts = info.name.split("/");
    if (parts.some((part) => part === "" || part === "." || part === "..")) return false;
    if (parts[0] === TEMP_FOLDER) {
      const age = this.#context.runtime.now() - (info.modifiedMs ?? 0);
      if (parts.length === 2 && age > STALE_TEMP_MS) this.#leftovers.add(parts[1] ?? "");
    }
    return !parts.some(isTempName);
  }

  #parse(line: string): Listed | undefined {
    const match = /^(\S)\S{9,10}\s+([\d,]+) (\d{4})\/(\d\d)\/(\d\d) (\d\d:\d\d:\d\d) (.*)$/su.exec(line);
    if (!match) return undefined;
    const [, kind = "", size = "", year, month, day, time, escaped = ""] = match;
    const whole = unescape(escaped);
    if (whole === undefined) {
      this.#context.logger.warn("a file whose name is no Unicode is left out", { store: this.#context.label });
      return undefined;
    }
    // Folders above the store's own.
    if (!whole.startsWith(this.#place.inside)) return undefined;
    const name = whole.slice(this.#place.inside.length);
    const modifiedMs = Date.parse(`${year}-${month}-${day}T${time}Z`);
    return { kind, info: { name, size: Number(size.replaceAll(",", "")), modifiedMs } };
  }

  #common(): string[] {
    return ["--8-bit-output", "--no-human-readable", "-s", "--no-motd", ...this.#place.args];
  }

  async #run(
    args: readonly string[],
    input: string,
    signal: AbortSignal,
    onStart?: (child: Child) => void,
  ): Promise<Buffer> {
    return this.#processes.run(signal, async () => {
      const { code, stdout, stderr } = await runChild("rsync", [...this.#common(), ...args], {
        env: this.#place.env,
        signal,
        input,
        ...(onStart === undefined ? {} : { onStart }),
      });
      if (code === 0) return stdout;
      throw rsyncError(code, `${stdout.toString("utf8", 0, 2000)}\n${stderr}`);
    });
  }
}
