/** Objects that are made only where there is none. */
import { toBody } from "../contract/body.ts";
import { HoldfastError } from "../contract/errors.ts";
import type { Body, PutOptions, PutResult, Store } from "../contract/store.ts";

/**
 * Puts an object where there is none, as the pool decides it. Gives undefined where there is one, which stays as it is.
 * Rejects where that cannot be known now. Default of `body`: empty.
 */
export async function putIfAbsent(
  store: Store,
  name: string,
  options: Pick<PutOptions, "signal" | "metadata">,
  body: Body = toBody(""),
): Promise<PutResult | undefined> {
  const exists = new HoldfastError("conflict", "the object exists already");
  const onlyIf: PutOptions["onlyIf"] = (current) => {
    if (current !== undefined) throw exists;
  };
  try {
    return await store.put(name, body, { ...options, onlyIf });
  } catch (error) {
    if (error === exists) return undefined;
    throw error;
  }
}
