/**
 * Anything rclone knows, through the user's own rclone and its own configuration: `rclone://remote:path`.
 *
 * One `rclone rcd` a store lives as long as the store is open, on a loopback port with random credentials; it is started
 * when first needed, started again when it has died, and ended with the store or with this process, however that ends.
 * Objects are uploaded under a temporary name, their size is checked (rclone takes a small upload that breaks off for a
 * whole one), and then they are moved onto their name without a look at the destination, because rclone's ordinary move
 * deletes the old object first.
 */
import { checkedBytes } from "../../contract/body.ts";
import { HoldfastError, isHoldfastError, throwIfAborted } from "../../contract/errors.ts";
import { MAX_NAME_BYTES } from "../../contract/names.ts";
import { resolveRange } from "../../contract/ranges.ts";
import type { Capabilities, OperationOptions, Store } from "../../contract/store.ts";
import type { StoreUrl } from "../../contract/store-url.ts";
import { isSecretName, secretsOf } from "../../support/redact.ts";
import { NOT_ATOMIC, Operations, notFound, refuseUnsupported } from "../base/operations.ts";
import { checkParts, checkPathName, folderOfPrefix, tempName } from "../base/path-names.ts";
import type { StoreContext, StoreKind } from "../base/store-kind.ts";
import { RcloneDaemon } from "./rclone-daemon.ts";
import { ABORT_GRACE_MS, RcloneRemote, infoOf } from "./rclone-remote.ts";
import type { RcloneItem } from "./rclone-remote.ts";
import { rclonePlace, remoteOf } from "./rclone-settings.ts";

export const rcloneKind: StoreKind = { open: openRcloneStore, place: rclonePlace };

/** How long opening waits to learn what the remote can do, in milliseconds. A remote that is down opens all the same. */
const OPEN_MS = 3000;

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
  const daemon = new RcloneDaemon(remote, context);
  const rclone = new RcloneRemote(daemon, context);
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
      await daemon.stop();
      throw error.within({ store: context.label, operation: "open" });
    }
  } finally {
    cancel();
    context.signal?.removeEventListener("abort", onAbort);
  }
  return new RcloneStore(daemon, rclone, context, secretsOf(url, context.env));
}

export class RcloneStore implements Store {
  readonly label: string;
  readonly #daemon: RcloneDaemon;
  readonly #rclone: RcloneRemote;
  readonly #context: StoreContext;
  readonly #operations: Operations;

