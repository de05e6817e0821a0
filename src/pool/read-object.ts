/** An object that is being read, with the ways to take its bytes. */
import { ReadableStream } from "node:stream/web";
import { collect } from "../contract/body.ts";
import { HoldfastError } from "../contract/errors.ts";
import type { PoolGetResult } from "../contract/pool.ts";
import type { GetResult, ObjectInfo } from "../contract/store.ts";

export class ReadObject implements PoolGetResult {
  readonly info: ObjectInfo;
  readonly body: AsyncIterable<Uint8Array>;
  readonly unheard?: readonly string[];
  readonly #source: GetResult;

  constructor(source: GetResult) {
    this.info = source.info;
    this.body = source.body;
    if (source.unheard !== undefined) this.unheard = source.unheard;
    this.#source = source;
  }

  bytes(): Promise<Uint8Array> {
    return collect(this.body);
  }

  async text(): Promise<string> {
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(await this.bytes());
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      throw new HoldfastError("invalid", "the object is not text in UTF-8", { object: this.info.name, cause: error });
    }
  }

  stream(): ReadableStream<Uint8Array> {
    return ReadableStream.from(this.body);
  }

  close(): Promise<void> {
    return this.#source.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
