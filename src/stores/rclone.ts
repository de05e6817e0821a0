/**
 * Anything rclone knows, through the user's own rclone and its own configuration: `rclone://remote:path`.
 *
 * One `rclone rcd` a store lives as long as the store is open, on a loopback port with random credentials; it is started
 * when first needed, started again when it has died, and ended with the store or with this process, however that ends.
 * Objects are uploaded under a temporary name, their size is checked (rclone takes a small upload that breaks off for a
 * whole one), and then they are moved onto their name without a look at the destination, because rclone's ordinary move
 * deletes the old object first.
 */
import { randomBytes } from "node:crypto";
import { checkedBytes } from "../contract/body.ts";
import { HoldfastError, abortError, isHoldfastError, throwIfAborted } from "../contract/errors.ts";
import { MAX_NAME_BYTES, compareNames, foldersAbove } from "../contract/names.ts";
import { UNKNOWN_HOST, systemCode } from "../support/network-errors.ts";
import type { StoreContext, StoreKind, StorePlace } from "./base/store-kind.ts";
import { resolveRange } from "../contract/ranges.ts";
import { isSecretName, secretsOf } from "../support/redact.ts";
import type { Capabilities, GetResult, ObjectInfo, Store } from "../contract/store.ts";
import type { StoreUrl } from "../contract/store-url.ts";
import { childEnv, startChild } from "./base/child.ts";
import type { Child } from "./base/child.ts";
import { NOT_ATOMIC, Operations, notFound, refuseUnsupported } from "./base/operations.ts";
import { STALE_TEMP_MS, checkParts, checkPathName, folderOfPrefix, isTempName, tempName } from "./base/path-names.ts";
import { raceSignal } from "../support/signals.ts";
import { FoldingNames } from "./base/folding-names.ts";
import { HttpClient } from "./base/http-client.ts";
import type { HttpAnswer, HttpRequest } from "./base/http-client.ts";
import { otherSettings, ownVariables, placeOfFolder, publicSettings, serverPath } from "./base/place.ts";

export const rcloneKind: StoreKind = {
  open: async (url, context) => openRcloneStore(url, context),
  place: rclonePlace,
};

/** How long opening waits to learn what the remote can do, in milliseconds. A remote that is down opens all the same. */
const OPEN_MS = 3000;

/** How long an aborted upload may take to end in good order, in milliseconds, before its connection is cut. */
const ABORT_GRACE_MS = 1000;

/** How long rclone may take to open its port, in milliseconds. */
const START_MS = 15_000;
/** Connections to rclone at once, besides those on which something is read. */
const CONNECTIONS = 64;

/** The remote's name inside the child: an alias, so that no path or option of the user's stands in a request. */
const FS = "holdfast:";

/**
 * Runs rclone, and ends it when this process's end of the pipe closes, so that not even SIGKILL leaves it behind. The
 * wait is rclone's own, so that its death is noticed at once.
 */
const SUPERVISOR = `exec 3<&0
"$@" </dev/null 3<&- &
child=$!
(read -r _ <&3; kill "$child") >/dev/null 2>&1 &
watcher=$!
trap 'kill "$child" "$watcher" 2>/dev/null' TERM
wait "$child"
code=$?
[ "$code" -le 128 ] || wait "$child" 2>/dev/null
kill "$watcher" 2>/dev/null
wait "$watcher" 2>/dev/null
exit "$code"`;

/**
 * Global options of rclone that, taken from the environment, would hide objects, pretend, or move the port: an
 * environment made for other runs of rclone must not make this store lie.
 */
const UNWANTED =
  /^RCLONE_(?:INCLUDE|EXCLUDE|FILTER|FILES_FROM|MIN_|MAX_(?:AGE|SIZE|DEPTH|DELETE|DURATION|TRANSFER)|DRY_RUN|INTERACTIVE|RC(?:_|$)|LOG_|QUIET|VERBOSE|USE_JSON_LOG|SYSLOG|IMMUTABLE|BACKUP_DIR|SUFFIX|COMPARE_DEST|COPY_DEST|NO_CHECK_DEST|NO_TRAVERSE|IGNORE_|UPDATE|SIZE_ONLY|CHECKSUM|HOLDFAST|CONFIG_HOLDFAST)/u;