  constructor(daemon: RcloneDaemon, rclone: RcloneRemote, context: StoreContext, secrets: readonly string[]) {
    this.label = context.label;
    this.#daemon = daemon;
    this.#rclone = rclone;
    this.#context = context;
    this.#operations = new Operations({
      context,
      secrets,
      // Parts that are too long are refused here, before the service may shorten them.
      checkName: (name) => {
        checkPathName(name);
        checkParts(name, this.#partBytes);
      },
    });
  }

  /** Process id of the rclone that runs now; undefined while none does. */
  get pid(): number | undefined {
    return this.#daemon.pid;
  }

  get capabilities(): Capabilities {
    const { features, names } = this.#rclone;
    return {
      orderedList: true,
      conditionalPut: false,
      prefixNames: features?.BucketBased ?? false,
      maxNameBytes: MAX_NAME_BYTES,
      maxNamePartBytes: this.#partBytes,
      caseSensitive: !(features?.CaseInsensitive ?? false) && !names.folds,
      storeDigests: [],
    };
  }

  readonly put: Store["put"] = (name, body, options = {}) => {
    return this.#operations.run("put", name, options, async ({ signal }) => {
      refuseUnsupported(options, NOT_ATOMIC);
      const features = await this.#rclone.readFeatures(signal);
      if (!features.Move && !features.Copy) {
        throw new HoldfastError(
          "unsupported",
          "this remote can neither move nor copy an object by itself, so no put can be made all or nothing",
        );
      }
      await this.#removeLeftovers(signal);
      const { names } = this.#rclone;
      const temp = tempName(this.#context.runtime, features.BucketBased ? "" : names.markFor(name));
      try {
        const size = await this.#rclone.upload(temp, checkedBytes(body, signal), signal);
        const stored = await this.#rclone.statFile(temp, signal);
        if (stored?.Size !== size) {
          throw new HoldfastError("unavailable", `rclone stored ${stored?.Size ?? 0} bytes of ${size}`);
        }
        if (!features.BucketBased) await names.learn("", temp, signal);
        await names.give(
          name.split("/"),
          signal,
          () => this.#rclone.move(temp, name, signal),
          (kept) => this.#rclone.deleteFile(kept.join("/"), signal),
        );
        return { size };
      } catch (error) {
        if (this.#daemon.running) {
          // Not with the signal, which may have fired; but not for ever either.
          await this.#rclone.deleteFile(temp, AbortSignal.timeout(ABORT_GRACE_MS * 2)).catch(() => undefined);
        }
        throw error;
      }
    });
  };

  readonly get: Store["get"] = (name, options = {}) => {
    return this.#operations.get(name, options, async ({ signal }) => {
      if (!options.range) {
        const result = await this.#rclone.read(name, undefined, signal);
        await this.#rclone.refuseToFind(name, signal).catch(async (error: unknown) => {
          await result.close();
          throw error;
        });
        return result;
      }
      const item = await this.#item(name, signal);
      const { start, end } = resolveRange(options.range, item.Size);
      if (start === end) {
        return { info: infoOf(name, item), body: nothing(), close: async () => undefined };
      }
      const result = await this.#rclone.read(name, { start, end }, signal);
      if (result.info.size !== item.Size) {
        await result.close();
        throw new HoldfastError("unavailable", "the object was replaced while it was being read");
      }
      return result;
    });
  };

  readonly stat: Store["stat"] = (name, options = {}) => {
    return this.#operations.run("stat", name, options, async ({ signal }) => {
      return infoOf(name, await this.#item(name, signal));
    });
  };

  readonly list: Store["list"] = (prefix, options = {}) => {
    const rclone = this.#rclone;
    return this.#operations.iterate(options, async function* ({ signal }) {
      const folder = folderOfPrefix(prefix);
      if (folder === undefined || (folder !== "" && (await rclone.isOther(folder, signal)))) return;
      yield* rclone.walk(folder, prefix, signal);
    });
  };

  readonly delete: Store["delete"] = (name, options = {}) => {
    return this.#operations.run("delete", name, options, async ({ signal }) => {
      if (await this.#rclone.isOther(name, signal)) return { existed: false };
      const existed = await this.#rclone.deleteFile(name, signal);
      this.#rclone.names.noteGone();
      if (existed) await this.#rclone.removeEmptyFolders(name, signal);
      return { existed };
    });
  };

  sweep(options: OperationOptions = {}): Promise<void> {
    return this.#operations.run("delete", undefined, options, ({ signal }) => this.#removeLeftovers(signal));
  }

  async close(): Promise<void> {
    await this.#operations.close();
    await this.#daemon.stop();
  }

  /** What an ordinary file system holds, 255 bytes, after what a crypt remote makes of a name. */
  get #partBytes(): number {
    return this.#rclone.features?.encrypted ? 143 : 255;
  }

  async #item(name: string, signal: AbortSignal): Promise<RcloneItem> {
    const item = await this.#rclone.statFile(name, signal);
    if (!item || item.IsDir) throw notFound();
    await this.#rclone.refuseToFind(name, signal);
    return item;
  }

  /** Removes what a listing saw of puts that were killed long ago. */
  async #removeLeftovers(signal: AbortSignal): Promise<void> {
    for (const leftover of this.#rclone.leftovers) {
      await this.#rclone.deleteFile(leftover, signal);
      this.#rclone.leftovers.delete(leftover);
      this.#context.logger.info("stale temporary file removed", { store: this.label, file: leftover });
    }
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {
  // No bytes.
}
