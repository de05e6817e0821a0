/** `holdfast get`: an object into a file, or to stdout. */
import { lstat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { HoldfastError } from "../errors.ts";
import type { CommandContext } from "./context.ts";
import { restoreMetadata } from "./file-metadata.ts";
import { formatBytes, printable } from "./format.ts";
import { nameArgument } from "./names.ts";
import { UnheardCounter } from "./unheard.ts";
import { writeFile } from "./write-file.ts";

export async function get(context: CommandContext, name: string, file: string | undefined): Promise<void> {
  nameArgument(name);
  const toStdout = file === "-";
  let path: string | undefined;
  if (toStdout) {
    context.printer.giveStdoutAway();
  } else {
    const last = basename(name);
    if (file === undefined && (name.endsWith("/") || last === "." || last === ".." || last === "")) {
      throw new HoldfastError("config", `the name ${JSON.stringify(name)} ends in no file's name; give a FILE`);
    }
    path = resolve(context.cwd, file ?? last);
    const folder = await lstat(path).then(
      (stats) => stats.isDirectory(),
      () => false,
    );
    if (folder) path = join(path, last);
  }
  const { pool, labels } = await context.openTarget();
  const result = await pool.get(name, { signal: context.signal });
  try {
    const progress = await context.startProgress(`get ${printable(name)}`, labels);
    progress.total(result.info.size);
    if (path === undefined) {
      for await (const chunk of result.body) {
        if (context.signal.aborted) break;
        await context.stdout.bytes(chunk);
        progress.bytes(chunk.length);
      }
    } else {
      await writeFile(path, result.body, {
        onBytes: (bytes) => progress.bytes(bytes),
        finish: (opened) => restoreMetadata(opened, result.info.metadata),
      });
    }
    progress.stop();
  } finally {
    await result.close();
  }
  const unheard = new UnheardCounter(context);
  unheard.add(name, result);
  await unheard.tell();
  await context.printer.done(
    {
      type: "get",
      object: name,
      size: result.info.size,
      ...(path === undefined ? {} : { file: path }),
      unheard: result.unheard ?? [],
    },
    `got ${printable(name)} (${formatBytes(result.info.size)})`,
  );
}
