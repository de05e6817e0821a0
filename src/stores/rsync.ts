/**
 * A folder behind rsync, through the system's rsync program: a daemon's module (`rsync://user@host::module/path`) or a
 * login over SSH (`rsync://user@host/relative/path`, `rsync://user@host//absolute/path`).
 *
 * rsync writes a temporary file, checks its digest and renames it, so a put is all or nothing. It can neither take bytes
 * from a pipe nor give a part of a file: a put is gathered in the local folder for temporary files first, and a get, even
 * of a range, fetches the whole file there. One process an operation; names never stand in arguments, but in lists with
 * NUL between them, where no character means anything.
 */
import { createWriteStream } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { checkedBytes } from "../contract/body.ts";
import { HoldfastError, abortError, isHoldfastError, throwIfAborted } from "../contract/errors.ts";
import type { ErrorCode } from "../contract/errors.ts";
import { makeFolder } from "../support/make-folder.ts";
import { MAX_NAME_BYTES, foldersAbove } from "../contract/names.ts";
import { UNKNOWN_HOST } from "../support/network-errors.ts";
import type { StoreContext, StoreKind, StorePlace } from "./base/store-kind.ts";
import { secretsOf } from "../support/redact.ts";
import type { ByteRange, GetResult, ObjectInfo, Store } from "../contract/store.ts";
import type { StoreUrl } from "../contract/store-url.ts";
import { childEnv, runChild, startChild } from "./base/child.ts";
import type { Child } from "./base/child.ts";
import { openFetched } from "./base/fetched-file.ts";
import { NOT_ATOMIC, Operations, notFound, refuseUnsupported } from "./base/operations.ts";
import { STALE_TEMP_MS, checkParts, checkPathName, folderOfPrefix, isTempName } from "./base/path-names.ts";
import { FoldingNames } from "./base/folding-names.ts";
import { ownVariables, serverPath } from "./base/place.ts";
import { decodePath } from "./base/query.ts";
import { bytesIn, bytesMovedBy, withSignsOfLife } from "./base/signs-of-life.ts";

export const rsyncKind: StoreKind = {
  open: async (url, context) => openRsyncStore(url, context),
  place: (url, env) => {
    const { server, path } = readPlace(url, env);
    // One name may be another host behind another proxy, whose address may hold a password.
    return { server: ["rsync", ...server], path, login: ownVariables(env)["RSYNC_PROXY"] };
  },
};

/** Processes at the same time; the others wait. Daemons and sshd limit their connections. */
const MAX_PROCESSES = 8;

const MAX_PART_BYTES = 255;

/** The folder, at the root of the store, in which the far rsync writes what is not complete. Its form is a temporary name. */
const TEMP_FOLDER = ".holdfast-7273796e63000000.tmp";

interface Place extends Pick<StorePlace, "server" | "path"> {
  /** The store's folder, where files are sent and deleted; ends with `/`. */
  readonly remote: string;
  /**
   * What files are read from: `remote`, or a daemon's whole module. A daemon of rsync 3.5.0 without chroot says of every
   * file in a list that it has vanished when the list is read from a folder of the module.
   */
  readonly source: string;
  /** The store's folder in `source`: empty, or ends with `/`. */
  readonly inside: string;
  readonly args: readonly string[];
  readonly env: Record<string, string>;
  readonly secrets: readonly string[];
}

/** Opens a store behind rsync. Starts nothing. Throws `config` for a URL that is none of the forms. */
export function openRsyncStore(url: StoreUrl, context: StoreContext): Store {
  const place = readPlace(url, context.env);
  const rsync = new Rsync(place, context);
  const operations = new Operations({
    context,
    secrets: place.secrets,
    checkName: (name) => {
      checkPathName(name);
      checkParts(name, MAX_PART_BYTES);
    },
  });
  return {
    label: context.label,
    get capabilities() {
      return {
        orderedList: false,
        conditionalPut: false,
        prefixNames: false,
        maxNameBytes: MAX_NAME_BYTES,
        maxNamePartBytes: MAX_PART_BYTES,
        caseSensitive: !rsync.names.folds,
        storeDigests: [],
      };
    },
    put: (name, body, options = {}) =>
      operations.run("put", name, options, async ({ signal }) => {
        refuseUnsupported(options, NOT_ATOMIC);
        return rsync.withFolder(async (folder) => {
          const file = path.join(folder, name);
          await makeFolder(path.dirname(file));
          // The folder is nobody else's; the file's mode is what the far side begins with, less its umask.
          const target = createWriteStream(file, { flags: "wx", mode: 0o666 });
          await pipeline(Readable.from(checkedBytes(body, signal), { objectMode: false }), target);
          await rsync.learnFor(name, signal);
          await rsync.names.give(
            name.split("/"),
            signal,
            () => rsync.send(folder, name, signal, options.onAlive),
            (kept) => rsync.remove(kept.join("/"), signal),
          );
          return { size: target.bytesWritten };
        });
      }),
    get: (name, options = {}) =>
      operations.get(name, options, async ({ signal }) => {
        const result = await rsync.fetch(name, options.range, signal, options.onAlive);
        await rsync.names.refuseToFind(name.split("/"), signal).catch(async (error: unknown) => {
          await result.close();
          throw error;
        });
        return result;
      }),
    stat: (name, options = {}) =>
      operations.run("stat", name, options, async ({ signal }) => {
        const info = await rsync.stat(name, signal);
        if (!info) throw notFound();
        await rsync.names.refuseToFind(name.split("/"), signal);
        return info;
      }),
    list: (prefix, options = {}) =>
      operations.iterate(options, async function* ({ signal }) {
        const folder = folderOfPrefix(prefix);
        if (folder === undefined) return;
        if (folder !== "" && (await rsync.names.isOther(folder.split("/"), signal))) return;
        for await (const info of rsync.list(folder, signal)) if (info.name.startsWith(prefix)) yield info;
      }),
    delete: (name, options = {}) =>
      operations.run("delete", name, options, async ({ signal }) => {
        if (await rsync.names.isOther(name.split("/"), signal)) return { existed: false };
        const existed = await rsync.remove(name, signal);
        rsync.names.noteGone();
        return { existed };
      }),
    sweep: (options = {}) =>
      operations.run("delete", undefined, options, ({ signal }) => rsync.removeLeftovers(signal)),
    close: () => operations.close(),
  };
}