/** Variables that rclone's own kinds of remote read: its options, and the credential chains of the services. */
function wantedByRclone(name: string): boolean {
  return (
    (name.startsWith("RCLONE_") && !UNWANTED.test(name)) ||
    /^(?:https?_proxy|all_proxy|no_proxy|ssl_cert_(?:file|dir)|ssh_auth_sock|ssh_agent_pid|(?:aws|azure|google|gcloud|os|st|b2|hdfs|krb5)_\w+|krb5ccname)$/iu.test(
      name,
    )
  );
}

/** Where a remote is stands in its name, its options, the environment, and rclone's own configuration, which is not read. */
async function rclonePlace(url: StoreUrl, env: StoreContext["env"]): Promise<StorePlace> {
  const remote = remoteOf(url);
  const colon = remote.indexOf(":", 1);
  const [name = "", ...options] = remote.slice(0, colon).split(",");
  const path = remote.slice(colon + 1);
  if (name === ":local") return placeOfFolder(path);
  const config = env["RCLONE_CONFIG"] ?? "";
  // Quotes may hold colons and commas, so that it cannot be seen which part is secret.
  if (/["']/u.test(remote)) return { server: ["rclone", config], path: [], login: remote };
  const given = options.map((option): [string, string] => [
    option.replace(/=.*/su, ""),
    option.replace(/^[^=]*=?/su, ""),
  ]);
  const settings = (from: StoreContext["env"]): [string, string][] => [
    ...given,
    ...Object.entries(from).flatMap(([variable, value]): [string, string][] =>
      value !== undefined && (wantedByRclone(variable) || /^(?:XDG_CONFIG_)?HOME$/u.test(variable))
        ? [[variable, value]]
        : [],
    ),
  ];
  return {
    server: ["rclone", config, name, ...publicSettings(settings(env))],
    path: serverPath(path),
    login: otherSettings(settings(ownVariables(env))),
  };
}

interface RcloneItem {
  readonly Path: string;
  readonly Name: string;
  readonly Size: number;
  readonly ModTime?: string;
  readonly IsDir: boolean;
}

interface Features {
  readonly BucketBased?: boolean;
  readonly CanHaveEmptyDirectories?: boolean;
  readonly CaseInsensitive?: boolean;
  readonly Copy?: boolean;
  readonly DuplicateFiles?: boolean;
  readonly Move?: boolean;
  /** Not rclone's: a crypt remote's names grow as they are encrypted. */
  readonly encrypted?: boolean;
}

export interface RcloneStore extends Store {
  /** Process id of the rclone that runs now; undefined while none does. */
  readonly pid: number | undefined;
}

function remoteOf(url: StoreUrl): string {
  const remote = url.query === undefined ? url.rest : `${url.rest}?${url.query}`;
  if (!remote.includes(":")) {
    throw new HoldfastError("config", "an rclone URL has the form rclone://remote:path, with the remote's colon");
  }
  return remote;
}

/**
 * Opens a store on an rclone remote: starts rclone, and asks it (not yet the service) what the remote can do. Throws
 * `config` where rclone is not installed, does not know the remote, or the URL holds a secret option.
 */
export async function openRcloneStore(url: StoreUrl, context: StoreContext): Promise<RcloneStore> {
  const remote = remoteOf(url);
  for (const [, name] of remote.slice(0, remote.indexOf(":", 1)).matchAll(/,([^=,]+)=/gu)) {
    if (name !== undefined && isSecretName(name)) {
      throw new HoldfastError(
        "config",
        `the option ${name} does not belong into a URL: name it in rclone's configuration, or in the store's env`,
      );
    }
  }
  const rclone = new Rclone(remote, context);
  const operations = new Operations({
    context,
    secrets: secretsOf(url, context.env),
    // Parts that are too long are refused here, before the service may shorten them.
    checkName: (name) => {
      checkPathName(name);
      checkParts(name, partBytes(rclone.features));
    },
  });
  const opening = new AbortController();
  const cancel = context.runtime.timer(OPEN_MS, () => opening.abort());
  const onAbort = (): void => opening.abort();
  context.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    throwIfAborted(context.signal);
    await rclone.readFeatures(opening.signal);
  } catch (error) {
    throwIfAborted(context.signal);
    if (isHoldfastError(error, "config")) {
      await rclone.stop();
      throw error.within({ store: context.label, operation: "open" });
    }
  } finally {
    cancel();
    context.signal?.removeEventListener("abort", onAbort);
  }

  const stat = async (name: string, signal: AbortSignal): Promise<RcloneItem> => {
    const item = await rclone.statFile(name, signal);
    if (!item || item.IsDir) throw notFound();
    await rclone.refuseToFind(name, signal);
    return item;
  };

  /** Removes what a listing saw of puts that were killed long ago. */
  const removeLeftovers = async (signal: AbortSignal): Promise<void> => {
    for (const leftover of rclone.leftovers) {
      await rclone.deleteFile(leftover, signal);
      rclone.leftovers.delete(leftover);
      context.logger.info("stale temporary file removed", { store: context.label, file: leftover });
    }
  };

  return {
    label: context.label,
    get pid() {
      return rclone.pid;
    },
    get capabilities() {
      const capabilities = capabilitiesOf(rclone.features);
      return rclone.names.folds ? { ...capabilities, caseSensitive: false } : capabilities;
    },
    put: (name, body, options = {}) =>
      operations.run("put", name, options, async ({ signal }) => {
        refuseUnsupported(options, NOT_ATOMIC);
        const features = await rclone.readFeatures(signal);
        if (!features.Move && !features.Copy) {
          throw new HoldfastError(
            "unsupported",
            "this remote can neither move nor copy an object by itself, so no put can be made all or nothing",
          );
        }
        await removeLeftovers(signal);
        const temp = tempName(context.runtime, features.BucketBased ? "" : rclone.names.markFor(name));
        try {
          const size = await rclone.upload(temp, checkedBytes(body, signal), signal);
          const stored = await rclone.statFile(temp, signal);
          if (stored?.Size !== size) {
            throw new HoldfastError("unavailable", `rclone stored ${stored?.Size ?? 0} bytes of ${size}`);
          }
          if (!features.BucketBased) await rclone.names.learn("", temp, signal);
          await rclone.names.give(
            name.split("/"),
            signal,
            () => rclone.move(temp, name, signal),
            (kept) => rclone.deleteFile(kept.join("/"), signal),
          );
          return { size };
        } catch (error) {
          // Not with the signal, which may have fired; but not for ever either.
          const cleaning = rclone.running
            ? rclone.deleteFile(temp, AbortSignal.timeout(ABORT_GRACE_MS * 2)).catch(() => undefined)
            : Promise.resolve();
          await cleaning;
          throw error;
        }
      }),
    get: (name, options = {}) =>
      operations.get(name, options, async ({ signal }) => {
        if (!options.range) {
          const result = await rclone.read(name, undefined, signal);
          await rclone.refuseToFind(name, signal).catch(async (error: unknown) => {
            await result.close();
            throw error;
          });
          return result;
        }
        const item = await stat(name, signal);
        const { start, end } = resolveRange(options.range, item.Size);
        if (start === end) {
          return { info: infoOf(name, item), body: nothing(), close: async () => undefined };
        }
        const result = await rclone.read(name, { start, end }, signal);
        if (result.info.size !== item.Size) {
          await result.close();
          throw new HoldfastError("unavailable", "the object was replaced while it was being read");
        }
        return result;
      }),
    stat: (name, options = {}) =>
      operations.run("stat", name, options, async ({ signal }) => {
        return infoOf(name, await stat(name, signal));
      }),
    list: (prefix, options = {}) =>
      operations.iterate(options, async function* ({ signal }) {
        const folder = folderOfPrefix(prefix);
        if (folder === undefined || (folder !== "" && (await rclone.isOther(folder, signal)))) return;
        yield* rclone.walk(folder, prefix, signal);
      }),
    delete: (name, options = {}) =>
      operations.run("delete", name, options, async ({ signal }) => {
        if (await rclone.isOther(name, signal)) return { existed: false };
        const existed = await rclone.deleteFile(name, signal);
        rclone.names.noteGone();
        if (existed) await rclone.removeEmptyFolders(name, signal);
        return { existed };
      }),
    sweep: (options = {}) => operations.run("delete", undefined, options, ({ signal }) => removeLeftovers(signal)),
    close: async () => {
      await operations.close();
      await rclone.stop();
    },
  };
}

function capabilitiesOf(features: Features | undefined): Capabilities {
  return {
    orderedList: true,
    conditionalPut: false,
    prefixNames: features?.BucketBased ?? false,
    maxNameBytes: MAX_NAME_BYTES,
    maxNamePartBytes: partBytes(features),
    caseSensitive: !(features?.CaseInsensitive ?? false),
    storeDigests: [],
  };
}

/** What an ordinary file system holds, 255 bytes, after what a crypt remote makes of a name. */
function partBytes(features: Features | undefined): number {
  return features?.encrypted ? 143 : 255;
}

function infoOf(name: string, item: RcloneItem): ObjectInfo {
  const modifiedMs = Date.parse(item.ModTime ?? "");
  return { name, size: item.Size, ...(Number.isNaN(modifiedMs) ? {} : { modifiedMs }) };
}

/** Characters that rclone shows as others, and the marks that it shows them as. */
const STAND_INS = /[\u2400-\u241f\u2421\uff0f\u201b]/gu;
// oxlint-disable-next-line no-control-regex -- these are what is encoded
const CONTROLS = /[\u0001-\u001f\u007f]/gu;

/**
 * A name as rclone's interface takes it: control characters stand as their symbols (U+2400 and on), and what looks like
 * such a symbol is quoted with U+201B. See "restricted filenames" in rclone's overview of its remotes.
 */
export function toRcloneName(name: string): string {
  return name
    .split("/")
    .map((part) => {
      if (part === "\uff0e" || part === "\uff0e\uff0e") return part.replaceAll("\uff0e", "\u201b\uff0e");
      return part
        .replace(STAND_INS, (mark) => `\u201b${mark}`)
        .replace(CONTROLS, (char) => (char === "\u007f" ? "\u2421" : String.fromCharCode(0x2400 + char.charCodeAt(0))));
    })
    .join("/");
}

/** The inverse of `toRcloneName`, for one part of a name. */
export function fromRclonePart(part: string): string {
  return part.replace(
    /\u201b([\u2400-\u241f\u2421\uff0f\uff0e\u201b])|([\u2401-\u241f\u2421])/gu,
    (_, quoted, mark) => {
      if (typeof quoted === "string") return quoted;
      return mark === "\u2421" ? "\u007f" : String.fromCharCode(String(mark).charCodeAt(0) - 0x2400);
    },
  );
}

async function* nothing(): AsyncGenerator<Uint8Array> {
  // No bytes.
}

interface Connection {
  readonly child: Child;
  readonly pid: number | undefined;
  readonly http: HttpClient;
  readonly authorization: string;
}

/** The child and what is asked of it. */
class Rclone {
  readonly #remote: string;
  readonly #context: StoreContext;
  #connection: Promise<Connection> | undefined;
  #connected: Connection | undefined;
  #stopped = false;
  features: Features | undefined;
  readonly names: FoldingNames;
  /** Temporary files, found by listings, of puts that must have been killed. */
  readonly leftovers = new Set<string>();

  constructor(remote: string, context: StoreContext) {
    this.#remote = remote;
    this.#context = context;
    this.names = new FoldingNames(
      {
        stands: (path, signal = new AbortController().signal) => this.#stands(path, signal),
        names: async (folder, signal = new AbortController().signal) =>
          (await this.listFolder(folder, signal)).map((item) => item.Name),
      },
      () => context.runtime.monotonicMs(),
    );
  }

  get running(): boolean {
    return this.#connected !== undefined;
  }

  get pid(): number | undefined {
    return this.#connected?.pid;
  }

  async #connect(signal: AbortSignal): Promise<Connection> {
    if (this.#stopped) throw new HoldfastError("invalid", "the store is closed");
    this.#connection ??= this.#start().catch((error: unknown) => {
      this.#connection = undefined;
      throw error;
    });
    return raceSignal(this.#connection, signal);
  }

  async #start(): Promise<Connection> {
    const user = randomBytes(16).toString("hex");
    const pass = randomBytes(32).toString("hex");
    const env = childEnv(this.#context.env, wantedByRclone, {
      RCLONE_CONFIG_HOLDFAST_TYPE: "alias",
      RCLONE_CONFIG_HOLDFAST_REMOTE: this.#remote,
      RCLONE_RC_USER: user,
      RCLONE_RC_PASS: pass,
      RCLONE_RC_ADDR: "127.0.0.1:0",
      RCLONE_RC_SERVE: "true",
      // Otherwise an upload or a read that lasts longer than an hour is cut.
      RCLONE_RC_SERVER_READ_TIMEOUT: "0s",
      RCLONE_RC_SERVER_WRITE_TIMEOUT: "0s",
      RCLONE_LOG_LEVEL: "NOTICE",
      // It would ask at a terminal otherwise.
      RCLONE_ASK_PASSWORD: "false",
    });
    const program = ["rclone", "rcd"];
    const child =
      process.platform === "win32"
        ? startChild("rclone", ["rcd"], { env })
        : startChild("sh", ["-c", SUPERVISOR, "holdfast-rclone", ...program], { env });
    child.stdout.resume();
    const url = await this.#address(child);
    // Deadlines are set around stores; an operation on a remote may be long without a sign of it.
    const http = new HttpClient({ origin: new URL(url).origin, tls: {}, connections: CONNECTIONS, env: {}, idleMs: 0 });
    const authorization = basic(user, pass);
    let pid: number | undefined;
    try {
      ({ pid } = (await answerOf(
        await http.send({ method: "POST", path: "/core/pid", headers: { authorization } }),
      )) as { pid?: number });
    } catch (error) {
      http.close();
      await child.stop();
      throw new HoldfastError("unavailable", "rclone opened its port and does not answer on it", { cause: error });
    }
    const connection: Connection = { child, pid, http, authorization };
    this.#connected = connection;
    child.ended
      .catch(() => undefined)
      .then(() => {
        this.#forget(connection);
        http.close();
      })
      .catch(() => undefined);
    return connection;
  }

  #forget(connection: Connection): void {
    if (this.#connected !== connection) return;
    this.#connected = undefined;
    this.#connection = undefined;
  }

  /** Waits until rclone has said on which port it listens. */
  async #address(child: Child): Promise<string> {
    const address = (): string | undefined =>
      /Serving remote control on (http:\/\/127\.0\.0\.1:\d+\/)/u.exec(child.errorText())?.[1];
    let cancel = (): void => undefined;
    try {
      return await new Promise<string>((resolve, reject) => {
        cancel = this.#context.runtime.timer(START_MS, () => {
          reject(new HoldfastError("timeout", `rclone did not open its port within ${START_MS} ms`));
        });
        child.onErrorText(() => {
          const found = address();
          if (found !== undefined) resolve(found);
        });
        child.ended.then(
          ({ code }) => {
            reject(
              code === 127
                ? new HoldfastError("config", "the program rclone is not installed, or not in the store's PATH")
                : new HoldfastError("unavailable", `rclone ended at its start: ${lastLine(child.errorText())}`),
            );
          },
          (error: unknown) => {
            reject(error instanceof Error ? error : new Error(String(error)));
          },
        );
      });
    } catch (error) {
      await child.stop();
      throw error;
    } finally {
      cancel();
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    const connection = await this.#connection?.catch(() => undefined);
    await connection?.child.stop();
    connection?.http.close();
  }

  async #request(
    path: string,
    options: Pick<HttpRequest, "method" | "headers" | "body">,
    signal: AbortSignal,
  ): Promise<HttpAnswer> {
    for (let attempt = 1; ; attempt++) {
      const connection = await this.#connect(signal);
      try {
        return await connection.http.send({
          ...options,
          path: `/${path}`,
          headers: { ...options.headers, authorization: connection.authorization },
          signal,
          once: options.method !== "GET",
          // Callers read at their own pace.
          held: options.method === "GET",
        });
      } catch (error) {
        if (signal.aborted) throw abortError(signal);
        if (neverArrived(error)) {
          // rclone has died before it was asked: a new one is.
          await connection.child.stop();
          this.#forget(connection);
        } else if (options.method !== "GET") {
          throw lostConnection(connection, error);
        }
        // A read may be asked for again; the connection may have broken because rclone is dying at this moment.
        if (attempt === 3 || typeof options.body === "object") throw lostConnection(connection, error);
      }
    }
  }

  /** One command of the remote control. Rejects with what rclone says went wrong. */
  async call(command: string, parameters: unknown, signal: AbortSignal): Promise<unknown> {
    const response = await this.#request(
      command,
      { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(parameters) },
      signal,
    );
    return answerOf(response);
  }

  async readFeatures(signal: AbortSignal): Promise<Features> {
    if (!this.features) {
      const answer = (await this.call("operations/fsinfo", { fs: FS }, signal)) as {
        Features?: Features;
        String?: string;
      };
      if (!answer.Features) throw new HoldfastError("internal", "rclone does not tell what the remote can do");
      this.features = { ...answer.Features, encrypted: answer.String?.startsWith("Encrypted drive") ?? false };
      if (this.features.CaseInsensitive) this.names.assume("case");
    }
    return this.features;
  }

  /** Uploads to a temporary name and returns the size in bytes. Ends in good order when the source fails. */
  async upload(temp: string, bytes: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<number> {
    const boundary = randomBytes(24).toString("hex");
    let size = 0;
    let failure: unknown;
    let failed = false;
    const cut = new AbortController();
    const multipart = async function* (): AsyncGenerator<Uint8Array> {
      yield Buffer.from(
        `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${temp}"\r\n` +
          "Content-Type: application/octet-stream\r\n\r\n",
      );
      try {
        for await (const chunk of bytes) {
          size += chunk.length;
          yield chunk;
        }
      } catch (error) {
        // The upload ends as if it were whole: then rclone has finished with the temporary name when it answers.
        failed = true;
        failure = error;
      }
      yield Buffer.from(`\r\n--${boundary}--\r\n`);
    };
    let cancel = (): void => undefined;
    const onAbort = (): void => {
      cancel = this.#context.runtime.timer(ABORT_GRACE_MS, () => cut.abort(abortError(signal)));
    };
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      const response = await this.#request(
        `operations/uploadfile?fs=${encodeURIComponent(FS)}&remote=`,
        {
          method: "POST",
          headers: { "content-type": `multipart/form-data; boundary=${boundary}` },
          body: multipart(),
        },
        cut.signal,
      );
      await answerOf(response);
    } catch (error) {
      if (!failed) throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
      cancel();
    }
    if (failed) throw failure;
    return size;
  }

  /** Moves onto a name, replacing what is there in one step where the remote can. */
  async move(from: string, to: string, signal: AbortSignal): Promise<void> {
    const features = await this.readFeatures(signal);
    const parameters = {
      srcFs: FS,
      srcRemote: toRcloneName(from),
      dstFs: FS,
      dstRemote: toRcloneName(to),
      // Two objects may have one name on such remotes, so that rclone must find and delete the old one.
      _config: features.DuplicateFiles ? { IgnoreTimes: true } : { NoCheckDest: true },
    };
    for (let attempt = 1; ; attempt++) {
      try {
        await this.call("operations/movefile", parameters, signal);
        return;
      } catch (error) {
        // A delete beside this put may remove the folder in between, as it is empty.
        if (attempt < 5 && isHoldfastError(error, "not-found")) continue;
        if (isHoldfastError(error, "internal") && (await this.#exists(to, signal))) {
          throw new HoldfastError(
            "unsupported",
            `this remote cannot replace an object in one step: delete it first (${error.message})`,
            { cause: error },
          );
        }
        throw error;
      }
    }
  }

  async #exists(name: string, signal: AbortSignal): Promise<boolean> {
    const { item } = (await this.call("operations/stat", { fs: FS, remote: toRcloneName(name) }, signal)) as {
      item: unknown;
    };
    return item !== null;
  }

  async read(name: string, range: { start: number; end: number } | undefined, signal: AbortSignal): Promise<GetResult> {
    const path = toRcloneName(name).split("/").map(encodeURIComponent).join("/");
    const response = await this.#request(
      `%5B${FS}%5D/${path}`,
      { method: "GET", headers: range ? { range: `bytes=${range.start}-${range.end - 1}` } : {} },
      signal,
    );
    if (response.status !== (range ? 206 : 200)) {
      await answerOf(response).catch((error: unknown) => {
        // A folder is no object.
        if (isHoldfastError(error, "conflict")) throw new HoldfastError("not-found", error.message);
        throw error;
      });
      throw new HoldfastError("internal", `rclone answered a read with the status ${response.status}`);
    }
    const length = Number(response.headers["content-length"]);
    const total = range ? Number(/\/(\d+)$/u.exec(String(response.headers["content-range"]))?.[1]) : length;
    if (
      !Number.isSafeInteger(length) ||
      !Number.isSafeInteger(total) ||
      (range && length !== range.end - range.start)
    ) {
      response.body.destroy();
      throw new HoldfastError("internal", "rclone does not say how long the object is");
    }
    const connection = this.#connected;
    const body = async function* (): AsyncGenerator<Uint8Array> {
      try {
        for await (const chunk of response.body) yield chunk as Uint8Array;
      } catch (error) {
        throw lostConnection(connection, error);
      }
    };
    return {
      info: { name, size: total },
      body: body(),
      close: async () => {
        response.body.on("error", () => undefined);
        response.body.destroy();
      },
    };
  }

  /** Undefined where there is no such file: a file that stands where a folder would be has nothing below it. */
  async statFile(name: string, signal: AbortSignal): Promise<RcloneItem | undefined> {
    try {
      const { item } = (await this.call(
        "operations/stat",
        { fs: FS, remote: toRcloneName(name), opt: { filesOnly: true, noMimeType: true } },
        signal,
      )) as { item: RcloneItem | null };
      return item ?? undefined;
    } catch (error) {
      if (isHoldfastError(error, "not-found") || isHoldfastError(error, "conflict")) return undefined;
      throw error;
    }
  }

  /** Entries of a folder; none where there is no such folder. */
  async listFolder(folder: string, signal: AbortSignal): Promise<readonly RcloneItem[]> {
    try {
      const { list } = (await this.call(
        "operations/list",
        { fs: FS, remote: toRcloneName(folder), opt: { noMimeType: true } },
        signal,
      )) as { list: readonly RcloneItem[] | null };
      return (list ?? []).map((item) => ({ ...item, Name: fromRclonePart(item.Name) }));
    } catch (error) {
      // An object stands where the folder would be.
      if (isHoldfastError(error, "not-found") || isHoldfastError(error, "conflict")) return [];
      throw error;
    }
  }

  /** Everything under a folder whose name starts with `prefix`, in name order, a folder at a time. */
  async *walk(folder: string, prefix: string, signal: AbortSignal): AsyncGenerator<ObjectInfo> {
    const above = folder === "" ? "" : `${folder}/`;
    const entries = (await this.listFolder(folder, signal))
      // A folder stands where its content does, behind its name with a slash.
      .map((item) => ({ item, key: above + item.Name + (item.IsDir ? "/" : "") }))
      .sort((a, b) => compareNames(a.key, b.key));
    let last: string | undefined;
    for (const { item, key } of entries) {
      const name = above + item.Name;
      // Names with a slash or of two dots come from no honest remote, and would lead out of the folder.
      if (item.Name === "" || item.Name === "." || item.Name === ".." || item.Name.includes("/")) continue;
      if (isTempName(item.Name)) {
        const age = this.#context.runtime.now() - Date.parse(item.ModTime ?? "");
        if (!item.IsDir && age > STALE_TEMP_MS) this.leftovers.add(name);
        continue;
      }
      if (key === last) continue;
      last = key;
      if (item.IsDir) {
        if (key.startsWith(prefix) || prefix.startsWith(key)) yield* this.walk(name, prefix, signal);
      } else if (name.startsWith(prefix)) {
        yield infoOf(name, item);
      }
    }
  }

  /** True when there was such a file. */
  async deleteFile(name: string, signal: AbortSignal): Promise<boolean> {
    try {
      await this.call("operations/deletefile", { fs: FS, remote: toRcloneName(name) }, signal);
      return true;
    } catch (error) {
      // A folder of that name, and a file where a folder would have to be, are no such object either.
      if (isHoldfastError(error, "not-found") || isHoldfastError(error, "conflict")) return false;
      throw error;
    }
  }

  /** Folders are no objects: an empty one would only stand in the way of an object of that name. */
  async removeEmptyFolders(name: string, signal: AbortSignal): Promise<void> {
    const features = await this.readFeatures(signal);
    if (!features.CanHaveEmptyDirectories) return;
    for (const folder of foldersAbove(name).reverse()) {
      if ((await this.listFolder(folder, signal)).length > 0) return;
      try {
        await this.call("operations/rmdir", { fs: FS, remote: toRcloneName(folder) }, signal);
      } catch (error) {
        if (signal.aborted) throw error;
        return;
      }
    }
  }

  /** Whether something stands under this name only as another object, as the remote does not tell them apart. */
  async isOther(name: string, signal: AbortSignal): Promise<boolean> {
    const asks = this.names.folds || !(await this.readFeatures(signal)).BucketBased;
    return asks && (await this.names.isOther(name.split("/"), signal));
  }

  async refuseToFind(name: string, signal: AbortSignal): Promise<void> {
    if (await this.isOther(name, signal)) throw new HoldfastError("not-found", "there is no such object");
  }

  async #stands(path: string, signal: AbortSignal): Promise<boolean> {
    if (await this.statFile(path, signal)) return true;
    // rclone finds a folder in the listing of the one above, under its own name alone.
    if ((await this.listFolder(path, signal)).length > 0) return true;
    if (!this.names.folds) return false;
    const slash = path.lastIndexOf("/");
    const entries = await this.listFolder(path.slice(0, Math.max(slash, 0)), signal);
    return entries.some((item) => item.Name.toLowerCase() === path.slice(slash + 1).toLowerCase());
  }
}

