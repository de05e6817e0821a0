/**
 * Multipart uploads that are not complete yet, on the gateway's own disk.
 *
 * A part is acknowledged to be there when the upload is completed, not to be kept for ever: only the finished object is
 * a promise, and that one the pool keeps. So parts are not sent to every store twice; they wait in a folder, and
 * completing an upload is one put of a body that can be read again for each attempt.
 *
 *     FOLDER/<upload id>/upload.json      bucket, key and what the object is to be stored with
 *     FOLDER/<upload id>/<number>.json    size and digests of a part, and the file that holds it
 *     FOLDER/<upload id>/<number>.<hex>   its bytes
 *     FOLDER/<upload id>.busy/            the same while the upload is being completed
 *     FOLDER/in-use.<hex>                 the lock of the gateway that has the folder
 */
import { createHash, randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { open, readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { z } from "zod";
import { checkedBytes } from "../../contract/body.ts";
import { HoldfastError, toHoldfastError } from "../../contract/errors.ts";
import type { Logger } from "../../contract/log.ts";
import { makeFolder } from "../../support/make-folder.ts";
import { compareNames } from "../../contract/names.ts";
import type { Runtime } from "../../contract/runtime.ts";
import type { Body, ObjectMetadata } from "../../contract/store.ts";
import type { ChecksumAlgorithm } from "./checksums.ts";
import { checksumAlgorithms } from "./checksums.ts";
import { S3Error } from "./s3-error.ts";
import { lockFolder } from "./spool-lock.ts";
import type { FolderLock } from "./spool-lock.ts";
import { hasCode, isFull, isMissing } from "./system-errors.ts";

/** Uploads that nobody touched for this long are given up, in milliseconds: seven days. */
const ABANDONED_MS = 7 * 86_400_000;
/** Time between two looks for such uploads, in milliseconds. */
const SWEEP_MS = 3_600_000;

const uploadShape = z.object({
  bucket: z.string(),
  key: z.string(),
  createdMs: z.number(),
  metadata: z.record(z.string(), z.string()),
  algorithm: z.enum(checksumAlgorithms).optional(),
  fullObject: z.boolean().optional(),
});

const partShape = z.object({
  number: z.number().int(),
  size: z.number(),
  md5: z.string(),
  modifiedMs: z.number(),
  checksums: z.partialRecord(z.enum(checksumAlgorithms), z.string()),
  file: z.string(),
});

export type PartFacts = z.infer<typeof partShape>;

export interface Upload {
  readonly id: string;
  readonly bucket: string;
  readonly key: string;
  readonly createdMs: number;
  readonly metadata: ObjectMetadata;
  /** Checksum that the client wants of each part and of the whole. */
  readonly algorithm?: ChecksumAlgorithm | undefined;
  /** The checksum of the whole is that of its bytes, not that of its parts' checksums. */
  readonly fullObject?: boolean | undefined;
}

export interface UploadsOptions {
  /** Made when it is first needed. */
  readonly folder: string;
  /** Where another gateway has the folder, the next of FOLDER-2, FOLDER-3 and so on is taken. Default: that is an error. */
  readonly numbered?: boolean;
  readonly runtime: Runtime;
  readonly logger: Logger;
}

export class Uploads {
  #folder: string;
  readonly #numbered: boolean;
  readonly #runtime: Runtime;
  readonly #logger: Logger;
  #lock: FolderLock | undefined;
  #cancelSweep: () => void = () => undefined;
  /** Upload → when it is given up, by the clock that does not jump. */
  readonly #until = new Map<string, number>();
  /** Upload → parts that are coming now. */
  readonly #coming = new Map<string, number>();

  constructor({ folder, numbered = false, runtime, logger }: UploadsOptions) {
    this.#folder = folder;
    this.#numbered = numbered;
    this.#runtime = runtime;
    this.#logger = logger;
  }

  /**
   * Takes the folder for this gateway alone, makes what a killed one left usable again, and gives up uploads that nobody
   * touched for a week, from then on every hour. Rejects with `config` where another gateway has the folder.
   */
  async open(): Promise<void> {
    const base = this.#folder;
    for (let number = 2; ; number++) {
      await makeFolder(this.#folder, 0o700);
      this.#lock = await lockFolder(this.#folder, this.#logger);
      if (this.#lock !== undefined) break;
      if (!this.#numbered)
        throw new HoldfastError(
          "config",
          `another gateway keeps its uploads in ${base}: each needs a --spool of its own`,
        );
      this.#folder = `${base}-${number}`;
    }
    for (const name of await readdir(this.#folder)) {
      if (/^(?:gone|new)-[0-9a-f]{32}$/u.test(name))
        await rm(path.join(this.#folder, name), { recursive: true, force: true });
      const bare = name.replace(/\.busy$/u, "");
      if (!isUploadId(bare)) continue;
      if (bare !== name) await rename(path.join(this.#folder, name), path.join(this.#folder, bare));
      this.#touch(bare, Math.max(0, this.#runtime.now() - (await this.#lastTouchedMs(bare))));
    }
    await this.#sweepAndGoOn();
  }

  /** Ends what `open` began. */
  async close(): Promise<void> {
    this.#cancelSweep();
    await this.#lock?.release();
    this.#lock = undefined;
  }

  /** Gives up what nobody touched for a week. */
  async sweep(): Promise<void> {
    const now = this.#runtime.monotonicMs();
    for (const [id, untilMs] of this.#until) {
      if (untilMs > now || (this.#coming.get(id) ?? 0) > 0) continue;
      this.#logger.info("upload.abandoned", { upload: id });
      await this.#remove(id);
    }
  }

  async #sweepAndGoOn(): Promise<void> {
    try {
      await this.sweep();
    } catch (error) {
      // Files that cannot be removed now are tried again.
      this.#logger.warn("upload.sweep", { reason: toHoldfastError(error).message });
    }
    if (this.#lock === undefined) return;
    this.#cancelSweep = this.#runtime.timer(SWEEP_MS, () => void this.#sweepAndGoOn());
  }

  /** One that cannot be read now may be readable again, and goes when nobody can have wanted it for a week. */
  async #lastTouchedMs(id: string): Promise<number> {
    const upload = await this.#read(id);
    if (!upload) return (await stat(path.join(this.#folder, id))).mtimeMs;
    const parts = await this.parts(upload);
    return Math.max(upload.createdMs, ...parts.map((part) => part.modifiedMs));
  }

  #touch(id: string, agoMs = 0): void {
    this.#until.set(id, this.#runtime.monotonicMs() + ABANDONED_MS - agoMs);
  }

  async create(facts: Omit<Upload, "id" | "createdMs">): Promise<Upload> {
    const upload: Upload = { ...facts, id: randomBytes(16).toString("hex"), createdMs: this.#runtime.now() };
    const { id, ...kept } = upload;
    // Under another name first, so that an upload is there whole or not at all.
    const begun = path.join(this.#folder, `new-${id}`);
    try {
      await makeFolder(begun, 0o700);
      await writeFile(path.join(begun, "upload.json"), JSON.stringify(kept), { mode: 0o600, flush: true });
      await syncFolder(begun);
      await rename(begun, path.join(this.#folder, id));
      await syncFolder(this.#folder);
    } catch (error) {
      await rm(begun, { recursive: true, force: true });
      throw isFull(error) ? diskFull(error) : error;
    }
    this.#touch(id);
    return upload;
  }

  /** Throws NoSuchUpload unless it is there and for this object. */
  async find(id: string, bucket: string, key: string): Promise<Upload> {
    const upload = isUploadId(id) ? await this.#read(id) : undefined;
    if (!upload || upload.bucket !== bucket || upload.key !== key) throw noSuchUpload();
    return upload;
  }

  /** Uploads of a bucket by key, then by age. */
  async list(bucket: string): Promise<Upload[]> {
    const found: Upload[] = [];
    for (const name of await readdir(this.#folder)) {
      const upload = isUploadId(name) ? await this.#read(name) : undefined;
      if (upload?.bucket === bucket) found.push(upload);
    }
    return found.sort((a, b) => compareNames(a.key, b.key) || a.createdMs - b.createdMs || compareNames(a.id, b.id));
  }

  /**
   * Takes a part, which is on the disk when this resolves. `facts` is asked for its digests when the body has been read.
   */
  async putPart(
    upload: Upload,
    number: number,
    body: Body,
    facts: () => Pick<PartFacts, "md5" | "checksums">,
    signal: AbortSignal,
  ): Promise<PartFacts> {
    const folder = path.join(this.#folder, upload.id);
    const file = `${number}.${randomBytes(8).toString("hex")}`;
    const temporary = path.join(folder, `${file}.tmp`);
    let size = 0;
    const counted = async function* (): AsyncGenerator<Uint8Array> {
      for await (const chunk of checkedBytes(body, signal)) {
        size += chunk.length;
        yield chunk;
      }
    };
    this.#coming.set(upload.id, (this.#coming.get(upload.id) ?? 0) + 1);
    try {
      await pipeline(
        Readable.from(counted(), { objectMode: true, highWaterMark: 2 }),
        createWriteStream(path.join(folder, file), { flags: "wx", mode: 0o600, flush: true }),
        { signal },
      );
      const part: PartFacts = { number, size, modifiedMs: this.#runtime.now(), file, ...facts() };
      const former = await this.#readPart(folder, number);
      await writeFile(temporary, JSON.stringify(part), { mode: 0o600, flush: true });
      await rename(temporary, path.join(folder, `${number}.json`));
      await syncFolder(folder);
      if (former) await rm(path.join(folder, former.file), { force: true });
      this.#touch(upload.id);
      return part;
    } catch (error) {
      await rm(path.join(folder, file), { force: true });
      await rm(temporary, { force: true });
      if (isMissing(error)) throw noSuchUpload();
      throw isFull(error) ? diskFull(error) : error;
    } finally {
      const coming = (this.#coming.get(upload.id) ?? 1) - 1;
      if (coming > 0) this.#coming.set(upload.id, coming);
      else this.#coming.delete(upload.id);
    }
  }

  /** The parts in order. */
  async parts(upload: Upload): Promise<PartFacts[]> {
    return this.#parts(path.join(this.#folder, upload.id));
  }

  async abort(upload: Upload): Promise<void> {
    await this.#remove(upload.id);
  }

  /**
   * Runs `work` while no part can come or go. The upload is gone when it resolves, and is as it was when it rejects, but
   * for a part that turned out to be damaged. Throws NoSuchUpload when another request is completing it.
   */
  async complete<T>(
    upload: Upload,
    work: (parts: PartFacts[], body: (parts: readonly PartFacts[]) => Body) => Promise<T>,
  ): Promise<T> {
    const folder = path.join(this.#folder, upload.id);
    const busy = `${folder}.busy`;
    try {
      await rename(folder, busy);
    } catch (error) {
      throw isMissing(error) ? noSuchUpload() : error;
    }
    this.#touch(upload.id);
    let result: T;
    const damaged = new Set<number>();
    try {
      result = await work(await this.#parts(busy), (parts) => partsBody(busy, parts, damaged));
    } catch (error) {
      for (const number of damaged) await rm(path.join(busy, `${number}.json`), { force: true });
      await rename(busy, folder);
      const [number] = damaged;
      if (number === undefined) throw error;
      this.#logger.warn("upload.damaged", { upload: upload.id, parts: [...damaged].join(",") });
      throw new S3Error("InvalidPart", `part ${number} did not keep on the gateway's disk; send it again`, error);
    }
    this.#until.delete(upload.id);
    await rm(busy, { recursive: true, force: true });
    return result;
  }

  async #read(id: string): Promise<Upload | undefined> {
    try {
      const facts = uploadShape.parse(JSON.parse(await readFile(path.join(this.#folder, id, "upload.json"), "utf8")));
      return { id, ...facts };
    } catch (error) {
      if (isUnreadable(error)) return undefined;
      throw error;
    }
  }

  async #parts(folder: string): Promise<PartFacts[]> {
    let names: string[];
    try {
      names = await readdir(folder);
    } catch (error) {
      throw isMissing(error) ? noSuchUpload() : error;
    }
    const parts: PartFacts[] = [];
    for (const name of names) {
      const number = /^(\d+)\.json$/u.exec(name)?.[1];
      const part = number === undefined ? undefined : await this.#readPart(folder, Number(number));
      if (part) parts.push(part);
    }
    return parts.sort((a, b) => a.number - b.number);
  }

  /** A part that is there with all its bytes. After a power loss there may be less; what cannot be read is not there. */
  async #readPart(folder: string, number: number): Promise<PartFacts | undefined> {
    try {
      const part = partShape.parse(JSON.parse(await readFile(path.join(folder, `${number}.json`), "utf8")));
      const { size } = await stat(path.join(folder, part.file));
      return size === part.size ? part : undefined;
    } catch (error) {
      if (isUnreadable(error)) return undefined;
      throw error;
    }
  }

  async #remove(id: string): Promise<void> {
    this.#until.delete(id);
    // Renamed first, so that an upload is there whole or not at all.
    const gone = path.join(this.#folder, `gone-${id}`);
    try {
      await rename(path.join(this.#folder, id), gone);
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
    await rm(gone, { recursive: true, force: true });
  }
}

/** The bytes of parts. Each part that is not what was sent ends it with an error, and is added to `damaged`. */
function partsBody(folder: string, parts: readonly PartFacts[], damaged: Set<number>): Body {
  return {
    size: parts.reduce((sum, part) => sum + part.size, 0),
    reopenable: true,
    async *open() {
      for (const part of parts) {
        const md5 = createHash("md5");
        const source = createReadStream(path.join(folder, part.file), { highWaterMark: 1024 * 1024 });
        try {
          for await (const chunk of source as AsyncIterable<Uint8Array>) {
            md5.update(chunk);
            yield chunk;
          }
        } catch (error) {
          if (isUnreadable(error)) damaged.add(part.number);
          throw error;
        }
        if (md5.digest("hex") === part.md5) continue;
        damaged.add(part.number);
        throw new S3Error("InvalidPart", `part ${part.number} is not what was sent`);
      }
    },
  };
}

/** Makes the names in a folder last. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function isUploadId(text: string): boolean {
  return /^[0-9a-f]{32}$/u.test(text);
}

/** Whether an error says that what is on the disk is no use, and not that it cannot be read just now. */
function isUnreadable(error: unknown): boolean {
  return (
    error instanceof SyntaxError ||
    error instanceof z.ZodError ||
    hasCode(error, ["ENOENT", "EIO", "EISDIR", "ENOTDIR", "EBADMSG", "EUCLEAN"])
  );
}

function diskFull(error: unknown): S3Error {
  return new S3Error("InsufficientStorage", "the gateway's disk for uploads is full", error);
}

function noSuchUpload(): S3Error {
  return new S3Error("NoSuchUpload", "there is no such upload; it may have been completed or aborted");
}
