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
 */
import { randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { z } from "zod";
import { checkedBytes } from "../../body.ts";
import { systemCode } from "../../network-errors.ts";
import { compareNames } from "../../names.ts";
import type { Body, ObjectMetadata } from "../../store.ts";
import type { ChecksumAlgorithm } from "./checksums.ts";
import { checksumAlgorithms } from "./checksums.ts";
import { S3Error } from "./s3-error.ts";

/** The highest number of a part. */
export const MAX_PART_NUMBER = 10_000;
/** Uploads that nobody touched for this long are given up, in milliseconds: seven days. */
const ABANDONED_MS = 7 * 86_400_000;

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

export class Uploads {
  readonly #folder: string;
  readonly #now: () => number;

  /** `folder` belongs to one gateway at a time and is made when it is first needed. */
  constructor(folder: string, now: () => number) {
    this.#folder = folder;
    this.#now = now;
  }

  /** Makes what a killed gateway left usable again, and gives up uploads that are too old. */
  async open(): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    for (const name of await readdir(this.#folder)) {
      const bare = name.replace(/\.busy$/u, "");
      if (!isUploadId(bare)) continue;
      if (bare !== name) await rename(path.join(this.#folder, name), path.join(this.#folder, bare));
      const upload = await this.#read(bare);
      if (!upload || this.#now() - upload.createdMs > ABANDONED_MS) await this.#remove(bare);
    }
  }

  async create(facts: Omit<Upload, "id" | "createdMs">): Promise<Upload> {
    const upload: Upload = { ...facts, id: randomBytes(16).toString("hex"), createdMs: this.#now() };
    await mkdir(path.join(this.#folder, upload.id), { recursive: true, mode: 0o700 });
    const { id: _, ...kept } = upload;
    await writeFile(path.join(this.#folder, upload.id, "upload.json"), JSON.stringify(kept));
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

  /** Takes a part. `facts` is asked for its digests when the body has been read. */
  async putPart(
    upload: Upload,
    number: number,
    body: Body,
    facts: () => Pick<PartFacts, "md5" | "checksums">,
    signal: AbortSignal,
  ): Promise<PartFacts> {
    const folder = path.join(this.#folder, upload.id);
    const file = `${number}.${randomBytes(8).toString("hex")}`;
    let size = 0;
    const counted = async function* (): AsyncGenerator<Uint8Array> {
      for await (const chunk of checkedBytes(body, signal)) {
        size += chunk.length;
        yield chunk;
      }
    };
    try {
      await pipeline(
        Readable.from(counted(), { objectMode: true, highWaterMark: 2 }),
        createWriteStream(path.join(folder, file), { flags: "wx", mode: 0o600 }),
        { signal },
      );
      const part: PartFacts = { number, size, modifiedMs: this.#now(), file, ...facts() };
      const former = await this.#readPart(folder, number);
      const temporary = path.join(folder, `${file}.tmp`);
      await writeFile(temporary, JSON.stringify(part), { mode: 0o600 });
      await rename(temporary, path.join(folder, `${number}.json`));
      if (former) await rm(path.join(folder, former.file), { force: true });
      return part;
    } catch (error) {
      await rm(path.join(folder, file), { force: true });
      if (isMissing(error)) throw noSuchUpload();
      if (isFull(error)) throw new S3Error("InsufficientStorage", "the gateway's disk for uploads is full", error);
      throw error;
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
   * Runs `work` while no part can come or go. The upload is gone when it resolves, and is as it was when it rejects.
   * Throws NoSuchUpload when another request is completing it.
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
    let result: T;
    try {
      result = await work(await this.#parts(busy), (parts) => partsBody(busy, parts));
    } catch (error) {
      await rename(busy, folder);
      throw error;
    }
    await rm(busy, { recursive: true, force: true });
    return result;
  }

  async #read(id: string): Promise<Upload | undefined> {
    try {
      const facts = uploadShape.parse(JSON.parse(await readFile(path.join(this.#folder, id, "upload.json"), "utf8")));
      return { id, ...facts };
    } catch (error) {
      if (isMissing(error) || error instanceof SyntaxError || error instanceof z.ZodError) return undefined;
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

  async #readPart(folder: string, number: number): Promise<PartFacts | undefined> {
    try {
      return partShape.parse(JSON.parse(await readFile(path.join(folder, `${number}.json`), "utf8")));
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async #remove(id: string): Promise<void> {
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

function partsBody(folder: string, parts: readonly PartFacts[]): Body {
  return {
    size: parts.reduce((sum, part) => sum + part.size, 0),
    reopenable: true,
    async *open() {
      for (const part of parts) {
        yield* createReadStream(path.join(folder, part.file), {
          highWaterMark: 1024 * 1024,
        }) as AsyncIterable<Uint8Array>;
      }
    },
  };
}

function isUploadId(text: string): boolean {
  return /^[0-9a-f]{32}$/u.test(text);
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

function isFull(error: unknown): boolean {
  return ["ENOSPC", "EDQUOT"].includes(systemCode(error) ?? "");
}

function noSuchUpload(): S3Error {
  return new S3Error("NoSuchUpload", "there is no such upload; it may have been completed or aborted");
}