function basic(user: string, pass: string): string {
  return `Basic ${Buffer.from(`${user}:${pass}`).toString("base64")}`;
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}

/** Whether a request failed before rclone can have seen it. */
function neverArrived(error: unknown): boolean {
  return systemCode(error) === "ECONNREFUSED";
}

function lostConnection(connection: Connection | undefined, error: unknown): HoldfastError {
  // The client's own message names a port of this machine, which tells the user nothing.
  const cause = error instanceof HoldfastError ? error.cause : error;
  if (error instanceof HoldfastError && cause === undefined) return error;
  return new HoldfastError(
    "unavailable",
    connection?.child.running ? "the connection to rclone broke" : "rclone ended while it was at work",
    { cause },
  );
}

async function answerOf(response: HttpAnswer): Promise<unknown> {
  let text = "";
  for await (const chunk of response.body.setEncoding("utf8")) text += chunk as string;
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    answer = undefined;
  }
  if (response.status === 200 && answer !== undefined) return answer;
  const message =
    typeof answer === "object" && answer !== null && "error" in answer && typeof answer.error === "string"
      ? answer.error
      : `status ${response.status}`;
  throw rcloneError(message, response.status);
}

/** rclone passes on each service's own words; these are the ones that tell what kind of failure it was. */
const MEANINGS: readonly (readonly [RegExp, ConstructorParameters<typeof HoldfastError>[0]])[] = [
  [
    /didn't find section in config|failed to create file system|couldn't decrypt|no such config|empty token/iu,
    "config",
  ],
  [/no space left|quota|insufficient ?storage|disk full|not enough space|storage ?limit|\b507\b/iu, "full"],
  [/too many requests|rate ?limit|slow ?down|throttl|\b429\b/iu, "throttled"],
  [/file name too long|name too long|invalid argument|illegal byte|invalid (?:file ?)?name/iu, "invalid"],
  [
    /not a directory|is a directory|non-file|isn't a (?:file|directory)|already exists|\b(?:409|412|423)\b/iu,
    "conflict",
  ],
  [
    /permission denied|access ?denied|unauthori[sz]ed|forbidden|invalid_grant|token expired|expired token|unable to authenticate|login incorrect|signature ?does ?not ?match|invalid ?access ?key|read-only file system|operation not permitted|\b40[13]\b/iu,
    "denied",
  ],
  [/timed? ?out|timeout|deadline exceeded/iu, "timeout"],
  [
    /connection (?:refused|reset)|couldn't connect|no such host|network is (?:unreachable|down)|no route to host|broken pipe|unexpected eof|\beof\b|service unavailable|internal server error|bad gateway|x509|certificate|tls:|input\/output error|ssh: /iu,
    "unavailable",
  ],
  [/not found|no such file|doesn't exist|does not exist|\b404\b/iu, "not-found"],
  [/unsupported|not supported|can't (?:move|copy)|not implemented/iu, "unsupported"],
];

function rcloneError(message: string, status: number): HoldfastError {
  const text = `rclone: ${message}`;
  if (status === 404) return new HoldfastError("not-found", text);
  const retryable = UNKNOWN_HOST.test(message) ? false : undefined;
  for (const [pattern, code] of MEANINGS) {
    if (pattern.test(message)) return new HoldfastError(code, text, { retryable });
  }
  return new HoldfastError("internal", text);
}
