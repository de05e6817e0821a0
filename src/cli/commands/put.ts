/** `holdfast put`: a file, or stdin, into the pool. */
import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { HoldfastError } from "../../contract/errors.ts";
import { bodyFromFile } from "../../contract/file-body.ts";
import type { FileBody } from "../../contract/file-body.ts";
import { hint } from "../../support/hint.ts";
import { refuseClosedStdin, sourceOfStdin } from "../terminal/stdin.ts";
import type { CommandContext } from "../context.ts";
import { countingBody } from "../files/counting-body.ts";
import { metadataOf } from "../files/file-metadata.ts";
import { formatBytes, printable } from "../terminal/format.ts";
import { nameArgument, pathArgument } from "../names.ts";
import { OwedCounter } from "../owed.ts";
import { debtRecord } from "../terminal/printer.ts";
import { KEEPS_CHANGING, putStanding } from "../files/put-file.ts";
import type { Source } from "../files/put-file.ts";

export async function put(context: CommandContext, file: string, name: string | undefined): Promise<void> {
  const fromStdin = file === "-";
  if (fromStdin && name === undefined) {
    throw new HoldfastError("config", "put - needs a NAME: stdin has none of its own");
  }
  const path = pathArgument(context.cwd, file, "FILE");
  const object = nameArgument(name ?? basename(path));
  if (fromStdin && context.stdin === process.stdin) await refuseClosedStdin();
  const open = async (): Promise<Source> => {
    if (fromStdin) return sourceOfStdin(context.stdin, context.stdin === process.stdin ? 0 : undefined);
    const body = await fileBody(path, file);
    return { body, file: body };
  };
  // Before a store is asked: whether the file is there.
  let first: Source | undefined = await open();
  const { pool, labels } = await context.openTarget();
  const progress = await context.startProgress(`put ${printable(object)}`, labels);
  let counted = 0;
  const result = await putStanding(
    async () => {
      const source = first ?? (await open());
      first = undefined;
      return source;
    },
    async ({ body, file: read }) => {
      progress.total(body.size);
      progress.bytes(-counted);
      counted = 0;
      const count = (more: number): void => {
        counted += more;
        progress.bytes(more);
      };
      return pool.put(object, progress.visible ? countingBody(body, count) : body, {
        signal: context.signal,
        metadata: read?.stats && metadataOf(read.stats),
      });
    },
    // What stdin gave is gone.
    fromStdin ? 1 : undefined,
  );
  progress.stop();
  if (result === undefined) {
    context.outcome.degraded();
    const reason = fromStdin ? "the file behind stdin was changed while it was read" : KEEPS_CHANGING;
    await context.printer.warning(`not stored: ${printable(object)}: ${reason}`, { code: "changed", file, object });
    return;
  }
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

async function fileBody(path: string, given: string): Promise<FileBody> {
  const isFolder = await stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
  if (!isFolder) return bodyFromFile(path);
  throw new HoldfastError("invalid", `${path} is a folder; to put its files, run: ${hint("push", given)}`);
}
