/** `holdfast put`: a file, or stdin, into the pool. */
import { stat } from "node:fs/promises";
import { basename, resolve } from "node:path";
import { bodyFromFile, toBody } from "../body.ts";
import { HoldfastError } from "../errors.ts";
import { hint } from "../hint.ts";
import type { Body } from "../store.ts";
import { refuseClosedStdin } from "./stdin.ts";
import type { CommandContext } from "./context.ts";
import { countingBody } from "./counting-body.ts";
import { metadataOf } from "./file-metadata.ts";
import { formatBytes, printable } from "./format.ts";
import { nameArgument } from "./names.ts";
import { OwedCounter } from "./owed.ts";
import { debtRecord } from "./printer.ts";

export async function put(context: CommandContext, file: string, name: string | undefined): Promise<void> {
  const fromStdin = file === "-";
  if (fromStdin && name === undefined) {
    throw new HoldfastError("config", "put - needs a NAME: what comes from stdin has none of its own");
  }
  const object = nameArgument(name ?? basename(resolve(context.cwd, file)));
  const path = resolve(context.cwd, file);
  let body: Body;
  let metadata;
  if (fromStdin) {
    if (context.stdin === process.stdin) await refuseClosedStdin();
    body = toBody(context.stdin);
  } else {
    body = await fileBody(path, file);
    if (body.size !== undefined) metadata = metadataOf(await stat(path));
  }
  const { pool, labels } = await context.openTarget();
  const progress = await context.startProgress(`put ${printable(object)}`, labels);
  progress.total(body.size);
  const result = await pool.put(
    object,
    // A body with a path may be copied by the system, which a bar would not see.
    progress.visible ? countingBody(body, (more) => progress.bytes(more)) : body,
    { signal: context.signal, metadata },
  );
  progress.stop();
  const owed = new OwedCounter(context);
  owed.add(result.owed);
  await owed.tell();
  await context.printer.done(
    {
      type: "put",
      object,
      size: result.size,
      sha256: result.sha256,
      owed: result.owed.map(debtRecord),
    },
    `put ${printable(object)} (${formatBytes(result.size)})`,
  );
}

async function fileBody(path: string, given: string): Promise<Body> {
  const isFolder = await stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
  if (!isFolder) return bodyFromFile(path);
  throw new HoldfastError("invalid", `${path} is a folder; to put its files, run: ${hint("push", given)}`);
}
