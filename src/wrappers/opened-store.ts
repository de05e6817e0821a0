/** A store as `openStore` gives it: without conditions that only a pool can keep, and to be used with `await using`. */
import { HoldfastError } from "../contract/errors.ts";
import type {
  Body,
  DeleteOptions,
  DeleteResult,
  HashOperation,
  NamesOperation,
  PutOptions,
  PutResult,
} from "../contract/store.ts";
import { ForwardingStore } from "./forward.ts";

export class OpenedStore extends ForwardingStore {
  override async put(name: string, body: Body, options?: PutOptions): Promise<PutResult> {
    this.#refuseOnlyIf("put", name, options);
    return this.inner.put(name, body, options);
  }

  override async delete(name: string, options?: DeleteOptions): Promise<DeleteResult> {
    this.#refuseOnlyIf("delete", name, options);
    return this.inner.delete(name, options);
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  protected override hashing(inner: HashOperation): HashOperation {
    return inner;
  }

  protected override naming(inner: NamesOperation): NamesOperation {
    return inner;
  }

  /** Only a pool keeps others from a name between the look and the change. */
  #refuseOnlyIf(operation: "put" | "delete", object: string, options: DeleteOptions | undefined): void {
    if (options?.onlyIf === undefined) return;
    throw new HoldfastError("unsupported", "only a pool can change an object under a condition (onlyIf)", {
      store: this.label,
      operation,
      object,
    });
  }
}
