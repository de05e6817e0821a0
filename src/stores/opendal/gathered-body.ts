/** The bytes of a put, all of them at hand before the first is sent: in memory, and in a local file when they are many. */
import { mkdtemp, open, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { HoldfastError } from "../../contract/errors.ts";

/** Up to this size, in bytes, a body is held in memory. */
export const MEMORY_BYTES = 8 * 1024 * 1024;

/** Size of the pieces in which a body is handed on, in bytes. */
export const PART_BYTES = 8 * 1024 * 1024;

export class GatheredBody {
  /** In bytes. */
  size = 0;
  readonly #folder: string;
  #chunks: Uint8Array[] = [];
  #file: { readonly handle: FileHandle; readonly folder: string } | undefined;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Takes all of a source. More than `limit` bytes (no limit where it is undefined) are `unsupported`; local files are made in `env`'s
   * `TMPDIR`. What the source throws is thrown on, and nothing is left.
   */
  static async of(
    source: AsyncIterable<Uint8Array>,
    limit: number | undefined,
    env: Readonly<Record<string, string | undefined>>,
  ): Promise<GatheredBody> {
    const body = new GatheredBody(env["TMPDIR"] ?? tmpdir());
    try {
      for await (const chunk of source) {
        body.size += chunk.length;
        if (limit !== undefined && body.size > limit) {
          throw new HoldfastError(
            "unsupported",
            `this service takes an object in one request, of at most ${limit} bytes`,
          );
        }
        await body.#add(chunk);
      }
      return body;
    } catch (error) {
      await body.release();
      throw error;
    }
  }

  async #add(chunk: Uint8Array): Promise<void> {
    this.#chunks.push(chunk);
    if (!this.#file && this.size <= MEMORY_BYTES) return;
    if (!this.#file) {
      const folder = await mkdtemp(path.join(this.#folder, "holdfast-opendal-"));
      try {
        this.#file = { folder, handle: await open(path.join(folder, "object"), "wx+", 0o600) };
      } catch (error) {
        await rm(folder, { recursive: true, force: true });
        throw error;
      }
    }
    for (const held of this.#chunks.splice(0)) await this.#file.handle.appendFile(held);
  }

  /** Pieces of at most `PART_BYTES`; one piece, that of no bytes too, for what is in memory. */
  async *parts(): AsyncGenerator<Buffer> {
    if (!this.#file) {
      yield Buffer.concat(this.#chunks);
      return;
    }
    for (let at = 0; at < this.size;) {
      const buffer = Buffer.allocUnsafeSlow(Math.min(PART_BYTES, this.size - at));
      const { bytesRead } = await this.#file.handle.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) throw new HoldfastError("internal", "the local file became shorter");
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }

  async all(): Promise<Buffer> {
    const all: Buffer[] = [];
    for await (const part of this.parts()) all.push(part);
    return Buffer.concat(all);
  }

  /** Removes the local file, where there is one. */
  async release(): Promise<void> {
    if (!this.#file) return;
    await this.#file.handle.close();
    await rm(this.#file.folder, { recursive: true, force: true });
  }
}
