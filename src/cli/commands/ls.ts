/** `holdfast ls`: names, in order, as fast as they are read and no faster than they are taken. */
import type { PoolObjectInfo } from "../../contract/pool.ts";
import type { CommandContext } from "../context.ts";
import { formatMoment, printable } from "../terminal/format.ts";
import { objectRecord } from "../object-record.ts";
import { withSmallHeap } from "../small-heap.ts";

export async function ls(
  context: CommandContext,
  prefix: string,
  options: { readonly long?: boolean; readonly null?: boolean },
): Promise<void> {
  const { pool } = await context.openTarget();
  const { printer, stdout } = context;
  const end = options.null ? "\0" : "\n";
  const lineOf = ({ name, size, modifiedMs }: PoolObjectInfo): string => {
    // A pipe gets names as they are; a terminal must not be moved about by one.
    const shown = stdout.isTerminal ? printable(name) : name;
    if (!options.long) return shown + end;
    const when = modifiedMs === undefined ? "-".padEnd(20) : formatMoment(modifiedMs);
    return `${String(size).padStart(14)}  ${when}  ${shown}${end}`;
  };
  await withSmallHeap(async () => {
    for await (const info of pool.list(prefix, { signal: context.signal })) {
      const written = context.json ? printer.data(objectRecord(info), info.name) : stdout.write(lineOf(info));
      if (written) await written;
    }
  });
}
