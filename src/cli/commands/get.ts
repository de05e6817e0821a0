/** `holdfast get`: an object into a file, or to stdout. */
import { stat } from "node:fs/promises";
import { basename, join, resolve, sep } from "node:path";
import { HoldfastError } from "../../contract/errors.ts";
import type { CommandContext } from "../context.ts";
import { restoreMetadata } from "../files/file-metadata.ts";
import { formatBytes, printable } from "../terminal/format.ts";
import { nameArgument, pathArgument } from "../names.ts";
import { UnheardCounter } from "../unheard.ts";
import { writeFile } from "../files/write-file.ts";

/** The path of the file that an object is to become. */
async function placeFor(cwd: string, name: string, file: string | undefined): Promise<string> {
  const last = basename(name);
  const isNone = name.endsWith("/") || last === "." || last === ".." || last === "";
  if (file === undefined) {
    if (isNone) {
      throw new HoldfastError("config", `the name ${JSON.stringify(name)} ends in no file's name; give a FILE`);
    }
    return resolve(cwd, last);
  }
  const path = pathArgument(cwd, file, "FILE");
  const isFolder = await stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
  if (!isFolder) {
    if (file.endsWith("/") || file.endsWith(sep)) {
      throw new HoldfastError("config", `there is no folder ${file}`);
    }
    return path;
  }
  if (isNone) {
    throw new HoldfastError(
      "config",
      `the name ${JSON.stringify(name)} ends in no file's name, and ${file} is a folder`,
    );
  }
  return join(path, last);
}

export async function get(context: CommandContext, name: string, file: string | undefined): Promise<void> {
  nameArgument(name);
  const toStdout = file === "-";
  let path: string | undefined;
  if (toStdout) {
    context.printer.giveStdoutAway();
  } else {
    path = await placeFor(context.cwd, name, file);
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