/** The URL's forms, as duplicity reads them: with `::` it is a daemon, without it is SSH. */
function readPlace(url: StoreUrl, env: StoreContext["env"]): Place {
  if (url.query !== undefined) throw new HoldfastError("config", "an rsync:// URL takes no parameters");
  const daemon = /^(?:([^@/]*)@)?(\[[^\]]*\]|[^:/@]+)(?::(\d+))?::\/*([^/]+)(\/.*)?$/su.exec(url.rest);
  const ssh = /^(?:([^@/]*)@)?(\[[^\]]*\]|[^:/@]+)(?::(\d+))?\/(.*)$/su.exec(url.rest);
  const match = daemon ?? ssh;
  const host = match?.[2] ?? "";
  if (!match || !/^(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._][A-Za-z0-9._-]*)$/u.test(host)) {
    throw new HoldfastError(
      "config",
      "an rsync:// URL has the form rsync://user@host::module/path (a daemon) or rsync://user@host/path (over SSH)",
    );
  }
  const [username, password] = (match[1] ?? "").split(/:(.*)/su).map((text) => decodePath(text));
  if (username !== undefined && /^-|[\s@:/]/u.test(username)) {
    throw new HoldfastError("config", "the user name of an rsync:// URL holds a character that rsync cannot take");
  }
  const at = username === undefined || username === "" ? host : `${username}@${host}`;
  const base = decodePath(daemon ? (match[5] ?? "") : (match[4] ?? "")).replace(/\/+$/u, "");
  const module = daemon ? decodePath(match[4] ?? "") : "";
  // The far rsync takes these for patterns, and would find other folders than the one that is meant.
  if (/[*?[\\]|^-/u.test(module + base)) {
    throw new HoldfastError("config", "the path of an rsync:// URL cannot hold *, ?, [ or a backslash");
  }
  // The names of times and errors are read, and names are not to be converted.
  const more: Record<string, string> = { LC_ALL: "C", TZ: "UTC" };
  const secrets = secretsOf(url, env);
  const server = [`${username ?? ""}@${host.toLowerCase()}:${match[3] ?? ""}`, module];
  if (daemon) {
    const given = password ?? env["RSYNC_PASSWORD"];
    if (given !== undefined) {
      more["RSYNC_PASSWORD"] = given;
      secrets.push(given);
    }
    return {
      server,
      path: serverPath(`/${base}`),
      remote: `${at}::${module}${base}/`,
      source: `${at}::${module}/`,
      inside: base === "" ? "" : `${base.replace(/^\/+/u, "")}/`,
      // rsync's small messages would wait for each other's acknowledgement: several times 40 ms an operation.
      args: ["--sockopts=TCP_NODELAY", ...(match[3] === undefined ? [] : [`--port=${match[3]}`])],
      env: childEnv(env, (name) => name === "RSYNC_PROXY" || name === "RSYNC_CONNECT_PROG", more),
      secrets,
    };
  }
  if (password !== undefined) {
    throw new HoldfastError("config", "rsync over SSH takes no password: use a key, or an agent (SSH_AUTH_SOCK)");
  }
  const shell = env["RSYNC_RSH"] ?? "ssh -o BatchMode=yes -o ServerAliveInterval=15";
  more["RSYNC_RSH"] = match[3] === undefined ? shell : `${shell} -p ${match[3]}`;
  const folder = base === "" && !(match[4] ?? "").startsWith("/") ? "." : base;
  return {
    server,
    path: serverPath(folder === "" ? "/" : folder),
    remote: `${at}:${folder}/`,
    source: `${at}:${folder}/`,
    inside: "",
    args: [],
    env: childEnv(env, (name) => name === "SSH_AUTH_SOCK" || name === "SSH_AGENT_PID", more),
    secrets,
  };
}

interface Listed {
  readonly kind: string;
  readonly info: ObjectInfo;
}

class Rsync {
  readonly #place: Place;
  readonly #context: StoreContext;
  readonly #waiting: (() => void)[] = [];
  #running = 0;
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
          await this.#enter(signal);
          try {
            for await (const { info } of this.#listFolder(folder, "--dirs", signal)) {
              names.push(path.posix.basename(info.name));
            }
          } finally {
            this.#leave();
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
    await this.#enter(signal);
    try {
      for await (const { kind, info } of this.#listFolder(folder, "--recursive", signal)) {
        if (kind === "-" && this.#isObject(info)) yield info;
      }
    } finally {
      this.#leave();
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
    await this.#enter(signal);
    try {
      const { code, stdout, stderr } = await runChild("rsync", [...this.#common(), ...args], {
        env: this.#place.env,
        signal,
        input,
        ...(onStart === undefined ? {} : { onStart }),
      });
      if (code === 0) return stdout;
      throw rsyncError(code, `${stdout.toString("utf8", 0, 2000)}\n${stderr}`);
    } finally {
      this.#leave();
    }
  }

  async #enter(signal: AbortSignal): Promise<void> {
    throwIfAborted(signal);
    if (this.#running < MAX_PROCESSES) {
      this.#running++;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const wake = (): void => {
        signal.removeEventListener("abort", onAbort);
        resolve();
      };
      const onAbort = (): void => {
        // What left its place to a waiter that has gone would wake nobody.
        this.#waiting.splice(this.#waiting.indexOf(wake), 1);
        reject(abortError(signal));
      };
      this.#waiting.push(wake);
      signal.addEventListener("abort", onAbort, { once: true });
    });
  }

  /** Leaves the place to the one that has waited longest. */
  #leave(): void {
    const wake = this.#waiting.shift();
    if (wake === undefined) this.#running--;
    else wake();
  }
}

