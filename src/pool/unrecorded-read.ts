/**
 * Reads of an object that the ledger does not know, so that there is no digest to check it by.
 *
 * If a store fails in mid-stream, the next one continues only if its copy has the same size and begins with the bytes
 * that were handed on already. So the reader never sees two objects mixed.
 */
import { createHash } from "node:crypto";
import { HoldfastError, throwIfAborted, toHoldfastError } from "../contract/errors.ts";
import type { GetOptions, GetResult, Store } from "../contract/store.ts";

/** The bytes of `first`, and after its failure those of the stores in `others`, in order. */
export async function* unrecordedRead(
  name: string,
  label: string,
  first: GetResult,
  others: readonly Store[],
  options: GetOptions,
  onOpen: (opened: GetResult) => void,
): AsyncGenerator<Uint8Array> {
  const seen = createHash("sha256");
  let bytes = 0;
  const failures: HoldfastError[] = [];
  const failed = (error: unknown, store: string): void => {
    throwIfAborted(options.signal);
    failures.push(toHoldfastError(error).within({ store, operation: "get", object: name }));
  };
  try {
    for await (const chunk of first.body) {
      seen.update(chunk);
      bytes += chunk.byteLength;
      yield chunk;
    }
    return;
  } catch (error) {
    failed(error, label);
  } finally {
    await first.close();
  }
  for (const store of others) {
    let found: GetResult | undefined;
    try {
      found = await store.get(name, options);
      onOpen(found);
      if (found.info.size !== first.info.size) throw differs(store);
      const again = createHash("sha256");
      let skipped = 0;
      for await (const chunk of found.body) {
        const skip = Math.min(chunk.byteLength, bytes - skipped);
        if (skip > 0 && skipped < bytes) {
          again.update(chunk.subarray(0, skip));
          skipped += skip;
          if (skipped === bytes && again.copy().digest("hex") !== seen.copy().digest("hex")) throw differs(store);
        }
        const rest = chunk.subarray(skip);
        if (rest.byteLength === 0) continue;
        // This store's bytes count as handed on, in case this store fails too.
        seen.update(rest);
        again.update(rest);
        bytes += rest.byteLength;
        skipped += rest.byteLength;
        yield rest;
      }
      if (skipped < bytes) throw differs(store);
      return;
    } catch (error) {
      failed(error, store.label);
    } finally {
      await found?.close();
    }
  }
  const last = failures.at(-1);
  throw new HoldfastError(
    last?.code === "corrupt" || last?.code === "not-found" ? "unavailable" : (last?.code ?? "unavailable"),
    `reading failed, and no other store could go on (${failures.map((one) => `${one.store ?? ""}: ${one.message}`).join("; ")})`,
    { operation: "get", object: name, errors: failures, cause: last },
  );
}

function differs(store: Store): HoldfastError {
  return new HoldfastError("conflict", `the copy on ${store.label} is different, and no record decides between them`, {
    store: store.label,
  });
}
