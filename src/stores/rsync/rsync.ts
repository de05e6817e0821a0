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
import path from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { checkedBytes } from "../../contract/body.ts";
import { MAX_NAME_BYTES } from "../../contract/names.ts";
import type { Capabilities, OperationOptions, Store } from "../../contract/store.ts";
import { makeFolder } from "../../support/make-folder.ts";
import { NOT_ATOMIC, Operations, notFound, refuseUnsupported } from "../base/operations.ts";
import { checkParts, checkPathName, folderOfPrefix } from "../base/path-names.ts";
import { ownVariables } from "../base/place.ts";
import type { StoreContext, StoreKind } from "../base/store-kind.ts";
import { readPlace } from "./rsync-place.ts";
import type { Place } from "./rsync-place.ts";
import { Rsync } from "./rsync-program.ts";

export const rsyncKind: StoreKind = {
  open: async (url, context) => new RsyncStore(readPlace(url, context.env), context),
  place: (url, env) => {
    const { server, path } = readPlace(url, env);
    // One name may be another host behind another proxy, whose address may hold a password.
    return { server: ["rsync", ...server], path, login: ownVariables(env)["RSYNC_PROXY"] };
  },
};

const MAX_PART_BYTES = 255;

class RsyncStore implements Store {
  readonly label: string;
  readonly #rsync: Rsync;
  readonly #operations: Operations;

  /** Starts nothing. */
  constructor(place: Place, context: StoreContext) {
    this.label = context.label;
    this.#rsync = new Rsync(place, context);
    this.#operations = new Operations({
      context,
      secrets: place.secrets,
      checkName: (name) => {
        checkPathName(name);
        checkParts(name, MAX_PART_BYTES);
      },
    });
  }

  get capabilities(): Capabilities {
    return {
      orderedList: false,
      conditionalPut: false,
      prefixNames: false,
      maxNameBytes: MAX_NAME_BYTES,
      maxNamePartBytes: MAX_PART_BYTES,
      caseSensitive: !this.#rsync.names.folds,
      storeDigests: [],
    };
  }

  readonly put: Store["put"] = (name, body, options = {}) => {
    return this.#operations.run("put", name, options, async ({ signal }) => {
      refuseUnsupported(options, NOT_ATOMIC);
      return this.#rsync.withFolder(async (folder) => {
        const file = path.join(folder, name);
        await makeFolder(path.dirname(file));
        // The folder is nobody else's; the file's mode is what the far side begins with, less its umask.
        const target = createWriteStream(file, { flags: "wx", mode: 0o666 });
        await pipeline(Readable.from(checkedBytes(body, signal), { objectMode: false }), target);
        await this.#rsync.learnFor(name, signal);
        await this.#rsync.names.give(
          name.split("/"),
          signal,
          () => this.#rsync.send(folder, name, signal, options.onAlive),
          (kept) => this.#rsync.remove(kept.join("/"), signal),
        );
        return { size: target.bytesWritten };
      });
    });
  };

  readonly get: Store["get"] = (name, options = {}) => {
    return this.#operations.get(name, options, async ({ signal }) => {
      const result = await this.#rsync.fetch(name, options.range, signal, options.onAlive);
      await this.#rsync.names.refuseToFind(name.split("/"), signal).catch(async (error: unknown) => {
        await result.close();
        throw error;
      });
      return result;
    });
  };

  readonly stat: Store["stat"] = (name, options = {}) => {
    return this.#operations.run("stat", name, options, async ({ signal }) => {
      const info = await this.#rsync.stat(name, signal);
      if (!info) throw notFound();
      await this.#rsync.names.refuseToFind(name.split("/"), signal);
      return info;
    });
  };

  readonly list: Store["list"] = (prefix, options = {}) => {
    const rsync = this.#rsync;
    return this.#operations.iterate(options, async function* ({ signal }) {
      const folder = folderOfPrefix(prefix);
      if (folder === undefined) return;
      if (folder !== "" && (await rsync.names.isOther(folder.split("/"), signal))) return;
      for await (const info of rsync.list(folder, signal)) if (info.name.startsWith(prefix)) yield info;
    });
  };

  readonly delete: Store["delete"] = (name, options = {}) => {
    return this.#operations.run("delete", name, options, async ({ signal }) => {
      if (await this.#rsync.names.isOther(name.split("/"), signal)) return { existed: false };
      const existed = await this.#rsync.remove(name, signal);
      this.#rsync.names.noteGone();
      return { existed };
    });
  };

  sweep(options: OperationOptions = {}): Promise<void> {
    return this.#operations.run("delete", undefined, options, ({ signal }) => this.#rsync.removeLeftovers(signal));
  }

  close(): Promise<void> {
    return this.#operations.close();
  }
}