/**
 * A name as rsync's filters take it. Backslashes quote only in patterns that have a wild card (rsync(1), "PATTERN
 * MATCHING RULES").
 */
function pattern(name: string): string {
  return /[*?[]/u.test(name) ? name.replace(/[\\*?[]/gu, "\\$&") : name;
}

/** A name from rsync's output, given as Latin-1: `\#012` is a byte. Undefined where the bytes are no UTF-8. */
function unescape(text: string): string | undefined {
  const bytes = Buffer.from(
    text.replace(/\\#([0-3][0-7]{2})/gu, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
    "latin1",
  );
  const name = bytes.toString("utf8");
  return Buffer.from(name).equals(bytes) ? name : undefined;
}

/** A name for a list of names: one that begins with `#` or `;` would be a comment. */
function listed(name: string): string {
  return `./${name}`;
}

const MEANINGS: readonly (readonly [RegExp, ErrorCode])[] = [
  [/no space left|disk quota exceeded|\((?:28|122)\)$/imu, "full"],
  [/file name too long|\(36\)$/imu, "invalid"],
  [/unknown option|syntax or usage error \(code 1\).*(?:on remote|--)|option.*not supported/iu, "unsupported"],
  [/not a directory|could not make way|is a directory|cannot delete non-empty|\((?:20|21|39)\)$/imu, "conflict"],
  [/unknown module|no such module|chroot|chdir failed/iu, "config"],
  [/max connections/iu, "throttled"],
  [
    /auth failed|permission denied|host key verification failed|operation not permitted|read.only|refus(?:ed|ing) to|too many authentication|password/iu,
    "denied",
  ],
  [/temp-dir does not exist|no such file or directory|\(2\)$/imu, "not-found"],
];

function rsyncError(code: number | null, text: string): HoldfastError {
  const lines = text.split("\n").map((line) => line.trim());
  const telling = lines.filter((line) =>
    /rsync|ssh|error|denied|failed|way|cannot|verification|option|refused/iu.test(line),
  );
  const message = `rsync: ${telling.slice(0, 3).join("; ").slice(0, 500) || `it ended with the code ${code}`}`;
  // Over SSH "connection refused" is no refusal by the store.
  if (
    code === 10 ||
    code === 30 ||
    code === 35 ||
    /connection (?:refused|timed out|reset)|no route to host/iu.test(text)
  ) {
    const late = code === 30 || code === 35;
    if (late || code === 10 || code === 255 || code === 12) {
      const retryable = UNKNOWN_HOST.test(text) ? false : undefined;
      return new HoldfastError(late ? "timeout" : "unavailable", message, { retryable });
    }
  }
  for (const [meaning, found] of MEANINGS) if (meaning.test(text)) return new HoldfastError(found, message);
  // The connection broke (12, 255), it was ended (20), it could not begin (5), or something that was not foreseen.
  return new HoldfastError("unavailable", message, { retryable: UNKNOWN_HOST.test(text) ? false : undefined });
}
