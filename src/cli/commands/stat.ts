/** `holdfast stat`: what is known of one object. */
import type { CommandContext } from "../context.ts";
import { attributesOf } from "../files/file-metadata.ts";
import { formatBytes, formatMoment, printable, table } from "../terminal/format.ts";
import { nameArgument } from "../names.ts";
import { objectRecord } from "../object-record.ts";

export async function stat(context: CommandContext, name: string): Promise<void> {
  nameArgument(name);
  const { pool } = await context.openTarget();
  const info = await pool.stat(name, { signal: context.signal });
  const rows = [
    ["name", printable(info.name)],
    ["size", `${info.size} (${formatBytes(info.size)})`],
    ["sha256", info.sha256 ?? "not recorded"],
  ];
  if (info.modifiedMs !== undefined) rows.push(["put", formatMoment(info.modifiedMs)]);
  const { modifiedSeconds } = attributesOf(info.metadata);
  if (modifiedSeconds !== undefined) rows.push(["modified", formatMoment(Number(modifiedSeconds) * 1000)]);
  for (const [key, value] of Object.entries(info.metadata ?? {})) {
    if (key !== "mtime" || modifiedSeconds === undefined) rows.push([printable(key), printable(value)]);
  }
  await context.printer.data(objectRecord(info), table(rows).join("\n"));
}
