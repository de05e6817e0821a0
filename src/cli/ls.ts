/** `holdfast ls`: names, in order, as fast as they are read and no faster than they are taken. */
import type { CommandContext } from "./context.ts";
import { formatMoment, printable } from "./format.ts";
import { objectRecord } from "./object-record.ts";

export async function ls(
  context: CommandContext,
  prefix: string,
  options: { readonly long?: boolean; readonly null?: boolean },
): Promise<void> {
  const { pool } = await context.openTarget();
  const { printer, stdout } = context;
  for await (const info of pool.list(prefix, { signal: context.signal })) {
    // A pipe gets names as they are; a terminal must not be moved about by one.
    const name = stdout.isTerminal ? printable(info.name) : info.name;
    const when = info.modifiedMs === undefined ? "-".padEnd(20) : formatMoment(info.modifiedMs);
    const text = options.long ? `${String(info.size).padStart(14)}  ${when}  ${name}` : name;
    const written = options.null && !context.json ? stdout.write(`${text}\0`) : printer.data(objectRecord(info), text);
    if (written) await written;
  }
}
