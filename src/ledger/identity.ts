/** The identity of a store: a small file on it that says which pool it belongs to and which of its stores it is. */
import * as z from "zod/mini";
import { HoldfastError } from "../contract/errors.ts";
import type { StoreId } from "./record.ts";
import { FORMAT } from "./segment.ts";

export const IDENTITY_NAME = ".holdfast/store.json";
/** A longer file is not an identity. */
export const MAX_IDENTITY_BYTES = 64 * 1024;

export interface Identity {
  /** 32 lower-case hexadecimal digits. */
  readonly pool: string;
  readonly store: StoreId;
}

const form = z.object({
  holdfast: z.number(),
  pool: z.string().check(z.regex(/^[0-9a-f]{32}$/u)),
  store: z.string().check(z.regex(/^[0-9a-f]{16}$/u)),
});

export function formatIdentity(identity: Identity): string {
  return `${JSON.stringify({ holdfast: FORMAT, pool: identity.pool, store: identity.store })}\n`;
}

/** Throws `corrupt` for bytes that are not an identity, `unsupported` for one of a newer format. */
export function parseIdentity(bytes: Uint8Array, store: string): Identity {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch (error) {
    throw new HoldfastError("corrupt", "its identity is not JSON", { store, object: IDENTITY_NAME, cause: error });
  }
  const result = z.safeParse(form, value);
  if (!result.success) {
    throw new HoldfastError("corrupt", "its identity is damaged", {
      store,
      object: IDENTITY_NAME,
      cause: result.error,
    });
  }
  if (result.data.holdfast > FORMAT) {
    throw new HoldfastError("unsupported", `it was written in format ${result.data.holdfast}, by a newer Holdfast`, {
      store,
    });
  }
  return { pool: result.data.pool, store: result.data.store };
}
