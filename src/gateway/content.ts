/** Answering with an object's bytes, or with a range of them. */
import type { OutgoingHttpHeaders } from "node:http";
import type { GetResult } from "../contract/store.ts";
import type { Exchange } from "./exchange.ts";
import { ClientError, sendStream } from "./http-tools.ts";
import type { ServedRange } from "./http-tools.ts";

/** The headers that say how much of an object of `size` bytes is served, and from where. */
export function rangeHeaders(range: ServedRange | "whole", size: number): OutgoingHttpHeaders {
  if (range === "whole") return { "Content-Length": size };
  const { offset, length } = range;
  return { "Content-Length": length, "Content-Range": `bytes ${offset}-${offset + length - 1}/${size}` };
}

/**
 * Sends what `get` of a store gave, with `reuse`, and closes it. `isKnown`: whether it is the version that the headers tell of. If not,
 * rejects with `unavailable`: headers of one version must not stand before the bytes of another.
 */
export async function sendContent(
  exchange: Exchange,
  { status, headers }: { readonly status: number; readonly headers: OutgoingHttpHeaders },
  result: GetResult,
  isKnown: boolean,
  what: "file" | "object" = "file",
): Promise<void> {
  try {
    if (!isKnown) {
      throw new ClientError("unavailable", `the ${what} was replaced while it was being read; try again`);
    }
    await sendStream(exchange, status, headers, result.body, { isReused: true });
  } finally {
    await result.close();
  }
}
