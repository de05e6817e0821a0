/** Drill: reads all objects, or a sample, and discards the bytes, as if a store were gone. */
import { throwIfAborted } from "../contract/errors.ts";
import type { DrillOptions, DrillReport } from "../contract/pool.ts";
import { currentRecord, isPut } from "../ledger/record.ts";
import type { PutRecord } from "../ledger/record.ts";
import type { PoolContext } from "../pool/pool-context.ts";
import { verifiedRead } from "../pool/verified-read.ts";
import { bySize, forEachBounded } from "../support/bounded.ts";
import { WIDTH } from "./findings.ts";
import { storeCalled } from "./store-names.ts";

export async function drill(pool: PoolContext, options: DrillOptions): Promise<DrillReport> {
  await pool.listenToAll();
  const { ledger, runtime } = pool;
  const gone = options.store === undefined ? undefined : storeCalled(options.store, ledger.members);
  const started = runtime.monotonicMs();
  const lost: string[] = [];
  let objects = 0;
  let bytes = 0;
  async function* chosen(): AsyncGenerator<readonly [string, PutRecord]> {
    for (const [name, state] of ledger.index.iterate(options.prefix ?? "")) {
      const current = currentRecord(state);
      if (!isPut(current) || runtime.random() * 100 >= (options.samplePercent ?? 100)) continue;
      yield [pool.shownName(name), current];
    }
  }
  const bound = bySize<readonly [string, PutRecord]>(WIDTH, ([, { content }]) => content.size);
  await forEachBounded(chosen(), bound, async ([name, record]) => {
    const sources = ledger.members
      .filter((member) => member !== gone && member.readable && ledger.holds(record, member))
      .map((member) => ({ store: member.store }));
    objects++;
    try {
      for await (const chunk of verifiedRead(sources, {
        name: record.name,
        content: record.content,
        start: 0,
        end: record.content.size,
        signal: options.signal,
      })) {
        bytes += chunk.byteLength;
      }
    } catch {
      throwIfAborted(options.signal);
      lost.push(name);
    }
    options.onProgress?.({ objects, bytes });
  });
  return { store: gone?.label, objects, bytes, lost: lost.sort(), elapsedMs: runtime.monotonicMs() - started };
}
