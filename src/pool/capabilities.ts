/** The capabilities of a pool, from those of its stores. */
import { HoldfastError } from "../contract/errors.ts";
import { MAX_NAME_BYTES } from "../contract/names.ts";
import type { Capabilities, Store } from "../contract/store.ts";

/** A pool can hold only what all of its stores can hold. */
export function capabilitiesOf(stores: readonly Store[]): Capabilities {
  const all = stores.map((store) => store.capabilities);
  const smallest = (values: (number | undefined)[]): number | undefined => {
    const known = values.filter((value) => value !== undefined);
    return known.length === 0 ? undefined : Math.min(...known);
  };
  const maxObjectBytes = smallest(all.map((one) => one.maxObjectBytes));
  const maxNamePartBytes = smallest(all.map((one) => one.maxNamePartBytes));
  return {
    orderedList: true,
    // The pool decides from its ledger whether an object exists, not atomically with the put as a store does.
    conditionalPut: false,
    prefixNames: all.every((one) => one.prefixNames),
    ...(maxObjectBytes === undefined ? {} : { maxObjectBytes }),
    maxNameBytes: Math.min(MAX_NAME_BYTES, ...all.map((one) => one.maxNameBytes)),
    ...(maxNamePartBytes === undefined ? {} : { maxNamePartBytes }),
    caseSensitive: all.every((one) => one.caseSensitive),
    storeDigests: ["sha256"],
  };
}

/**
 * A name that one of the stores cannot hold is refused before anything is written, because a debt of it could never be
 * paid. Empty parts, `.` and `..` have a meaning in file systems.
 */
export function checkHeld(name: string, capabilities: Capabilities): void {
  const { maxNameBytes, maxNamePartBytes, prefixNames } = capabilities;
  const parts = name.split("/");
  const why =
    Buffer.byteLength(name) > maxNameBytes
      ? `the name is longer than ${maxNameBytes} bytes`
      : maxNamePartBytes !== undefined && parts.some((part) => Buffer.byteLength(part) > maxNamePartBytes)
        ? `a part of the name is longer than ${maxNamePartBytes} bytes`
        : !prefixNames && parts.some((part) => part === "" || part === "." || part === "..")
          ? "a part of the name is empty, one dot or two"
          : undefined;
  if (why !== undefined) {
    throw new HoldfastError("invalid", `a store of this pool cannot hold the name ${JSON.stringify(name)}: ${why}`);
  }
}
