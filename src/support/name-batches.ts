/** The names of a listing, in batches. */
import type { ObjectInfo } from "../contract/store.ts";

/** Up to `size` names at a time, in the order in which they come. */
export async function* nameBatches(infos: AsyncIterable<ObjectInfo>, size: number): AsyncGenerator<readonly string[]> {
  let batch: string[] = [];
  for await (const { name } of infos) {
    batch.push(name);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}
